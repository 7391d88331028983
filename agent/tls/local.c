/*
 * Local ends: from the function's connect() to its end. Who is at the other end was checked by the door.
 *
 * How one ends:
 *   the server ends the stream with close_notify    all it sent is given, then end of stream
 *   the upstream fails, or ends in any other way    reset (pump.c has how)
 *   the function closes its socket                  what it sent goes out, then close_notify
 *   the function shuts down writing only            nothing is said to the server yet: in TLS 1.2 that would
 *                                                   end both directions, and lose the response. The end comes
 *                                                   with the server's, with the function's close, or when
 *                                                   nothing has moved for idle_timeout_ms
 * A TCP socket that is closed looks like one that is shut down for writing. So there, when the last word was
 * the server's, a second of silence is enough.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/loopback.h"
#include "agent/tls/table.h"

enum { TCP_SILENCE_MS = 1000 };

static void on_local(void *context, uint32_t events)
{
    struct local *local = context;
    table_enter(local->connections);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        local->ended = true;
    if (events & (EPOLLHUP | EPOLLERR))
        local->gone = true;
    local->dirty = local->connections->progress = true;
    table_leave(local->connections);
}

void local_attach(struct local *local)
{
    if (local->source.fd >= 0)
        return;
    const uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    const int error = loop_add(local->connections->loop, &local->source, local->fd, events, on_local, local);
    if (error)
        local_fail(local, error, "cannot wait for the function's connection");
}

void local_detach(struct local *local)
{
    loop_remove(local->connections->loop, &local->source);
}

void local_begin(struct connections *connections, struct pool *pool, int fd, bool is_tcp)
{
    struct local *local = connections->locals;
    while (local->state != LOCAL_FREE) /* the doors are shut when there is none */
        local++;
    *local = (struct local){.state = pool ? LOCAL_SERVED : LOCAL_ASKING,
                            .connections = connections,
                            .pool = pool,
                            .fd = fd,
                            .source = {.fd = -1},
                            .is_tcp = is_tcp,
                            .moved_ns = clock_monotonic_ns()};
    if (++connections->local_count == CONNECTIONS_LOCAL_MAX)
        door_pause(connections);
    local_attach(local);
    if (local->state == LOCAL_SERVED)
        pool_bind(pool, local);
}

/* ---- ends ------------------------------------------------------------------------------------------ */

static void let_go(struct local *local)
{
    struct connections *connections = local->connections;
    local_detach(local);
    fd_close(&local->fd);
    local->state = LOCAL_FREE;
    local->dirty = false;
    connections->local_count--;
    connections->progress = true;
    door_resume(connections);
}

/* Its line, which it does not need any more, whatever state that is in. */
static void let_line_go(struct local *local)
{
    struct line *line = local->line;
    local->line = NULL;
    if (!line)
        return;
    line->local = NULL;
    if (line->state == LINE_BEGUN)
        line_give_back(line);
    else
        line_close(line);
}

void local_finish(struct local *local)
{
    pump_drop_kept(local);
    let_line_go(local);
    let_go(local);
}

void local_fail(struct local *local, int error, const char *why)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    char text[UPSTREAM_WHY_BYTES]; /* `why` may be the line's */
    struct line *line = local->line;
    (void)snprintf(text, sizeof text, "%s", why);
    local->line = NULL;
    if (line) {
        line->local = NULL;
        line_spend(line);
    }
    if (local->state == LOCAL_ASKING || local->owes_ok) {
        ask_say_error(local, error, text);
    } else if (local->is_tcp) {
        (void)setsockopt(local->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    let_go(local);
}

/* ---- what has happened to it ----------------------------------------------------------------------- */

static uint64_t silence_ns(const struct local *local)
{
    const uint64_t limit_ms =
        local->is_tcp && !local->last_from_function ? TCP_SILENCE_MS : local->pool->wish->idle_timeout_ms;
    return limit_ms * TABLE_NS_PER_MS;
}

uint64_t local_next_ns(const struct local *local)
{
    return local->line && local->line->state == LINE_OPEN && local->ended
               ? local->moved_ns + silence_ns(local)
               : LOOP_TIMER_NEVER;
}

bool local_is_deserted(struct local *local)
{
    struct pollfd look = {.fd = local->fd, .events = POLLRDHUP}; /* no event came while it was detached */
    if (poll(&look, 1, 0) == 1) {
        local->ended = local->ended || (look.revents & (POLLRDHUP | POLLHUP | POLLERR));
        local->gone = local->gone || (look.revents & (POLLHUP | POLLERR));
    }
    return local->ended && !pump_has_input(local);
}

static bool has_output(struct local *local)
{
    size_t size = 0;
    return upstream_peek(&local->line->upstream, &size) != NULL && size > 0;
}

/* Nothing more is to come from the server, or the function is done with it. */
static bool is_over(struct local *local)
{
    const struct upstream *upstream = &local->line->upstream;
    if ((upstream->peer_ended || upstream->state == UPSTREAM_CLOSED) && !has_output(local))
        return true;
    return (local->gone && !pump_has_input(local)) || clock_monotonic_ns() >= local_next_ns(local);
}

static void look_at_open(struct local *local)
{
    const struct upstream *upstream = &local->line->upstream;
    if (local->owes_ok && !ask_say_ok(local)) {
        local_finish(local);
        return;
    }
    const enum pump_result result = pump_run(local);
    if (upstream->state == UPSTREAM_FAILED)
        local->line->dirty = local->connections->progress = true; /* line_look has the rest */
    else if (result == PUMP_MORE)
        local->dirty = local->connections->later = true;
    else if (result == PUMP_BROKEN || is_over(local))
        local_finish(local);
}

void local_look(struct local *local)
{
    local->dirty = false;
    if (local->state == LOCAL_ASKING) {
        ask_look(local);
        return;
    }
    const struct line *line = local->line;
    if (!line || line->upstream.state == UPSTREAM_FAILED)
        return;
    if (line->state != LINE_BEGUN)
        look_at_open(local);
    else if (local->gone && !pump_has_input(local))
        local_finish(local);
}

/* ---- idle ------------------------------------------------------------------------------------------ */

/* A Unix socket's queue is the other end's; of TCP the kernel is asked for that besides. */
static bool function_has_read_all(const struct local *local)
{
    int queued = 0;
    struct loopback_end end;
    if (ioctl(local->fd, SIOCOUTQ, &queued) < 0 || queued > 0)
        return false;
    return !local->is_tcp || (loopback_ask(local->fd, &end) == 0 && end.unread_bytes == 0);
}

bool local_is_idle(struct local *local)
{
    struct line *line = local->line;
    return line && line->state == LINE_OPEN && line->upstream.state == UPSTREAM_OPEN &&
           !line->upstream.peer_ended && !local->owes_ok && !local->ended && !local->last_from_function &&
           !pump_has_input(local) && !has_output(local) && upstream_is_quiet(&line->upstream) &&
           function_has_read_all(local);
}
