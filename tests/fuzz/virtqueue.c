/*
 * libFuzzer target: the split virtqueue by itself, at any place in the guest's memory, under a driver that
 * writes what it likes. The input is a place for the rings and a script of small steps.
 *
 * What is checked beside memory safety: a chain lies in the guest's memory, and its sums are those of its
 * segments, below 2^32; what failed left the queue as it was; taking and giving back move one counter by one;
 * the driver sees the used index move by what was pushed, all at once; a notification is asked for when
 * nothing waits.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include "agent/base/cursor.h"
#include "hostvmm/device/virtio/queue.h"

#define RAM_BYTES  0x8000u
#define TAKEN_MAX  4
#define BATCH_MAX  3
#define CHAIN_STEP 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct guest_memory memory;
static struct virtq queue;
static struct virtq_chain chain;
static uint16_t taken[TAKEN_MAX]; /* heads, not yet pushed */
static unsigned taken_count;

static void check_chain(void)
{
    uint64_t sums[2] = {0, 0};
    if (chain.readable_count + chain.writable_count == 0 ||
        (unsigned)chain.readable_count + chain.writable_count > VIRTQ_SIZE_MAX || chain.head >= queue.size)
        abort();
    for (unsigned i = 0; i < (unsigned)chain.readable_count + chain.writable_count; i++) {
        const uintptr_t at = (uintptr_t)chain.segments[i].iov_base, start = (uintptr_t)ram;
        if (at < start || at - start > RAM_BYTES || chain.segments[i].iov_len > RAM_BYTES - (at - start))
            abort();
        sums[i >= chain.readable_count] += chain.segments[i].iov_len;
    }
    if (sums[0] != chain.readable_bytes || sums[1] != chain.writable_bytes || sums[0] + sums[1] > UINT32_MAX)
        abort();
}

/* Read, cut and write it as devices do. */
static void use_chain(struct cursor *in)
{
    struct iovec list[VIRTQ_SIZE_MAX];
    uint8_t bytes[64];
    const uint64_t offset = cursor_get_le(in, 2), size = cursor_get_le(in, 2);
    const uint64_t before = chain.readable_bytes;
    const size_t want = size % sizeof bytes;
    const size_t got = virtq_chain_read(&chain, bytes, want);
    if (got > want || (got < want && got != before) || chain.readable_bytes != before - got)
        abort();
    for (unsigned part = 0; part < 2; part++) {
        const uint64_t whole = part ? chain.writable_bytes : chain.readable_bytes;
        const unsigned count = part ? virtq_chain_writable(&chain, offset, size, list)
                                    : virtq_chain_readable(&chain, offset, size, list);
        uint64_t sum = 0;
        for (unsigned i = 0; i < count; i++)
            sum += list[i].iov_len;
        const uint64_t there = offset < whole ? whole - offset : 0;
        if (sum != (there < size ? there : size))
            abort();
    }
    const uint64_t room = offset < chain.writable_bytes ? chain.writable_bytes - offset : 0;
    if (virtq_chain_write(&chain, offset, bytes, want) != (room < want ? room : want))
        abort();
}

static void pop(struct cursor *in)
{
    struct virtq before = queue;
    const int result = virtq_pop(&queue, &memory, &chain);
    before.deepest = queue.deepest; /* a count for people */
    if (result != 1 && memcmp(&before, &queue, sizeof before) != 0)
        abort();
    if (result < 0 && !virtq_error_text(result)[0])
        abort();
    if (result != 1)
        return;
    if (queue.last_avail != (uint16_t)(before.last_avail + 1))
        abort();
    check_chain();
    if (taken_count == TAKEN_MAX) {
        virtq_unpop(&queue);
        if (queue.last_avail != before.last_avail)
            abort();
        return;
    }
    taken[taken_count++] = chain.head;
    use_chain(in);
}

static uint16_t used_index(void)
{
    struct vring_used used;
    if (guest_memory_read(&memory, queue.used, &used, sizeof used) < 0)
        abort();
    return used.idx;
}

