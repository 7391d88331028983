/* What the two files of the guest program resume-steps share. A check returns NULL, or the reason in words,
 * which lives until the next. */
#ifndef TESTS_GUEST_RESUME_STEPS_H
#define TESTS_GUEST_RESUME_STEPS_H

#include <stdint.h>

#include "agent/resume.h"

__attribute__((format(printf, 1, 2))) const char *reason(const char *format, ...);
const char *failed(const char *what); /* what, and errno in words */

/* Run one step by its name. NULL, or what it said. */
const char *run_step(const char *name, const struct resume_order *order);

uint64_t now_ns(int clock);

/* resume-sockets.c */
const char *check_key_of_tcp(void);
const char *check_connections(void);
const char *check_connections_ipv6(void);
const char *check_many_connections(void);

#endif
