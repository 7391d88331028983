/*
 * In place of agent/tls/connections.c: writes down what the session asks of the connections, and drains when
 * the test says so.
 */
#ifndef TESTS_UNIT_AGENT_FAKE_CONNECTIONS_H
#define TESTS_UNIT_AGENT_FAKE_CONNECTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/tls/connections.h"

struct fake_connections {
    char calls[64];        /* begin b, drain d, undrain u, forget f, abandon a, fini x; in order */
    const char *begin_why; /* it fails, with this */
    bool wanted;
    bool drains_late; /* fake_drained() ends it */
    uint64_t drain_deadline_ns;
    connections_drained *drained;
    void *context;
};

extern struct fake_connections fake_connections;

void fake_drained(void);

#endif