static void push(struct cursor *in)
{
    struct virtq_used chains[BATCH_MAX];
    unsigned count = 0;
    const uint16_t before = queue.last_used;
    const unsigned batch = (unsigned)cursor_get_le(in, 1) % (BATCH_MAX + 1);
    while (count < batch && taken_count > 0)
        chains[count++] = (struct virtq_used){taken[--taken_count], (uint32_t)cursor_get_le(in, 4)};
    if (!queue.ready || count == 0)
        return;
    const int error = virtq_push_all(&queue, &memory, chains, count);
    if (error || queue.last_used != (uint16_t)(before + count) || used_index() != queue.last_used)
        abort();
}

static void notify(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    if (!queue.ready)
        return;
    (void)virtq_should_signal(&queue, &memory);
    if (how & 1u)
        virtq_notify_disable(&queue, &memory);
    const bool more = virtq_notify_enable(&queue, &memory);
    struct vring_avail avail;
    if (guest_memory_read(&memory, queue.avail, &avail, sizeof avail) < 0)
        abort();
    if (more != (avail.idx != queue.last_avail)) /* even where the rings lie over each other */
        abort();
    (void)virtq_offered(&queue, &memory, (uint16_t)(how >> 1));
}

static void place(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    queue = (struct virtq){
        .desc = gpa_of(cursor_get_le(in, 2)),
        .avail = gpa_of(cursor_get_le(in, 2)),
        .used = gpa_of(cursor_get_le(in, 2)),
        .size_max = VIRTQ_SIZE_MAX,
        .size = (uint16_t)(how & 0x80 ? cursor_get_le(in, 2) : 1u << (how & 7u)),
        .last_avail = (uint16_t)(how & 0x40 ? 0xfffe : 0),
        .event_idx = (how & 8u) != 0,
        .indirect = (how & 16u) != 0,
    };
    queue.last_used = queue.signalled_used = queue.last_avail;
    taken_count = 0;
    queue.ready = virtq_validate(&queue, &memory) == 0;
}

/* A descriptor where the queue, or a table within reach of it, has one. */
static void put_desc(struct cursor *in)
{
    const uint64_t at = queue.desc.value + CHAIN_STEP * cursor_get_le(in, 1);
    const struct vring_desc desc = {
        .addr = cursor_get_le(in, 2),
        .len = (uint32_t)cursor_get_le(in, 2),
        .flags = (uint16_t)(cursor_get_le(in, 1) & 7u),
        .next = (uint16_t)cursor_get_le(in, 1),
    };
    (void)guest_memory_write(&memory, gpa_of(at), &desc, sizeof desc);
}

static void publish(struct cursor *in)
{
    const uint16_t head = (uint16_t)cursor_get_le(in, 1);
    struct vring_avail avail;
    if (!queue.ready || guest_memory_read(&memory, queue.avail, &avail, sizeof avail) < 0)
        return;
    const uint64_t at = queue.avail.value + sizeof avail + 2u * (avail.idx % queue.size);
    (void)guest_memory_write(&memory, gpa_of(at), &head, sizeof head);
    avail.idx++;
    (void)guest_memory_write(&memory, queue.avail, &avail, sizeof avail);
}

static void put_anything(struct cursor *in)
{
    const size_t at = (size_t)cursor_get_le(in, 2), length = (size_t)cursor_get_le(in, 1) % 64;
    const uint8_t *from = cursor_take(in, length);
    if (from && at < RAM_BYTES && length <= RAM_BYTES - at)
        memcpy(ram + at, from, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t script[2048];
    static void (*const steps[])(struct cursor *) = {put_anything, put_desc, publish,  pop,
                                                     push,         notify,   put_desc, place};
    if (size > sizeof script)
        return -1;
    memcpy(script, data, size);
    memset(ram, 0, sizeof ram);
    guest_memory_over(&memory, ram, sizeof ram);
    struct cursor in = cursor_over(script, size);
    place(&in);
    while (cursor_left(&in) > 0)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    return 0;
}
