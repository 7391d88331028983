/*
 * A memory balloon (virtio 1.2, section 5.5): the host asks the guest for pages back, the guest gives them;
 * with free-page reporting the guest also names, unasked, free pages that it does not need kept; with hinting
 * it does so once, when the host asks, so that what follows (a snapshot) has less to carry.
 *
 * Served on the main loop, as the entropy device is, in turns. A page given is discarded: its memory goes
 * back to the host and it reads as zeros from then on, also where RAM is a private mapping of a snapshot's
 * file. A discarded page counts as written for the dirty log, and is a hole in the next snapshot.
 *
 * Nothing the guest says is believed but page numbers within RAM; it may lie about `actual`, and harms itself.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BALLOON_H
#define HOSTVMM_DEVICE_VIRTIO_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "hostvmm/device/virtio/mmio.h"

#define VIRTIO_BALLOON_STATS_S_MAX 65535u

struct virtio_balloon_plan {
    bool on;             /* there is such a device at all */
    uint32_t target_mib; /* at the start */
    bool deflate_on_oom; /* the guest may take pages back before it kills a process */
    bool free_page_reporting;
    bool free_page_hinting;
    uint16_t stats_s; /* how often the guest is asked for its statistics; 0: never, for good */
};

/* As the guest last told them, in bytes or counts; has: a bit per VIRTIO_BALLOON_S_* tag that it told. */
struct virtio_balloon_stats {
    uint64_t has;
    uint64_t value[VIRTIO_BALLOON_S_NR];
};

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

struct virtio_balloon; /* balloon.c: declared whole below by whoever implements it */

/* ---- all on the main thread ---- */

int virtio_balloon_init(struct virtio_balloon *balloon, struct guest_memory *memory, struct loop *loop,
                        const struct virtio_balloon_plan *plan);
void virtio_balloon_fini(struct virtio_balloon *balloon);

/* 0; -EINVAL more than RAM. The guest follows as it can. */
int virtio_balloon_set_target(struct virtio_balloon *balloon, uint32_t mib);
/* 0; -EINVAL: statistics were off when the device was made, or are to be now. */
int virtio_balloon_set_stats_interval(struct virtio_balloon *balloon, uint16_t seconds);
/* 0; -EOPNOTSUPP: not on offer, or the guest did not take it; -EBUSY (start): one is under way. */
int virtio_balloon_hint_start(struct virtio_balloon *balloon);
int virtio_balloon_hint_stop(struct virtio_balloon *balloon);
void virtio_balloon_look(const struct virtio_balloon *balloon, struct virtio_balloon_view *view);

void virtio_balloon_save(const struct virtio_balloon *balloon, struct state_writer *out, const char *key);
void virtio_balloon_load(struct virtio_balloon *balloon, struct state_reader *in, const char *key);

#endif
