/*
 * How soon does a running hostvmm answer its operator? Runs on the host:
 *
 *   watch SOCKET MS LIMIT_MS    ask `status` at the control socket for MS milliseconds, again and again
 *   watch SOCKET tell REQUEST    one request
 *
 * Prints `watch: N answers, slowest N ms`. Exit code 1 when one took longer than LIMIT_MS or was none.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 20 /* between two questions */
#define TELL_MS  10000

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int failed(const char *what)
{
    printf("watch: %s: %s\n", what, strerror(errno));
    return -1;
}

/* The socket may not be there yet. */
static int reach(const char *path, int64_t end_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        if ((errno != ENOENT && errno != ECONNREFUSED) || now_ms() >= end_ms)
            return failed("connecting");
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return fd;
}

/* One question and its whole answer. 0 or -1. */
static int ask(const char *path, const char *question, int limit_ms)
{
    char answer[16384];
    size_t size = 0;
    const int64_t end = now_ms() + limit_ms;
    const int fd = reach(path, end);
    if (fd < 0 || write(fd, question, strlen(question)) < 0 || write(fd, "\n", 1) < 0)
        return -1;
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        const int64_t left = end - now_ms();
        if (poll(&wait, 1, left > 0 ? (int)left : 0) <= 0)
            return failed("no answer in time");
        const ssize_t n = read(fd, answer + size, sizeof answer - size);
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    close(fd);
    if (size > 10 && memcmp(answer, "{\"ok\":true", 10) == 0)
        return 0;
    printf("watch: the answer is '%.*s'\n", (int)size, answer);
    return -1;
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    if (strcmp(arguments[2], "tell") == 0)
        return ask(arguments[1], arguments[3], TELL_MS) ? 1 : 0;
    const int64_t end = now_ms() + atoi(arguments[2]); /* NOLINT(cert-err34-c): the test's own */
    const int limit_ms = atoi(arguments[3]);           /* NOLINT(cert-err34-c) */
    int64_t slowest = 0;
    unsigned answers = 0;
    if (ask(arguments[1], "status", TELL_MS)) /* it is up */
        return 1;
    while (now_ms() < end) {
        const int64_t start = now_ms();
        if (ask(arguments[1], "status", limit_ms))
            return 1;
        const int64_t took = now_ms() - start;
        slowest = took > slowest ? took : slowest;
        answers++;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    printf("watch: %u answers, slowest %lld ms\n", answers, (long long)slowest);
    return answers > 0 && slowest <= limit_ms ? 0 : 1;
}
