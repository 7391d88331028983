/*
 * The function's cgroup (v2): its limits, its end, and whether anything is left in it.
 *
 * Made once by the agent below the mount that init prepared. Everything the function forks stays in it, so
 * one write kills them all; the kernel says through cgroup.events when it is empty.
 *
 * Each process is born (clone3, CLONE_INTO_CGROUP) in a leaf of its own below, which has no limits of its
 * own. One leaf would do, but for kernels since 6.12.15: there a child born into a cgroup that was ever
 * killed dies at once, because its kill count is compared with that of the parent's cgroup.
 */
#ifndef AGENT_CGROUP_H
#define AGENT_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/loop.h"

#define CGROUP_DIRECTORY "/sys/fs/cgroup/function"
#define CGROUP_PIDS_MAX  128
/* Of the processor, beside the agent's 100, when both want it: however many threads the function has, the
 * agent ends them in time. */
#define CGROUP_CPU_WEIGHT "20"
/* Memory kept from the function, for the kernel and the agent: 1/CGROUP_RESERVE_PART of all, at least this.
 */
#define CGROUP_RESERVE_MIN_BYTES (8u << 20)
#define CGROUP_RESERVE_PART      16

struct cgroup {
    struct loop *loop;
    struct loop_source source; /* cgroup.events */
    int directory_fd;
    int leaf_fd; /* where the process in hand was born; -1: none */
    unsigned leaves;
    int events_fd;
    int freeze_fd; /* kept: opening it is most of what a thaw costs a clone */
    bool populated;
    bool frozen; /* everything in it */
    uint64_t memory_max_bytes;
};

/* How much of `total_bytes` the function may use. */
uint64_t cgroup_memory_max(uint64_t total_bytes);

/*
 * Make `path` with its limits and watch it. 0 or -errno, logged. With `lenient` (development) a limit the
 * kernel does not offer here is said and left out.
 */
int cgroup_init(struct cgroup *cgroup, struct loop *loop, const char *path, bool lenient);
void cgroup_fini(struct cgroup *cgroup);

/* Make the next leaf, in leaf_fd, and remove the last. 0 or -errno. */
int cgroup_next_leaf(struct cgroup *cgroup);
void cgroup_remove_leaf(struct cgroup *cgroup);

int cgroup_kill(struct cgroup *cgroup); /* the frozen, too */
/* Ask for it; cgroup.events says when it is so. What is started in a frozen cgroup is born frozen. */
int cgroup_freeze(struct cgroup *cgroup, bool freeze);
/* Processes the kernel killed in it for want of memory, so far. */
uint64_t cgroup_oom_kills(const struct cgroup *cgroup);
/* Read cgroup.events again. */
void cgroup_refresh(struct cgroup *cgroup);

#endif
