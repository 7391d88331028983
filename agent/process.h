/*
 * The function's process: started, killed, reaped, and its end explained. One at a time.
 *
 * In the guest it runs as FUNCTION_UID in its own cgroup (cgroup.h), session and working directory, with
 * no_new_privs, no supplementary groups, a minimal environment and no descriptor but 0, 1, 2 and its channel.
 * On a development machine without these (see main.c) what is missing is left out, as main has said.
 *
 * What it may ask of the kernel is bounded by confine.h: no vsock to the host, no namespaces, no mounts. What it
 * sees of the guest is made by isolate.h: a root of its own, and no process but its own. ISOLATION.md has all of it.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/cgroup.h"
#include "agent/failure.h"
#include "agent/isolate.h"

#define FUNCTION_UID       1000
#define FUNCTION_GID       1000
#define FUNCTION_PROGRAM   "bootstrap"
#define FUNCTION_DIRECTORY "/function"

struct process {
    const char *directory;   /* holds FUNCTION_PROGRAM; the working directory */
    struct cgroup *cgroup;   /* NULL: none */
    struct isolate *isolate; /* NULL, as process_init sets it: it sees what the agent sees */
    bool drop_privileges;    /* become FUNCTION_UID */
    uint16_t api_port;       /* of the Runtime API, for the environment; 0: none */
    const char *connections; /* the directory of those held for it, for the environment; NULL: none */
    pid_t pid;               /* 0: none since the last one was reaped and forgotten */
    bool reaped;
    bool stopped;       /* without a cgroup: what has taken the freezer's place */
    int status;         /* of waitpid, when reaped */
    int report_fd;      /* the child says here which step of its start failed */
    uint64_t oom_kills; /* the cgroup's count when it started */
};

/* The agent's ends of a new process, all close-on-exec. */
struct process_ends {
    int channel_fd;
    int stdout_fd;
    int stderr_fd;
};

void process_init(struct process *process, const char *directory, struct cgroup *cgroup,
                  bool drop_privileges);

/* Who it runs as. */
uid_t process_user(const struct process *process);
gid_t process_group(const struct process *process);

/* 0, or -errno with nothing started. */
int process_start(struct process *process, struct process_ends *ends);

void process_stop(struct process *process); /* SIGTERM */
void process_kill(struct process *process); /* it and everything in its cgroup and namespaces */
void process_reap(struct process *process); /* after SIGCHLD */

/* Freeze it and everything in its cgroup, or let it go on. 0 or -errno. Without a cgroup (a development
 * machine) its process group is stopped with SIGSTOP instead, which the function could see and its parent
 * undo. Freezing takes a moment: process_is_frozen tells. A frozen process can be killed. */
int process_freeze(struct process *process, bool freeze);
bool process_is_frozen(const struct process *process);

/* Reaped, and nothing of it left in the cgroup or the namespaces: another may start. */
bool process_is_gone(const struct process *process);
void process_forget(struct process *process);

/* How it ended, once it is reaped. */
void process_explain(struct process *process, struct failure *failure);

#endif
