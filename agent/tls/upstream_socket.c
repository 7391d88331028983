/*
 * See upstream_socket.h. A peer that is gone is found out within UPSTREAM_DEAD_PEER_MS: by TCP_USER_TIMEOUT
 * when something is on its way to it, by keep-alive probes when nothing is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/tls/upstream.h"
#include "agent/tls/upstream_socket.h"

enum { KEEP_IDLE_S = 8, KEEP_INTERVAL_S = 3, KEEP_COUNT = 4 };
_Static_assert((KEEP_IDLE_S + KEEP_INTERVAL_S * KEEP_COUNT) * 1000 <= UPSTREAM_DEAD_PEER_MS,
               "probes end in time");

static int set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : -errno;
}

static int set_options(int fd)
{
    int error = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (!error)
        error = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (!error)
        error = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S);
    if (!error)
        error = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S);
    if (!error)
        error = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
    if (!error)
        error = set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UPSTREAM_DEAD_PEER_MS);
    return error;
}

int upstream_socket_connect(const struct dns_address *address, uint16_t port)
{
    struct sockaddr_storage at = address->at;
    if (at.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&at)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&at)->sin_port = htons(port);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = set_options(fd);
    if (!error && connect(fd, (const struct sockaddr *)&at, address->size) != 0 && errno != EINPROGRESS)
        error = -errno;
    if (!error)
        return fd;
    fd_close(&fd);
    return error;
}

int upstream_socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? -error : -errno;
}

void upstream_socket_reset_on_close(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

void upstream_socket_silence(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_REPAIR, 1);
}

void upstream_socket_print(char text[UPSTREAM_ADDRESS_BYTES], const struct dns_address *address)
{
    const void *bytes = address->at.ss_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)&address->at)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)&address->at)->sin_addr;
    if (!inet_ntop(address->at.ss_family, bytes, text, UPSTREAM_ADDRESS_BYTES))
        snprintf(text, UPSTREAM_ADDRESS_BYTES, "?");
}
