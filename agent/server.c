/* See server.h. */
#include "agent/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

static void on_connection(void *context, uint32_t events)
{
    struct server *server = context;
    (void)events;
    const int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        session_accept(server->session, fd);
    else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        log_error("cannot accept a client: %s", strerror(errno));
}

static int bind_vsock(int fd)
{
    const struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PROTO_PORT};
    return bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

static int bind_unix(struct server *server, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int size = snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (size < 0 || (size_t)size >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    if (bind(server->fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    server->path = path;
    return 0;
}

int server_init(struct server *server, struct session *session, const char *unix_path)
{
    *server = (struct server){.session = session, .fd = -1, .source = {.fd = -1}};
    server->fd = socket(unix_path ? AF_UNIX : AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = server->fd < 0 ? -errno : 0;
    if (error == 0)
        error = unix_path ? bind_unix(server, unix_path) : bind_vsock(server->fd);
    if (error == 0 && listen(server->fd, PROTO_CONNECTIONS_MAX) < 0)
        error = -errno;
    if (error == 0)
        error = loop_add(session->loop, &server->source, server->fd, EPOLLIN, on_connection, server);
    if (error && unix_path)
        log_error("cannot listen on %s: %s; remove it if no other agent runs there", unix_path,
                  strerror(-error));
    else if (error)
        log_error("cannot listen on vsock port %d: %s; does the guest have a vsock device?", PROTO_PORT,
                  strerror(-error));
    if (error)
        server_fini(server);
    return error;
}

void server_fini(struct server *server)
{
    loop_remove(server->session->loop, &server->source);
    fd_close(&server->fd);
    if (server->path)
        (void)unlink(server->path);
    server->path = NULL;
}
