/* The listening socket of the host's side and the connections made to others; see vsock_host.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/vsock_guest.h"
#include "hostvmm/device/virtio/vsock_host.h"
#include "hostvmm/device/virtio/vsock_turn.h"

#define BACKLOG          128
#define ACCEPTS_PER_TURN 16

_Static_assert(VIRTIO_VSOCK_PATH_MAX_BYTES + sizeof "_4294967295" <=
                   sizeof((struct sockaddr_un *)0)->sun_path,
               "a guest's port must fit behind the path");

int vsock_host_dial(const struct virtio_vsock *vsock, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (vsock->place.fd < 0)
        return -ECONNREFUSED;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.*s_%u", VIRTIO_VSOCK_PATH_MAX_BYTES,
                   vsock->place.address.sun_path, port);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    const int error = -errno; /* EAGAIN: its backlog is full, as good as a refusal */
    fd_close(&fd);
    return error;
}

int vsock_host_listen(struct virtio_vsock *vsock, const char *path)
{
    const struct listen_wish wish = {
        .what = "vsock",
        .path = path,
        .path_max_bytes = VIRTIO_VSOCK_PATH_MAX_BYTES,
        .backlog = BACKLOG,
    };
    return listen_open(&vsock->place, &wish);
}

void vsock_host_unlisten(struct virtio_vsock *vsock)
{
    if (vsock->place.fd >= 0)
        loop_remove(vsock->loop, &vsock->listener);
    listen_close(&vsock->place);
}

/* Accept one client. Whether there may be more. */
static bool accept_one(struct virtio_vsock *vsock)
{
    static const char too_many[] = "ERROR too many connections\n";
    int fd = accept4(vsock->place.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("vsock %s: a client waits until a connection ends: %s", vsock->place.address.sun_path,
                     strerror(errno));
            vsock->listener_starved = true;
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    struct vsock_connection *connection = vsock_connection_new(vsock);
    if (!connection) {
        (void)send(fd, too_many, sizeof too_many - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        fd_close(&fd);
    } else if (vsock_host_attach(connection, fd) < 0) {
        vsock_connection_destroy(connection);
    }
    return true;
}

static void on_listener(void *context, uint32_t events)
{
    struct virtio_vsock *vsock = context;
    (void)events;
    (void)vsock_turn_begin(vsock);
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && vsock->listener.fd >= 0; i++)
        if (!accept_one(vsock))
            break;
    vsock_turn_end(vsock, false);
}

void vsock_host_listener_update(struct virtio_vsock *vsock)
{
    const bool wanted = vsock->place.fd >= 0 && vsock->gate_open && !vsock->listener_starved &&
                        virtio_device_serving(&vsock->device);
    if (wanted && vsock->listener.fd < 0) {
        int error = loop_add(vsock->loop, &vsock->listener, vsock->place.fd, EPOLLIN, on_listener, vsock);
        if (error)
            log_error("vsock %s: cannot accept: %s", vsock->place.address.sun_path, strerror(-error));
    } else if (!wanted) {
        loop_remove(vsock->loop, &vsock->listener);
    }
}
