/*
 * See upstream.h. An upstream's life: addresses, sockets, time, and the owner's calls. What is TLS is in
 * engine.c; the two meet in step().
 *
 * The owner is told from the loop only, never from within a call of its own: what such a call found out is
 * told by the timer, at once. A handler that tells does so as its last act, as the owner may end the
 * upstream.
 *
 * Events: EPOLLIN stays wanted in UPSTREAM_OPEN while what came is unread, as the owner mostly reads at once;
 * when more comes all the same, it is no longer wanted until there is room (back-pressure). With nothing
 * wanted the descriptor leaves the epoll set, which would tell of a hang-up without end.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "agent/base/fd.h"
#include "agent/tls/engine.h"
#include "agent/tls/upstream.h"
#include "agent/tls/upstream_socket.h"

#define MS_NS 1000000ull

static void on_timer(void *context, uint32_t events);
static void on_socket(void *context, uint32_t events);

static void tell(struct upstream *upstream)
{
    upstream->changed(upstream->context, upstream);
}

static void tell_later(struct upstream *upstream)
{
    upstream->telling = true;
    loop_timer_arm(upstream->timer_fd, 0);
}

/* Arm the timer for the deadline, or sooner when an address has only a share of it. */
static void arm(struct upstream *upstream, unsigned shares)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t left = upstream->deadline_ns > now ? upstream->deadline_ns - now : 0;
    left = shares > 1 ? left / shares : left;
    upstream->due_ns = now + left;
    loop_timer_arm(upstream->timer_fd, left);
}

static void drop_socket(struct upstream *upstream, bool reset)
{
    if (upstream->fd >= 0 && reset)
        upstream_socket_reset_on_close(upstream->fd);
    loop_remove(upstream->loop, &upstream->source);
    fd_close(&upstream->fd);
    upstream->events = 0;
}

/* FAILED; `why` is set. What came before it can still be read. */
static int fail(struct upstream *upstream, int error)
{
    bool spoilt = upstream->state == UPSTREAM_HANDSHAKING || error == -EBADMSG || error == -EPROTO;
    if (spoilt && upstream->plan->sessions)
        upstream_sessions_clear(upstream->plan->sessions);
    upstream->state = UPSTREAM_FAILED;
    upstream->error = error;
    dns_cancel(&upstream->lookup);
    drop_socket(upstream, true);
    loop_timer_arm(upstream->timer_fd, LOOP_TIMER_NEVER);
    return error;
}

static void set_closed(struct upstream *upstream)
{
    upstream->state = UPSTREAM_CLOSED;
    dns_cancel(&upstream->lookup);
    drop_socket(upstream, false);
    loop_timer_arm(upstream->timer_fd, LOOP_TIMER_NEVER);
}

static int want(struct upstream *upstream, uint32_t events)
{
    if (upstream->fd < 0 || (events == upstream->events && upstream->source.fd >= 0))
        return 0;
    upstream->events = events;
    if (!events) {
        loop_remove(upstream->loop, &upstream->source);
        return 0;
    }
    if (upstream->source.fd >= 0)
        return loop_modify(upstream->loop, &upstream->source, events);
    return loop_add(upstream->loop, &upstream->source, upstream->fd, events, on_socket, upstream);
}

/* ---- TLS */

/* After the pump: 0 it goes on, 1 both ended it, -errno. */
static int settle(struct upstream *upstream, int outcome, uint32_t wants)
{
    if (engine_peer_ended(upstream->engine))
        upstream->peer_ended = true;
    if (outcome == -ECONNRESET && upstream->state == UPSTREAM_CLOSING && !engine_has_output(upstream->engine))
        outcome = 1; /* our end is out, and many a server just goes then */
    if (outcome < 0)
        return fail(upstream, outcome);
    if (outcome) {
        set_closed(upstream);
        return 0;
    }
    if (upstream->state == UPSTREAM_HANDSHAKING && engine_is_open(upstream->engine)) {
        upstream->state = UPSTREAM_OPEN;
        upstream->resumed = engine_has_resumed(upstream->engine);
        if (upstream->plan->sessions)
            engine_keep_session(upstream->engine, upstream->plan->sessions);
        loop_timer_arm(upstream->timer_fd, LOOP_TIMER_NEVER);
    }
    if (upstream->state == UPSTREAM_OPEN)
        wants |= upstream->events & EPOLLIN;
    int error = want(upstream, wants);
    if (error) {
        snprintf(upstream->why, sizeof upstream->why, "cannot wait for the socket: %s", strerror(-error));
        return fail(upstream, error);
    }
    return 0;
}

