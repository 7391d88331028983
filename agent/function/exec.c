/*
 * function-exec [PROGRAM [ARGUMENT…]]: lets any program, a script too, be a function.
 *
 * PROGRAM is started anew for every event: the event on its standard input, its standard output is the
 * answer, its standard error goes to the log. Exit code 0 means an answer; anything else is an error of type
 * Function.Error whose message is the end of what it wrote to standard error. Without arguments PROGRAM is
 * "handler" in the directory of function-exec, so that a function is a directory with function-exec as
 * "bootstrap" and an executable "handler". The program sees REKINDLE_REQUEST_ID and REKINDLE_TRACE_ID.
 *
 * The answer is complete when the program has exited: what a descendant writes later is not waited for.
 * All pipe ends here are non-blocking and driven by one poll; a program that does not read its event, or
 * closes it early, still gives its answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/function/function.h"

#define TAIL_BYTES 2048 /* of stderr, for the error message */

extern char **environ;

enum { TO_STDIN, FROM_STDOUT, FROM_STDERR, EXITED, ENDS };

struct run {
    const struct function_event *event;
    struct function_reply *reply;
    size_t written; /* of the event */
    char tail[TAIL_BYTES];
    size_t tail_size;
    int fds[ENDS]; /* our ends, and a pidfd; -1 when done */
    pid_t pid;
    int too_large; /* the answer; the program has been killed */
};

static void keep_tail(struct run *run, const char *data, size_t size)
{
    if (size > TAIL_BYTES) {
        data += size - TAIL_BYTES;
        size = TAIL_BYTES;
    }
    const size_t kept = run->tail_size < TAIL_BYTES - size ? run->tail_size : TAIL_BYTES - size;
    memmove(run->tail, run->tail + run->tail_size - kept, kept);
    memcpy(run->tail + kept, data, size);
    run->tail_size = kept + size;
}

static void feed(struct run *run)
{
    const ssize_t n = write(run->fds[TO_STDIN], (const char *)run->event->data + run->written,
                            run->event->size - run->written);
    if (n > 0)
        run->written += (size_t)n;
    /* EPIPE: it does not want the rest, which is its right. */
    if (run->written == run->event->size || (n < 0 && errno != EAGAIN && errno != EINTR))
        fd_close(&run->fds[TO_STDIN]);
}

/* Read once from `end`. True while there may be more at once. */
static int drain(struct run *run, int end)
{
    static char data[65536];
    const ssize_t n = read(run->fds[end], data, sizeof data);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n <= 0) {
        fd_close(&run->fds[end]);
        return 0;
    }
    if (end == FROM_STDERR) {
        keep_tail(run, data, (size_t)n);
        (void)fd_write_all(STDERR_FILENO, data, (size_t)n); /* a log that is gone is no reason to fail */
    } else if (!run->too_large && function_reply_write(run->reply, data, (size_t)n) < 0) {
        run->too_large = 1; /* or no memory: the reply remembers which */
        (void)kill(run->pid, SIGKILL);
    }
    return 1;
}

