/*
 * The listening socket of the host's side and the connections made to others; see vsock_host.h.
 *
 * A socket file outlives its process when that was killed: a path where nobody answers is removed and bound
 * again. Two processes that find the same dead file are kept apart by a lock on its directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

static int open_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int connect_to(int fd, const struct sockaddr_un *address)
{
    return connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? -errno : 0;
}

int vsock_host_dial(const struct virtio_vsock *vsock, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (vsock->listen_fd < 0)
        return -ECONNREFUSED;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s_%u", vsock->socket_path, port);
    int fd = open_socket();
    if (fd < 0)
        return fd;
    int error = connect_to(fd, &address); /* EAGAIN: its backlog is full, as good as a refusal */
    if (error) {
        fd_close(&fd);
        return error;
    }
    return fd;
}

/* Remove the socket file when nobody answers on it. 0, -EADDRINUSE when somebody does or it is no socket. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat about;
    if (lstat(address->sun_path, &about) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(about.st_mode)) {
        log_error("vsock %s: exists and is not a socket: name another path or remove it", address->sun_path);
        return -EADDRINUSE;
    }
    int fd = open_socket();
    if (fd < 0)
        return fd;
    const int error = connect_to(fd, address);
    fd_close(&fd);
    if (error != -ECONNREFUSED) {
        log_error("vsock %s: another process serves this path%s: stop it, or name another path",
                  address->sun_path, error && error != -EAGAIN ? ", or it cannot be told" : "");
        return -EADDRINUSE;
    }
    log_info("vsock %s: removed, nobody was listening there any more", address->sun_path);
    return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Lock the directory of `path` until the descriptor is closed; -1 where that is not possible. */
static int lock_directory(const char *path)
{
    char name[VIRTIO_VSOCK_PATH_MAX_BYTES + 1];
    const char *slash = strrchr(path, '/');
    (void)snprintf(name, sizeof name, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    const int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)flock(fd, LOCK_EX); /* held by others for as long as this takes */
    return fd;
}

static int bind_path(int fd, const struct sockaddr_un *address)
{
    int directory = lock_directory(address->sun_path);
    int error = remove_stale(address);
    if (error == 0 &&
        (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 || listen(fd, BACKLOG) < 0)) {
        error = -errno;
        log_error("vsock %s: cannot listen there: %s", address->sun_path, strerror(-error));
    }
    fd_close(&directory);
    return error;
}

int vsock_host_listen(struct virtio_vsock *vsock, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat about;
    const size_t size = strlen(path);
    if (size == 0 || size > VIRTIO_VSOCK_PATH_MAX_BYTES) {
        log_error("vsock: a path of %zu bytes: it must have 1 to %d, give a shorter one: %s", size,
                  VIRTIO_VSOCK_PATH_MAX_BYTES, path);
        return size == 0 ? -EINVAL : -ENAMETOOLONG;
    }
    memcpy(vsock->socket_path, path, size + 1);
    memcpy(address.sun_path, path, size + 1);
    vsock->listen_fd = open_socket();
    if (vsock->listen_fd < 0)
        return vsock->listen_fd;
    int error = bind_path(vsock->listen_fd, &address);
    if (error == 0 && lstat(path, &about) < 0)
        error = -errno;
    if (error) {
        fd_close(&vsock->listen_fd);
        return error;
    }
    vsock->socket_dev = about.st_dev;
    vsock->socket_ino = about.st_ino;
    return 0;
}

void vsock_host_unlisten(struct virtio_vsock *vsock)
{
    struct stat about;
    if (vsock->listen_fd < 0)
        return;
    loop_remove(vsock->loop, &vsock->listener);
    if (lstat(vsock->socket_path, &about) == 0 && about.st_dev == vsock->socket_dev &&
        about.st_ino == vsock->socket_ino)
        (void)unlink(vsock->socket_path);
    fd_close(&vsock->listen_fd);
}

/* Accept one client. Whether there may be more. */
static bool accept_one(struct virtio_vsock *vsock)
{
    static const char too_many[] = "ERROR too many connections\n";
    int fd = accept4(vsock->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("vsock %s: a client waits until a connection ends: %s", vsock->socket_path,
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
    const bool wanted = vsock->listen_fd >= 0 && vsock->gate_open && !vsock->listener_starved &&
                        virtio_device_serving(&vsock->device);
    if (wanted && vsock->listener.fd < 0) {
        int error = loop_add(vsock->loop, &vsock->listener, vsock->listen_fd, EPOLLIN, on_listener, vsock);
        if (error)
            log_error("vsock %s: cannot accept: %s", vsock->socket_path, strerror(-error));
    } else if (!wanted) {
        loop_remove(vsock->loop, &vsock->listener);
    }
}
