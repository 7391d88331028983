/*
 * What the agent may say in an exchange, and what is made of it (lifeline.c moves the bytes). Changes the
 * outcome only; no I/O.
 */
#ifndef HOSTVMM_CONTROL_LIFELINE_MESSAGE_H
#define HOSTVMM_CONTROL_LIFELINE_MESSAGE_H

#include "hostvmm/control/lifeline.h"

enum lifeline_exchange { LIFELINE_NONE, LIFELINE_CHECKPOINT, LIFELINE_RESUME, LIFELINE_COLLECT };

enum { LIFELINE_GOES_ON = 0, LIFELINE_ANSWERED = 1 };

/* Judge one frame's body. LIFELINE_GOES_ON; LIFELINE_ANSWERED with outcome.error 0 or -EREMOTEIO; -EPROTO
 * with outcome.why. */
int lifeline_take_frame(struct lifeline *lifeline, struct proto_slice body);

/* outcome.why of an exchange whose limit has passed. */
void lifeline_tell_late(struct lifeline *lifeline);

/* Set outcome.why; -EPROTO. */
int lifeline_problem(struct lifeline *lifeline, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
