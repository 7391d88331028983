/*
 * A session in one thread with the test, which plays the function, init and the clients over socket pairs.
 */
#ifndef TESTS_UNIT_AGENT_STAGE_H
#define TESTS_UNIT_AGENT_STAGE_H

#include "agent/session.h"
#include "tests/unit/agent/fake_process.h"
#include "tests/unit/agent/fake_resume.h"
#include "tests/unit/agent/talk.h"

extern struct loop loop;
extern struct process process;
extern struct session session;
extern struct talk function;

/* One turn of the loop and of the session, waiting 5 ms at most. */
void turn(struct talk *talk);
void turns(int count);
int stage_set_up(void **state);
int stage_tear_down(void **state);
void function_hello(void);
void function_init(enum proto_state state);
void function_ready(void);
void start_ready(void);
void expect_event(const char *id);
/* Takes what init was told; NUL-terminated. */
const char *words_to_init(void);
struct talk *client_new(void);
struct talk *client_ready(bool wants_logs);
void client_free(struct talk *talk);

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, stage_set_up, stage_tear_down)

#endif
