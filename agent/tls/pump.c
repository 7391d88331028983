/*
 * Bytes between a local end and its line. Neither side is read further than the other takes: the buffers are
 * the engine's and the sockets' own.
 *
 * The local socket is watched edge-triggered, so a side that stalls costs nothing; for that, each run goes on
 * until both directions wait, or until it has done its share and comes back later.
 *
 * The kept byte. Closing a Unix socket resets its other end (ECONNRESET) only when there are bytes in it that
 * were not read; else it is an end of stream, which a function could take for the end of a response. So the
 * last byte that the function has sent stays in the socket's queue, already sent on, for as long as the local
 * end lives: input is looked at with MSG_PEEK behind it, and taken out one byte late. A function that has
 * never sent anything sees an end of stream instead. TCP has SO_LINGER for this, and keeps none.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/tls/table.h"

enum { PIECE_BYTES = 16384, SHARE_BYTES = 16 * PIECE_BYTES };

/* One thread, one piece at a time. */
static uint8_t piece[PIECE_BYTES + 1];

void pump_wipe(void)
{
    explicit_bzero(piece, sizeof piece);
}

/* Bytes in the queue, the kept one included, up to the piece's size; 0: none or the end; -errno. */
static int64_t look(const struct local *local)
{
    ssize_t count;
    do
        count = recv(local->fd, piece, sizeof piece, MSG_PEEK | MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN ? 0 : -errno;
    return count;
}

/* Take bytes that `look` has shown out of the queue. */
static int take_out(const struct local *local, size_t size)
{
    while (size > 0) {
        const ssize_t count = recv(local->fd, piece, size, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EPIPE;
        size -= (size_t)count;
    }
    return 0;
}

bool pump_has_input(struct local *local)
{
    return look(local) > (int64_t)local->kept;
}

void pump_drop_kept(struct local *local)
{
    (void)take_out(local, local->kept);
    local->kept = 0;
}

/* From the function to the server. Bytes moved, or -errno: the local end is broken. */
static int64_t up(struct local *local)
{
    struct upstream *upstream = &local->line->upstream;
    int64_t moved = 0;
    while (moved < SHARE_BYTES && upstream->state == UPSTREAM_OPEN) {
        const int64_t there = look(local);
        if (there <= (int64_t)local->kept)
            return there < 0 && !local->ended ? there : moved;
        const int64_t taken = upstream_write(upstream, piece + local->kept, (size_t)there - local->kept);
        if (taken <= 0)
            break; /* no room, or its end, which is looked at next */
        const unsigned keep = local->is_tcp ? 0 : 1;
        const int error = take_out(local, local->kept + (size_t)taken - keep);
        if (error)
            return error;
        local->kept = keep;
        local->last_from_function = true;
        moved += taken;
    }
    return moved;
}

/* From the server to the function. */
static int64_t down(struct local *local)
{
    struct upstream *upstream = &local->line->upstream;
    int64_t moved = 0;
    while (moved < SHARE_BYTES) {
        size_t size = 0;
        const void *data = upstream_peek(upstream, &size);
        if (!data || size == 0)
            break;
        ssize_t count = (ssize_t)size; /* nobody reads it: dropped, so that what is to be sent can go */
        if (!local->gone)
            count = send(local->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0) {
            local->ended = local->gone = true;
            continue;
        }
        upstream_drop(upstream, (size_t)count);
        local->last_from_function = false;
        moved += count;
    }
    return moved;
}

enum pump_result pump_run(struct local *local)
{
    int64_t total = 0, sent, given;
    do {
        sent = up(local);
        if (sent < 0)
            return PUMP_BROKEN;
        if (sent > 0)
            upstream_flush(&local->line->upstream);
        given = down(local);
        total += sent + given;
    } while (sent + given > 0 && total < SHARE_BYTES);
    if (total > 0)
        local->moved_ns = clock_monotonic_ns();
    return total < SHARE_BYTES ? PUMP_WAITS : PUMP_MORE;
}
