/*
 * A real agent, built with sanitizers, running a function of the test's on this machine; and clients of it.
 */
#ifndef TESTS_UNIT_AGENT_HOST_H
#define TESTS_UNIT_AGENT_HOST_H

#include <sys/types.h>

#include "tests/unit/agent/talk.h"

#define INIT_LIMIT_MS "700"

struct host {
    char directory[64];
    char socket_path[96];
    char run[80]; /* what --run says: `directory`, or one in it */
    pid_t agent;
    int log_fd; /* the agent's stderr */
    char log[16384];
    size_t log_size;
};

/* Where the programs are: once, first. 0 or -1. */
int host_find_programs(void);

/* Start an agent with a copy of `function` (a name in the build directory; empty: none), whose init is told
 * `mode`. */
int host_set_up_with(void **state, const char *function, const char *mode);
/* The same, with what `prepare` puts beside the function, and a directory for --run of its own. */
int host_set_up_prepared(void **state, const char *function, void (*prepare)(const struct host *host));
int host_set_up(void **state);
int host_set_up_misbehave(void **state);
/* End it; what it exits with. */
int host_tear_down(void **state);

/* Run the agent the way init does, but with this version of the contract (NULL: none); what it exits with. */
int host_hand_off(const char *version);

void set_mode(struct host *host, const char *mode);
/* Read the agent's log until it says `text`. */
void wait_for_log(struct host *host, const char *text);
/* Exit code, or minus the signal. */
int agent_end(struct host *host);

struct talk *dial(struct host *host);
struct talk *dial_ready(struct host *host);
void hang_up(struct talk *talk);
/* One more invocation, answered right: the agent has recovered. For the function `rude`. */
void next_works(struct talk *talk);

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, host_set_up, host_tear_down)

#endif
