/*
 * See vsock_host.h: what passes between a connection and its Unix socket. Each event of a socket is one turn:
 * it marks the connection ready, and vsock_guest_serve_rx shares the guest's buffers out among the ready.
 *
 * A hung-up socket reports so for ever: it is taken out of the loop at the first report, and read to its end
 * as the guest takes the bytes.
 */
#include "hostvmm/device/virtio/vsock_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/device/virtio/vsock_guest.h"
#include "hostvmm/device/virtio/vsock_turn.h"

#define SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

static void buffer_drop(struct vsock_connection *connection)
{
    free(connection->buffer);
    connection->buffer = NULL;
    connection->buffer_at = 0;
    connection->buffer_used = 0;
}

/* The host's end no longer does what `flags` say. Once it does neither, only the guest's word is awaited. */
static void host_shut(struct vsock_connection *connection, unsigned flags)
{
    connection->shut |= (uint8_t)flags;
    if (connection->shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
        vsock_forwarded(connection, connection->buffer_used); /* given up */
        buffer_drop(connection);
    }
    if (connection->shut == SHUT_BOTH) {
        connection->state = VSOCK_CLOSING;
        connection->wants_read = false;
        loop_remove(connection->vsock->loop, &connection->source);
        fd_close(&connection->fd);
    }
}

