/*
 * libFuzzer target: the balloon under a driver that writes what it likes where it likes, while the host changes
 * its target, asks for hints and for statistics, saves it and loads it.
 *
 * What is checked beside memory safety: as long as the driver is a correct one, a page it gave is zero and a
 * page it did not name is as it was; no request but the buffer for statistics stays in the device's hands; what
 * the device saves can be loaded, and says the same again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/balloon_parts.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/fuzz/driver.h"

#define RAM_BYTES  (4u << 20) /* a target counts in MiB */
#define PAGE       4096u
#define REQUEST_AT 0x8000u /* behind the rings */
#define FIRST_PAGE 16u     /* pages that a correct driver gives */
#define PAGES      64u
#define GUARD_PAGE (FIRST_PAGE + PAGES) /* and from here on none */
#define GUARDED    16u
#define FILLING    0xa5
#define TURNS_MAX  200u
#define QUEUE_SIZE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct guest_memory memory;
static struct loop loop;
static struct virtio_balloon balloon;
static struct virtio_balloon other;
static struct virtio_balloon_plan plan;
static bool clean; /* only correct requests so far */

static unsigned queue_of(enum virtio_balloon_role role)
{
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++)
        if (balloon.queues[i].role == role)
            return i;
    return VIRTIO_BALLOON_QUEUES;
}

static void serve(struct cursor *in)
{
    unsigned turns = 0;
    (void)in;
    while (loop_run_once(&loop, 0) > 0)
        if (++turns > TURNS_MAX)
            break; /* a request that is larger than RAM, or one that is served again and again */
    if (clean && turns > TURNS_MAX)
        abort();
    if (!virtio_device_serving(&balloon.device) || turns > TURNS_MAX)
        return;
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++) {
        const struct virtq *queue = &balloon.device.queues[i];
        const unsigned held = balloon.queues[i].role == BALLOON_STATS && balloon.stats_held;
        if (queue->ready && (uint16_t)(queue->last_avail - queue->last_used) != held)
            abort();
    }
    for (unsigned i = 0; clean && i < GUARDED * PAGE; i++)
        if (ram[GUARD_PAGE * PAGE + i] != FILLING)
            abort();
}