static int step(struct upstream *upstream, enum engine_way way)
{
    uint32_t wants = 0;
    int outcome = engine_pump(upstream->engine, upstream->fd, way, &wants, upstream->why);
    return settle(upstream, outcome, wants);
}

/* ---- addresses */

static int begin_handshake(struct upstream *upstream)
{
    upstream->state = UPSTREAM_HANDSHAKING;
    upstream->error = 0; /* other addresses' */
    upstream->why[0] = '\0';
    int error = engine_open(&upstream->engine, upstream->plan, upstream->why);
    if (error)
        return fail(upstream, error);
    arm(upstream, 1);
    return step(upstream, ENGINE_BOTH);
}

static void note_address(struct upstream *upstream, int error)
{
    char text[UPSTREAM_ADDRESS_BYTES];
    const struct manifest_connection *connection = upstream->plan->connection;
    upstream_socket_print(text, &upstream->lookup.addresses[upstream->address]);
    upstream->error = error;
    snprintf(upstream->why, sizeof upstream->why, "cannot connect to %.100s at %s port %u: %s",
             connection->host, text, connection->port,
             error == -ETIMEDOUT ? "no answer in time" : strerror(-error));
}

/* From the address in hand on, the first that does not fail at once. 0 or -errno: FAILED. */
static int try_addresses(struct upstream *upstream)
{
    for (; upstream->address < upstream->lookup.count; upstream->address++) {
        upstream->state = UPSTREAM_CONNECTING;
        int fd = upstream_socket_connect(&upstream->lookup.addresses[upstream->address],
                                         upstream->plan->connection->port);
        if (fd < 0) {
            note_address(upstream, fd);
            continue;
        }
        upstream->fd = fd;
        int error = want(upstream, EPOLLOUT);
        if (!error) {
            arm(upstream, upstream->lookup.count - upstream->address);
            return 0;
        }
        note_address(upstream, error);
        drop_socket(upstream, true);
    }
    if (!upstream->error) {
        upstream->error = -ENOENT;
        snprintf(upstream->why, sizeof upstream->why, "%.200s has no address",
                 upstream->plan->connection->host);
    }
    return fail(upstream, upstream->error);
}

static int next_address(struct upstream *upstream, int error)
{
    upstream->waiting = false;
    note_address(upstream, error);
    drop_socket(upstream, true);
    if (clock_monotonic_ns() >= upstream->deadline_ns)
        return fail(upstream, upstream->error);
    upstream->address++;
    return try_addresses(upstream);
}

static void on_resolved(void *context, int error)
{
    struct upstream *upstream = context;
    if (error) {
        snprintf(upstream->why, sizeof upstream->why, "%s", upstream->lookup.why);
        fail(upstream, error);
        tell(upstream);
        return;
    }
    if (try_addresses(upstream) != 0)
        tell(upstream);
}

/* ---- events */

/* Connected, and held: nothing is wanted of the socket until the release, or the deadline. */
static int wait_for_release(struct upstream *upstream)
{
    upstream->waiting = true;
    arm(upstream, 1);
    return want(upstream, 0);
}

static void on_connected(struct upstream *upstream)
{
    int error = upstream_socket_error(upstream->fd);
    if (error)
        error = next_address(upstream, error);
    else
        error = upstream->held ? wait_for_release(upstream) : begin_handshake(upstream);
    bool underway = upstream->state == UPSTREAM_CONNECTING || upstream->state == UPSTREAM_HANDSHAKING;
    if (error || !underway)
        tell(upstream);
}

