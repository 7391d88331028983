/*
 * The function's channel, in whichever of its two forms the function has chosen by speaking first:
 *
 *                    +-- a byte on the inherited socket ----> native   (link.h, agent/function/channel.h)
 *      undecided ----+
 *                    +-- a request to the Runtime API ------> HTTP     (http_link.h, agent/function/HTTP.md)
 *
 * The other is closed then. The session speaks in messages of the runtime protocol and does not see which.
 */
#ifndef AGENT_CHANNEL_H
#define AGENT_CHANNEL_H

#include "agent/http_link.h"
#include "agent/link.h"

struct channel;

struct channel_ops {
    /* The function's next message: 1, 0, -EPROTO with *why. Asking again says that the last was taken. */
    int (*next)(struct channel *channel, struct proto_message *message, const char **why);
    /* Room for a piece of an event of this size? In HTTP a function must have asked for it besides. */
    bool (*has_room)(struct channel *channel, size_t bytes);
    /* INVOKE, when there is room; between events CHECKPOINT and RESUME, each of which gets its answer from
     * next(). */
    void (*send)(struct channel *channel, const struct proto_message *message);
    /* Has it said, or begun to say, something that next() has not given? */
    bool (*is_quiet)(struct channel *channel);
    /* Will it say nothing more? */
    bool (*ended)(struct channel *channel, bool reaped);
    int (*settle)(struct channel *channel, bool wants_input);
};

struct channel {
    const struct channel_ops *ops;
    struct link native;
    struct http_link http;
};

/* Closed: safe to close. */
void channel_init(struct channel *channel);
/* Open the form that has a port, before the function is started: the port goes into its environment. 0 or
 * -errno; the other form works without it. */
int channel_listen(struct channel *channel, struct loop *loop, uint16_t port, uid_t uid);
/* Open the other: take over our end of the function's socket, also when this fails. 0 or -errno. */
int channel_open(struct channel *channel, struct loop *loop, int fd);
void channel_close(struct channel *channel);

/* Shutting down: end of stream for a native function; an HTTP one gets SIGTERM only. */
void channel_say_end(struct channel *channel);

bool channel_is_http(const struct channel *channel);

#endif
