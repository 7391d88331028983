/*
 * hostvmm's own dialogue with the agent of its guest: checkpoint before a snapshot, resume after it
 * (PROTOCOL.md). Asynchronous on the caller's loop, over a connection made with virtio_vsock_connect().
 *
 *   checkpoint   hello, CHECKPOINT -> QUIESCED: the function is frozen, the agent waits. The connection stays
 *   resume       hello on a new connection, or none on the one that checkpointed; SECRET..., RESUME ->
 *                STEP..., RESUMED: the function runs
 *   collect      COLLECT -> FACT..., COLLECTED, for the audit
 *
 * One exchange at a time. The wait is bounded by each exchange's limit. Everything the guest says is checked
 * and bounded; it is trusted with nothing but its own state.
 */
#ifndef HOSTVMM_CONTROL_LIFELINE_H
#define HOSTVMM_CONTROL_LIFELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "agent/proto/frame.h"
#include "agent/proto/proto.h"

#define LIFELINE_STEPS_MAX   24
#define LIFELINE_SECRETS_MAX 16
#define LIFELINE_FACTS_MAX   64
#define LIFELINE_WHY_BYTES   320

struct lifeline_secret {
    char name[PROTO_NAME_MAX_BYTES + 1];
    const uint8_t *data; /* the caller's, until done */
    size_t size;         /* 0..PROTO_SECRET_MAX_BYTES */
};

struct lifeline_resume {
    uint8_t seed[PROTO_SEED_BYTES]; /* fresh from the host's getrandom, for this clone alone */
    uint8_t clone_id[PROTO_CLONE_ID_BYTES];
    uint64_t generation;
    const char *hostname;    /* NULL: the guest keeps its own */
    const char *network;     /* the same: its text (agent/proto/network.h) */
    uint32_t hooks_limit_ms; /* for the function's after_restore */
    struct lifeline_secret secrets[LIFELINE_SECRETS_MAX];
    unsigned secret_count;
};

struct lifeline_outcome {
    int error; /* 0; -EREMOTEIO the agent reports a failure; -ECONNREFUSED it went before it said hello,
                  -ECONNRESET after; -ETIMEDOUT; -EPROTO it said what it must not. After all but 0 and
                  -EREMOTEIO the connection is closed */
    char why[LIFELINE_WHY_BYTES];        /* for people; names the step that failed */
    char step[PROTO_NAME_MAX_BYTES + 1]; /* that failed; empty when none did */
    struct {
        char name[PROTO_NAME_MAX_BYTES + 1];
        uint64_t duration_us;
    } steps[LIFELINE_STEPS_MAX]; /* that were done, in order */
    unsigned step_count;
    uint64_t duration_us; /* of the whole, as the guest measured it */
};

struct lifeline;
/* From the loop, once for each exchange begun. The outcome is valid during the call. The callback may begin
 * the next exchange or call lifeline_fini. */
typedef void lifeline_done(void *context, const struct lifeline_outcome *outcome);
/* Each fact of a collect; slices are valid during the call. */
typedef void lifeline_fact(void *context, struct proto_slice name, struct proto_slice body);

struct lifeline {
    struct loop *loop;
    struct loop_source source;
    struct loop_source limit;
    int fd;
    int limit_fd;
    uint32_t limit_ms;
    int exchange;  /* private */
    bool greeted;  /* hello of the agent's has come */
    bool hello_in; /* our own was put into a request */
    bool deaf;     /* the agent takes no more; what it said may still be read */
    bool asked;    /* the request that the agent answers is among those in `request` */
    lifeline_done *done;
    lifeline_fact *fact;
    void *context;
    unsigned fact_count;
    struct lifeline_outcome outcome;
    struct lifeline_resume order; /* kept until it can be sent, then wiped */
    char hostname[PROTO_HOSTNAME_MAX_BYTES + 1];
    char network[PROTO_NETWORK_MAX_BYTES + 1];
    uint8_t *request; /* allocated: frames to send, wiped when sent (seed, secrets) */
    size_t request_room;
    size_t request_bytes;
    size_t request_sent;
    struct frame_reader reader;
};

/* Before anything else; makes lifeline_fini safe. */
void lifeline_init(struct lifeline *lifeline, struct loop *loop);
/* Drop the connection and any exchange, whose `done` is not called. May be used again after lifeline_open. */
void lifeline_fini(struct lifeline *lifeline);
/* Use this connection (owned from here on, also on failure) instead of any earlier one. 0 or -errno. */
int lifeline_open(struct lifeline *lifeline, int fd);
bool lifeline_is_open(const struct lifeline *lifeline);

/*
 * Begin an exchange; 0, or -errno and `done` will not be called. -EBUSY while one is under way; -ENOTCONN no
 * connection, or it ended since; -EINVAL a field is outside the protocol's limits; -ENOMEM.
 * A resume's time is read when RESUME is sent, which waits for the agent's hello: not for the seconds that a
 * guest may need to come that far. The order is copied; its secrets' data are the caller's until `done`.
 */
int lifeline_checkpoint(struct lifeline *lifeline, uint32_t limit_ms, lifeline_done *done, void *context);
int lifeline_resume(struct lifeline *lifeline, const struct lifeline_resume *resume, uint32_t limit_ms,
                    lifeline_done *done, void *context);
int lifeline_collect(struct lifeline *lifeline, uint32_t limit_ms, lifeline_fact *fact, lifeline_done *done,
                     void *context);

#endif
