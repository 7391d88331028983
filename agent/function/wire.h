/*
 * Frames over the function's blocking end of the channel. Internal to agent/function.
 *
 * Sending never copies a body: head and body leave in one sendmsg. Receiving decodes in place; a message is
 * valid until the next receive. The descriptor belongs to the wire's user.
 */
#ifndef AGENT_FUNCTION_WIRE_H
#define AGENT_FUNCTION_WIRE_H

#include "agent/proto/frame.h"

struct wire {
    int fd;
    struct frame_reader reader;
    uint8_t head[16384]; /* the largest message without a body, which is an error, or the head of one with */
};

/* Take over the socket named by FUNCTION_ENV_FD: checked, blocking, closed on exec, and the variable removed
 * so that children do not take it for theirs. 0; -ENOENT without the variable; -EINVAL when it is no number
 * of a stream socket. */
int wire_open(struct wire *wire);

/* 0, -EINVAL for a message outside its limits, or what sendmsg says. Raises no SIGPIPE. */
int wire_send(struct wire *wire, const struct proto_message *message);

/* 1 and a message; 0 at the end of the stream, between frames; or a negative errno, with *why a static text.
 */
int wire_receive(struct wire *wire, struct proto_message *message, const char **why);

#endif
