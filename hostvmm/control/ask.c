/* See ask.h. */
#include "hostvmm/control/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/dial.h"

#define NS_PER_MS UINT64_C(1000000)

/* The descriptor, or -errno, said. */
static int connect_to(const char *path, uint64_t limit_ms)
{
    const struct timeval limit = {.tv_sec = (time_t)(limit_ms / 1000),
                                  .tv_usec = (int)(limit_ms % 1000) * 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path) {
        log_error("--control: a socket's path has 1 to %zu bytes", sizeof address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    const int error = -errno;
    fd_close(&fd);
    log_error(
        "cannot connect to %s: %s; is it the path given to `hostvmm run --control`, and is that running?",
        path, strerror(-error));
    return error;
}

/* One line, without its newline. 0, or -errno, said. */
static int read_answer(int fd, const char *path, uint64_t wait_ms, uint64_t deadline_ns, char *answer,
                       size_t capacity)
{
    size_t used = 0;
    for (;;) {
        const int ready = control_poll(fd, POLLIN, deadline_ns);
        if (ready == 0) {
            log_error("%s: no answer within %" PRIu64 " ms", path, wait_ms);
            return -ETIMEDOUT;
        }
        ssize_t n = ready < 0 ? -1 : recv(fd, answer + used, capacity - used, MSG_DONTWAIT);
        if (n < 0 && ready > 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0) {
            log_error("%s: the other side hung up without an answer: its hostvmm has ended", path);
            return -ECONNRESET;
        }
        char *newline = memchr(answer + used, '\n', (size_t)n);
        used += (size_t)n;
        if (newline) {
            *newline = '\0';
            return 0;
        }
        if (used == capacity) {
            log_error("%s: what answers there is no hostvmm", path);
            return -ENOBUFS;
        }
    }
}

int control_ask(const char *socket_path, const char *line, size_t size, uint64_t wait_ms, char *answer,
                size_t capacity)
{
    const uint64_t deadline_ns = clock_monotonic_ns() + wait_ms * NS_PER_MS;
    int fd = connect_to(socket_path, wait_ms);
    if (fd < 0)
        return fd;
    /* A refusal may come, and a hang-up, before all is sent: the answer says. */
    (void)fd_write_all(fd, line, size);
    const int error = read_answer(fd, socket_path, wait_ms, deadline_ns, answer, capacity);
    fd_close(&fd);
    return error;
}
