/*
 * The jail: what hostvmm gives up before it looks at anything a guest wrote.
 *
 * Twice. jail_enter, when every file is open and before there is a VM: new user, mount, pid, network, IPC, UTS
 * and cgroup namespaces; an empty read-only tree as root, in which only the directories of this VM's sockets
 * (and those named with dir=) appear, under their own names; a uid and gid without rights; no capability, no
 * new privileges; resource limits; a cgroup of its own; no descriptor but those in use; Landlock where the
 * kernel has it. jail_thread, on each thread right before it first handles guest data: a seccomp filter with
 * what that role needs, and death of the process for anything else. A thread inherits the filter of the one
 * that makes it: devices' threads are made by jail_spawn, by a thread that never sees guest data.
 *
 * Each drop is one named line of jail.c. A drop that the host does not offer ends the start with an error that
 * names it, unless it is one that jail.c marks as optional (Landlock); what is on is logged in one line.
 *
 * The process that calls jail_enter stays outside as the keeper: it forwards signals, waits, removes cgroup
 * and socket files, and ends with the jailed process's exit code. It dies, the jailed one dies.
 */
#ifndef HOSTVMM_JAIL_JAIL_H
#define HOSTVMM_JAIL_JAIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JAIL_DIRS_MAX  8
#define JAIL_PATH_MAX  1023
#define JAIL_WHY_BYTES 256
#define JAIL_IO_BYTES  96

/* `--jail ITEM[,ITEM]...`; see jail_parse. */
struct jail_plan {
    bool on;
    uint32_t uid; /* of the jailed process on the host; 0: the caller's own, or "nobody" if that is root */
    uint32_t gid;
    bool uid_counts; /* the clone's number is to be added: jail_for_clone */
    bool gid_counts;
    bool no_cgroup;                 /* cgroup=none */
    char io[JAIL_IO_BYTES];         /* a line of io.max; empty: no limit */
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
    JAIL_SPAWN, /* makes the threads of devices; with the calls of those besides its own */
    JAIL_ROLES,
};

/*
 * The text after --jail: "default", or items: uid=N, gid=N (with +%n: the clone's number is added), cgroup=PATH
 * or cgroup=none, cpu=PERCENT, memory=MIB, pids=N, files=N, io=MAJOR:MINOR/READ/WRITE (bytes a second), dir=PATH
 * (several). 0, or -EINVAL with `why` (JAIL_WHY_BYTES). Pure.
 */
int jail_parse(struct jail_plan *plan, const char *text, char *why);

/* The plan of clone `number`, from 1. */
void jail_for_clone(struct jail_plan *plan, unsigned number);

/* What the machine to be jailed has. Paths may be relative. */
struct jail_needs {
    uint64_t memory_bytes; /* guest RAM */
    uint64_t file_bytes;   /* the largest file that it may write */
    unsigned threads;
    const char *const *sockets; /* to be bound: their directories appear, the keeper removes what is left */
    unsigned socket_count;
    const char *const *files; /* to be written by name: their directories appear */
    unsigned file_count;
    int *pagemap_fd; /* NULL, or to be set: /proc/self/pagemap of the jailed process, which has no /proc */
};

/*
 * Go in. Single-threaded, all files open, no epoll yet (one that waits for signals waits for its maker's). SIGHUP,
 * SIGINT and SIGTERM are blocked afterwards. 0: this is the jailed process, the only one that returns 0; an exit
 * code (exit.h) with a message logged. The keeper never returns. Without plan->on: 0 at once.
 */
int jail_enter(const struct jail_plan *plan, const struct jail_needs *needs);

/* The thread's own filter; later calls and calls outside a jail do nothing. Death when it cannot be had. */
void jail_thread(enum jail_role role);

/*
 * pthread_create with default attributes, for a thread of the device's role, which begins with jail_thread.
 * From any thread, also one whose filter allows no threads. 0 or an errno, as pthread_create.
 */
int jail_spawn(pthread_t *thread, void *(*main)(void *), void *context);

/* Whether this process is in the jail. */
bool jail_is_on(void);

#endif
