/*
 * The rings of a virtqueue, hostvmm/device/virtio/queue.c: virtq_validate takes no size but 1..256;
 * publishing chains, asking whether to signal, suppressing and asking for notifications, and looking a head
 * up touch no byte outside the two rings, for every value of the device's own counters (so where they wrap as
 * well) and every value that the driver writes into the rings at any moment.
 *
 * Bounds: queues of each size 1, 2, 4 ... 256; three chains published at once. Of guest memory its contract:
 * an area of the size that was asked for, or NULL (memory_at.c proves it); here the area ends where its array
 * does, so that one byte more is outside.
 *
 * options: -eva-slevel 60
 */
#include "tests/proof/bounds.h"

#include "hostvmm/device/virtio/queue.c"

#define AREA_BYTES 8192u

static uint8_t area[AREA_BYTES];
static const struct guest_memory memory;

void *guest_memory_at(const struct guest_memory *in, struct gpa at, uint64_t size)
{
    (void)in;
    (void)at;
    return size > 0 && size <= AREA_BYTES && any_bool() ? area + (AREA_BYTES - size) : NULL;
}

void guest_memory_dirtied(const struct guest_memory *in, const void *host, uint64_t size)
{
    (void)in;
    //@ assert \valid_read((const uint8_t *)host + (0 .. size - 1));
}

static struct virtq any_queue(void)
{
    const struct virtq queue = {.desc = {any_u64(0, UINT64_MAX)},
                                .avail = {any_u64(0, UINT64_MAX)},
                                .used = {any_u64(0, UINT64_MAX)},
                                .size_max = any_u16(0, UINT16_MAX),
                                .size = any_u16(0, UINT16_MAX),
                                .last_avail = any_u16(0, UINT16_MAX),
                                .last_used = any_u16(0, UINT16_MAX),
                                .signalled_used = any_u16(0, UINT16_MAX),
                                .ready = any_bool(),
                                .event_idx = any_bool()};
    return queue;
}

static void validate(void)
{
    const struct virtq queue = any_queue();
    if (virtq_validate(&queue, &memory) == 0) {
        //@ assert 1 <= queue.size <= VIRTQ_SIZE_MAX;
    }
}

static void each(unsigned shift)
{
    struct virtq_used chains[3];
    struct virtq queue = any_queue();
    queue.size = (uint16_t)(1u << shift);
    any_bytes(area, sizeof area);
    any_bytes(chains, sizeof chains);
    (void)virtq_push_all(&queue, &memory, chains, any_u32(0, 3));
    (void)virtq_should_signal(&queue, &memory);
    virtq_notify_disable(&queue, &memory);
    (void)virtq_notify_enable(&queue, &memory);
    (void)virtq_offered(&queue, &memory, any_u16(0, UINT16_MAX));
}

int main(void)
{
    validate();
    for (unsigned shift = 0; shift <= 8; shift++)
        each(shift);
    return 0;
}
