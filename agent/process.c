/*
 * See process.h. The child between fork and exec reports the step that failed through a pipe that exec
 * closes, so that the caller reads "cannot execute ...", and not just an exit code.
 */
#include "agent/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/confine.h"
#include "agent/function/channel.h"

enum { CHILD_CHANNEL_FD = 3, CHILD_REPORT_FD = 4, CHILD_FIRST_SPARE_FD = 5 };
#define CHILD_CHANNEL_TEXT  "3"
#define CHILD_FILES_MAX     1024
#define CHILD_EXIT_NO_START 127

enum start_step {
    STEP_NAMESPACES = 1,
    STEP_SESSION,
    STEP_DESCRIPTORS,
    STEP_LIMITS,
    STEP_DIRECTORY,
    STEP_IDENTITY,
    STEP_CONFINEMENT,
    STEP_EXECUTE,
};

static const char *const step_texts[] = {
    [STEP_NAMESPACES] = "cannot enter its namespaces",
    [STEP_SESSION] = "cannot make its session",
    [STEP_DESCRIPTORS] = "cannot set up its descriptors",
    [STEP_LIMITS] = "cannot set its limits",
    [STEP_DIRECTORY] = "cannot enter its directory",
    [STEP_IDENTITY] = "cannot become the function's user",
    [STEP_CONFINEMENT] = "cannot restrict its system calls",
    [STEP_EXECUTE] = "cannot execute its program",
};

struct start_report {
    int step;
    int error;
};

void process_init(struct process *process, const char *directory, struct cgroup *cgroup, bool drop_privileges)
{
    *process = (struct process){
        .directory = directory, .cgroup = cgroup, .drop_privileges = drop_privileges, .report_fd = -1};
}

/* ---- the child ------------------------------------------------------------------------------------- */

struct child_ends {
    int channel_fd, stdout_fd, stderr_fd, report_fd;
};

static int child_descriptors(const struct child_ends *ends)
{
    /* All above the range they move to, so that none overwrites another. */
    int moved[4] = {ends->stdout_fd, ends->stderr_fd, ends->channel_fd, ends->report_fd};
    for (int i = 0; i < 4; i++) {
        moved[i] = fcntl(moved[i], F_DUPFD_CLOEXEC, 16);
        if (moved[i] < 0)
            return -errno;
    }
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || (null_fd != STDIN_FILENO && dup2(null_fd, STDIN_FILENO) < 0) ||
        dup2(moved[0], STDOUT_FILENO) < 0 || dup2(moved[1], STDERR_FILENO) < 0 ||
        dup2(moved[2], CHILD_CHANNEL_FD) < 0 || dup3(moved[3], CHILD_REPORT_FD, O_CLOEXEC) < 0)
        return -errno;
    if (syscall(SYS_close_range, CHILD_FIRST_SPARE_FD, ~0u, 0) < 0)
        return -errno;
    return fd_set_cloexec(STDIN_FILENO, 0);
}

