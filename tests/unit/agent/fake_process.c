/* See fake_process.h. */
#include "tests/unit/agent/fake_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"

struct fake_process fake = {.channel_fd = -1, .stdout_fd = -1, .stderr_fd = -1};

static void close_all(void)
{
    fd_close(&fake.channel_fd);
    fd_close(&fake.stdout_fd);
    fd_close(&fake.stderr_fd);
}

void fake_reset(void)
{
    close_all();
    fake = (struct fake_process){.channel_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
}

void fake_exit(struct process *process, int status)
{
    close_all();
    process->reaped = true;
    process->status = status;
}

void process_init(struct process *process, const char *directory, struct cgroup *cgroup, bool drop_privileges)
{
    *process = (struct process){
        .directory = directory, .cgroup = cgroup, .drop_privileges = drop_privileges, .report_fd = -1};
}

gid_t process_group(const struct process *process)
{
    (void)process;
    return getegid();
}

uid_t process_user(const struct process *process)
{
    (void)process;
    return geteuid();
}

int process_start(struct process *process, struct process_ends *ends)
{
    fake.starts++;
    if (fake.start_error)
        return fake.start_error;
    int channel[2], out[2], err[2];
    close_all();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0 ||
        pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(err, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    *ends = (struct process_ends){channel[0], out[0], err[0]};
    fake.channel_fd = channel[1];
    fake.stdout_fd = out[1];
    fake.stderr_fd = err[1];
    process->pid = 12345;
    fake.frozen = false;
    process->reaped = false;
    return 0;
}

void process_stop(struct process *process)
{
    (void)process;
    fake.stops++;
}

void process_kill(struct process *process)
{
    fake.kills++;
    if (!fake.survives_kill && process->pid > 0 && !process->reaped)
        fake_exit(process, SIGKILL);
}

int process_freeze(struct process *process, bool freeze)
{
    (void)process;
    if (fake.freeze_error)
        return fake.freeze_error;
    fake.frozen = freeze && !fake.freezes_late;
    return 0;
}

void fake_freeze_is_done(void)
{
    fake.frozen = true;
}

bool process_is_frozen(const struct process *process)
{
    (void)process;
    return fake.frozen;
}

void process_reap(struct process *process)
{
    (void)process;
}

bool process_is_gone(const struct process *process)
{
    return (process->pid == 0 || process->reaped) && !fake.lingers;
}

void process_forget(struct process *process)
{
    process->pid = 0;
    process->reaped = false;
}

void process_explain(struct process *process, struct failure *failure)
{
    if (WIFSIGNALED(process->status))
        failure_set(failure, FAILURE_CRASHED, "signal %d", WTERMSIG(process->status));
    else
        failure_set(failure, FAILURE_EXITED, "exit code %d", WEXITSTATUS(process->status));
}
