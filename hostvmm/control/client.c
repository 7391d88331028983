/*
 * See client.h. One loop serves both calls: hand out the messages that have come; when there are none, send
 * what is waiting and poll. A slice of a message is used before the next read: it points into the reader's
 * buffer.
 *
 *      connect -> HELLO both ways -> (STARTING: wait for INIT) -> READY
 *      READY -> INVOKE fragments ... <- LOG* <- RESPONSE fragments | ERROR -> READY
 */
#include "hostvmm/control/client.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "hostvmm/control/dial.h"

__attribute__((format(printf, 3, 4))) static int problem(struct control_client *client, int error,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->problem, sizeof client->problem, format, arguments);
    va_end(arguments);
    return error;
}

static void copy_text(char *to, size_t capacity, struct proto_slice from)
{
    const size_t size = from.size < capacity ? from.size : capacity - 1;
    if (size > 0)
        memcpy(to, from.data, size);
    to[size] = '\0';
}

static void copy_failure(struct control_failure *to, const struct proto_failure *from)
{
    copy_text(to->type, sizeof to->type, from->type);
    copy_text(to->message, sizeof to->message, from->message);
    to->stack_count = from->stack_count <= PROTO_STACK_MAX ? from->stack_count : PROTO_STACK_MAX;
    for (size_t i = 0; i < to->stack_count; i++)
        copy_text(to->stack[i], sizeof to->stack[i], from->stack[i]);
}

/* ---- bytes ---- */

static int gone(struct control_client *client, int error)
{
    return problem(client, -ECONNRESET,
                   "the connection to the agent ended: %s; the guest is gone, or its agent",
                   error ? strerror(-error) : "closed by the other end");
}

static bool out_pending(const struct control_client *client)
{
    return client->out_sent < client->out_size;
}