void vsock_host_interest(struct vsock_connection *connection)
{
    uint32_t interest = connection->buffer_used > 0 ? EPOLLOUT : 0;
    if (connection->state == VSOCK_GREETING)
        interest |= EPOLLIN;
    if (connection->state == VSOCK_ESTABLISHED && !connection->wants_read &&
        !(connection->shut & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
        !(connection->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
        interest |= EPOLLIN;
    if (connection->source.fd < 0 || interest == connection->interest)
        return;
    if (loop_modify(connection->vsock->loop, &connection->source, interest) == 0)
        connection->interest = interest;
}

/* Copy into the buffer's ring; the guest's credit bounds what it holds. */
static void buffer_put(struct vsock_connection *connection, const uint8_t *from, uint32_t size)
{
    const uint32_t capacity = connection->buffer_bytes_max;
    const uint32_t at = (connection->buffer_at + connection->buffer_used) % capacity;
    const uint32_t first = size < capacity - at ? size : capacity - at;
    memcpy(connection->buffer + at, from, first);
    memcpy(connection->buffer, from + first, size - first);
    connection->buffer_used += size;
}

static ssize_t send_list(int fd, struct iovec *list, unsigned count)
{
    struct msghdr message = {.msg_iov = list};
    message.msg_iovlen = (__typeof__(message.msg_iovlen))count; /* int in one libc, size_t in the other */
    ssize_t n;
    do {
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

int vsock_host_deliver(struct vsock_connection *connection, struct iovec *list, unsigned count, uint32_t size)
{
    uint32_t done = 0;
    connection->received += size;
    if (connection->buffer_used == 0 && !(connection->shut & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
        const ssize_t n = send_list(connection->fd, list, count);
        if (n < 0)
            host_shut(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
        else
            done = (uint32_t)n;
    }
    if (connection->shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
        done = size; /* nobody reads it */
    vsock_forwarded(connection, done);
    if (done == size)
        return 0;
    if (!connection->buffer)
        connection->buffer = malloc(connection->buffer_bytes_max);
    if (!connection->buffer)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t here = (uint32_t)list[i].iov_len;
        const uint32_t skip = done < here ? done : here;
        buffer_put(connection, (const uint8_t *)list[i].iov_base + skip, here - skip);
        done -= skip;
    }
    vsock_host_interest(connection);
    return 0;
}

/* Pass the buffered bytes on. 0, or negative when the host's end takes no more. */
static int flush(struct vsock_connection *connection)
{
    const uint32_t capacity = connection->buffer_bytes_max;
    while (connection->buffer_used > 0) {
        const uint32_t at = connection->buffer_at;
        const uint32_t first =
            connection->buffer_used < capacity - at ? connection->buffer_used : capacity - at;
        struct iovec list[2] = {
            {.iov_base = connection->buffer + at, .iov_len = first},
            {.iov_base = connection->buffer, .iov_len = connection->buffer_used - first},
        };
        const ssize_t n = send_list(connection->fd, list, 2);
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        connection->buffer_at = (at + (uint32_t)n) % capacity;
        connection->buffer_used -= (uint32_t)n;
        vsock_forwarded(connection, (uint32_t)n);
    }
    buffer_drop(connection);
    vsock_host_guest_shut(connection);
    return 0;
}

void vsock_host_guest_shut(struct vsock_connection *connection)
{
    if (connection->fd < 0)
        return;
    if ((connection->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) && connection->buffer_used == 0)
        (void)shutdown(connection->fd, SHUT_WR);
    if (connection->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
        (void)shutdown(connection->fd, SHUT_RD);
        connection->wants_read = false;
    }
    vsock_host_interest(connection);
}

uint32_t vsock_host_read(struct vsock_connection *connection, const struct iovec *list, unsigned count,
                         uint32_t size)
{
    ssize_t n;
    do {
        n = readv(connection->fd, list, (int)count);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        /* A short read emptied it; the loop tells of more, but for a hung-up one. */
        connection->wants_read = connection->hung_up || (uint32_t)n == size;
        return (uint32_t)n;
    }
    connection->wants_read = false;
    if (n == 0 || errno != EAGAIN || connection->hung_up)
        host_shut(connection, n < 0 || connection->hung_up ? SHUT_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
    return 0;
}

void vsock_host_say_ok(struct vsock_connection *connection)
{
    char line[24];
    if (!connection->says_ok)
        return;
    const int size = snprintf(line, sizeof line, "OK %u\n", connection->host_port);
    struct iovec list = {.iov_base = line, .iov_len = (size_t)size};
    /* The first bytes this socket is given: they fit. A client that is gone is noticed by its hang-up. */
    (void)send_list(connection->fd, &list, 1);
    connection->says_ok = false;
}

void vsock_host_end(struct vsock_connection *connection)
{
    if (connection->state != VSOCK_ESTABLISHED || connection->buffer_used == 0 || connection->source.fd < 0) {
        vsock_connection_destroy(connection);
        return;
    }
    vsock_connection_unhash(connection);
    connection->state = VSOCK_DRAINING;
    connection->wants_read = false;
    connection->owes = 0;
    connection->shut_told = connection->shut;
    (void)shutdown(connection->fd, SHUT_RD);
    vsock_host_interest(connection);
}

/* The client's first line, and not a byte beyond it: those are the guest's. False when it was destroyed. */
static bool greet(struct vsock_connection *connection)
{
    char peek[VSOCK_LINE_MAX_BYTES];
    const size_t room = sizeof connection->line - connection->line_bytes;
    ssize_t n = recv(connection->fd, peek, room, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !connection->hung_up)
        return true;
    const char *end = n > 0 ? memchr(peek, '\n', (size_t)n) : NULL;
    const size_t take = end ? (size_t)(end - peek) + 1 : n > 0 ? (size_t)n : 0;
    uint32_t port;
    if (take == 0 || connection->hung_up ||
        recv(connection->fd, connection->line + connection->line_bytes, take, MSG_DONTWAIT) != (ssize_t)take)
        goto refuse;
    connection->line_bytes = (uint8_t)(connection->line_bytes + take);
    if (!end && take < room)
        return true;
    if (!end || vsock_line_port(connection->line, connection->line_bytes - 1u, &port) < 0)
        goto refuse;
    connection->guest_port = port;
    connection->host_port = vsock_host_port_pick(connection->vsock, port);
    connection->state = VSOCK_REQUESTED;
    connection->owes = VSOCK_OWES_REQUEST;
    connection->says_ok = true;
    vsock_connection_hash(connection);
    return true;

refuse:
    vsock_connection_destroy(connection);
    return false;
}

/* The host's end has closed. False when the connection was destroyed. */
static bool hang_up(struct vsock_connection *connection)
{
    connection->hung_up = true;
    loop_remove(connection->vsock->loop, &connection->source);
    switch (connection->state) {
    case VSOCK_REQUESTED:
        if (connection->owes & VSOCK_OWES_REQUEST) {
            vsock_connection_destroy(connection); /* the guest never heard of it */
            return false;
        }
        host_shut(connection, SHUT_BOTH);
        connection->shut_told = connection->shut; /* the guest's answer is met with RST, or is one */
        return true;
    case VSOCK_ESTABLISHED:
        if ((connection->shut & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
            (connection->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
            host_shut(connection, SHUT_BOTH); /* nothing is left to be read, or to be read for */
        else
            connection->wants_read = true;
        return true;
    case VSOCK_GREETING:
    case VSOCK_DRAINING:
    case VSOCK_CLOSING:
        break;
    }
    vsock_connection_destroy(connection);
    return false;
}

/* False when the connection was destroyed. */
static bool take_events(struct vsock_connection *connection, uint32_t events)
{
    const bool flushed = !(events & EPOLLOUT) || flush(connection) == 0;
    if (connection->state == VSOCK_DRAINING && (!flushed || connection->buffer_used == 0)) {
        vsock_connection_destroy(connection);
        return false;
    }
    if (!flushed)
        host_shut(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
    if (connection->state == VSOCK_CLOSING) /* the flush was the last straw */
        return true;
    if (events & (EPOLLHUP | EPOLLERR))
        return hang_up(connection);
    if (events & EPOLLIN && connection->state == VSOCK_GREETING)
        return greet(connection);
    if (events & EPOLLIN && connection->state == VSOCK_ESTABLISHED)
        connection->wants_read = true;
    return true;
}

static void on_connection(void *context, uint32_t events)
{
    struct vsock_connection *connection = context;
    struct virtio_vsock *vsock = connection->vsock;
    if (!vsock_turn_begin(vsock)) {
        vsock_turn_end(vsock, false); /* connections were dropped, this one perhaps among them */
        return;
    }
    const bool alive = take_events(connection, events);
    if (alive && vsock_has_packet(connection))
        vsock_ready_add(connection);
    const bool more = virtio_device_serving(&vsock->device) && vsock_guest_serve_rx(vsock);
    if (alive)
        vsock_host_interest(connection);
    vsock_turn_end(vsock, more);
}

int vsock_host_attach(struct vsock_connection *connection, int fd)
{
    connection->fd = fd;
    connection->interest =
        connection->state == VSOCK_GREETING || connection->state == VSOCK_ESTABLISHED ? EPOLLIN : 0;
    return loop_add(connection->vsock->loop, &connection->source, fd, connection->interest, on_connection,
                    connection);
}
