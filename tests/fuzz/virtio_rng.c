/*
 * libFuzzer target: the entropy device under a driver that writes what it likes where it likes, served on the
 * main loop as in a VM.
 *
 * What is checked beside memory safety: only the driver's writable buffers and the used ring change; no
 * request stays in the device's hands; a request gets what it asked for, up to the limit; a flood of requests
 * is served in turns, each of which ends.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/rng.h"
#include "tests/fuzz/driver.h"

#define RAM_BYTES  0x10000u
#define GUARD_AT   0xc000u /* no descriptor of a clean run leads there */
#define DATA_AT    0x1000u
#define TURNS_MAX  1000
#define QUEUE_SIZE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct guest_memory memory;
static struct loop loop;
static struct virtio_rng rng;
static bool clean;          /* only correct requests so far */
static uint64_t used_bytes; /* that the requests of this turn are owed */

static void serve(struct cursor *in)
{
    const uint16_t before = rng.device.queues[0].last_used;
    const struct vring_used *used = (const void *)(ram + DRIVER_USED_AT);
    uint64_t given = 0;
    unsigned turns = 0;
    (void)in;
    while (loop_run_once(&loop, 0) > 0)
        if (++turns > TURNS_MAX)
            break; /* the guest's kicks of its own, by a ring over its own rings */
    if (clean && turns > TURNS_MAX)
        abort();
    if (!virtio_device_serving(&rng.device))
        return;
    const struct virtq *queue = &rng.device.queues[0];
    if (queue->last_avail != queue->last_used)
        abort();
    if (!clean)
        return;
    for (uint16_t i = before; i != queue->last_used; i++)
        given += used->ring[i % queue->size].len;
    if (given != used_bytes)
        abort();
    used_bytes = 0;
    for (size_t i = GUARD_AT; i < RAM_BYTES; i++)
        if (ram[i] != 0)
            abort();
}

/* What a correct driver asks for: up to two buffers, nothing else waiting at the same descriptors. */
static void request(struct cursor *in)
{
    const uint32_t sizes[2] = {1 + (uint32_t)cursor_get_le(in, 2) % 0x4000,
                               1 + (uint32_t)cursor_get_le(in, 1)};
    const struct virtq *queue = &rng.device.queues[0];
    if (!clean || !virtio_device_serving(&rng.device) || queue->size < 2)
        return;
    const struct vring_desc desc[2] = {
        {.addr = DATA_AT, .len = sizes[0], .flags = VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, .next = 1},
        {.addr = DATA_AT + 0x4000, .len = sizes[1], .flags = VRING_DESC_F_WRITE},
    };
    driver_put_desc(ram, 0, 0, &desc[0]);
    driver_put_desc(ram, 0, 1, &desc[1]);
    driver_publish(ram, 0, queue->size, 0);
    driver_write(&rng.device, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    used_bytes = (uint64_t)sizes[0] + sizes[1];
    serve(in);
}

static void put_desc(struct cursor *in)
{
    const unsigned index = (unsigned)cursor_get_le(in, 1);
    const struct vring_desc desc = {
        .addr = cursor_get_le(in, 3),
        .len = (uint32_t)cursor_get_le(in, 3),
        .flags = (uint16_t)(cursor_get_le(in, 1) & 7u),
        .next = (uint16_t)cursor_get_le(in, 1),
    };
    driver_put_desc(ram, 0, index, &desc);
    clean = false;
}

static void publish(struct cursor *in)
{
    const uint16_t size = rng.device.queues[0].size;
    const uint16_t head = (uint16_t)cursor_get_le(in, 1);
    if (size > 0 && size <= DRIVER_SIZE_MAX)
        driver_publish(ram, 0, size, head);
    driver_write(&rng.device, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    clean = false;
}

static void put_anything(struct cursor *in)
{
    const size_t at = (size_t)cursor_get_le(in, 2), length = (size_t)cursor_get_le(in, 1) % 64;
    const uint8_t *from = cursor_take(in, length);
    if (from && length <= RAM_BYTES - at)
        memcpy(ram + at, from, length);
    clean = false;
}

static void write_register(struct cursor *in)
{
    const uint32_t offset = (uint32_t)cursor_get_le(in, 1) * 4u;
    driver_write(&rng.device, offset, (uint32_t)cursor_get_le(in, 4));
    clean = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {request,      put_desc,       publish, serve,
                                                     put_anything, write_register, request, publish};
    uint8_t script[1024];
    if (size > sizeof script)
        return -1;
    log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    memcpy(script, data, size);
    memset(ram, 0, sizeof ram);
    guest_memory_over(&memory, ram, sizeof ram);
    if (loop_init(&loop) < 0 || virtio_rng_init(&rng, &memory, &loop) < 0)
        abort();
    struct cursor in = cursor_over(script, size);
    const uint8_t how = (uint8_t)cursor_get_le(&in, 1);
    driver_bring_up(&rng.device, ram, 0, (uint16_t)(1u << how % 5),
                    how & 32u ? UINT64_MAX : ~(1ull << VIRTIO_RING_F_EVENT_IDX));
    clean = true;
    used_bytes = 0;
    while (cursor_left(&in) > 0)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    serve(&in);
    virtio_rng_fini(&rng);
    loop_fini(&loop);
    return 0;
}
