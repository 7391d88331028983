/*
 * Taking a snapshot of the running machine, on the main loop:
 *
 *   [ask the agent to quiesce] -> pause -> memory, parts -> go on, or not -> digests, publish
 *       -> [tell the agent to go on] -> done
 *
 * The guest is paused only between the second and the third arrow. A failure anywhere lets the guest go on,
 * and leaves nothing behind.
 *
 * With `hold` it stays paused, and its agent, if that was asked to quiesce, waits until capture_go_on. A guest
 * that stands still already is saved as it is and stays so, whatever happens.
 */
#ifndef HOSTVMM_SNAPSHOT_CAPTURE_H
#define HOSTVMM_SNAPSHOT_CAPTURE_H

#include "hostvmm/control/lifeline.h"
#include "hostvmm/machine.h"
#include "hostvmm/snapshot/saver.h"
#include "hostvmm/snapshot/uniqueness.h"

struct capture_request {
    char out[CONFIG_PATH_MAX + 1];
    char parent[CONFIG_PATH_MAX + 1]; /* empty: a full snapshot */
    bool checkpoint;                  /* with the agent's consent */
    bool stop;                        /* the guest does not go on */
    bool hold;                        /* it is left paused */
    bool still;                       /* it is paused already: no checkpoint, no hold */
    uint32_t hooks_ms;                /* for the function's hooks */
};

struct capture_result {
    int error;                    /* 0 or -errno */
    char why[SNAPSHOT_WHY_BYTES]; /* when it failed */
    uint64_t pause_ns;            /* the guest stood still */
    uint64_t checkpoint_us;       /* the agent needed to quiesce */
    uint64_t disk_bytes;          /* that the snapshot takes */
};

typedef void capture_done(void *context, const struct capture_result *result);

struct capture {
    struct machine *machine;
    struct loop *loop;
    struct lifeline lifeline;
    struct capture_request request;
    struct uniqueness uniqueness;
    struct snapshot parent;
    struct saver saver;
    struct state_writer parts;
    struct capture_result result;
    bool busy;
    bool quiesced; /* the guest is held, and its agent waits to be told to go on */
    capture_done *done;
    void *context;
};

void capture_init(struct capture *capture, struct machine *machine, struct loop *loop);
/* 0: `done` will be called, perhaps before this returns. -EBUSY one is under way. */
int capture_begin(struct capture *capture, const struct capture_request *request, capture_done *done,
                  void *context);
/* The guest that was held runs again: tell its agent, if that waits. As capture_begin; without an agent that
 * waits, -EALREADY. */
int capture_go_on(struct capture *capture, capture_done *done, void *context);
void capture_fini(struct capture *capture);

#endif
