/* See fd.h. */
#include "agent/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    const int saved_errno = errno;
    /* Linux releases the descriptor even when close reports EINTR: never retried. */
    (void)close(*fd);
    *fd = -1;
    errno = saved_errno;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

int fd_set_cloexec(int fd, int on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

int fd_write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    int is_socket = 1;
    while (size > 0) {
        ssize_t n = is_socket ? send(fd, at, size, MSG_NOSIGNAL) : write(fd, at, size);
        if (n < 0) {
            if (errno == ENOTSOCK && is_socket) {
                is_socket = 0;
                continue;
            }
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, void *data, size_t size)
{
    char *at = data;
    while (size > 0) {
        ssize_t n = read(fd, at, size);
        if (n == 0)
            return -EPIPE;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

int64_t fd_read_file(const char *path, void *data, size_t limit)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int64_t result = 0;
    char *at = data;
    for (;;) {
        char beyond;
        size_t room = limit - (size_t)result;
        ssize_t n = room > 0 ? read(fd, at + result, room) : read(fd, &beyond, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            result = -errno;
        else if (n > 0 && room == 0)
            result = -EFBIG;
        else if (n > 0) {
            result += n;
            continue;
        }
        break;
    }
    fd_close(&fd);
    return result;
}

int fd_write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    const size_t size = strlen(text);
    ssize_t n;
    do {
        n = write(fd, text, size);
    } while (n < 0 && errno == EINTR);
    int error = n < 0 ? -errno : (size_t)n == size ? 0 : -EIO;
    fd_close(&fd);
    return error;
}

uint64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
