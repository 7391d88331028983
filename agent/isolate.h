/*
 * The function's own view of the guest: a pid, a mount and an IPC namespace for each of its processes.
 *
 * A pid namespace needs a first process, which gets the orphans and whose end is the end of all others. That
 * is the reaper: this program, executed again under another name (nothing of the agent's memory is in it). It
 * ignores SIGCHLD, so that the kernel buries the orphans by itself, and sleeps for good: a clone never runs
 * it. It stands outside the function's cgroup, so neither the freezer nor the limits touch it; it dies with
 * the agent.
 *
 *   agent --+-- reaper         pid 1 of the namespace, user nobody
 *           +-- the function   pid 2; the agent's child, so that its end is told to the agent as it was
 *
 * The mounts are those of isolate_mounts.c. Network and host name are the guest's: a resume sets them for the
 * function too.
 */
#ifndef AGENT_ISOLATE_H
#define AGENT_ISOLATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ISOLATE_REAPER "reaper" /* argv[0] of the agent's program as the reaper */

/* What the function may write, in /tmp and /dev/shm together: this, or half of its memory if that is less. */
#define ISOLATE_SCRATCH_MAX_BYTES (UINT64_C(512) << 20)
/* One file for so many bytes of it. */
#define ISOLATE_SCRATCH_BYTES_PER_FILE 8192

struct isolate {
    pid_t reaper;  /* 0: none */
    int reaper_fd; /* pidfd: the namespaces are entered by it */
    int home_fd;   /* the agent's own pid namespace */
    uint64_t scratch_bytes;
};

/* Once. `memory_bytes`: what the function may use. 0 or -errno, logged. */
int isolate_init(struct isolate *isolate, uint64_t memory_bytes);
void isolate_fini(struct isolate *isolate);

/* New namespaces with their reaper; none are there. 0 or -errno, logged. */
int isolate_start(struct isolate *isolate);

/* Children of the agent are born in the function's pid namespace, or in its own again. 0 or -errno. */
int isolate_births(struct isolate *isolate, bool inside);

/* Of such a child, as root: enter the mounts and the rest. 0 or -errno. */
int isolate_join(const struct isolate *isolate);

/* Kill all that is in the namespaces. The reaper is gone when everything else is, and all are reaped. */
void isolate_kill(const struct isolate *isolate);

/* A child of the agent was reaped: was it the reaper? Then the namespaces are gone. */
bool isolate_is_over(struct isolate *isolate, pid_t pid);

/* What the program does as the reaper. */
_Noreturn void isolate_reap(void);

/* isolate_mounts.c: make the function's mounts, in a mount namespace of the caller's own, and change its root
 * to them. 0, or -errno and in `what` (a literal) what failed. */
#define ISOLATE_DIRECTORY "/run/agent" /* the function may not enter it */
int isolate_mounts_prepare(void);      /* once, by the agent */
int isolate_mounts_enter(uint64_t scratch_bytes, const char **what);

#endif
