/*
 * The jail: what hostvmm gives up before it looks at anything a guest wrote.
 *
 * Twice. jail_enter, when every file is open and before there is a VM: new user, mount, pid, network, IPC, UTS
 * and cgroup namespaces; an empty read-only tree as root, in which only the directories of this VM's sockets
 * (and those named with dir=) appear, under their own names; a uid and gid without rights; no capability, no
 * new privileges; resource limits; a cgroup of its own; no descriptor but those in use; Landlock where the
 * kernel has it. jail_thread, on each thread right before it first handles guest data: a seccomp filter with
 * what that role needs, and death of the process for anything else.
 *
 * Each drop is one named line of jail.c. A drop that the host does not offer ends the start with an error that
 * names it, unless it is one that jail.c marks as optional (Landlock); what is on is logged in one line.
 *
 * The process that calls jail_enter stays outside as the keeper: it forwards signals, waits, removes cgroup
 * and socket files, and ends with the jailed process's exit code. It dies, the jailed one dies.
 */
#ifndef HOSTVMM_JAIL_JAIL_H
#define HOSTVMM_JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JAIL_DIRS_MAX  8
#define JAIL_PATH_MAX  1023
#define JAIL_WHY_BYTES 256

/* `--jail ITEM[,ITEM]...`; see jail_parse. */
struct jail_plan {
    bool on;
    uint32_t uid; /* of the jailed process on the host; 0: the caller's own, or "nobody" if that is root */
    uint32_t gid;
    char cgroup[JAIL_PATH_MAX + 1]; /* parent, below the cgroup v2 mount; empty: the caller's own */
    uint32_t cpu_percent;           /* of one processor; 0: no limit */
    uint32_t memory_mib;            /* host memory: 0: guest memory and what hostvmm needs */
    uint32_t pids;                  /* threads; 0: what the machine needs */
    uint32_t files;                 /* descriptors; 0: what the machine needs */
    char dirs[JAIL_DIRS_MAX][JAIL_PATH_MAX + 1]; /* absolute: stay visible and writable, for snapshots */
    unsigned dir_count;
};

enum jail_role {
    JAIL_MAIN, /* the loop: vsock, console, control, entropy, balloon, snapshots */
    JAIL_VCPU,
    JAIL_BLK,
    JAIL_NET,
    JAIL_ROLES,
};

/* The text after --jail: "default", or items: uid=N, gid=N, cgroup=PATH, cpu=PERCENT, memory=MIB, pids=N,
 * files=N, dir=PATH (several). 0, or -EINVAL with `why` (JAIL_WHY_BYTES). Pure. */
int jail_parse(struct jail_plan *plan, const char *text, char *why);

/* What the machine to be jailed has. */
struct jail_needs {
    uint64_t memory_bytes; /* guest RAM */
    unsigned threads;
    const char *const *directories; /* of its sockets; absolute */
    unsigned directory_count;
};

/*
 * Go in. Single-threaded, all files open. 0: this is the jailed process, the only one that returns 0; an exit
 * code (exit.h) with a message logged. The keeper never returns. Without plan->on: 0 at once.
 */
int jail_enter(const struct jail_plan *plan, const struct jail_needs *needs);

/* The thread's own filter; later calls and calls outside a jail do nothing. Death when it cannot be had. */
void jail_thread(enum jail_role role);

/* Whether this process is in the jail. */
bool jail_is_on(void);

#endif