static int send_some(struct control_client *client)
{
    while (out_pending(client)) {
        ssize_t n = send(client->fd, client->out + client->out_sent, client->out_size - client->out_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            client->out_sent += (size_t)n;
        else if (errno == EAGAIN || errno == EPIPE || errno == ECONNRESET)
            return 0; /* later; or, from a peer that is gone, the reason may be on its way: the read finds it
                       */
        else if (errno != EINTR)
            return gone(client, -errno);
    }
    return 0;
}

static int receive_some(struct control_client *client)
{
    size_t room;
    uint8_t *space = frame_reader_space(&client->in, &room);
    ssize_t n = recv(client->fd, space, room, MSG_DONTWAIT);
    if (n == 0)
        return gone(client, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : gone(client, -errno);
    frame_reader_fill(&client->in, (size_t)n);
    return 0;
}

/* Let bytes move, both ways, until the deadline. 0 when some may have, or -errno. */
static int exchange(struct control_client *client, uint64_t deadline_ns)
{
    const short wanted = (short)(POLLIN | (out_pending(client) ? POLLOUT : 0));
    const int ready = control_poll(client->fd, wanted, deadline_ns);
    if (ready < 0)
        return problem(client, ready, "poll: %s", strerror(-ready));
    if (ready == 0)
        return -ETIMEDOUT; /* the caller knows what for */
    int error = ready & POLLOUT ? send_some(client) : 0;
    if (error == 0 && (ready & (POLLIN | POLLHUP | POLLERR)))
        error = receive_some(client);
    return error;
}

/* ---- messages ---- */

static int message_queue(struct control_client *client, const struct proto_message *message)
{
    const int64_t size = proto_encode(message, client->out, sizeof client->out);
    if (size < 0)
        return problem(client, -EINVAL,
                       "request outside the protocol's limits (id, trace id, timeout or size)");
    client->out_size = (size_t)size;
    client->out_sent = 0;
    return send_some(client);
}

/* 1 with the next message that has come, 0 when none has, or -errno. */
static int message_take(struct control_client *client, struct proto_message *message)
{
    struct proto_slice body;
    const int got = frame_reader_next(&client->in, &body);
    if (got == 0)
        return 0;
    if (got < 0)
        return problem(client, -EPROTO, "the agent sent a frame of impossible size");
    const char *why = "";
    if (proto_decode(body.data, body.size, message, &why) < 0)
        return problem(client, -EPROTO, "the agent sent a frame that is not valid: %s", why);
    return 1;
}

/* What may come at any time. 0, or -errno when it ends the connection. */
static int message_common(struct control_client *client, const struct proto_message *message)
{
    switch (message->type) {
    case PROTO_HELLO:
        if (client->greeted)
            return problem(client, -EPROTO, "the agent said hello twice");
        if (message->u.hello.version != PROTO_VERSION)
            return problem(client, -EPROTONOSUPPORT,
                           "the agent speaks version %" PRIu32
                           " of the protocol, this hostvmm version %d: use "
                           "an image of the same release",
                           message->u.hello.version, PROTO_VERSION);
        client->greeted = true;
        client->state = message->u.hello.state;
        return 0;
    case PROTO_INIT:
        client->state = message->u.init.state;
        client->init_duration_us = message->u.init.duration_us;
        if (client->state == PROTO_STATE_FAILED)
            copy_failure(&client->failure, &message->u.init.failure);
        return 0;
    case PROTO_LOG:
        if (client->log)
            client->log(client->log_context, message);
        return 0;
    case PROTO_ERROR:
        copy_failure(&client->failure, &message->u.error.failure);
        return problem(client, -EPROTO, "the agent ended the connection: %s: %.256s", client->failure.type,
                       client->failure.message);
    case PROTO_INVOKE:
    case PROTO_RESPONSE:
    case PROTO_CHECKPOINT:
    case PROTO_QUIESCED:
    case PROTO_RESUME:
    case PROTO_RESUMED:
    case PROTO_SHUTDOWN:
    case PROTO_SECRET:
    case PROTO_STEP:
    case PROTO_COLLECT:
    case PROTO_FACT:
    case PROTO_COLLECTED:
        break;
    }
    return problem(client, -EPROTO, "the agent sent a message of type %d that nobody asked for",
                   (int)message->type);
}

int control_client_init(struct control_client *client, int fd, bool wants_logs, control_log *log,
                        void *log_context)
{
    memset(client, 0, sizeof *client);
    client->fd = fd;
    client->log = log;
    client->log_context = log_context;
    client->state = PROTO_STATE_STARTING;
    frame_reader_init(&client->in);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION,
                    .name = proto_text("hostvmm invoke"),
                    .wants_logs = wants_logs,
                    .state = PROTO_STATE_STARTING},
    };
    return message_queue(client, &hello);
}

void control_client_fini(struct control_client *client)
{
    fd_close(&client->fd);
}

int control_client_ready(struct control_client *client, uint64_t deadline_ns)
{
    bool was_told = false; /* of the end of init by INIT, not only by hello */
    for (;;) {
        struct proto_message message = {0};
        int got;
        while ((got = message_take(client, &message)) > 0) {
            if (!client->greeted && message.type != PROTO_HELLO && message.type != PROTO_ERROR)
                return problem(client, -EPROTO, "the agent did not begin with hello");
            int error = message_common(client, &message);
            if (error)
                return error;
            was_told = was_told || message.type == PROTO_INIT;
        }
        if (got < 0)
            return got;
        if (client->greeted && client->state == PROTO_STATE_READY)
            return 0;
        if (client->greeted && client->state == PROTO_STATE_FAILED && was_told)
            return -EREMOTEIO;
        /* A hello that says FAILED comes without the cause: the answer to an invocation gives it. */
        if (client->greeted && client->state == PROTO_STATE_FAILED)
            return 0;
        const int error = exchange(client, deadline_ns);
        if (error == -ETIMEDOUT)
            return problem(client, error, "%s",
                           client->greeted ? "the function's init did not end in time"
                                           : "the agent did not say hello in time");
        if (error)
            return error;
    }
}

/* ---- one invocation ---- */

struct invocation {
    const struct control_request *request;
    struct proto_message fragment;
    struct payload_assembly response;
    struct control_answer *answer;
    uint32_t sent_bytes;
    bool sent;
};

