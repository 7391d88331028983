/*
 * The table of connections in one thread with the test, which plays the function over real sockets and the
 * servers through fake_upstream.h.
 */
#ifndef TESTS_UNIT_TLS_CONNECTIONS_STAGE_H
#define TESTS_UNIT_TLS_CONNECTIONS_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/connections.h"
#include "tests/unit/tls/fake_upstream.h"

extern struct loop loop;
extern struct connections *table;
extern char stage_directory[64]; /* sockets and error files */
extern int stage_drained;        /* times that `drained` came */

int stage_set_up(void **state);
int stage_tear_down(void **state);

/* Write the manifest and begin; NULL: there is none. */
int stage_begin(const char *manifest, char *why);
void stage_serve(const char *manifest); /* and it goes well */

/* One turn of the loop, which may wait 5 ms. */
void stage_turn(void);
/* Turns until nothing has happened for some: what can happen by itself has. A drain that waits ticks. */
void stage_rest(void);
/* Turns until it is true, at most some seconds. */
#define until(condition)                                                                                     \
    do {                                                                                                     \
        const uint64_t until_ns = clock_monotonic_ns() + UINT64_C(8000000000);                               \
        while (!(condition) && clock_monotonic_ns() < until_ns)                                              \
            stage_turn();                                                                                    \
        assert_true(condition);                                                                              \
    } while (0)

/* The function: descriptors that do not block. */
int function_open(const char *name);
int function_open_tcp(bool ipv6, uint16_t port);
void function_write(int fd, const char *text);
/* Bytes there now, -1 with errno, 0 at the end. */
int64_t function_read(int fd, void *data, size_t capacity);
/* Turns until these come, and they are as said. */
void function_expect(int fd, const char *text);
/* Turns until the end: 0 in order, or errno. */
int function_end(int fd);

/* Contents of NAME.error, or NULL. */
const char *stage_error_of(const char *name);
int stage_drain(unsigned limit_ms);

/* The last fake begun, and how many bytes it was given in all are those. */
struct fake *fake_last(void);
void fake_expect(struct fake *fake, const char *text);

#define WITH_STAGE(test) cmocka_unit_test_setup_teardown(test, stage_set_up, stage_tear_down)

#endif
