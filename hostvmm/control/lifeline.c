/*
 * See lifeline.h; the messages: lifeline_message.c. This file moves bytes and time.
 *
 *   begin: hello (once a connection), SECRET*, CHECKPOINT | COLLECT are queued at once
 *   turn:  send what is queued; when all is out and the agent has said hello, RESUME with the time of now;
 *          hand out what has come
 *   end:   the answer, a fault, the connection's end or the limit. `done` is the last thing a turn does
 *
 * Between exchanges the connection is still read, so that its end is seen.
 */
#include "hostvmm/control/lifeline.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/base/fd.h"
#include "hostvmm/control/lifeline_message.h"

#define GRACE_MAX_MS 2000u

static void on_connection(void *context, uint32_t events);

static void wipe(struct lifeline *lifeline)
{
    if (lifeline->request)
        explicit_bzero(lifeline->request, lifeline->request_room);
    free(lifeline->request);
    lifeline->request = NULL;
    lifeline->request_room = lifeline->request_bytes = lifeline->request_sent = 0;
    explicit_bzero(&lifeline->order, sizeof lifeline->order);
}

static void disconnect(struct lifeline *lifeline)
{
    loop_remove(lifeline->loop, &lifeline->source);
    fd_close(&lifeline->fd);
    wipe(lifeline);
    lifeline->greeted = lifeline->hello_in = lifeline->asked = lifeline->deaf = false;
}

/* The exchange is over. Nothing of `lifeline` may be used after this. */
static void finish(struct lifeline *lifeline, int error)
{
    const bool was_under_way = lifeline->exchange != LIFELINE_NONE;
    if (error == -ECONNRESET && !lifeline->greeted)
        error = -ECONNREFUSED;
    if (error == -ECONNRESET || error == -ECONNREFUSED)
        (void)snprintf(lifeline->outcome.why, sizeof lifeline->outcome.why, "%s",
                       lifeline->greeted ? "the agent, or its guest, went away before it answered"
                                         : "the agent closed the connection before it said hello");
    else if (error && !lifeline->outcome.why[0])
        (void)snprintf(lifeline->outcome.why, sizeof lifeline->outcome.why, "the connection to the agent: %s",
                       strerror(-error));
    lifeline->outcome.error = error;
    lifeline->exchange = LIFELINE_NONE;
    wipe(lifeline);
    if (error && error != -EREMOTEIO)
        disconnect(lifeline);
    if (lifeline->limit_fd >= 0)
        (void)loop_timer_arm(lifeline->limit_fd, LOOP_TIMER_NEVER);
    if (was_under_way)
        lifeline->done(lifeline->context, &lifeline->outcome);
}

/* ---- sending ---- */

static bool all_sent(const struct lifeline *lifeline)
{
    return lifeline->request_sent == lifeline->request_bytes;
}

static bool resume_is_due(const struct lifeline *lifeline)
{
    return lifeline->exchange == LIFELINE_RESUME && !lifeline->asked && lifeline->greeted &&
           all_sent(lifeline);
}

static int queue(struct lifeline *lifeline, const struct proto_message *message)
{
    const int64_t size = proto_encode(message, lifeline->request + lifeline->request_bytes,
                                      lifeline->request_room - lifeline->request_bytes);
    if (size < 0)
        return (int)size;
    lifeline->request_bytes += (size_t)size;
    return 0;
}

static int queue_resume(struct lifeline *lifeline)
{
    struct lifeline_resume *order = &lifeline->order;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return -errno;
    const struct proto_message resume = {
        .type = PROTO_RESUME,
        .u.resume = {.timeout_ms = order->hooks_limit_ms,
                     .generation = order->generation,
                     .seed = {order->seed, sizeof order->seed},
                     .realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                     .clone_id = {order->clone_id, sizeof order->clone_id},
                     .hostname = proto_text(lifeline->hostname),
                     .network = proto_text(lifeline->network)},
    };
    const int error = queue(lifeline, &resume);
    lifeline->asked = error == 0;
    return error;
}