static void on_socket(void *context, uint32_t events)
{
    struct upstream *upstream = context;
    if (upstream->state == UPSTREAM_CONNECTING) {
        on_connected(upstream);
        return;
    }
    bool handshaking = upstream->state == UPSTREAM_HANDSHAKING;
    if (upstream->state == UPSTREAM_OPEN && !engine_can_receive(upstream->engine)) {
        /* More has come than the owner has read. */
        want(upstream, upstream->events & ~(uint32_t)EPOLLIN);
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
    }
    step(upstream, ENGINE_BOTH);
    if (!handshaking || upstream->state != UPSTREAM_HANDSHAKING)
        tell(upstream);
}

static void on_timeout(struct upstream *upstream)
{
    uint32_t limit_ms = upstream->plan->connection->connect_timeout_ms;
    switch (upstream->state) {
    case UPSTREAM_RESOLVING:
        snprintf(upstream->why, sizeof upstream->why, "%.160s: no address within %u ms",
                 upstream->plan->connection->host, limit_ms);
        fail(upstream, -ETIMEDOUT);
        break;
    case UPSTREAM_CONNECTING:
        if (!upstream->waiting && next_address(upstream, -ETIMEDOUT) == 0)
            return;
        if (!upstream->waiting)
            break;
        snprintf(upstream->why, sizeof upstream->why,
                 "the handshake of another connection, waited for, was not over within %u ms", limit_ms);
        fail(upstream, -ETIMEDOUT);
        break;
    case UPSTREAM_HANDSHAKING:
        snprintf(upstream->why, sizeof upstream->why, "server did not finish the handshake within %u ms",
                 limit_ms);
        fail(upstream, -ETIMEDOUT);
        break;
    case UPSTREAM_CLOSING:
        if (engine_has_output(upstream->engine)) {
            snprintf(upstream->why, sizeof upstream->why, "server took no more data: the end was not sent");
            fail(upstream, -ETIMEDOUT);
        } else {
            set_closed(upstream);
        }
        break;
    case UPSTREAM_NONE:
    case UPSTREAM_OPEN:
    case UPSTREAM_CLOSED:
    case UPSTREAM_FAILED:
        return;
    }
    tell(upstream);
}

static void on_timer(void *context, uint32_t events)
{
    struct upstream *upstream = context;
    (void)events;
    loop_timer_clear(upstream->timer_fd);
    if (!upstream->telling) {
        /* The event may have been fetched before another of the same batch armed the timer anew. */
        uint64_t now = clock_monotonic_ns();
        if (now < upstream->due_ns)
            loop_timer_arm(upstream->timer_fd, upstream->due_ns - now);
        else
            on_timeout(upstream);
        return;
    }
    upstream->telling = false;
    if (upstream->state == UPSTREAM_CLOSING)
        arm(upstream, 1);
    tell(upstream);
}

/* ---- the owner's calls */

static int begin(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                 upstream_changed *changed, void *context, bool held)
{
    memset(upstream, 0, sizeof *upstream);
    upstream->held = held;
    upstream->loop = loop;
    upstream->plan = plan;
    upstream->changed = changed;
    upstream->context = context;
    upstream->fd = upstream->source.fd = upstream->timer.fd = -1;
    upstream->state = UPSTREAM_RESOLVING;
    upstream->deadline_ns = clock_monotonic_ns() + plan->connection->connect_timeout_ms * MS_NS;
    upstream->timer_fd = loop_timer_open();
    int error = upstream->timer_fd < 0
                    ? upstream->timer_fd
                    : loop_add(loop, &upstream->timer, upstream->timer_fd, EPOLLIN, on_timer, upstream);
    if (error) {
        snprintf(upstream->why, sizeof upstream->why, "cannot make a timer: %s", strerror(-error));
        return fail(upstream, error);
    }
    int known = dns_begin(&upstream->lookup, loop, plan->connection->host, upstream->deadline_ns, on_resolved,
                          upstream);
    if (known < 0) {
        snprintf(upstream->why, sizeof upstream->why, "%s", upstream->lookup.why);
        return fail(upstream, known);
    }
    if (known)
        return try_addresses(upstream);
    arm(upstream, 1);
    return 0;
}

int upstream_begin(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                   upstream_changed *changed, void *context)
{
    return begin(upstream, loop, plan, changed, context, false);
}

int upstream_begin_held(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                        upstream_changed *changed, void *context)
{
    return begin(upstream, loop, plan, changed, context, true);
}

