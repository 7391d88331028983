/*
 * stamp FILE COMMAND...: note the time in FILE, then become the command. "MONOTONIC REALTIME\n", nanoseconds.
 *
 * For what is timed from its process's start to something that it, or somebody else, dates by the same
 * clocks. Starts on a whole second, as kvmhost-count does, so that the timer's ticks fall on the same
 * instructions.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int argc, char **argv)
{
    struct timespec next = {0};
    if (argc < 3) {
        (void)fputs("usage: stamp FILE COMMAND [ARGUMENT...]\n", stderr);
        return 2;
    }
    const int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || clock_gettime(CLOCK_MONOTONIC, &next) < 0) {
        (void)fprintf(stderr, "stamp: %s: %s\n", argv[1], strerror(errno));
        return 125;
    }
    next = (struct timespec){.tv_sec = next.tv_sec + 1};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
        continue;
    if (dprintf(fd, "%" PRId64 " %" PRId64 "\n", now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_REALTIME)) < 0)
        return 125;
    (void)execvp(argv[2], argv + 2);
    (void)fprintf(stderr, "stamp: %s: %s\n", argv[2], strerror(errno));
    return errno == ENOENT ? 127 : 126;
}
