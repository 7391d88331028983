/*
 * Where the function connects: a Unix socket for each name and one to ask, a port of 127.0.0.1 and ::1 for
 * names that want one. Only the function's user gets in: the directory (0750) and the sockets (0660) are its
 * group's to use and root's to change, the credentials of each connection are checked besides; of TCP the
 * kernel is asked whose the other end is.
 *
 * When all local ends are taken nothing is accepted: those that come wait in the kernel's queue.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/loopback.h"
#include "agent/tls/table.h"

enum { BACKLOG = CONNECTIONS_LOCAL_MAX };

/* ---- accepting ------------------------------------------------------------------------------------- */

static bool may_enter(const struct door *door, int fd)
{
    const uid_t user = door->connections->user;
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    if (!door->is_tcp)
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == user;
    const int allowed = loopback_is_of(fd, user);
    if (allowed < 0)
        log_warn("connections: cannot tell whose a connection is: %s", strerror(-allowed));
    return allowed > 0;
}

static void take_all(struct door *door)
{
    static const int one = 1;
    struct connections *connections = door->connections;
    while (connections->doors_open) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno != EAGAIN) { /* no descriptor, no memory: it would be told again and again */
            log_warn("connections: cannot accept: %s", strerror(errno));
            door_pause(connections);
            connections->accept_retry_ns = clock_monotonic_ns() + TABLE_ACCEPT_WAIT_MS * TABLE_NS_PER_MS;
        }
        if (fd < 0)
            return;
        if (!may_enter(door, fd)) {
            log_warn("connections: a connection is closed: it is not the function's");
            fd_close(&fd);
            continue;
        }
        if (door->is_tcp)
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        local_begin(connections, door->pool, fd, door->is_tcp);
    }
}

static void on_door(void *context, uint32_t events)
{
    struct door *door = context;
    (void)events;
    table_enter(door->connections);
    take_all(door);
    table_leave(door->connections);
}

static void for_all(struct connections *connections, void (*act)(struct door *door))
{
    act(&connections->ask);
    for (unsigned i = 0; i < connections->manifest.count; i++)
        for (int j = 0; j < TABLE_DOORS; j++)
            act(&connections->pools[i].doors[j]);
}

static void open_one(struct door *door)
{
    if (door->fd < 0 || door->source.fd >= 0)
        return;
    const int error = loop_add(door->connections->loop, &door->source, door->fd, EPOLLIN, on_door, door);
    if (error)
        log_error("connections: cannot wait for the function: %s", strerror(-error));
}

static void shut_one(struct door *door)
{
    if (door->fd >= 0)
        loop_remove(door->connections->loop, &door->source);
}

static void close_one(struct door *door)
{
    shut_one(door);
    fd_close(&door->fd);
}

void door_pause(struct connections *connections)
{
    if (connections->doors_open)
        for_all(connections, shut_one);
    connections->doors_open = false;
}

void door_resume(struct connections *connections)
{
    if (connections->doors_open || connections->mode != TABLE_SERVING ||
        connections->local_count == CONNECTIONS_LOCAL_MAX ||
        clock_monotonic_ns() < connections->accept_retry_ns)
        return;
    connections->doors_open = true;
    for_all(connections, open_one);
}

void door_close_all(struct connections *connections)
{
    connections->doors_open = false;
    for_all(connections, close_one);
}

/* ---- making them ----------------------------------------------------------------------------------- */

static int refuse(char *why, int error, const char *what, const char *where)
{
    (void)snprintf(why, CONNECTIONS_WHY_BYTES, "%s %s: %s", what, where, strerror(-error));
    return error;
}

static int make_directory(const struct connections *connections, char *why)
{
    const char *path = connections->directory;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return refuse(why, -errno, "cannot make", path);
    if (chown(path, (uid_t)-1, connections->group) < 0 || chmod(path, 0750) < 0)
        return refuse(why, -errno, "cannot give the function", path);
    return 0;
}

static int listen_unix(struct door *door, const char *name, char *why)
{
    const struct connections *connections = door->connections;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[320];
    const int size = snprintf(path, sizeof path, "%s/%s", connections->directory, name);
    if (size < 0 || (size_t)size >= sizeof address.sun_path)
        return refuse(why, -ENAMETOOLONG, "no socket can have the path", path);
    memcpy(address.sun_path, path, (size_t)size + 1);
    if (unlink(path) < 0 && errno != ENOENT) /* an earlier agent's */
        return refuse(why, -errno, "cannot remove", path);
    door->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->fd < 0 || bind(door->fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        chown(path, (uid_t)-1, connections->group) < 0 || chmod(path, 0660) < 0 ||
        listen(door->fd, BACKLOG) < 0)
        return refuse(why, -errno, "cannot listen at", path);
    return 0;
}

static int listen_tcp(struct door *door, bool ipv6, uint16_t port, char *why)
{
    static const int one = 1;
    const struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct sockaddr *address = ipv6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
    const socklen_t size = ipv6 ? sizeof v6 : sizeof v4;
    char where[32];
    (void)snprintf(where, sizeof where, "%s:%u", ipv6 ? "[::1]" : "127.0.0.1", port);
    door->is_tcp = true;
    door->fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->fd < 0 && ipv6 && errno == EAFNOSUPPORT)
        return 0; /* a machine without IPv6 */
    if (door->fd < 0 || setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        (ipv6 && setsockopt(door->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0))
        return refuse(why, -errno, "cannot listen at", where);
    if (bind(door->fd, address, size) < 0) {
        const int error = -errno;
        fd_close(&door->fd);
        return ipv6 && error == -EADDRNOTAVAIL ? 0 : refuse(why, error, "cannot listen at", where);
    }
    return listen(door->fd, BACKLOG) < 0 ? refuse(why, -errno, "cannot listen at", where) : 0;
}

int door_open_all(struct connections *connections, char *why)
{
    int error = make_directory(connections, why);
    if (error == 0)
        error = listen_unix(&connections->ask, CONNECTIONS_ASK, why);
    for (unsigned i = 0; i < connections->manifest.count && error == 0; i++) {
        struct pool *pool = &connections->pools[i];
        const uint16_t port = pool->wish->local_port;
        report_forget(pool);
        error = listen_unix(&pool->doors[0], pool->wish->name, why);
        if (error == 0 && port > 0)
            error = listen_tcp(&pool->doors[1], false, port, why);
        if (error == 0 && port > 0)
            error = listen_tcp(&pool->doors[2], true, port, why);
    }
    if (error == 0)
        door_resume(connections);
    return error;
}
