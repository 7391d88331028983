/*
 * An entropy device (virtio 1.2, section 5.4), served from getrandom(2) on the main loop, under the
 * transport's lock. Each request gets at most VIRTIO_RNG_REQUEST_MAX_BYTES, and each turn of the loop serves
 * at most VIRTIO_RNG_TURN_MAX_BYTES: a guest that floods the queue takes its turns between others. A request
 * beyond its limits (rate.h) stays in the ring until a timer, which is made when first one is needed.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_RNG_H
#define HOSTVMM_DEVICE_VIRTIO_RNG_H

#include "agent/base/loop.h"
#include "hostvmm/device/rate.h"
#include "hostvmm/device/virtio/mmio.h"

#define VIRTIO_RNG_REQUEST_MAX_BYTES 65536u
#define VIRTIO_RNG_TURN_MAX_BYTES    (4 * VIRTIO_RNG_REQUEST_MAX_BYTES)

struct virtio_rng_counts { /* atomic: read by others for metrics; what waited is in struct rate */
    uint64_t operations;
    uint64_t bytes;
};

struct virtio_rng {
    struct virtio_device device; /* first */
    struct loop *loop;
    struct loop_source notify;
    struct rate rate;
    struct loop_source timer; /* of the next request that waits; its descriptor is ours */
    int timer_fd;             /* -1: none yet */
    struct virtio_rng_counts counts;
};

/* On the loop's thread, as fini. Waits, where the host itself has only just booted, until the host's own
 * pool is ready. 0 or -errno. */
int virtio_rng_init(struct virtio_rng *rng, const struct guest_memory *memory, struct loop *loop);
void virtio_rng_fini(struct virtio_rng *rng);

/* Any thread; the limits are valid, and count from the next request on. */
void virtio_rng_set_rate(struct virtio_rng *rng, const struct rate_limits *limits);

void virtio_rng_save(struct virtio_rng *rng, struct state_writer *out, const char *key);
void virtio_rng_load(struct virtio_rng *rng, struct state_reader *in, const char *key);

#endif
