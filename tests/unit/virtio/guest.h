/*
 * The driver's side of virtio for tests: RAM in a buffer, rings laid out in it, registers written as a guest
 * would. It does what a correct driver does unless a test pokes at the rings itself.
 */
#ifndef TESTS_UNIT_VIRTIO_GUEST_H
#define TESTS_UNIT_VIRTIO_GUEST_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostvmm/device/virtio/mmio.h"

struct guest {
    uint8_t *ram;
    uint64_t size_bytes;
    uint64_t used_bytes; /* by guest_alloc */
    struct guest_memory memory;
};

struct guest_buffer {
    uint64_t at;
    uint32_t size;
    bool writable;
};

#define GUEST_INDIRECT_MAX 16 /* buffers of an indirect chain */

struct guest_queue {
    struct guest *guest;
    struct virtio_device *device; /* NULL: a bare struct virtq is under test */
    unsigned index;
    uint16_t size;
    uint64_t desc, avail, used, tables;
    uint16_t free_first; /* a list through the descriptors' next */
    uint16_t free_count;
    uint16_t avail_index; /* published */
    uint16_t used_seen;
    bool event_idx;
};

void guest_init(struct guest *guest, uint64_t size_bytes);
void guest_fini(struct guest *guest);
uint64_t guest_alloc(struct guest *guest, uint64_t size_bytes, uint64_t alignment);
void *guest_at(struct guest *guest, uint64_t at);

uint32_t guest_read32(struct virtio_device *device, uint32_t offset);
void guest_write32(struct virtio_device *device, uint32_t offset, uint32_t value);
/* Reset, then up to FEATURES_OK with `features` and VERSION_1. The status read back. */
uint32_t guest_negotiate(struct virtio_device *device, uint64_t features);
void guest_driver_ok(struct virtio_device *device);

/* Lay out a queue in RAM; with a device, configure it and make it ready. */
void guest_queue_init(struct guest_queue *queue, struct guest *guest, struct virtio_device *device,
                      unsigned index, uint16_t size);
struct vring_desc *guest_queue_desc(struct guest_queue *queue, uint16_t index);
struct vring_avail *guest_queue_avail(struct guest_queue *queue);
struct vring_used *guest_queue_used(struct guest_queue *queue);

/* Make a chain of the buffers and publish it. Its head. */
uint16_t guest_queue_add(struct guest_queue *queue, const struct guest_buffer *buffers, unsigned count,
                         bool indirect);
/* Publish `head` as it stands. */
void guest_queue_publish(struct guest_queue *queue, uint16_t head);
/* Whether the device asked to be notified of what was published since the index was `before`. */
bool guest_queue_must_kick(struct guest_queue *queue, uint16_t before);
/* Notify, through the register. */
void guest_queue_kick(struct guest_queue *queue);
/* The next used chain; its descriptors are free again. */
bool guest_queue_take_used(struct guest_queue *queue, uint16_t *head, uint32_t *written);
/* With the event index: ask for an interrupt at the next used chain. */
void guest_queue_want_interrupt(struct guest_queue *queue);

/* Wait for an interrupt on the device's eventfd, 10 s at most. Whether one came. */
bool guest_wait_interrupt(struct virtio_device *device);
/* Whether an interrupt is pending; clears it. */
bool guest_interrupted(struct virtio_device *device);

#endif
