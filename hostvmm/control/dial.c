/*
 * See dial.h. While the socket does not exist the wait is for inotify to report it. Two waits have no event
 * to wait for and are retried after a growing pause: the moment between a server's bind() and listen(), and
 * a guest whose kernel answers for a port that no process listens on yet.
 */
#include "hostvmm/control/dial.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define NS_PER_MS        UINT64_C(1000000)
#define ONE_ATTEMPT_MS   1000
#define PAUSE_FIRST_MS   2
#define PAUSE_MOST_MS    100
#define ANSWER_MAX_BYTES 32

struct dial {
    const char *path;
    uint32_t port;
    uint64_t deadline_ns;
    char *problem;
    struct sockaddr_un address;
};

int control_poll(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        const uint64_t now_ns = clock_monotonic_ns();
        const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000u),
                                .tv_nsec = (long)(left_ns % 1000000000u)};
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready = ppoll(&poll_fd, 1, &left, NULL);
        if (ready >= 0)
            return ready == 0 ? 0 : poll_fd.revents;
        if (errno != EINTR)
            return -errno;
    }
}

static int address_of(struct dial *dial)
{
    const size_t length = strlen(dial->path);
    if (length == 0 || length >= sizeof dial->address.sun_path) {
        snprintf(dial->problem, DIAL_PROBLEM_BYTES,
                 "vsock path of %zu bytes: a Unix socket's path has 1 to %zu; use a shorter one", length,
                 sizeof dial->address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    dial->address.sun_family = AF_UNIX;
    memcpy(dial->address.sun_path, dial->path, length + 1);
    return 0;
}

/* A watch on the socket's directory, so that an appearing socket is an event. The descriptor or -errno. */
static int watch_open(struct dial *dial)
{
    char directory[sizeof dial->address.sun_path];
    memcpy(directory, dial->address.sun_path, sizeof directory);
    char *slash = strrchr(directory, '/');
    if (!slash)
        memcpy(directory, ".", 2);
    else if (slash == directory)
        slash[1] = '\0';
    else
        *slash = '\0';
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (inotify_add_watch(fd, directory, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) < 0) {
        const int error = -errno;
        fd_close(&fd);
        snprintf(dial->problem, DIAL_PROBLEM_BYTES, "cannot watch the directory %s: %s", directory,
                 strerror(-error));
        return error;
    }
    return fd;
}

/* Block until something happens in the watched directory, or `until_ns`. */
static void watch_wait(int watch_fd, uint64_t until_ns)
{
    if (control_poll(watch_fd, POLLIN, until_ns) <= 0)
        return;
    char events[sizeof(struct inotify_event) + NAME_MAX + 1];
    while (read(watch_fd, events, sizeof events) > 0)
        ; /* what happened does not matter: the next attempt tells */
}

static int unix_connect(struct dial *dial)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&dial->address, sizeof dial->address) == 0)
        return fd;
    int error = -errno;
    fd_close(&fd);
    struct stat found;
    if (error == -ECONNREFUSED && stat(dial->path, &found) == 0 && !S_ISSOCK(found.st_mode))
        error = -ENOTSOCK;
    const char *advice = error == -ENOENT         ? "no VM has made it; start `hostvmm run --vsock` first"
                         : error == -ECONNREFUSED ? "nobody serves this socket: its hostvmm has ended"
                         : error == -ENOTSOCK ? "this file is no socket; name the path given to run --vsock"
                         : error == -EACCES   ? "run as the user who started hostvmm"
                                              : "see the cause";
    snprintf(dial->problem, DIAL_PROBLEM_BYTES, "cannot connect to %s: %s; %s", dial->path, strerror(-error),
             advice);
    return error;
}

/* Read up to the newline and not one byte more: what follows is the guest's. 0 or -errno. */
static int read_answer(struct dial *dial, int fd, uint64_t deadline_ns)
{
    char answer[ANSWER_MAX_BYTES + 1];
    size_t length = 0;
    while (length < ANSWER_MAX_BYTES) {
        ssize_t n = read(fd, answer + length, 1);
        if (n < 0 && errno == EAGAIN) {
            int ready = control_poll(fd, POLLIN, deadline_ns);
            if (ready < 0)
                return ready;
            if (ready == 0) {
                snprintf(dial->problem, DIAL_PROBLEM_BYTES,
                         "%s: no answer to CONNECT %u in time: the guest is still booting, or stuck",
                         dial->path, dial->port);
                return -ETIMEDOUT;
            }
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snprintf(dial->problem, DIAL_PROBLEM_BYTES,
                     "%s: refused: nothing listens on port %u in the guest (agent not up, or guest ended)",
                     dial->path, dial->port);
            return -ECONNREFUSED;
        }
        if (answer[length] == '\n')
            break;
        length++;
    }
    answer[length] = '\0';
    char *digits = answer + 3;
    if (length == ANSWER_MAX_BYTES || strncmp(answer, "OK ", 3) != 0 || *digits == '\0' ||
        strspn(digits, "0123456789") != strlen(digits)) {
        snprintf(dial->problem, DIAL_PROBLEM_BYTES,
                 "%s: answered CONNECT %u with something other than \"OK <number>\": not a hostvmm's socket",
                 dial->path, dial->port);
        return -EPROTO;
    }
    return 0;
}

static int attempt(struct dial *dial, uint64_t deadline_ns)
{
    int fd = unix_connect(dial);
    if (fd < 0)
        return fd;
    char request[32];
    const int length = snprintf(request, sizeof request, "CONNECT %u\n", dial->port);
    /* A fresh socket's buffer holds a line of this size: this does not block. */
    int error = fd_write_all(fd, request, (size_t)length);
    if (error == -EPIPE)
        error = -ECONNREFUSED;
    if (error)
        snprintf(dial->problem, DIAL_PROBLEM_BYTES, "%s: sending CONNECT: %s", dial->path, strerror(-error));
    if (error == 0)
        error = read_answer(dial, fd, deadline_ns);
    if (error) {
        fd_close(&fd);
        return error;
    }
    return fd;
}

static bool worth_another(int error)
{
    return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN || error == -ECONNRESET;
}

int control_dial(const char *path, uint32_t port, uint64_t deadline_ns, char *problem)
{
    struct dial dial = {.path = path, .port = port, .deadline_ns = deadline_ns, .problem = problem};
    problem[0] = '\0';
    int error = address_of(&dial);
    if (error)
        return error;
    if (deadline_ns <= clock_monotonic_ns())
        return attempt(&dial, clock_monotonic_ns() + ONE_ATTEMPT_MS * NS_PER_MS);
    /* Watch first, then look: a socket made in between is seen either way. */
    int watch_fd = watch_open(&dial);
    if (watch_fd < 0)
        return watch_fd;
    uint64_t pause_ns = PAUSE_FIRST_MS * NS_PER_MS;
    int fd;
    for (;;) {
        fd = attempt(&dial, deadline_ns);
        const uint64_t now_ns = clock_monotonic_ns();
        if (fd >= 0 || !worth_another(fd) || now_ns >= deadline_ns)
            break;
        uint64_t until_ns = deadline_ns;
        if (fd != -ENOENT && now_ns + pause_ns < deadline_ns)
            until_ns = now_ns + pause_ns;
        watch_wait(watch_fd, until_ns);
        pause_ns = pause_ns * 2 < PAUSE_MOST_MS * NS_PER_MS ? pause_ns * 2 : PAUSE_MOST_MS * NS_PER_MS;
    }
    fd_close(&watch_fd);
    return fd;
}
