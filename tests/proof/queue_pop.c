/*
 * Taking a chain, hostvmm/device/virtio/queue.c: whatever the driver writes into its rings and descriptors,
 * and changes between any two reads, virtq_pop ends (no loop of descriptors holds it), gives no more segments
 * than the queue is long, every one of them set, and moves on by one chain or not at all.
 *
 * Bounds: queues of 1, 2 and 4 entries, with and without indirect descriptors; each counter's every value. Of
 * guest memory its contract (memory_at.c): as many bytes as were asked for, of any contents, or a refusal.
 *
 * options: -eva-slevel 3000 -eva-domains cvalue -eva-slevel-function guest_memory_at:0
 */
#include "tests/proof/bounds.h"

#include "hostvmm/device/virtio/queue.c"

#define AREA_BYTES 64u

static uint8_t area[AREA_BYTES], buffer[1];
static const struct guest_memory memory;
static unsigned entries; /* of the queue in hand */

void *guest_memory_at(const struct guest_memory *in, struct gpa at, uint64_t size)
{
    (void)in;
    (void)at;
    if (size == 0 || !any_bool())
        return NULL;
    /* A ring, which is looked into, or a buffer, which is not. */
    return size == avail_bytes((uint16_t)entries) ? area + (AREA_BYTES - size) : buffer;
}

int guest_memory_read(const struct guest_memory *in, struct gpa at, void *to, uint64_t size)
{
    (void)in;
    (void)at;
    any_bytes(to, size);
    return any_bool() ? 0 : -EFAULT;
}

void guest_memory_dirtied(const struct guest_memory *in, const void *host, uint64_t size)
{
    (void)in;
    //@ assert \valid_read((const uint8_t *)host) && size >= 1;
}

static void each(unsigned shift, bool indirect)
{
    const uint16_t before = any_u16(0, UINT16_MAX);
    struct virtq_chain chain; /* nothing in it is set */
    entries = 1u << shift;
    struct virtq queue = {.size_max = 256,
                          .size = (uint16_t)entries,
                          .ready = true,
                          .indirect = indirect,
                          .desc = {any_u64(0, UINT64_MAX)},
                          .last_avail = before};
    if (virtq_pop(&queue, &memory, &chain) == 1) {
        //@ assert 1 <= chain.readable_count + chain.writable_count <= entries;
        //@ assert chain.readable_bytes <= 0xffffffff && chain.writable_bytes <= 0xffffffff;
        //@ loop unroll 10;
        for (unsigned i = 0; i < (unsigned)chain.readable_count + chain.writable_count; i++) {
            //@ assert \valid_read((uint8_t *)chain.segments[i].iov_base) && chain.segments[i].iov_len >= 1;
        }
    }
}

int main(void)
{
    for (unsigned shift = 0; shift <= 2; shift++) {
        each(shift, false);
        each(shift, true);
    }
    return 0;
}