static int fragment_queue(struct control_client *client, struct invocation *invocation)
{
    const struct control_request *request = invocation->request;
    invocation->fragment.u.invoke.trace =
        invocation->sent_bytes == 0 ? proto_text(request->trace) : (struct proto_slice){0};
    invocation->sent_bytes +=
        payload_fragment(&invocation->fragment, request->event, request->event_size, invocation->sent_bytes);
    invocation->sent = invocation->sent_bytes == request->event_size;
    return message_queue(client, &invocation->fragment);
}

/* A fragment of the answer. 1 when it was the last, 0, or -errno. */
static int response_add(struct control_client *client, struct invocation *invocation,
                        const struct proto_message *message)
{
    const char *why = "";
    int step = 0;
    if (invocation->response.id[0] == '\0') {
        step = payload_begin(&invocation->response, message, &why);
        const uint32_t total = message->u.response.total_bytes;
        if (step == 0 && total > PROTO_PAYLOAD_MAX_BYTES)
            return problem(client, -EPROTO, "the agent announced an answer of %" PRIu32 " bytes", total);
        if (step == 0 && total > 0) {
            invocation->answer->data = malloc(total);
            if (!invocation->answer->data)
                return problem(client, -ENOMEM, "no memory for an answer of %" PRIu32 " bytes", total);
        }
        invocation->answer->size = step == 0 ? total : 0;
    }
    if (step == 0)
        step = payload_add(&invocation->response, message, invocation->answer->data, &why);
    if (step < 0)
        return problem(client, -EPROTO, "the agent sent an answer out of order: %s", why);
    return step == PAYLOAD_COMPLETE;
}

/* 1 when the invocation is over and answered, 0, or -errno. */
static int message_answers(struct control_client *client, struct invocation *invocation,
                           const struct proto_message *message)
{
    const struct proto_slice id = proto_text(invocation->request->id);
    if (message->type == PROTO_RESPONSE) {
        if (!proto_slice_equal(message->u.response.id, id))
            return problem(client, -EPROTO, "the agent answered a request that was not asked");
        return response_add(client, invocation, message);
    }
    if (message->type == PROTO_ERROR && message->u.error.id.size > 0) {
        if (!proto_slice_equal(message->u.error.id, id))
            return problem(client, -EPROTO, "the agent failed a request that was not asked");
        copy_failure(&client->failure, &message->u.error.failure);
        return -EREMOTEIO;
    }
    return message_common(client, message);
}

static int invoke_loop(struct control_client *client, struct invocation *invocation, uint64_t deadline_ns)
{
    for (;;) {
        struct proto_message message = {0};
        int got;
        while ((got = message_take(client, &message)) > 0) {
            got = message_answers(client, invocation, &message);
            if (got != 0)
                return got > 0 ? 0 : got;
        }
        if (got < 0)
            return got;
        int error = 0;
        if (!out_pending(client) && !invocation->sent)
            error = fragment_queue(client, invocation);
        else
            error = exchange(client, deadline_ns);
        if (error == -ETIMEDOUT)
            return problem(client, error,
                           "no answer in time to request %s (%" PRIu32 " of %" PRIu32
                           " bytes of the event sent)",
                           invocation->request->id, invocation->sent_bytes, invocation->request->event_size);
        if (error)
            return error;
    }
}

int control_client_invoke(struct control_client *client, const struct control_request *request,
                          struct control_answer *answer, uint64_t deadline_ns)
{
    *answer = (struct control_answer){0};
    if (request->event_size > PROTO_PAYLOAD_MAX_BYTES)
        return problem(client, -EINVAL, "event of %" PRIu32 " bytes: at most %d", request->event_size,
                       PROTO_PAYLOAD_MAX_BYTES);
    struct invocation invocation = {
        .request = request,
        .fragment = {.type = PROTO_INVOKE,
                     .u.invoke = {.id = proto_text(request->id), .timeout_ms = request->timeout_ms}},
        .answer = answer,
    };
    payload_reset(&invocation.response);
    const int error = invoke_loop(client, &invocation, deadline_ns);
    if (error) {
        free(answer->data);
        *answer = (struct control_answer){0};
    }
    return error;
}
