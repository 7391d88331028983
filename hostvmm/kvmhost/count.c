/*
 * count: how many instructions a command takes from fork to exit, inside the emulated KVM host.
 *
 * `kvmhost/run --count` starts the host with QEMU's -icount shift=0,sleep=off: its one processor executes one
 * instruction in one nanosecond of virtual time, and the time-stamp counter counts those nanoseconds. So a
 * difference of two TSC readings is a number of instructions, of everything that ran in between: the command,
 * its children, the kernel, the guest. Where all processors idle, time jumps to the next timer: a command
 * that sleeps is charged what it slept. The TSC and not CLOCK_MONOTONIC, because the kernel's clock runs at
 * the frequency it measured, which is off by some ppm.
 *
 * Usage: count [--output FILE] [--name KEY] [--] COMMAND [ARGUMENT...]
 * Writes "KEY=N.NNNNNN\n" (millions; KEY is "minsn" unless named) to standard error, or appends it to FILE.
 * Exit code: the command's; 128 + signal when one ended it; 125 for a failure of count itself, 127 command
 * not found.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { EXIT_OWN_FAILURE = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNAL_BASE = 128 };

struct count_options {
    const char *output_path; /* NULL: standard error */
    const char *name;
    char **command;
};

static int count_options_parse(struct count_options *options, char **argv)
{
    *options = (struct count_options){.name = "minsn"};
    argv++;
    while (*argv && strncmp(*argv, "--", 2) == 0) {
        const char *option = *argv++;
        if (strcmp(option, "--") == 0)
            break;
        if (!*argv) {
            fprintf(stderr, "count: %s needs a value\n", option);
            return -EINVAL;
        }
        if (strcmp(option, "--output") == 0) {
            options->output_path = *argv++;
        } else if (strcmp(option, "--name") == 0) {
            options->name = *argv++;
        } else {
            fprintf(stderr, "count: unknown option %s\n", option);
            return -EINVAL;
        }
    }
    options->command = argv;
    if (!*argv) {
        fprintf(stderr, "usage: count [--output FILE] [--name KEY] [--] COMMAND [ARGUMENT...]\n");
        return -EINVAL;
    }
    return 0;
}

static int count_wait_for_whole_second(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return -errno;
    const struct timespec next = {.tv_sec = now.tv_sec + 1};
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
}

/* Runs the command to its end. Sets the instructions it took and wait()'s status. */
static int count_run(char **command, uint64_t *instructions, int *status)
{
    int error = count_wait_for_whole_second();
    if (error)
        return error;
    uint64_t start = __rdtsc();
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        execvp(command[0], command);
        int exec_error = errno;
        fprintf(stderr, "count: %s: %s\n", command[0], strerror(exec_error));
        _exit(exec_error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE);
    }
    while (waitpid(child, status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    *instructions = __rdtsc() - start;
    return 0;
}

static int count_report(const struct count_options *options, uint64_t instructions)
{
    int fd = STDERR_FILENO;
    if (options->output_path) {
        fd = open(options->output_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd < 0)
            return -errno;
    }
    const uint64_t million = 1000000;
    int length = dprintf(fd, "%s=%" PRIu64 ".%06" PRIu64 "\n", options->name, instructions / million,
                         instructions % million);
    int error = length < 0 ? -errno : 0;
    if (options->output_path && close(fd) < 0 && !error)
        error = -errno;
    return error;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct count_options options;
    if (count_options_parse(&options, argv))
        return EXIT_OWN_FAILURE;
    const char *mode = getenv("KVMHOST_MODE");
    if (!mode || strcmp(mode, "counted") != 0) {
        fprintf(stderr, "count: instructions are counted only under hostvmm/kvmhost/run --count\n");
        return EXIT_OWN_FAILURE;
    }
    uint64_t instructions = 0;
    int status = 0;
    int error = count_run(options.command, &instructions, &status);
    if (error) {
        fprintf(stderr, "count: cannot run %s: %s\n", options.command[0], strerror(-error));
        return EXIT_OWN_FAILURE;
    }
    error = count_report(&options, instructions);
    if (error) {
        fprintf(stderr, "count: cannot write %s: %s\n",
                options.output_path ? options.output_path : "standard error", strerror(-error));
        return EXIT_OWN_FAILURE;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL_BASE + WTERMSIG(status);
}
