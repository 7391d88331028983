/*
 * A memory balloon (virtio 1.2, section 5.5): the host asks the guest for pages back, the guest gives them;
 * with free-page reporting the guest also names, unasked, free pages that it does not need kept; with hinting
 * it does so once, when the host asks, so that what follows (a snapshot) has less to carry.
 *
 * Served on the main loop, as the entropy device is, in turns. A page given is discarded: its memory goes
 * back to the host and it reads as zeros from then on, also where RAM is a private mapping of a snapshot's
 * file. A discarded page counts as written for the dirty log, and is a hole in the next snapshot.
 *
 * A page that is hinted may be in use again when we come to look at it: a driver under pressure takes it back
 * without a word. So a hint is only a place to look: pages of zeros there are discarded while nobody can
 * write, which no guest can tell from nothing at all. A guest that zeroes what it frees gives back everything
 * so; another one gives less.
 *
 * Nothing the guest says is believed but page numbers within RAM; it may lie about `actual`, and harms itself.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BALLOON_H
#define HOSTVMM_DEVICE_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "hostvmm/device/virtio/balloon_plan.h"
#include "hostvmm/device/virtio/mmio.h"

/* As the guest last told them, in bytes or counts; has: a bit per VIRTIO_BALLOON_S_* tag that it told. */
struct virtio_balloon_stats {
    uint64_t has;
    uint64_t value[VIRTIO_BALLOON_S_NR];
};

/* DONE: the guest has named all; it holds these pages back until hinting is stopped, or it needs them. */
enum virtio_balloon_hinting { BALLOON_HINTING_OFF, BALLOON_HINTING_RUNS, BALLOON_HINTING_DONE };

/* Everything one may ask of it, at one instant. */
struct virtio_balloon_view {
    struct virtio_balloon_plan plan; /* as it is now */
    uint64_t target_pages;
    uint64_t actual_pages; /* as the guest tells */
    struct virtio_balloon_stats stats;
    enum virtio_balloon_hinting hinting;
    uint64_t inflated_pages, deflated_pages, reported_pages, hinted_pages; /* counts since the start */
    uint64_t discarded_bytes, discard_failures;
};

/* How to keep processors and other devices from writing guest memory for a moment. hold: 0, or -errno and
 * nothing is held. */
struct virtio_balloon_hold_ops {
    int (*hold)(void *context);
    void (*release)(void *context);
};

#define VIRTIO_BALLOON_QUEUES    5
#define VIRTIO_BALLOON_HINTS_MAX 256

enum virtio_balloon_role {
    BALLOON_NONE, /* the driver did not negotiate as many queues */
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_STATS,
    BALLOON_HINTS,
    BALLOON_REPORTS,
};

struct virtio_balloon;

struct virtio_balloon_queue {
    struct virtio_balloon *balloon;
    struct loop_source source;
    unsigned index;
    enum virtio_balloon_role role; /* under the device's lock */
    uint64_t done_bytes;           /* of the request that was put back in the last turn */
};

struct virtio_balloon_range {
    struct gpa at;
    uint64_t size_bytes;
};

struct virtio_balloon {
    struct virtio_device device; /* first */
    struct guest_memory *memory;
    struct loop *loop;
    struct virtio_balloon_plan plan;
    struct virtio_balloon_queue queues[VIRTIO_BALLOON_QUEUES];
    const struct virtio_balloon_hold_ops *hold_ops; /* NULL: nobody else writes guest memory */
    void *hold_context;

    /* The configuration, little-endian as the host: atomic, read and written by vCPU threads. */
    uint32_t target_pages;
    uint32_t actual_pages;
    uint32_t command; /* VIRTIO_BALLOON_CMD_ID_* or an id, for hinting */
    uint32_t poison;

    int timer_fd; /* statistics are due */
    struct loop_source timer;
    bool stats_held; /* under the lock: the guest's buffer, which asks for new ones when it is given back */
    uint16_t stats_head;
    struct virtio_balloon_stats stats;

    enum virtio_balloon_hinting hinting; /* under the lock */
    bool hints_named;                    /* under the lock: the guest has named all */
    uint32_t hints_for;                  /* under the lock: the command that the guest follows */
    uint32_t next_command;
    struct virtio_balloon_range hints[VIRTIO_BALLOON_HINTS_MAX]; /* to be looked at; the main loop's alone */
    unsigned hint_count;

    struct virtio_balloon_view counts; /* its counters only */
};

/* ---- all on the main thread ---- */

int virtio_balloon_init(struct virtio_balloon *balloon, struct guest_memory *memory, struct loop *loop,
                        const struct virtio_balloon_plan *plan);
/* Before the guest runs. Without it hints are looked at while the guest may write. */
void virtio_balloon_set_hold(struct virtio_balloon *balloon, const struct virtio_balloon_hold_ops *ops,
                             void *context);
void virtio_balloon_fini(struct virtio_balloon *balloon);

/* 0; -EINVAL more than RAM. The guest follows as it can. */
int virtio_balloon_set_target(struct virtio_balloon *balloon, uint32_t mib);
/* 0; -EINVAL: statistics were off when the device was made, or are to be now. */
int virtio_balloon_set_stats_interval(struct virtio_balloon *balloon, uint16_t seconds);
/* 0; -EOPNOTSUPP: not on offer, or the guest did not take it; -EBUSY (start): one is under way. Stop: the
 * guest has its pages back, also when it had not named all of them. */
int virtio_balloon_hint_start(struct virtio_balloon *balloon);
int virtio_balloon_hint_stop(struct virtio_balloon *balloon);
void virtio_balloon_look(const struct virtio_balloon *balloon, struct virtio_balloon_view *view);

/* Counters and the guest's statistics are not saved: a clone's are its own. */
void virtio_balloon_save(const struct virtio_balloon *balloon, struct state_writer *out, const char *key);
void virtio_balloon_load(struct virtio_balloon *balloon, struct state_reader *in, const char *key);

#endif
