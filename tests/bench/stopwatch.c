/*
 * stopwatch N COMMAND...: run a command N times and print the median time from its start to its end, in
 * nanoseconds.
 *
 * Where the clock counts instructions (kvmhost --count) that is what the command cost, all processes and
 * guests of it included. The command's output is dropped; a run that does not exit with 0 ends the
 * measurement.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS_MAX 1000

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Replace the child by the command. Only returns by exiting. */
static void run_child(char **command, int null_fd)
{
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    execvp(command[0], command);
    _exit(127);
}

/* The time one run took, or -1 after saying what went wrong. */
static int64_t run_once(char **command, int null_fd)
{
    int status;
    const uint64_t start_ns = now_ns();
    const pid_t child = vfork();
    if (child == 0)
        run_child(command, null_fd);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fprintf(stderr, "stopwatch: cannot run %s: %s\n", command[0], strerror(errno));
        return -1;
    }
    const uint64_t took_ns = now_ns() - start_ns;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "stopwatch: %s ended with wait status 0x%x\n", command[0], (unsigned)status);
        return -1;
    }
    return (int64_t)took_ns;
}

static int compare(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a;
    const int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    static int64_t times[RUNS_MAX];
    const int runs = argc > 2 ? atoi(argv[1]) : 0;
    const int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (runs < 1 || runs > RUNS_MAX || null_fd < 0) {
        fputs("usage: stopwatch N COMMAND...   (N: 1 to 1000)\n", stderr);
        return 2;
    }
    for (int i = 0; i < runs; i++) {
        times[i] = run_once(argv + 2, null_fd);
        if (times[i] < 0)
            return 1;
    }
    qsort(times, (size_t)runs, sizeof times[0], compare);
    printf("%" PRId64 "\n", times[runs / 2]);
    return 0;
}