/* 0 also when the other end is gone: what it said before is still to be read. */
static int send_queued(struct lifeline *lifeline)
{
    while (!lifeline->deaf && !all_sent(lifeline)) {
        ssize_t n = send(lifeline->fd, lifeline->request + lifeline->request_sent,
                         lifeline->request_bytes - lifeline->request_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            lifeline->request_sent += (size_t)n;
        else if (errno == EPIPE || errno == ECONNRESET)
            lifeline->deaf = true;
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int send_some(struct lifeline *lifeline)
{
    int error = send_queued(lifeline);
    if (error == 0 && resume_is_due(lifeline)) {
        error = queue_resume(lifeline);
        const size_t from = lifeline->request_sent;
        if (error == 0)
            error = send_queued(lifeline);
        if (error == 0 && lifeline->request_sent == from) { /* later, with the time of then */
            explicit_bzero(lifeline->request + from, lifeline->request_bytes - from);
            lifeline->request_bytes = from;
            lifeline->asked = false;
        }
    }
    if (error == 0 && lifeline->asked && all_sent(lifeline))
        wipe(lifeline);
    return error;
}

static int watch(struct lifeline *lifeline)
{
    const bool waiting = !lifeline->deaf && (!all_sent(lifeline) || resume_is_due(lifeline));
    return loop_modify(lifeline->loop, &lifeline->source, EPOLLIN | (waiting ? (uint32_t)EPOLLOUT : 0));
}

/* ---- receiving ---- */

/* Hand out what has come. LIFELINE_GOES_ON, LIFELINE_ANSWERED or -errno. */
static int take_messages(struct lifeline *lifeline)
{
    struct proto_slice body;
    int got;
    while ((got = frame_reader_next(&lifeline->reader, &body)) > 0) {
        const int taken = lifeline_take_frame(lifeline, body);
        if (taken != LIFELINE_GOES_ON)
            return taken;
    }
    return got < 0 ? lifeline_problem(lifeline, "the agent sent a frame of impossible size")
                   : LIFELINE_GOES_ON;
}

/* One buffer a turn, so that a flood does not hold the loop. */
static int receive_some(struct lifeline *lifeline)
{
    size_t room;
    uint8_t *space = frame_reader_space(&lifeline->reader, &room);
    ssize_t n = recv(lifeline->fd, space, room, MSG_DONTWAIT);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ECONNRESET;
    frame_reader_fill(&lifeline->reader, (size_t)n);
    return 0;
}

static void on_connection(void *context, uint32_t events)
{
    struct lifeline *lifeline = context;
    /* What came with the end of the exchange before this one is judged first: it answers nothing. */
    int step = take_messages(lifeline);
    if (step == LIFELINE_GOES_ON && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        step = receive_some(lifeline);
        if (step == 0)
            step = take_messages(lifeline);
    }
    if (step == LIFELINE_GOES_ON)
        step = send_some(lifeline);
    if (step == 0)
        step = watch(lifeline);
    if (step == LIFELINE_ANSWERED)
        finish(lifeline, lifeline->outcome.error);
    else if (step < 0)
        finish(lifeline, step);
}

static void on_limit(void *context, uint32_t events)
{
    struct lifeline *lifeline = context;
    (void)events;
    loop_timer_clear(lifeline->limit_fd);
    if (lifeline->exchange == LIFELINE_NONE)
        return;
    lifeline_tell_late(lifeline);
    finish(lifeline, -ETIMEDOUT);
}

/* ---- life ---- */

void lifeline_init(struct lifeline *lifeline, struct loop *loop)
{
    memset(lifeline, 0,
           offsetof(struct lifeline, reader)); /* whose buffer is large, and looks after itself */
    lifeline->loop = loop;
    lifeline->fd = lifeline->limit_fd = lifeline->source.fd = lifeline->limit.fd = -1;
    frame_reader_init(&lifeline->reader);
}

void lifeline_fini(struct lifeline *lifeline)
{
    lifeline->exchange = LIFELINE_NONE;
    disconnect(lifeline);
    loop_remove(lifeline->loop, &lifeline->limit);
    fd_close(&lifeline->limit_fd);
}

int lifeline_open(struct lifeline *lifeline, int fd)
{
    lifeline_fini(lifeline);
    lifeline->fd = fd;
    frame_reader_init(&lifeline->reader);
    int error = 0;
    lifeline->limit_fd = loop_timer_open();
    if (lifeline->limit_fd < 0)
        error = lifeline->limit_fd;
    if (error == 0)
        error = loop_add(lifeline->loop, &lifeline->limit, lifeline->limit_fd, EPOLLIN, on_limit, lifeline);
    if (error == 0)
        error = loop_add(lifeline->loop, &lifeline->source, fd, EPOLLIN, on_connection, lifeline);
    if (error)
        lifeline_fini(lifeline);
    return error;
}

bool lifeline_is_open(const struct lifeline *lifeline)
{
    return lifeline->fd >= 0;
}

/* ---- the exchanges ---- */

static int prepare(struct lifeline *lifeline, size_t room)
{
    if (lifeline->exchange != LIFELINE_NONE)
        return -EBUSY;
    if (lifeline->fd < 0)
        return -ENOTCONN;
    lifeline->request_room = room + PROTO_HEAD_MAX_BYTES; /* and hello */
    lifeline->request = malloc(lifeline->request_room);
    if (!lifeline->request)
        return -ENOMEM;
    lifeline->asked = false;
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("hostvmm"), .state = PROTO_STATE_STARTING},
    };
    return lifeline->hello_in ? 0 : queue(lifeline, &hello);
}

/* `error`: of what was done for it so far. */
static int start(struct lifeline *lifeline, int error, enum lifeline_exchange exchange, uint32_t limit_ms,
                 lifeline_done *done, void *context)
{
    if (error == -EBUSY)
        return error;
    if (error == 0)
        error = loop_timer_arm(lifeline->limit_fd, limit_ms * UINT64_C(1000000));
    if (error == 0)
        error = loop_modify(lifeline->loop, &lifeline->source, EPOLLIN | EPOLLOUT);
    if (error) {
        wipe(lifeline);
        return error;
    }
    memset(&lifeline->outcome, 0, sizeof lifeline->outcome);
    lifeline->hello_in = true;
    lifeline->fact_count = 0;
    lifeline->exchange = exchange;
    lifeline->limit_ms = limit_ms;
    lifeline->done = done;
    lifeline->context = context;
    return 0;
}

int lifeline_checkpoint(struct lifeline *lifeline, uint32_t limit_ms, lifeline_done *done, void *context)
{
    /* The agent ends first, so that its reason comes and not only the silence after our limit. */
    const uint32_t grace_ms = limit_ms / 8 < GRACE_MAX_MS ? limit_ms / 8 : GRACE_MAX_MS;
    const uint32_t timeout_ms = limit_ms - grace_ms;
    const struct proto_message checkpoint = {
        .type = PROTO_CHECKPOINT,
        .u.checkpoint.timeout_ms = timeout_ms < PROTO_TIMEOUT_MAX_MS ? timeout_ms : PROTO_TIMEOUT_MAX_MS,
    };
    int error = prepare(lifeline, PROTO_HEAD_MAX_BYTES);
    if (error == 0)
        error = queue(lifeline, &checkpoint);
    if (error == 0)
        lifeline->asked = true;
    return start(lifeline, error, LIFELINE_CHECKPOINT, limit_ms, done, context);
}

static int queue_secrets(struct lifeline *lifeline, const struct lifeline_resume *resume)
{
    int error = 0;
    for (unsigned i = 0; error == 0 && i < resume->secret_count; i++) {
        const struct lifeline_secret *from = &resume->secrets[i];
        const struct proto_message secret = {
            .type = PROTO_SECRET,
            .u.secret = {.name = {(const uint8_t *)from->name, strnlen(from->name, sizeof from->name)},
                         .body = {from->data, from->size}},
        };
        error = queue(lifeline, &secret);
    }
    return error;
}

int lifeline_resume(struct lifeline *lifeline, const struct lifeline_resume *resume, uint32_t limit_ms,
                    lifeline_done *done, void *context)
{
    const size_t hostname_bytes = resume->hostname ? strlen(resume->hostname) : 0;
    const size_t network_bytes = resume->network ? strlen(resume->network) : 0;
    size_t room = PROTO_HEAD_MAX_BYTES + network_bytes;
    if (resume->secret_count > LIFELINE_SECRETS_MAX || hostname_bytes > PROTO_HOSTNAME_MAX_BYTES ||
        network_bytes > PROTO_NETWORK_MAX_BYTES)
        return -EINVAL;
    for (unsigned i = 0; i < resume->secret_count; i++) {
        if (resume->secrets[i].size > PROTO_SECRET_MAX_BYTES)
            return -EINVAL;
        room += PROTO_HEAD_MAX_BYTES + resume->secrets[i].size;
    }
    int error = prepare(lifeline, room);
    if (error == 0)
        error = queue_secrets(lifeline, resume);
    if (error == 0) {
        lifeline->order = *resume;
        memcpy(lifeline->hostname, resume->hostname ? resume->hostname : "", hostname_bytes + 1);
        memcpy(lifeline->network, resume->network ? resume->network : "", network_bytes + 1);
        /* Once with any time, so that a field outside its limits is refused here. */
        const size_t bytes = lifeline->request_bytes;
        error = queue_resume(lifeline);
        lifeline->request_bytes = bytes;
        lifeline->asked = false;
    }
    return start(lifeline, error, LIFELINE_RESUME, limit_ms, done, context);
}

int lifeline_collect(struct lifeline *lifeline, uint32_t limit_ms, lifeline_fact *fact, lifeline_done *done,
                     void *context)
{
    const struct proto_message collect = {.type = PROTO_COLLECT};
    int error = prepare(lifeline, PROTO_HEAD_MAX_BYTES);
    if (error == 0)
        error = queue(lifeline, &collect);
    if (error == 0) {
        lifeline->asked = true;
        lifeline->fact = fact;
    }
    return start(lifeline, error, LIFELINE_COLLECT, limit_ms, done, context);
}
