/*
 * libFuzzer target: the virtqueue, the transport's registers and the block device under a driver that writes
 * what it likes where it likes. The input is a script of small steps; the device is served on this thread.
 *
 * What is checked beside memory safety: a request that is answered was asked for, and a device that is not
 * broken has answered all it was asked.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/blk.h"

#define RAM_BYTES  65536u
#define FILE_BYTES 32768u
#define AVAIL_AT   0x0800u
#define USED_AT    0x1000u
#define DATA_AT    0x2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct guest_memory memory;
static struct virtio_blk blk;
static int backing = -1;
static uint16_t queue_size;

static void write32(uint32_t offset, uint32_t value)
{
    virtio_mmio_bus_ops.write(&blk.device, offset, &value, sizeof value);
}

static uint32_t read32(uint32_t offset)
{
    uint32_t value;
    virtio_mmio_bus_ops.read(&blk.device, offset, &value, sizeof value);
    return value;
}

static void bring_up(uint8_t how)
{
    const uint64_t features = blk.device.offered_features &
                              ~(uint64_t)((how & 1u) << VIRTIO_RING_F_EVENT_IDX) &
                              ~((uint64_t)(how >> 1 & 1u) << VIRTIO_BLK_F_FLUSH);
    queue_size = (uint16_t)(1u << (how >> 5));
    write32(VIRTIO_MMIO_STATUS, 0);
    write32(VIRTIO_MMIO_STATUS, 3);
    for (uint32_t half = 0; half < 2; half++) {
        write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write32(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
    }
    write32(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
    write32(VIRTIO_MMIO_QUEUE_NUM, queue_size);
    write32(VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL_AT);
    write32(VIRTIO_MMIO_QUEUE_USED_LOW, USED_AT);
    write32(VIRTIO_MMIO_QUEUE_READY, 1);
    memset(ram + AVAIL_AT, 0, 4);
    memset(ram + USED_AT, 0, 4);
    write32(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void start(void)
{
    log_setup("fuzz", LOG_LEVEL_ERROR, 2);
    backing = memfd_create("fuzz", MFD_CLOEXEC);
    guest_memory_over(&memory, ram, sizeof ram);
    if (backing < 0 || ftruncate(backing, FILE_BYTES + 100) < 0 ||
        virtio_blk_init(&blk, &memory, backing, false, "fuzz") < 0)
        abort();
    blk.serve_by_hand = true;
}

static void publish(uint16_t head)
{
    uint16_t index;
    memcpy(&index, ram + AVAIL_AT + 2, sizeof index);
    memcpy(ram + AVAIL_AT + 4 + 2 * (index % queue_size), &head, sizeof head);
    index++;
    memcpy(ram + AVAIL_AT + 2, &index, sizeof index);
}

static void put_desc(uint16_t index, uint64_t at, uint32_t length, uint16_t flags, uint16_t next)
{
    const struct vring_desc desc = {.addr = at, .len = length, .flags = flags, .next = next};
    memcpy(ram + sizeof desc * (index % 128u), &desc, sizeof desc);
}

/* A request as a correct driver makes it, but for its values. */
static void put_request(struct cursor *in)
{
    const uint32_t type = (uint32_t)cursor_get_le(in, 1);
    const uint64_t sector = cursor_get_le(in, 1);
    const uint32_t length = 16u * (uint32_t)cursor_get_le(in, 2);
    const uint16_t write = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID ? VRING_DESC_F_WRITE : 0;
    const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
    memcpy(ram + DATA_AT, &header, sizeof header);
    put_desc(0, DATA_AT, sizeof header, VRING_DESC_F_NEXT, length ? 1 : 2);
    put_desc(1, DATA_AT + 64, length, VRING_DESC_F_NEXT | write, 2);
    put_desc(2, DATA_AT + 32, 1, VRING_DESC_F_WRITE, 0);
    publish(0);
}

static void serve(void)
{
    const struct virtq *queue = &blk.device.queues[0];
    const uint16_t avail_before = queue->last_avail, used_before = queue->last_used;
    virtio_blk_serve(&blk);
    const uint16_t taken = (uint16_t)(queue->last_avail - avail_before);
    const uint16_t answered = (uint16_t)(queue->last_used - used_before);
    const bool broken = (read32(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
    if (taken != answered && !(broken && taken == (uint16_t)(answered + 1)))
        abort();
}

static void step(struct cursor *in)
{
    uint8_t bytes[8] = {0};
    switch (cursor_get_le(in, 1) % 8) {
    case 0: { /* anything, anywhere */
        const size_t at = (size_t)cursor_get_le(in, 2), length = (size_t)cursor_get_le(in, 1);
        const uint8_t *from = cursor_take(in, length);
        if (from && length <= RAM_BYTES - at)
            memcpy(ram + at, from, length);
        break;
    }
    case 1: {
        const uint16_t index = (uint16_t)cursor_get_le(in, 1);
        const uint64_t at = cursor_get_le(in, 3) * 16;
        const uint32_t length = (uint32_t)cursor_get_le(in, 3);
        const uint16_t flags = (uint16_t)cursor_get_le(in, 1);
        put_desc(index, at, length, flags, (uint16_t)cursor_get_le(in, 1));
        break;
    }
    case 2:
        publish((uint16_t)cursor_get_le(in, 1));
        break;
    case 3:
        serve();
        break;
    case 4: {
        const uint32_t offset = (uint32_t)cursor_get_le(in, 1) * 4u;
        write32(offset, (uint32_t)cursor_get_le(in, 4));
        break;
    }
    case 5:
        put_request(in);
        break;
    case 6:
        bring_up((uint8_t)cursor_get_le(in, 1));
        break;
    default: {
        const uint32_t offset = (uint32_t)cursor_get_le(in, 2) % (VIRTIO_MMIO_WINDOW_BYTES - 8);
        const uint32_t width = 1u << (cursor_get_le(in, 1) % 4);
        virtio_mmio_bus_ops.read(&blk.device, offset, bytes, width);
        virtio_mmio_bus_ops.write(&blk.device, offset, bytes, width);
        break;
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t script[4096];
    if (size > sizeof script)
        return -1;
    if (backing < 0)
        start();
    memcpy(script, data, size);
    memset(ram, 0, sizeof ram);
    if (ftruncate(backing, 0) < 0 || ftruncate(backing, FILE_BYTES + 100) < 0)
        abort();
    struct cursor in = cursor_over(script, size);
    bring_up((uint8_t)cursor_get_le(&in, 1));
    while (cursor_left(&in) > 0)
        step(&in);
    serve();
    return 0;
}
