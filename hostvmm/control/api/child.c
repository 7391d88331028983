/* See child.h: the handlers' side. */
#include "hostvmm/control/api/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define LINE_MAX_BYTES 8192 /* what the guest's side takes */

int child_init(struct child *child, const char *program)
{
    *child =
        (struct child){.program = program, .served = true, .wake = -1, .pidfd = -1, .errors = -1, .fd = -1};
    if (pthread_mutex_init(&child->lock, NULL) || pthread_cond_init(&child->changed, NULL))
        return -ENOMEM;
    child->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return child->wake < 0 ? -errno : 0;
}

void child_fini(struct child *child)
{
    fd_close(&child->fd);
    fd_close(&child->errors);
    fd_close(&child->pidfd);
    fd_close(&child->wake);
    (void)pthread_cond_destroy(&child->changed);
    (void)pthread_mutex_destroy(&child->lock);
}

static void wake(struct child *child)
{
    const uint64_t one = 1;
    const ssize_t n = write(child->wake, &one, sizeof one);
    (void)n; /* it is full: then it is awake */
}

void child_stop(struct child *child, int code)
{
    (void)pthread_mutex_lock(&child->lock);
    child->ended = true;
    child->starting = false;
    child->code = code;
    (void)pthread_mutex_unlock(&child->lock);
    wake(child);
}

/* Have the main thread grant it. */
static void ask_main(struct child *child, struct child_wish *wish)
{
    (void)pthread_mutex_lock(&child->lock);
    while (child->wish && child->served)
        (void)pthread_cond_wait(&child->changed, &child->lock);
    if (child->served)
        child->wish = wish;
    wake(child);
    while (child->wish == wish && !wish->done && child->served)
        (void)pthread_cond_wait(&child->changed, &child->lock);
    if (child->wish == wish)
        child->wish = NULL;
    (void)pthread_cond_broadcast(&child->changed);
    (void)pthread_mutex_unlock(&child->lock);
}

int child_start(struct child *child, const char *const *arguments)
{
    struct child_wish wish = {.arguments = arguments, .guest = true, .pid = -ESHUTDOWN, .fd = -1};
    ask_main(child, &wish);
    if (wish.pid < 0)
        return (int)wish.pid;
    fd_close(&child->fd);
    child->fd = wish.fd;
    child->broken = false;
    return 0;
}

void child_started(struct child *child)
{
    (void)pthread_mutex_lock(&child->lock);
    child->starting = false;
    (void)pthread_mutex_unlock(&child->lock);
    wake(child); /* it may have ended since */
}

int child_failed(struct child *child, char *said)
{
    fd_close(&child->fd);
    (void)pthread_mutex_lock(&child->lock);
    if (child->pid > 0 && !child->ended)
        (void)kill(child->pid, SIGKILL);
    while (!child->ended && child->served)
        (void)pthread_cond_wait(&child->changed, &child->lock);
    const int code = child->code;
    memcpy(said, child->said, sizeof child->said);
    child->ended = child->stopping; /* then the main thread is to see it, too */
    child->starting = false;
    child->pid = 0;
    (void)pthread_mutex_unlock(&child->lock);
    return code;
}

pid_t child_beside(struct child *child, const char *const *arguments, int *out)
{
    struct child_wish wish = {.arguments = arguments, .wants_out = out != NULL, .pid = -ESHUTDOWN, .fd = -1};
    ask_main(child, &wish);
    if (out)
        *out = wish.fd;
    return wish.pid;
}

/* ---- a line there, a line back ---- */

/* Until there is something to read. 0, -ETIMEDOUT, -errno. */
static int wait_for(int fd, uint64_t deadline_ns)
{
    for (;;) {
        const uint64_t now = clock_monotonic_ns();
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ns)
            return -ETIMEDOUT;
        const int n = poll(&wanted, 1, (int)((deadline_ns - now) / 1000000u) + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

/* A line, its newline replaced by the end of a string: allocated. Nothing may follow it. */
static int read_line(int fd, char **line, uint64_t deadline_ns)
{
    char *text = NULL;
    size_t used = 0;
    size_t room = 0;
    int error = 0;
    while (error == 0 && (used == 0 || text[used - 1] != '\n')) {
        if (used == room) {
            char *larger = room < CHILD_ANSWER_MAX ? realloc(text, room + 4096) : NULL;
            if (!larger) {
                error = room < CHILD_ANSWER_MAX ? -ENOMEM : -EPROTO;
                break;
            }
            text = larger;
            room += 4096;
        }
        error = wait_for(fd, deadline_ns);
        const ssize_t n = error ? 0 : read(fd, text + used, room - used);
        if (error == 0 && n <= 0 && !(n < 0 && errno == EINTR))
            error = n < 0 && errno != ECONNRESET ? -errno : -EPIPE;
        used += n > 0 ? (size_t)n : 0;
    }
    if (error == 0 && memchr(text, '\n', used) != text + used - 1)
        error = -EPROTO;
    if (error == 0)
        text[used - 1] = '\0';
    else
        free(text);
    *line = error ? NULL : text;
    return error;
}

int child_ask(struct child *child, const char *line, json_t **answer)
{
    char sent[LINE_MAX_BYTES + 2];
    char *text;
    json_error_t why;
    const size_t size = strlen(line);
    *answer = NULL;
    if (child->fd < 0)
        return -ENOTCONN;
    if (size > LINE_MAX_BYTES || memchr(line, '\n', size))
        return -EINVAL;
    if (child->broken)
        return -EPROTO;
    const int bytes = snprintf(sent, sizeof sent, "%s\n", line);
    int error = fd_write_all(child->fd, sent, (size_t)bytes);
    if (error == 0)
        error = read_line(child->fd, &text, clock_monotonic_ns() + CHILD_TIMEOUT_MS * UINT64_C(1000000));
    if (error == 0) {
        *answer = json_loads(text, JSON_REJECT_DUPLICATES, &why);
        free(text);
        error = *answer ? 0 : -EPROTO;
    }
    /* A late or half answer would be taken for the next one's. */
    child->broken = error != 0;
    return error == -ECONNRESET ? -EPIPE : error;
}
