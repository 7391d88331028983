/* See channel.h. */
#include "agent/channel.h"

#include <errno.h>
#include <sys/socket.h>

/* ---- native ---------------------------------------------------------------------------------------- */

static int native_next(struct channel *channel, struct proto_message *message, const char **why)
{
    struct proto_slice body;
    *why = "header: impossible length";
    const int got = frame_reader_next(&channel->native.buffers->in, &body);
    if (got <= 0)
        return got == 0 ? 0 : -EPROTO;
    return proto_decode(body.data, body.size, message, why) < 0 ? -EPROTO : 1;
}

static bool native_has_room(struct channel *channel, size_t bytes)
{
    return link_has_room(&channel->native, LINK_PAYLOAD, bytes);
}

static void native_send(struct channel *channel, const struct proto_message *message)
{
    const enum link_kind kind = message->type == PROTO_INVOKE ? LINK_PAYLOAD : LINK_CONTROL;
    (void)link_send(&channel->native, kind, message); /* there is room */
}

static bool native_is_quiet(struct channel *channel)
{
    return frame_reader_idle(&channel->native.buffers->in);
}

static bool native_ended(struct channel *channel, bool reaped)
{
    (void)reaped;
    return channel->native.ended;
}

static int native_settle(struct channel *channel, bool wants_input)
{
    return link_settle(&channel->native, wants_input);
}

static const struct channel_ops native_ops = {
    .next = native_next,
    .has_room = native_has_room,
    .send = native_send,
    .is_quiet = native_is_quiet,
    .ended = native_ended,
    .settle = native_settle,
};

/* ---- HTTP ------------------------------------------------------------------------------------------ */

static int http_next(struct channel *channel, struct proto_message *message, const char **why)
{
    return http_link_next(&channel->http, message, why);
}

static bool http_has_room(struct channel *channel, size_t bytes)
{
    (void)bytes; /* the room is that of the largest piece */
    return http_link_has_room(&channel->http);
}

static void http_send(struct channel *channel, const struct proto_message *message)
{
    http_link_send(&channel->http, message);
}

/* What it says unasked is refused by its status, and can be taken for nothing else: ids are in the paths. */
static bool http_is_quiet(struct channel *channel)
{
    (void)channel;
    return true;
}

static bool http_ended(struct channel *channel, bool reaped)
{
    return http_link_ended(&channel->http, reaped);
}

static int http_settle(struct channel *channel, bool wants_input)
{
    return http_link_settle(&channel->http, wants_input);
}

static const struct channel_ops http_ops = {
    .next = http_next,
    .has_room = http_has_room,
    .send = http_send,
    .is_quiet = http_is_quiet,
    .ended = http_ended,
    .settle = http_settle,
};

/* ---- undecided ------------------------------------------------------------------------------------- */

static int undecided_next(struct channel *channel, struct proto_message *message, const char **why)
{
    if (channel->native.buffers && !frame_reader_idle(&channel->native.buffers->in)) {
        channel->ops = &native_ops;
        http_link_close(&channel->http);
        return native_next(channel, message, why);
    }
    const int got = http_link_next(&channel->http, message, why);
    if (got != 0) {
        channel->ops = &http_ops;
        link_close(&channel->native);
    }
    return got;
}

static bool undecided_has_room(struct channel *channel, size_t bytes)
{
    (void)channel;
    (void)bytes;
    return false;
}

static void undecided_send(struct channel *channel, const struct proto_message *message)
{
    (void)channel; /* nobody has asked */
    (void)message;
}

/* A program that goes on to speak HTTP may close the socket it knows nothing of: no end as long as it lives.
 */
static bool undecided_ended(struct channel *channel, bool reaped)
{
    return reaped && channel->native.ended && http_link_ended(&channel->http, reaped);
}

static int undecided_settle(struct channel *channel, bool wants_input)
{
    const int error = link_settle(&channel->native, wants_input);
    const int http_error = http_link_settle(&channel->http, wants_input);
    return error ? error : http_error;
}

static const struct channel_ops undecided_ops = {
    .next = undecided_next,
    .has_room = undecided_has_room,
    .send = undecided_send,
    .is_quiet = http_is_quiet,
    .ended = undecided_ended,
    .settle = undecided_settle,
};

/* ---- both ------------------------------------------------------------------------------------------ */

void channel_init(struct channel *channel)
{
    channel->ops = &undecided_ops;
    link_init(&channel->native);
    http_link_init(&channel->http);
}

int channel_listen(struct channel *channel, struct loop *loop, uint16_t port, uid_t uid)
{
    channel_init(channel);
    return http_link_open(&channel->http, loop, port, uid);
}

int channel_open(struct channel *channel, struct loop *loop, int fd)
{
    return link_open(&channel->native, loop, fd);
}

void channel_close(struct channel *channel)
{
    link_close(&channel->native);
    http_link_close(&channel->http);
    channel->ops = &undecided_ops;
}

void channel_say_end(struct channel *channel)
{
    if (channel->native.fd >= 0)
        (void)shutdown(channel->native.fd, SHUT_WR);
}

bool channel_is_http(const struct channel *channel)
{
    return channel->ops == &http_ops;
}