static int child_limits(void)
{
    const struct rlimit no_core = {0, 0};
    const struct rlimit files = {CHILD_FILES_MAX, CHILD_FILES_MAX};
    if (setrlimit(RLIMIT_CORE, &no_core) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* The point of no return: from here on the child is not root. */
static int child_identity(const struct process *process)
{
    if (process->drop_privileges &&
        (setgroups(0, NULL) < 0 || setresgid(FUNCTION_GID, FUNCTION_GID, FUNCTION_GID) < 0 ||
         setresuid(FUNCTION_UID, FUNCTION_UID, FUNCTION_UID) < 0))
        return -errno;
    /* After the change of user, which clears the parent-death signal. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

static struct start_report child_prepare(const struct process *process, const struct child_ends *ends)
{
    int error = process->isolate ? isolate_join(process->isolate) : 0;
    if (error)
        return (struct start_report){STEP_NAMESPACES, error};
    if (setsid() < 0)
        return (struct start_report){STEP_SESSION, -errno};
    /* The agent is exempt from the killer of last resort; its function must not be. */
    if (process->drop_privileges)
        (void)fd_write_file("/proc/self/oom_score_adj", "500");
    error = child_descriptors(ends);
    if (error)
        return (struct start_report){STEP_DESCRIPTORS, error};
    error = child_limits();
    if (error)
        return (struct start_report){STEP_LIMITS, error};
    if (chdir(process->directory) < 0)
        return (struct start_report){STEP_DIRECTORY, -errno};
    error = child_identity(process);
    if (error)
        return (struct start_report){STEP_IDENTITY, error};
    error = confine_self();
    return (struct start_report){error ? STEP_CONFINEMENT : 0, error};
}

/* What a function finds in its environment: nothing of the agent's own. Lambda's names where there is a true
 * value for them; clients of its Runtime API ask for these. */
enum { ENVIRONMENT_ENTRIES = 12, ENVIRONMENT_ENTRY_BYTES = 512 };

struct environment {
    char text[ENVIRONMENT_ENTRIES][ENVIRONMENT_ENTRY_BYTES];
    char *entries[ENVIRONMENT_ENTRIES + 1];
    int count;
};

static void environment_add(struct environment *environment, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void environment_add(struct environment *environment, const char *format, ...)
{
    if (environment->count == ENVIRONMENT_ENTRIES)
        return;
    char *text = environment->text[environment->count];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(text, ENVIRONMENT_ENTRY_BYTES, format, arguments);
    va_end(arguments);
    if (size > 0 && size < ENVIRONMENT_ENTRY_BYTES)
        environment->entries[environment->count++] = text; /* all of it, or not at all */
}

static void fill_environment(struct environment *environment, const struct process *process)
{
    environment_add(environment, "PATH=/usr/local/bin:/usr/bin:/bin");
    environment_add(environment, "HOME=/tmp");
    environment_add(environment, FUNCTION_ENV_FD "=" CHILD_CHANNEL_TEXT);
    environment_add(environment, "LAMBDA_TASK_ROOT=%s", process->directory);
    if (process->connections)
        environment_add(environment, FUNCTION_ENV_CONNECTIONS "=%s", process->connections);
    if (process->api_port == 0)
        return;
    environment_add(environment, "AWS_LAMBDA_RUNTIME_API=127.0.0.1:%u", process->api_port);
    environment_add(environment, "AWS_LAMBDA_FUNCTION_NAME=function");
    environment_add(environment, "AWS_LAMBDA_FUNCTION_VERSION=$LATEST");
    environment_add(environment, "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start"); /* restore/next is served */
    if (process->cgroup)
        environment_add(environment, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%llu",
                        (unsigned long long)(process->cgroup->memory_max_bytes >> 20));
}

static _Noreturn void child_main(const struct process *process, const struct child_ends *ends)
{
    static char program[] = "./" FUNCTION_PROGRAM;
    static struct environment environment; /* zero, and so ended by NULL */
    char *const arguments[] = {program, NULL};
    fill_environment(&environment, process);
    struct start_report report = child_prepare(process, ends);
    int report_fd = report.step == 0 || report.step > STEP_DESCRIPTORS ? CHILD_REPORT_FD : ends->report_fd;
    if (report.step == 0) {
        execve(program, arguments, environment.entries);
        report = (struct start_report){STEP_EXECUTE, -errno};
    }
    const ssize_t n = write(report_fd, &report, sizeof report);
    (void)n; /* nobody is left to tell: the exit code says it less well */
    _exit(CHILD_EXIT_NO_START);
}

/* ---- the parent ------------------------------------------------------------------------------------ */

/* [0] the agent's end, [1] the child's. The function may open its own /dev/stdout again: it owns the pipe. */
static int open_output(const struct process *process, int pipe_fds[2])
{
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    if (process->drop_privileges && fchown(pipe_fds[1], FUNCTION_UID, FUNCTION_GID) < 0)
        return -errno;
    return fd_set_nonblock(pipe_fds[0]);
}

static int open_all(struct process *process, int pairs[4][2])
{
    if (process->cgroup) {
        const int error = cgroup_next_leaf(process->cgroup);
        if (error)
            return error;
        if (process->cgroup->frozen)
            (void)cgroup_freeze(process->cgroup, false); /* the last one was killed frozen */
        process->oom_kills = cgroup_oom_kills(process->cgroup);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[0]) < 0 || pipe2(pairs[3], O_CLOEXEC) < 0)
        return -errno;
    const int error = open_output(process, pairs[1]);
    return error ? error : open_output(process, pairs[2]);
}

/*
 * Fork, into the cgroup from the first instruction on. Moving the child there afterwards would wait for a
 * grace period of the kernel (10 ms and more), and leave a moment outside of the limits. The system call is
 * made past libc: what libc would put right in the child (its idea of the thread's id) is not used before
 * exec.
 */
static pid_t fork_into(const struct cgroup *cgroup)
{
    if (!cgroup)
        return fork();
    const struct clone_args arguments = {
        .flags = CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = (unsigned)cgroup->leaf_fd,
    };
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/* The same, in namespaces of its own if it has any. */
static int fork_isolated(struct process *process, pid_t *pid)
{
    struct isolate *isolate = process->isolate;
    int error = isolate ? isolate_start(isolate) : 0;
    if (error == 0 && isolate)
        error = isolate_births(isolate, true);
    if (error)
        return error;
    *pid = fork_into(process->cgroup);
    error = *pid < 0 ? -errno : 0;
    const int back = *pid != 0 && isolate ? isolate_births(isolate, false) : 0;
    if (back)
        log_error("the agent's children are born among the function's: %s", strerror(-back));
    return error;
}

uid_t process_user(const struct process *process)
{
    return process->drop_privileges ? FUNCTION_UID : geteuid();
}

gid_t process_group(const struct process *process)
{
    return process->drop_privileges ? FUNCTION_GID : getegid();
}

int process_start(struct process *process, struct process_ends *ends)
{
    int pairs[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}}; /* channel, stdout, stderr, report */
    int error = open_all(process, pairs);
    if (error)
        goto out;
    const struct child_ends child = {pairs[0][1], pairs[1][1], pairs[2][1], pairs[3][1]};
    pid_t pid = -1;
    error = fork_isolated(process, &pid);
    if (pid == 0)
        child_main(process, &child);
    if (error)
        goto out;
    process->pid = pid;
    process->reaped = process->stopped = false;
    process->status = 0;
    fd_close(&process->report_fd);
    process->report_fd = pairs[3][0];
    *ends = (struct process_ends){pairs[0][0], pairs[1][0], pairs[2][0]};
    for (int i = 0; i < 4; i++)
        pairs[i][0] = -1;
    if (process->cgroup)
        process->cgroup->populated = true; /* until cgroup.events says otherwise */
out:
    for (int i = 0; i < 4; i++) {
        fd_close(&pairs[i][0]);
        fd_close(&pairs[i][1]);
    }
    return error;
}

void process_stop(struct process *process)
{
    if (process->pid > 0 && !process->reaped)
        (void)kill(process->pid, SIGTERM);
}

void process_kill(struct process *process)
{
    if (process->cgroup) {
        const int error = cgroup_kill(process->cgroup);
        if (error)
            log_error("cannot kill the function's cgroup: %s", strerror(-error));
        cgroup_refresh(process->cgroup);
    }
    if (process->isolate)
        isolate_kill(process->isolate);
    /* Its session is its process group. Once it is reaped the number may be somebody else's. */
    if (process->pid > 0 && !process->reaped) {
        (void)kill(-process->pid, SIGKILL);
        (void)kill(process->pid, SIGKILL); /* not in its session yet, when it has only just been forked */
    }
}

int process_freeze(struct process *process, bool freeze)
{
    if (process->cgroup)
        return cgroup_freeze(process->cgroup, freeze);
    if (process->pid <= 0 || process->reaped)
        return 0;
    process->stopped = freeze;
    return kill(-process->pid, freeze ? SIGSTOP : SIGCONT) < 0 ? -errno : 0;
}

bool process_is_frozen(const struct process *process)
{
    return process->cgroup ? process->cgroup->frozen : process->stopped;
}

void process_reap(struct process *process)
{
    for (;;) {
        int status;
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        if (process->isolate && isolate_is_over(process->isolate, pid))
            continue;
        if (pid != process->pid)
            continue;
        /* What it forked goes with it; without namespaces and a cgroup, what has stayed in its session. */
        if (process->isolate)
            isolate_kill(process->isolate);
        else if (!process->cgroup)
            (void)kill(-pid, SIGKILL);
        process->reaped = true;
        process->status = status;
        if (process->cgroup)
            cgroup_refresh(process->cgroup);
    }
}

bool process_is_gone(const struct process *process)
{
    const bool reaped = process->pid == 0 || process->reaped;
    return reaped && (!process->cgroup || !process->cgroup->populated) &&
           (!process->isolate || process->isolate->reaper == 0);
}

void process_forget(struct process *process)
{
    process->pid = 0;
    process->reaped = false;
    fd_close(&process->report_fd);
    if (process->cgroup)
        cgroup_remove_leaf(process->cgroup);
}

static const char *const signal_names[] = {
    [SIGHUP] = "SIGHUP",   [SIGINT] = "SIGINT",   [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL",
    [SIGTRAP] = "SIGTRAP", [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS",   [SIGFPE] = "SIGFPE",
    [SIGKILL] = "SIGKILL", [SIGUSR1] = "SIGUSR1", [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2",
    [SIGPIPE] = "SIGPIPE", [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM", [SIGXCPU] = "SIGXCPU",
    [SIGXFSZ] = "SIGXFSZ", [SIGSYS] = "SIGSYS",
};

static const char *signal_name(int number)
{
    const size_t count = sizeof signal_names / sizeof *signal_names;
    const char *name = number > 0 && (size_t)number < count ? signal_names[number] : NULL;
    return name ? name : "no name";
}

void process_explain(struct process *process, struct failure *failure)
{
    struct start_report report;
    if (process->report_fd >= 0 && read(process->report_fd, &report, sizeof report) == sizeof report &&
        report.step >= STEP_NAMESPACES && report.step <= STEP_EXECUTE) {
        failure_set(failure, FAILURE_NOT_STARTED, "it %s (%s/" FUNCTION_PROGRAM "): %s",
                    step_texts[report.step], process->directory, strerror(-report.error));
        return;
    }
    const int status = process->status;
    if (process->cgroup && cgroup_oom_kills(process->cgroup) > process->oom_kills)
        failure_set(failure, FAILURE_OUT_OF_MEMORY, ": it may use %llu MiB in this guest",
                    (unsigned long long)(process->cgroup->memory_max_bytes >> 20));
    else if (WIFSIGNALED(status))
        failure_set(failure, FAILURE_CRASHED, "signal %d (%s)", WTERMSIG(status),
                    signal_name(WTERMSIG(status)));
    else
        failure_set(failure, FAILURE_EXITED, "exit code %d", WEXITSTATUS(status));
}
