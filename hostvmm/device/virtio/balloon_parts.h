/* Between the balloon's files. */
#ifndef HOSTVMM_DEVICE_VIRTIO_BALLOON_PARTS_H
#define HOSTVMM_DEVICE_VIRTIO_BALLOON_PARTS_H

#include "hostvmm/device/virtio/balloon.h"

/* Whether the driver negotiated the feature VIRTIO_BALLOON_F_*. */
bool balloon_has(const struct virtio_balloon *balloon, unsigned feature);

/* A queue's notification; `context` is the struct virtio_balloon_queue. */
void balloon_on_notify(void *context, uint32_t events);
/* With the lock held: give the guest its buffer back, for new statistics. */
void balloon_ask_stats(struct virtio_balloon *balloon);

#endif