/* One buffer for a queue, as a correct driver sends it. */
static bool send(unsigned queue, uint64_t at, uint32_t size, bool writable)
{
    if (!clean || !virtio_device_serving(&balloon.device) || queue >= VIRTIO_BALLOON_QUEUES)
        return false;
    const uint32_t place = queue * DRIVER_QUEUE_BYTES;
    const struct vring_desc desc = {.addr = at, .len = size, .flags = writable ? VRING_DESC_F_WRITE : 0};
    driver_put_desc(ram, place, 0, &desc);
    driver_publish(ram, place, balloon.device.queues[queue].size, 0);
    driver_write(&balloon.device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    serve(NULL);
    return clean && virtio_device_serving(&balloon.device);
}

static void expect_zero(uint32_t page)
{
    for (unsigned i = 0; i < PAGE; i++)
        if (ram[page * PAGE + i] != 0)
            abort();
}

static void give(struct cursor *in)
{
    uint32_t numbers[32];
    const unsigned count = 1 + (unsigned)cursor_get_le(in, 1) % 32;
    const bool back = cursor_get_le(in, 1) & 1;
    for (unsigned i = 0; i < count; i++) {
        numbers[i] = FIRST_PAGE + (uint32_t)cursor_get_le(in, 1) % PAGES;
        memset(ram + numbers[i] * PAGE, FILLING, PAGE);
    }
    memcpy(ram + REQUEST_AT, numbers, count * sizeof numbers[0]);
    const bool sent = send(queue_of(back ? BALLOON_DEFLATE : BALLOON_INFLATE), REQUEST_AT,
                           count * (uint32_t)sizeof numbers[0], false);
    for (unsigned i = 0; i < count && sent && !back; i++)
        expect_zero(numbers[i]);
}

static void name_free(struct cursor *in)
{
    const bool hint = cursor_get_le(in, 1) & 1;
    const uint32_t first = FIRST_PAGE + (uint32_t)cursor_get_le(in, 1) % PAGES;
    const uint32_t count = 1 + (uint32_t)cursor_get_le(in, 1) % (GUARD_PAGE - first);
    const bool used = cursor_get_le(in, 1) & 1;
    memset(ram + first * PAGE, used ? FILLING : 0, count * PAGE);
    const bool sent =
        send(queue_of(hint ? BALLOON_HINTS : BALLOON_REPORTS), first * PAGE, count * PAGE, true);
    if (sent && !hint && balloon.poison == 0)
        expect_zero(first + count - 1);
    if (sent && (hint || balloon.poison != 0) && used && ram[first * PAGE] != FILLING)
        abort(); /* it was in use */
}

static void tell(struct cursor *in)
{
    const uint32_t id = cursor_get_le(in, 1) & 1 ? balloon.command : 0;
    memcpy(ram + REQUEST_AT, &id, sizeof id);
    (void)send(queue_of(BALLOON_HINTS), REQUEST_AT, sizeof id, false);
}

static void tell_stats(struct cursor *in)
{
    const uint8_t *from = cursor_take(in, 40);
    if (from && !balloon.stats_held)
        memcpy(ram + REQUEST_AT, from, 40);
    if (from && !balloon.stats_held)
        (void)send(queue_of(BALLOON_STATS), REQUEST_AT, 40, false);
}

/* What the host does. */
static void operate(struct cursor *in)
{
    struct virtio_balloon_view view;
    const uint32_t mib = (uint32_t)cursor_get_le(in, 1) % 8;
    switch (cursor_get_le(in, 1) % 5) {
    case 0:
        if ((virtio_balloon_set_target(&balloon, mib) == 0) != (mib <= RAM_BYTES >> 20))
            abort();
        break;
    case 1:
        (void)virtio_balloon_hint_start(&balloon);
        break;
    case 2:
        (void)virtio_balloon_hint_stop(&balloon);
        break;
    case 3:
        (void)virtio_balloon_set_stats_interval(&balloon, (uint16_t)(600 + mib));
        break;
    default:
        (void)pthread_mutex_lock(&balloon.device.lock);
        balloon_ask_stats(&balloon);
        (void)pthread_mutex_unlock(&balloon.device.lock);
        break;
    }
    virtio_balloon_look(&balloon, &view);
    if (view.target_pages > RAM_BYTES / PAGE)
        abort();
}

static void save_and_load(struct cursor *in)
{
    struct state_writer once, again;
    struct state_reader reader;
    (void)in;
    state_writer_init(&once);
    state_writer_init(&again);
    virtio_balloon_save(&balloon, &once, NULL);
    state_reader_init(&reader, once.data, once.size_bytes);
    if (virtio_balloon_init(&other, &memory, &loop, &plan) < 0)
        abort();
    virtio_balloon_load(&other, &reader, NULL);
    if (clean && reader.failed)
        abort();
    if (!reader.failed) {
        virtio_balloon_save(&other, &again, NULL);
        if (again.size_bytes != once.size_bytes || memcmp(again.data, once.data, once.size_bytes) != 0)
            abort();
    }
    virtio_balloon_fini(&other);
    state_writer_fini(&once);
    state_writer_fini(&again);
}

static void put_desc(struct cursor *in)
{
    const uint32_t place = (uint32_t)cursor_get_le(in, 1) % VIRTIO_BALLOON_QUEUES * DRIVER_QUEUE_BYTES;
    const unsigned index = (unsigned)cursor_get_le(in, 1);
    const struct vring_desc desc = {
        .addr = cursor_get_le(in, 3),
        .len = (uint32_t)cursor_get_le(in, 3),
        .flags = (uint16_t)(cursor_get_le(in, 1) & 7u),
        .next = (uint16_t)cursor_get_le(in, 1),
    };
    driver_put_desc(ram, place, index, &desc);
    clean = false;
}

static void publish(struct cursor *in)
{
    const unsigned queue = (unsigned)cursor_get_le(in, 1) % VIRTIO_BALLOON_QUEUES;
    const uint16_t size = balloon.device.queues[queue].size;
    const uint16_t head = (uint16_t)cursor_get_le(in, 1);
    if (size > 0 && size <= DRIVER_SIZE_MAX)
        driver_publish(ram, queue * DRIVER_QUEUE_BYTES, size, head);
    driver_write(&balloon.device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    clean = false;
}

static void put_anything(struct cursor *in)
{
    const size_t at = (size_t)cursor_get_le(in, 2), length = (size_t)cursor_get_le(in, 1) % 64;
    const uint8_t *from = cursor_take(in, length);
    if (from)
        memcpy(ram + at, from, length);
    clean = false;
}

static void write_register(struct cursor *in)
{
    const uint32_t offset = (uint32_t)cursor_get_le(in, 1) * 4u;
    driver_write(&balloon.device, offset, (uint32_t)cursor_get_le(in, 4));
    if (offset < VIRTIO_MMIO_CONFIG)
        clean = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {give,         name_free,     tell,     tell_stats,
                                                     operate,      publish,       put_desc, save_and_load,
                                                     put_anything, write_register};
    uint8_t script[1024];
    if (size > sizeof script)
        return -1;
    log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    memcpy(script, data, size);
    memset(ram, 0, REQUEST_AT + 0x8000);
    memset(ram + GUARD_PAGE * PAGE, FILLING, GUARDED * PAGE);
    guest_memory_over(&memory, ram, sizeof ram);
    struct cursor in = cursor_over(script, size);
    const uint8_t offered = (uint8_t)cursor_get_le(&in, 1);
    const uint8_t taken = (uint8_t)cursor_get_le(&in, 1);
    plan = (struct virtio_balloon_plan){.on = true,
                                        .target_mib = offered & 3,
                                        .deflate_on_oom = offered & 4,
                                        .free_page_reporting = offered & 8,
                                        .free_page_hinting = offered & 16,
                                        .stats_s = offered & 32 ? 600 : 0};
    if (loop_init(&loop) < 0 || virtio_balloon_init(&balloon, &memory, &loop, &plan) < 0)
        abort();
    driver_bring_up(&balloon.device, ram, 0, (uint16_t)(1u << taken % 5),
                    taken & 128u ? UINT64_MAX : ~(uint64_t)(taken & 0x7e));
    clean = true;
    while (cursor_left(&in) > 0)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    serve(&in);
    virtio_balloon_fini(&balloon);
    loop_fini(&loop);
    return 0;
}
