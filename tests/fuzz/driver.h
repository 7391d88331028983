/*
 * A guest's driver for fuzz targets: registers written through the transport, rings laid out in the guest's
 * memory at fixed places. It does what a correct driver does; what is wrong comes from the fuzzer's bytes,
 * which may be written anywhere.
 */
#ifndef TESTS_FUZZ_DRIVER_H
#define TESTS_FUZZ_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdint.h>
#include <string.h>

#include "hostvmm/device/virtio/mmio.h"

/* A queue's place: descriptors, then both rings. */
#define DRIVER_QUEUE_BYTES   0x800u
#define DRIVER_AVAIL_AT      0x400u
#define DRIVER_USED_AT       0x600u
#define DRIVER_SIZE_MAX      32u
#define DRIVER_DRIVER_STATUS 3u /* ACKNOWLEDGE, DRIVER */

static inline void driver_write(struct virtio_device *device, uint32_t offset, uint32_t value)
{
    virtio_mmio_bus_ops.write(device, offset, &value, sizeof value);
}

static inline uint32_t driver_read(struct virtio_device *device, uint32_t offset)
{
    uint32_t value;
    virtio_mmio_bus_ops.read(device, offset, &value, sizeof value);
    return value;
}

static inline uint16_t driver_queue_size(const struct virtio_device *device, uint16_t wanted)
{
    const uint16_t limit =
        device->kind->queue_size_max < DRIVER_SIZE_MAX ? device->kind->queue_size_max : DRIVER_SIZE_MAX;
    return wanted < limit ? wanted : limit;
}

/* Reset the device and bring it up with these of its features; its queues, of `size` entries, lie one behind
 * the other from `at` on, in `ram`, which is the guest's from address 0. */
static inline void driver_bring_up(struct virtio_device *device, uint8_t *ram, uint32_t at, uint16_t size,
                                   uint64_t features)
{
    const uint64_t chosen = (device->offered_features & features) | 1ull << VIRTIO_F_VERSION_1;
    driver_write(device, VIRTIO_MMIO_STATUS, 0);
    driver_write(device, VIRTIO_MMIO_STATUS, DRIVER_DRIVER_STATUS);
    for (uint32_t half = 0; half < 2; half++) {
        driver_write(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        driver_write(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(chosen >> (32 * half)));
    }
    driver_write(device, VIRTIO_MMIO_STATUS, DRIVER_DRIVER_STATUS | VIRTIO_CONFIG_S_FEATURES_OK);
    for (uint32_t i = 0; i < device->kind->queue_count; i++, at += DRIVER_QUEUE_BYTES) {
        driver_write(device, VIRTIO_MMIO_QUEUE_SEL, i);
        driver_write(device, VIRTIO_MMIO_QUEUE_NUM, driver_queue_size(device, size));
        driver_write(device, VIRTIO_MMIO_QUEUE_DESC_LOW, at);
        driver_write(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + DRIVER_AVAIL_AT);
        driver_write(device, VIRTIO_MMIO_QUEUE_USED_LOW, at + DRIVER_USED_AT);
        driver_write(device, VIRTIO_MMIO_QUEUE_READY, 1);
        memset(ram + at + DRIVER_AVAIL_AT, 0, 4);
        memset(ram + at + DRIVER_USED_AT, 0, 4);
    }
    driver_write(device, VIRTIO_MMIO_STATUS,
                 DRIVER_DRIVER_STATUS | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* A descriptor of the queue that lies at `at`. */
static inline void driver_put_desc(uint8_t *ram, uint32_t at, unsigned index, const struct vring_desc *desc)
{
    memcpy(ram + at + sizeof *desc * (index % DRIVER_SIZE_MAX), desc, sizeof *desc);
}

/* Make the chain with this head available; the queue has `size` entries. */
static inline void driver_publish(uint8_t *ram, uint32_t at, uint16_t size, uint16_t head)
{
    uint8_t *avail = ram + at + DRIVER_AVAIL_AT;
    uint16_t index;
    memcpy(&index, avail + 2, sizeof index);
    memcpy(avail + 4 + 2u * (index % size), &head, sizeof head);
    index++;
    memcpy(avail + 2, &index, sizeof index);
}

#endif
