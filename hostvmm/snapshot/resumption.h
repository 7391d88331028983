/*
 * A restored guest, from its first instruction to the moment it may be asked anything: hostvmm connects to
 * the agent as soon as that listens, has it become unique (lifeline.h), and reports.
 *
 * The agent listens at once when it did in the snapshot; else its listening is a stage of the boot, which the
 * caller passes on. The whole has one limit.
 */
#ifndef HOSTVMM_SNAPSHOT_RESUMPTION_H
#define HOSTVMM_SNAPSHOT_RESUMPTION_H

#include "hostvmm/control/lifeline.h"
#include "hostvmm/machine.h"
#include "hostvmm/snapshot/uniqueness.h"

/* Once. `outcome->error` 0: the clone is unique and its function runs. */
typedef void resumption_done(void *context, const struct lifeline_outcome *outcome);

struct resumption {
    struct machine *machine;
    struct lifeline lifeline;
    struct uniqueness *uniqueness;
    int timer_fd; /* the next try, or the limit */
    struct loop_source timer;
    uint64_t limit_ns; /* CLOCK_MONOTONIC */
    uint64_t connected_ns;
    bool under_way; /* the agent has been reached, and it is its turn */
    resumption_done *done;
    void *context;
};

/* Before anything else; makes resumption_fini safe. */
void resumption_init(struct resumption *resumption, struct machine *machine, struct loop *loop);
/* Begin, right before or after the vCPUs start. `uniqueness` has been drawn, and is the caller's. 0 or
 * -errno. */
int resumption_begin(struct resumption *resumption, struct uniqueness *uniqueness, uint32_t limit_ms,
                     resumption_done *done, void *context);
/* The guest says that its agent listens. */
void resumption_agent_listens(struct resumption *resumption);
void resumption_fini(struct resumption *resumption);

#endif
