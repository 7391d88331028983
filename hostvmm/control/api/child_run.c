/* See child.h: the main thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/child.h"
#include "hostvmm/exit.h"

#define ARGUMENTS_MAX 256

/* ---- spawning ---- */

struct ends {
    int in;      /* -1: ours */
    int out;     /* -1: ours */
    int errors;  /* -1: ours */
    int control; /* -1: none */
};

/* In the child: nothing of ours but what it is given, and no life without us. */
static void become(const struct child *child, const char *const *arguments, const struct ends *ends,
                   pid_t parent)
{
    char *argv[ARGUMENTS_MAX];
    sigset_t none;
    unsigned count = 1;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(HOSTVMM_EXIT_HOST);
    argv[0] = (char *)(uintptr_t) "hostvmm";
    while (*arguments && count < ARGUMENTS_MAX - 1)
        argv[count++] = (char *)(uintptr_t)*arguments++;
    argv[count] = NULL;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    if (*arguments || (ends->in >= 0 && dup2(ends->in, 0) < 0) ||
        (ends->out >= 0 && dup2(ends->out, 1) < 0) || (ends->errors >= 0 && dup2(ends->errors, 2) < 0))
        _exit(HOSTVMM_EXIT_HOST);
    unsigned first = CHILD_CONTROL_FD;
    if (ends->control >= 0) {
        /* dup2 onto itself would leave it to be closed by exec. */
        const int control = ends->control == CHILD_CONTROL_FD ? dup(ends->control) : ends->control;
        if (dup2(control, CHILD_CONTROL_FD) < 0)
            _exit(HOSTVMM_EXIT_HOST);
        first++;
    }
    (void)syscall(SYS_close_range, first, ~0u, 0);
    (void)execv(child->program, argv);
    _exit(HOSTVMM_EXIT_HOST);
}

static pid_t spawn(const struct child *child, const char *const *arguments, const struct ends *ends)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0)
        become(child, arguments, ends, parent);
    return pid < 0 ? -errno : pid;
}

static pid_t spawn_guest(struct child *child, struct child_wish *wish)
{
    int control[2] = {-1, -1};
    int errors[2] = {-1, -1};
    pid_t pid = -EALREADY;
    if (child->pid > 0)
        return pid;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0 || pipe2(errors, O_CLOEXEC) < 0) {
        pid = -errno;
        goto out;
    }
    const struct ends ends = {.in = -1, .out = -1, .errors = errors[1], .control = control[1]};
    pid = spawn(child, wish->arguments, &ends);
    if (pid < 0)
        goto out;
    child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (child->pidfd < 0) {
        const int error = -errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        pid = error;
        goto out;
    }
    child->pid = pid;
    child->errors = errors[0];
    child->starting = true;
    child->said[0] = '\0';
    child->line_bytes = 0;
    wish->fd = control[0];
    control[0] = errors[0] = -1;
    (void)fd_set_nonblock(child->errors);
out:
    fd_close(&control[0]);
    fd_close(&control[1]);
    fd_close(&errors[0]);
    fd_close(&errors[1]);
    return pid;
}

static pid_t spawn_beside(struct child *child, struct child_wish *wish)
{
    int out[2] = {-1, -1};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = null < 0 || (wish->wants_out && pipe2(out, O_CLOEXEC) < 0) ? -errno : 0;
    if (pid == 0) {
        const struct ends ends = {
            .in = null, .out = wish->wants_out ? out[1] : null, .errors = -1, .control = -1};
        pid = spawn(child, wish->arguments, &ends);
    }
    if (pid > 0) {
        wish->fd = out[0];
        out[0] = -1;
    }
    fd_close(&out[0]);
    fd_close(&out[1]);
    fd_close(&null);
    return pid;
}

