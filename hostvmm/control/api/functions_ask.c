/*
 * One question to a running hostvmm's control socket, and what its answer says of the resume. The other side
 * is a process that serves a guest: what it sends is bounded and parsed as any stranger's.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/control/api/functions_clones.h"
#include "hostvmm/control/dial.h"

#define NS_PER_MS UINT64_C(1000000)

/* Within the deadline: to there and back one line, without its newline. Its size, or -errno. */
static int64_t converse(int fd, const char *line, char *answer, uint64_t deadline_ns)
{
    size_t used = 0;
    const struct iovec pieces[] = {{(void *)(uintptr_t)line, strlen(line)}, {"\n", 1}};
    const struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = 2};
    /* Small, into an empty buffer: it goes in one piece, or not at all. */
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)strlen(line) + 1)
        return -EPIPE;
    for (;;) {
        const int ready = control_poll(fd, POLLIN, deadline_ns);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
        const ssize_t n = recv(fd, answer + used, CLONES_ANSWER_BYTES - used, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        used += (size_t)n;
        const char *newline = memchr(answer, '\n', used);
        if (newline)
            return newline - answer;
        if (used == CLONES_ANSWER_BYTES)
            return -EPROTO;
    }
}

json_t *clones_ask(const char *control_path, const char *line, uint32_t limit_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(control_path) >= sizeof address.sun_path)
        return NULL;
    memcpy(address.sun_path, control_path, strlen(control_path) + 1);
    char *answer = malloc(CLONES_ANSWER_BYTES);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    json_t *json = NULL;
    if (answer && fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        const int64_t size = converse(fd, line, answer, clock_monotonic_ns() + limit_ms * NS_PER_MS);
        json = size > 0 ? json_loadb(answer, (size_t)size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    }
    if (json && !json_is_true(json_object_get(json, "ok"))) {
        json_decref(json);
        json = NULL;
    }
    fd_close(&fd);
    free(answer);
    return json;
}