/* Move bytes until the program has exited and what it wrote is read. 0 or -errno. */
static int converse(struct run *run)
{
    while (run->fds[EXITED] >= 0) {
        struct pollfd ends[ENDS];
        for (int i = 0; i < ENDS; i++)
            ends[i] = (struct pollfd){.fd = run->fds[i], .events = i == TO_STDIN ? POLLOUT : POLLIN};
        if (poll(ends, ENDS, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (ends[TO_STDIN].revents)
            feed(run);
        for (int i = FROM_STDOUT; i <= FROM_STDERR; i++)
            if (ends[i].revents)
                (void)drain(run, i);
        if (ends[EXITED].revents)
            fd_close(&run->fds[EXITED]);
    }
    for (int i = FROM_STDOUT; i <= FROM_STDERR; i++)
        while (run->fds[i] >= 0 && drain(run, i))
            ;
    return 0;
}

static int add_pipe(struct run *run, posix_spawn_file_actions_t *actions, int end, int *theirs)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    const int ours = end == TO_STDIN ? 1 : 0;
    run->fds[end] = ends[ours];
    *theirs = ends[!ours];
    const int error = posix_spawn_file_actions_adddup2(actions, *theirs, end); /* TO_STDIN is 0, and so on */
    return error ? -error : fd_set_nonblock(run->fds[end]);
}

/* Start the program. 0 or -errno; fds and pid are set. */
static int start(struct run *run, char **arguments)
{
    int theirs[3] = {-1, -1, -1};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); /* ignored here, not there */
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int error = 0;
    for (int end = TO_STDIN; !error && end <= FROM_STDERR; end++)
        error = add_pipe(run, &actions, end, &theirs[end]);
    if (!error)
        error = -posix_spawnp(&run->pid, arguments[0], &actions, &attributes, arguments, environ);
    if (!error) {
        run->fds[EXITED] = (int)syscall(SYS_pidfd_open, run->pid, 0);
        if (run->fds[EXITED] < 0) {
            error = -errno;
            (void)kill(run->pid, SIGKILL);
            (void)waitpid(run->pid, NULL, 0);
        }
    }
    for (int end = TO_STDIN; end <= FROM_STDERR; end++)
        fd_close(&theirs[end]);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void report(struct run *run, int status, const char *program)
{
    while (run->tail_size > 0 && run->tail[run->tail_size - 1] == '\n')
        run->tail_size--;
    if (run->too_large)
        return; /* the reply says it */
    if (WIFSIGNALED(status))
        function_reply_fail(run->reply, "Function.Error", "%s was ended by signal %d (%s)", program,
                            WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (run->tail_size > 0)
        function_reply_fail(run->reply, "Function.Error", "%.*s", (int)run->tail_size, run->tail);
    else
        function_reply_fail(run->reply, "Function.Error", "%s exited with code %d", program,
                            WEXITSTATUS(status));
}

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    char **arguments = context;
    struct run run = {.event = event, .reply = reply, .fds = {-1, -1, -1, -1}};
    setenv("REKINDLE_REQUEST_ID", event->request_id, 1);
    setenv("REKINDLE_TRACE_ID", event->trace_id, 1);
    int error = start(&run, arguments);
    if (error) {
        function_reply_fail(reply, "Function.Error", "%s cannot be started: %s", arguments[0],
                            strerror(-error));
    } else {
        if (event->size == 0)
            fd_close(&run.fds[TO_STDIN]);
        error = converse(&run);
        if (error)
            (void)kill(run.pid, SIGKILL);
        int status = 0;
        while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (error)
            function_reply_fail(reply, "Function.Error", "talking to %s: %s", arguments[0], strerror(-error));
        else if (status != 0)
            report(&run, status, arguments[0]);
    }
    for (int end = 0; end < ENDS; end++)
        fd_close(&run.fds[end]);
    return 0;
}

/* A program that is named by a path must be there to begin with: better told by init than by each event. */
static int check(void *context)
{
    char **arguments = context;
    if (!strchr(arguments[0], '/') || access(arguments[0], X_OK) == 0)
        return 0;
    log_error("%s: %s; it must be there and executable", arguments[0], strerror(errno));
    return -errno;
}

int main(int argc, char **argv)
{
    static char handler[512];
    static char *handler_arguments[] = {handler, NULL};
    char **arguments = argv + 1;
    if (argc < 2) {
        const char *own = argc > 0 ? argv[0] : "";
        const char *slash = strrchr(own, '/');
        snprintf(handler, sizeof handler, "%.*shandler", slash ? (int)(slash - own) + 1 : 0, own);
        if (!slash)
            snprintf(handler, sizeof handler, "./handler");
        arguments = handler_arguments;
    }
    signal(SIGPIPE, SIG_IGN);
    const struct function function = {.init = check, .handle = handle, .context = arguments};
    return function_run(&function);
}