void upstream_release(struct upstream *upstream)
{
    upstream->held = false;
    if (upstream->state != UPSTREAM_CONNECTING || !upstream->waiting)
        return;
    upstream->waiting = false;
    (void)begin_handshake(upstream);
    if (upstream->state != UPSTREAM_HANDSHAKING)
        tell_later(upstream);
}

/* What a call of the owner's found out is told from the loop. */
static void step_and_tell(struct upstream *upstream, enum engine_way way)
{
    enum upstream_state before = upstream->state;
    step(upstream, way);
    if (upstream->state != before)
        tell_later(upstream);
}

int64_t upstream_write(struct upstream *upstream, const void *data, size_t size)
{
    if (upstream->state != UPSTREAM_OPEN)
        return upstream->state == UPSTREAM_FAILED ? upstream->error : -ENOTCONN;
    if (upstream->engine->send_error)
        return -upstream->engine->send_error;
    size_t taken = 0;
    while (taken < size && upstream->state == UPSTREAM_OPEN) {
        size_t part = engine_write(upstream->engine, (const char *)data + taken, size - taken);
        if (!part)
            break;
        taken += part;
        engine_flush(upstream->engine);
        step_and_tell(upstream, ENGINE_SEND);
    }
    if (!taken && upstream->state == UPSTREAM_FAILED)
        return upstream->error;
    return (int64_t)taken;
}

void upstream_flush(struct upstream *upstream)
{
    if (upstream->state != UPSTREAM_OPEN)
        return;
    engine_flush(upstream->engine);
    step_and_tell(upstream, ENGINE_SEND);
}

const void *upstream_peek(struct upstream *upstream, size_t *size)
{
    *size = 0;
    return upstream->engine ? engine_peek(upstream->engine, size) : NULL;
}

void upstream_drop(struct upstream *upstream, size_t size)
{
    if (!upstream->engine || !size)
        return;
    engine_read(upstream->engine, size);
    if (upstream->state == UPSTREAM_OPEN && !(upstream->events & EPOLLIN) &&
        engine_can_receive(upstream->engine))
        want(upstream, upstream->events | EPOLLIN);
}

bool upstream_is_quiet(struct upstream *upstream)
{
    int unsent = 0, unread = 0;
    return upstream->state == UPSTREAM_OPEN && engine_is_quiet(upstream->engine) &&
           ioctl(upstream->fd, SIOCOUTQ, &unsent) == 0 && !unsent &&
           ioctl(upstream->fd, SIOCINQ, &unread) == 0 && !unread;
}

void upstream_close(struct upstream *upstream)
{
    switch (upstream->state) {
    case UPSTREAM_RESOLVING:
    case UPSTREAM_CONNECTING:
    case UPSTREAM_HANDSHAKING:
        set_closed(upstream);
        tell_later(upstream);
        break;
    case UPSTREAM_OPEN:
        upstream->state = UPSTREAM_CLOSING;
        upstream->deadline_ns = clock_monotonic_ns() + UPSTREAM_CLOSE_LIMIT_MS * MS_NS;
        arm(upstream, 1);
        engine_end(upstream->engine);
        step_and_tell(upstream, ENGINE_BOTH);
        break;
    case UPSTREAM_NONE:
    case UPSTREAM_CLOSING:
    case UPSTREAM_CLOSED:
    case UPSTREAM_FAILED:
        break;
    }
}

static void release(struct upstream *upstream)
{
    dns_cancel(&upstream->lookup);
    loop_remove(upstream->loop, &upstream->timer);
    fd_close(&upstream->timer_fd);
    engine_drop(&upstream->engine);
    upstream->state = UPSTREAM_NONE;
    upstream->telling = false;
}

void upstream_abandon(struct upstream *upstream)
{
    if (upstream->state == UPSTREAM_NONE)
        return;
    if (upstream->fd >= 0)
        upstream_socket_silence(upstream->fd);
    drop_socket(upstream, false);
    release(upstream);
}

void upstream_fini(struct upstream *upstream)
{
    if (upstream->state == UPSTREAM_NONE)
        return;
    drop_socket(upstream, upstream->state != UPSTREAM_CLOSED);
    release(upstream);
}
