/*
 * See shutdown.h. Hello and SHUTDOWN go out in one piece: the agent needs no answer from us in between. What
 * comes back is counted and dropped: the agent's hello proves that it is there, and it closes when it halts.
 * Owner of the connection: struct control_shutdown. Protocol: agent/proto/PROTOCOL.md.
 */
#include "hostvmm/control/shutdown.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/proto/proto.h"

/* Two frames of log at most come with the hello: a peer that sends more than this is no agent. */
#define DISCARD_MAX_BYTES ((size_t)16 * PROTO_FRAME_MAX_BYTES)

static void finish(struct control_shutdown *shutdown, int error)
{
    control_shutdown_done *done = shutdown->done;
    shutdown->done = NULL;
    if (done)
        done(shutdown->context, error); /* may have ended `shutdown`: nothing of it is used after */
}

/* The connection ended, for a reason or in order. */
static void disconnect(struct control_shutdown *shutdown, int error)
{
    loop_remove(shutdown->loop, &shutdown->source);
    fd_close(&shutdown->fd);
    finish(shutdown, error);
}

static bool all_sent(const struct control_shutdown *shutdown)
{
    return shutdown->request_sent == shutdown->request_size;
}

/* 0, or the negative errno that ends the connection. */
static int send_some(struct control_shutdown *shutdown)
{
    while (!all_sent(shutdown)) {
        ssize_t n = send(shutdown->fd, shutdown->request + shutdown->request_sent,
                         shutdown->request_size - shutdown->request_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            shutdown->request_sent += (size_t)n;
        else if (errno == EAGAIN)
            return 0;
        else if (errno != EINTR)
            return errno == EPIPE ? -ECONNREFUSED : -errno;
    }
    return loop_modify(shutdown->loop, &shutdown->source, EPOLLIN);
}

/* One buffer a turn, so that a flood does not hold the loop. 0, or the negative errno that ends it all. */
static int receive_some(struct control_shutdown *shutdown)
{
    uint8_t dropped[4096];
    ssize_t n = recv(shutdown->fd, dropped, sizeof dropped, MSG_DONTWAIT);
    if (n == 0)
        return shutdown->discarded_bytes > 0 && all_sent(shutdown) ? -ESHUTDOWN : -ECONNREFUSED;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    shutdown->discarded_bytes += (size_t)n;
    return shutdown->discarded_bytes > DISCARD_MAX_BYTES ? -EPROTO : 0;
}

static void on_connection(void *context, uint32_t events)
{
    struct control_shutdown *shutdown = context;
    int error = 0;
    if (events & EPOLLOUT)
        error = send_some(shutdown);
    if (error == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        error = receive_some(shutdown);
    if (error == -ESHUTDOWN) /* the agent took the request and closed: as it should */
        disconnect(shutdown, 0);
    else if (error)
        disconnect(shutdown, error);
    else if (shutdown->discarded_bytes > 0 && all_sent(shutdown))
        finish(shutdown, 0);
}

void control_shutdown_init(struct control_shutdown *shutdown)
{
    *shutdown = (struct control_shutdown){.fd = -1, .source = {.fd = -1}};
}

int control_shutdown_begin(struct control_shutdown *shutdown, struct loop *loop, int fd,
                           control_shutdown_done *done, void *context)
{
    shutdown->loop = loop;
    shutdown->fd = fd;
    shutdown->done = done;
    shutdown->context = context;
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("hostvmm"), .state = PROTO_STATE_STARTING},
    };
    const struct proto_message halt = {.type = PROTO_SHUTDOWN};
    int64_t size = proto_encode(&hello, shutdown->request, sizeof shutdown->request);
    if (size >= 0) {
        shutdown->request_size = (size_t)size;
        size = proto_encode(&halt, shutdown->request + size, sizeof shutdown->request - (size_t)size);
    }
    if (size < 0)
        return (int)size;
    shutdown->request_size += (size_t)size;
    return loop_add(loop, &shutdown->source, fd, EPOLLIN | EPOLLOUT, on_connection, shutdown);
}

void control_shutdown_fini(struct control_shutdown *shutdown)
{
    shutdown->done = NULL;
    if (shutdown->loop)
        loop_remove(shutdown->loop, &shutdown->source);
    fd_close(&shutdown->fd);
}
