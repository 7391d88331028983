/* The jail's own parts, in the order in which they come to work: see jail.c. */
#ifndef HOSTVMM_JAIL_PARTS_H
#define HOSTVMM_JAIL_PARTS_H

#include <limits.h>
#include <sys/types.h>

#include "hostvmm/jail/jail.h"

#define JAIL_BINDS_MAX (JAIL_DIRS_MAX + 8)

/* A directory of the host that appears in the tree. */
struct jail_bind {
    char path[PATH_MAX]; /* as it is named: absolute */
    int tree;            /* its mount, not yet in place */
    bool whole;          /* files may be made and written there, not only sockets */
};

struct jail {
    const struct jail_plan *plan;
    const struct jail_needs *needs;
    uint32_t uid; /* on the host, and inside: the same number */
    uint32_t gid;
    bool privileged;     /* the caller is root */
    unsigned pids;       /* threads, at most */
    char home[PATH_MAX]; /* working directory */
    struct jail_bind binds[JAIL_BINDS_MAX];
    unsigned bind_count;
    int channel; /* to the keeper */
    bool landlocked;
};

/* ---- tree.c: what is left of the file system ---- */

/* Before the keeper is left: which directories appear. 0, or -errno with the reason logged. */
int jail_tree_plan(struct jail *jail);
/* In the new mount namespace, as the uid that started us: get hold of them. The same. */
int jail_tree_open(struct jail *jail);
/* With the jail's uid: a root with nothing else in it. The same. */
int jail_tree_enter(struct jail *jail);

/* Without a capability: what the VM is to write, it can. The same. */
int jail_tree_check(const struct jail *jail);

/* ---- landlock.c: files that are reached by name ---- */

/* 0; -ENOSYS or -EOPNOTSUPP where the kernel has none. */
int jail_landlock(struct jail *jail);

/* ---- keeper.c: what stays outside ---- */

/* What the jailed tell the keeper, one byte each; it answers with one. */
enum jail_word { JAIL_WORD_USER = 1, JAIL_WORD_CHILD, JAIL_WORD_IN, JAIL_WORD_OK };

struct jail_message {
    enum jail_word word;
    pid_t pid;
};

/* Fork. In the child: 0 with the channel in place. The keeper never returns; -errno when there is no child. */
int jail_keeper(struct jail *jail);
/* Tell it, and wait for its answer. 0, or -ECONNRESET when it refuses (logged there) or is gone. */
int jail_tell(const struct jail *jail, enum jail_word word, pid_t pid);

/* ---- cgroup.c: for the keeper ---- */

struct jail_cgroup {
    int parent; /* its directory; -1: there is no cgroup */
    int own;    /* locked for as long as the keeper lives */
    char name[48];
};

/* 0, or -errno with the reason logged. */
int jail_cgroup_make(struct jail_cgroup *cgroup, const struct jail *jail);
int jail_cgroup_put(const struct jail_cgroup *cgroup, pid_t pid);
void jail_cgroup_remove(struct jail_cgroup *cgroup);

/* ---- threads.c ---- */

/* From now on jail_thread and jail_spawn do something. 0 or -errno. */
int jail_threads_begin(void);

#endif