static void grant(struct child *child)
{
    uint64_t count;
    const ssize_t n = read(child->wake, &count, sizeof count);
    (void)n;
    (void)pthread_mutex_lock(&child->lock);
    struct child_wish *wish = child->wish;
    if (wish && !wish->done) {
        wish->pid = wish->guest ? spawn_guest(child, wish) : spawn_beside(child, wish);
        wish->done = true;
        (void)pthread_cond_broadcast(&child->changed);
    }
    (void)pthread_mutex_unlock(&child->lock);
}

/* ---- what the guest's process says ---- */

/* The first line with an error in it is what went wrong. */
static void keep_error(struct child *child)
{
    static const char mark[] = "error: ";
    child->line[child->line_bytes] = '\0';
    const char *at = strstr(child->line, mark);
    if (!child->said[0] && at)
        memcpy(child->said, at + sizeof mark - 1, strlen(at + sizeof mark - 1) + 1);
    child->line_bytes = 0;
}

/* False: that was all. */
static bool pass_errors(struct child *child)
{
    char bytes[4096];
    const ssize_t n = read(child->errors, bytes, sizeof bytes);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    (void)fd_write_all(STDERR_FILENO, bytes, (size_t)n);
    (void)pthread_mutex_lock(&child->lock);
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == '\n')
            keep_error(child);
        else if (child->line_bytes < sizeof child->line - 1)
            child->line[child->line_bytes++] = bytes[i];
    }
    (void)pthread_mutex_unlock(&child->lock);
    return true;
}

/* ---- its end ---- */

static void reap(struct child *child)
{
    int status = 0;
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        ;
    for (struct pollfd more = {.fd = child->errors, .events = POLLIN};
         poll(&more, 1, 0) > 0 && pass_errors(child);)
        ;
    fd_close(&child->errors);
    fd_close(&child->pidfd);
    (void)pthread_mutex_lock(&child->lock);
    child->code = WIFEXITED(status) ? WEXITSTATUS(status) : HOSTVMM_EXIT_SIGNAL + WTERMSIG(status);
    child->ended = true;
    (void)pthread_cond_broadcast(&child->changed);
    (void)pthread_mutex_unlock(&child->lock);
}

/* A terminal's own goes to the guest's process as well: twice would be at once. False: there is no guest. */
static bool pass_signal(struct child *child, int signal_fd)
{
    struct signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return true;
    if (child->pidfd < 0) {
        log_info("%s: no guest runs: the end", strsignal((int)info.ssi_signo));
        return false;
    }
    if (info.ssi_code != SI_KERNEL)
        (void)kill(child->pid, (int)info.ssi_signo);
    child->stopping = true;
    return true;
}

static bool is_over(struct child *child, int *code)
{
    (void)pthread_mutex_lock(&child->lock);
    const bool over = child->ended && (!child->starting || child->stopping);
    *code = child->code;
    (void)pthread_mutex_unlock(&child->lock);
    return over;
}

int child_run(struct child *child, int signal_fd)
{
    int code = HOSTVMM_EXIT_OK;
    while (!is_over(child, &code)) {
        struct pollfd sources[] = {
            {.fd = child->wake, .events = POLLIN},
            {.fd = signal_fd, .events = POLLIN},
            {.fd = child->errors, .events = POLLIN},
            {.fd = child->pidfd, .events = POLLIN},
        };
        if (poll(sources, sizeof sources / sizeof sources[0], -1) < 0 && errno != EINTR) {
            log_error("waiting for the guest failed: %s", strerror(errno));
            code = HOSTVMM_EXIT_HOST;
            break;
        }
        if (sources[2].revents && !pass_errors(child))
            fd_close(&child->errors);
        if (sources[3].revents)
            reap(child);
        if (sources[0].revents)
            grant(child);
        if (sources[1].revents && !pass_signal(child, signal_fd))
            break;
    }
    (void)pthread_mutex_lock(&child->lock);
    child->served = false;
    (void)pthread_cond_broadcast(&child->changed);
    (void)pthread_mutex_unlock(&child->lock);
    return code;
}
