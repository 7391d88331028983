/*
 * See isolate.h. The child that becomes the reaper shares the agent's memory until it executes, while the
 * agent waits (as after vfork): a fork would copy the agent's page tables, and every page it writes later.
 *
 * The function's process is not the reaper's child but the agent's: with its children's pid namespace set
 * (setns), the agent forks as ever, and reads from waitpid what no messenger could garble.
 */
#include "agent/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

enum { NOBODY = 65534, STACK_BYTES = 16384 };

/* Between the agent and the child that shares its memory. */
struct birth {
    uint64_t scratch_bytes;
    const char *what; /* failed */
    int error;
};

int isolate_init(struct isolate *isolate, uint64_t memory_bytes)
{
    const uint64_t half = memory_bytes / 2 & ~(uint64_t)4095;
    *isolate = (struct isolate){.reaper_fd = -1, .home_fd = -1};
    isolate->scratch_bytes = half < ISOLATE_SCRATCH_MAX_BYTES ? half : ISOLATE_SCRATCH_MAX_BYTES;
    isolate->home_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    int error = isolate->home_fd < 0 ? -errno : 0;
    if (error == 0)
        error = isolate_mounts_prepare();
    if (error)
        log_error("cannot prepare the function's namespaces: %s", strerror(-error));
    return error;
}

void isolate_fini(struct isolate *isolate)
{
    isolate_kill(isolate);
    fd_close(&isolate->reaper_fd);
    fd_close(&isolate->home_fd);
}

/* ---- the reaper ------------------------------------------------------------------------------------ */

/* In the agent's memory: nothing here may last but `birth`. */
static int become_reaper(void *context)
{
    static char name[] = ISOLATE_REAPER;
    static char *const arguments[] = {name, NULL};
    static char *const environment[] = {NULL};
    static const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct birth *birth = context;
    birth->error = isolate_mounts_enter(birth->scratch_bytes, &birth->what);
    if (birth->error)
        _exit(1);
    birth->what = "execute the reaper";
    if (sigaction(SIGCHLD, &ignore, NULL) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 &&
        syscall(SYS_close_range, 0, ~0u, 0) == 0)
        (void)execve("/proc/self/exe", arguments, environment);
    birth->error = -errno;
    _exit(1);
}

void isolate_reap(void)
{
    (void)prctl(PR_SET_NAME, ISOLATE_REAPER);
    /* It needs nothing, and the function's user must not be its own. The change clears the death signal. */
    if (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
        setresuid(NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0)
        for (;;)
            pause();
    _exit(1); /* and all the others are killed */
}

/* ---- the agent ------------------------------------------------------------------------------------- */

int isolate_start(struct isolate *isolate)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    struct birth birth = {.scratch_bytes = isolate->scratch_bytes, .what = "make its namespaces"};
    int reaper_fd = -1;
    const pid_t reaper =
        clone(become_reaper, stack + sizeof stack,
              CLONE_VM | CLONE_VFORK | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_PIDFD | SIGCHLD,
              &birth, &reaper_fd);
    int error = reaper < 0 ? -errno : 0;
    if (error == 0) {
        error = birth.error;
        fd_close(&isolate->reaper_fd);
        isolate->reaper = reaper; /* also when it has failed: it is to be reaped */
        isolate->reaper_fd = reaper_fd;
    }
    if (error)
        log_error("cannot isolate the function: %s: %s", birth.what, strerror(-error));
    return error;
}

int isolate_births(struct isolate *isolate, bool inside)
{
    return setns(inside ? isolate->reaper_fd : isolate->home_fd, CLONE_NEWPID) < 0 ? -errno : 0;
}

int isolate_join(const struct isolate *isolate)
{
    return setns(isolate->reaper_fd, CLONE_NEWNS | CLONE_NEWIPC) < 0 ? -errno : 0;
}

void isolate_kill(const struct isolate *isolate)
{
    if (isolate->reaper > 0)
        (void)kill(isolate->reaper, SIGKILL);
}

bool isolate_is_over(struct isolate *isolate, pid_t pid)
{
    if (isolate->reaper == 0 || pid != isolate->reaper)
        return false;
    isolate->reaper = 0;
    fd_close(&isolate->reaper_fd);
    return true;
}
