/* hostvmm's end of a lifeline, and a peer that says what a test wants, when it wants; all in one thread. */
#ifndef TESTS_UNIT_CONTROL_LIFELINE_FIXTURE_H
#define TESTS_UNIT_CONTROL_LIFELINE_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "hostvmm/control/lifeline.h"

#define LIMIT_MS 10000

extern struct loop loop;
extern struct lifeline lifeline;
extern int agent_fd;
extern struct lifeline_outcome told; /* the last one; also the context of every exchange */
extern int told_count;
extern int fact_count;
extern bool fini_when_told;   /* what on_done does */
extern bool resume_when_told; /* once */
extern struct lifeline_resume order;
extern const uint8_t key[20]; /* the order's one secret */

int setup(void **state);
int teardown(void **state);
void on_done(void *context, const struct lifeline_outcome *outcome);
void on_fact(void *context, struct proto_slice name, struct proto_slice body);

/* Deliver what is ready now. */
void turn(void);
void begin_checkpoint(void);
void begin_resume(void);

void say(const struct proto_message *message);
void say_hello_of(uint32_t version);
void say_hello(void); /* and turn */
struct proto_failure failure_of(const char *type, const char *text);
/* `failure` NULL: it went well. */
void say_step(const char *name, const char *failure);
void say_end(enum proto_type type, const char *failure);
void say_chatter(void);

/* The next message of hostvmm's; the type must be this. Slices are good until the next call. */
struct proto_message hear(enum proto_type type);
void hear_nothing(void);

/* The exchange has ended like this, once, and `why` has this text in it. */
void expect(int error, const char *text);

#endif
