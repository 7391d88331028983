/*
 * The balloon's queues: see balloon.h.
 *
 *   inflate, deflate   readable: page numbers, 4 bytes each
 *   statistics         readable: one buffer, kept until the next are wanted
 *   hints              readable: the id of the command that what follows is for, or that there is no more;
 *                      writable: pages that are free
 *   reports            writable: pages that are free, and stay so until the buffers are used
 *
 * A turn of the main loop does a bounded amount of work. A request that is larger is put back, with a note of
 * how far it is done, and taken again in the next turn. The guest may change it meanwhile: then it gives other
 * pages, which it may.
 *
 * Hints are noted here and looked at in turns of their own, while processors and devices stand still.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/balloon_parts.h"

#define TURN_MAX_CHAINS 64u
#define TURN_MAX_PAGES  1024u       /* by number */
#define TURN_MAX_BYTES  (64u << 20) /* reported */
#define HOLD_MAX_BYTES  (16u << 20) /* looked at while the guest stands still */
#define STATS_MAX       64u         /* entries looked at: Linux has 16 by now */
#define COST_MIN_BYTES  (64u << 10) /* of a buffer, however small: it costs a system call */

struct stat_entry {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));
_Static_assert(sizeof(struct stat_entry) == sizeof(struct virtio_balloon_stat), "as the driver lays it out");

/* What became of a request. */
enum outcome { USED, KEPT, UNFINISHED, NO_ROOM, BROKEN };

/* What a turn may still do. */
struct budget {
    uint32_t chains;
    uint32_t pages;
    uint64_t bytes;
};

static struct gpa page_at(uint64_t number)
{
    return gpa_of(number << VIRTIO_BALLOON_PFN_SHIFT);
}

static void give_back(struct virtio_balloon *balloon, struct gpa at, uint64_t size)
{
    if (guest_memory_discard(balloon->memory, at, size) == 0)
        balloon->counts.discarded_bytes += size;
    else
        balloon->counts.discard_failures++;
}

/* ---- page numbers ---- */

static int by_number(const void *one, const void *other)
{
    const uint32_t a = *(const uint32_t *)one;
    const uint32_t b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

/* Pages that lie beside each other go together. Numbers outside RAM are passed over, as the specification lets
 * a device do with what it cannot use. */
static void inflate(struct virtio_balloon *balloon, uint32_t *numbers, unsigned count)
{
    qsort(numbers, count, sizeof numbers[0], by_number);
    for (unsigned i = 0; i < count;) {
        uint64_t pages = 1;
        unsigned next = i + 1;
        for (; next < count && numbers[next] - (uint64_t)numbers[i] <= pages; next++) {
            const uint64_t wider = numbers[next] - (uint64_t)numbers[i] + 1; /* as before: it came twice */
            if (!guest_memory_at(balloon->memory, page_at(numbers[i]), wider * GUEST_PAGE_BYTES))
                break;
            pages = wider;
        }
        give_back(balloon, page_at(numbers[i]), pages * GUEST_PAGE_BYTES);
        guest_memory_given(balloon->memory, page_at(numbers[i]), pages * GUEST_PAGE_BYTES, true);
        i = next;
    }
}

static void deflate(struct virtio_balloon *balloon, const uint32_t *numbers, unsigned count)
{
    for (unsigned i = 0; i < count && balloon->memory->huge; i++)
        guest_memory_given(balloon->memory, page_at(numbers[i]), GUEST_PAGE_BYTES, false);
}

static enum outcome serve_numbers(struct virtio_balloon_queue *queue, struct virtq_chain *chain,
                                  struct budget *budget)
{
    struct virtio_balloon *balloon = queue->balloon;
    uint32_t numbers[TURN_MAX_PAGES];
    struct iovec rest[VIRTQ_SIZE_MAX];
    if (chain->writable_count > 0 || chain->readable_bytes % sizeof numbers[0])
        return BROKEN;
    if (budget->pages == 0)
        return UNFINISHED;
    /* From where the last turn stopped. */
    chain->readable_count = (uint16_t)virtq_chain_readable(chain, queue->done_bytes, UINT32_MAX, rest);
    memcpy(chain->segments, rest, chain->readable_count * sizeof rest[0]);
    const size_t size = virtq_chain_read(chain, numbers, budget->pages * sizeof numbers[0]);
    const unsigned count = (unsigned)(size / sizeof numbers[0]);
    budget->pages -= count;
    if (queue->role == BALLOON_INFLATE) {
        balloon->counts.inflated_pages += count;
        inflate(balloon, numbers, count);
    } else {
        balloon->counts.deflated_pages += count;
        deflate(balloon, numbers, count);
    }
    queue->done_bytes += size;
    return budget->pages > 0 ? USED : UNFINISHED; /* used up, there may be more of it: look once again */
}

/* ---- free pages ---- */

/* The whole pages of a buffer, from `skip` bytes on and at most `size`. Whether there are any. */
static bool whole_pages(const struct virtio_balloon *balloon, const struct iovec *buffer,
                        struct virtio_balloon_range *range)
{
    const uint64_t mask = GUEST_PAGE_BYTES - 1;
    const struct gpa at = guest_memory_where(balloon->memory, buffer->iov_base);
    const uint64_t first = (at.value + mask) & ~mask;
    const uint64_t end = (at.value + buffer->iov_len) & ~mask;
    *range = (struct virtio_balloon_range){.at = gpa_of(first), .size_bytes = end > first ? end - first : 0};
    return end > first;
}

static enum outcome serve_report(struct virtio_balloon_queue *queue, const struct virtq_chain *chain,
                                 struct budget *budget)
{
    struct virtio_balloon *balloon = queue->balloon;
    struct iovec list[VIRTQ_SIZE_MAX];
    if (chain->readable_count > 0)
        return BROKEN;
    /* Each is done in steps of a page's multiple, else a page between two steps would be left. */
    const unsigned count = virtq_chain_writable(chain, queue->done_bytes, UINT32_MAX, list);
    for (unsigned i = 0; i < count; i++) {
        struct virtio_balloon_range range;
        if (budget->bytes < COST_MIN_BYTES)
            return UNFINISHED;
        if (list[i].iov_len > budget->bytes) {
            const uint64_t beyond = ((uintptr_t)list[i].iov_base + budget->bytes) % GUEST_PAGE_BYTES;
            list[i].iov_len = budget->bytes - beyond;
        }
        if (whole_pages(balloon, &list[i], &range)) {
            balloon->counts.reported_pages += range.size_bytes / GUEST_PAGE_BYTES;
            if (__atomic_load_n(&balloon->poison, __ATOMIC_ACQUIRE) == 0)
                give_back(balloon, range.at, range.size_bytes);
        }
        const uint64_t cost = list[i].iov_len > COST_MIN_BYTES ? list[i].iov_len : COST_MIN_BYTES;
        budget->bytes -= cost < budget->bytes ? cost : budget->bytes;
        queue->done_bytes += list[i].iov_len;
    }
    return queue->done_bytes < chain->writable_bytes ? UNFINISHED : USED;
}

static enum outcome serve_command(struct virtio_balloon *balloon, struct virtq_chain *chain)
{
    uint32_t id;
    if (chain->writable_count > 0 || virtq_chain_read(chain, &id, sizeof id) != sizeof id)
        return BROKEN;
    const uint32_t wanted = __atomic_load_n(&balloon->command, __ATOMIC_ACQUIRE);
    if (id == VIRTIO_BALLOON_CMD_ID_STOP && balloon->hints_for == wanted)
        balloon->hints_named = true;
    balloon->hints_for = id;
    return USED;
}

static bool note_hint(struct virtio_balloon *balloon, const struct virtio_balloon_range *range)
{
    if (balloon->hint_count == VIRTIO_BALLOON_HINTS_MAX)
        return false;
    struct virtio_balloon_range *last = balloon->hint_count ? &balloon->hints[balloon->hint_count - 1] : NULL;
    balloon->counts.hinted_pages += range->size_bytes / GUEST_PAGE_BYTES;
    /* Within one region: the pages of RAM are not adjacent across the hole, so neither are their addresses. */
    if (last && last->at.value + last->size_bytes == range->at.value) {
        last->size_bytes += range->size_bytes;
    } else if (last && range->at.value + range->size_bytes == last->at.value) {
        last->at = range->at;
        last->size_bytes += range->size_bytes;
    } else {
        balloon->hints[balloon->hint_count++] = *range;
    }
    return true;
}

static enum outcome serve_hint(struct virtio_balloon_queue *queue, struct virtq_chain *chain)
{
    struct virtio_balloon *balloon = queue->balloon;
    struct iovec list[VIRTQ_SIZE_MAX];
    if (chain->readable_count > 0)
        return serve_command(balloon, chain);
    const bool wanted = balloon->hinting == BALLOON_HINTING_RUNS &&
                        balloon->hints_for == __atomic_load_n(&balloon->command, __ATOMIC_ACQUIRE);
    const unsigned count = virtq_chain_writable(chain, queue->done_bytes, UINT32_MAX, list);
    for (unsigned i = 0; i < count && wanted; i++) {
        struct virtio_balloon_range range;
        if (whole_pages(balloon, &list[i], &range) && !note_hint(balloon, &range))
            return NO_ROOM;
        queue->done_bytes += list[i].iov_len;
    }
    return USED;
}

/* ---- statistics ---- */

static void note_stats(struct virtio_balloon *balloon, struct virtq_chain *chain)
{
    struct virtio_balloon_stats stats = {.has = 0};
    struct stat_entry entry;
    for (unsigned i = 0; i < STATS_MAX && virtq_chain_read(chain, &entry, sizeof entry) == sizeof entry; i++)
        if (entry.tag < VIRTIO_BALLOON_S_NR) { /* this host's headers may know fewer than the guest */
            stats.has |= UINT64_C(1) << entry.tag;
            stats.value[entry.tag] = entry.value;
        }
    balloon->stats = stats;
}

void balloon_ask_stats(struct virtio_balloon *balloon)
{
    struct virtio_device *device = &balloon->device;
    if (!virtio_device_serving(device) || !balloon->stats_held)
        return;
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++)
        if (balloon->queues[i].role == BALLOON_STATS) {
            balloon->stats_held = false;
            (void)virtq_push(&device->queues[i], device->memory, balloon->stats_head, 0);
            virtio_device_signal(device, &device->queues[i]);
        }
}

/* The buffer is kept: giving it back asks for the next. A driver has one; one that sends two gets the first
 * one back. */
static enum outcome serve_stats(struct virtio_balloon *balloon, struct virtq_chain *chain)
{
    if (chain->writable_count > 0)
        return BROKEN;
    balloon_ask_stats(balloon);
    note_stats(balloon, chain);
    balloon->stats_head = chain->head;
    balloon->stats_held = true;
    return KEPT;
}

/* ---- turns ---- */

static enum outcome serve_chain(struct virtio_balloon_queue *queue, struct virtq_chain *chain,
                                struct budget *budget)
{
    switch (queue->role) {
    case BALLOON_INFLATE:
    case BALLOON_DEFLATE:
        return serve_numbers(queue, chain, budget);
    case BALLOON_STATS:
        return serve_stats(queue->balloon, chain);
    case BALLOON_HINTS:
        return serve_hint(queue, chain);
    case BALLOON_REPORTS:
        return serve_report(queue, chain, budget);
    case BALLOON_NONE:
        break;
    }
    return BROKEN;
}

/* Serve a turn's worth. Whether more may wait. */
static bool serve_turn(struct virtio_balloon_queue *queue)
{
    struct virtio_device *device = &queue->balloon->device;
    struct virtq *ring = &device->queues[queue->index];
    struct virtq_chain chain;
    struct budget budget = {.chains = TURN_MAX_CHAINS, .pages = TURN_MAX_PAGES, .bytes = TURN_MAX_BYTES};
    for (; budget.chains > 0; budget.chains--) {
        const int taken = virtq_pop(ring, device->memory, &chain);
        if (taken == 0) {
            if (virtq_notify_enable(ring, device->memory))
                continue;
            return false;
        }
        const enum outcome outcome = taken < 0 ? BROKEN : serve_chain(queue, &chain, &budget);
        if (outcome == BROKEN) {
            virtio_device_broken(device, taken < 0 ? virtq_error_text(taken)
                                                   : "a request whose buffers are not what its queue is for");
            return false;
        }
        if (outcome == UNFINISHED || outcome == NO_ROOM) {
            virtq_unpop(ring);
            return outcome == UNFINISHED; /* room is made by who kicks the queue then */
        }
        queue->done_bytes = 0;
        if (outcome == KEPT)
            continue;
        (void)virtq_push(ring, device->memory, chain.head, 0);
        virtio_device_signal(device, ring);
    }
    return true;
}

/* ---- hints, while the guest stands still: without the lock, which a processor may wait for ---- */

static void look_at_hints(struct virtio_balloon *balloon)
{
    uint64_t left = HOLD_MAX_BYTES;
    while (left > 0 && balloon->hint_count > 0) {
        struct virtio_balloon_range *range = &balloon->hints[balloon->hint_count - 1];
        const uint64_t size = range->size_bytes < left ? range->size_bytes : left;
        const int64_t given = guest_memory_discard_zeros(balloon->memory, range->at, size);
        if (given >= 0)
            balloon->counts.discarded_bytes += (uint64_t)given;
        else
            balloon->counts.discard_failures++;
        left -= size;
        range->at.value += size;
        range->size_bytes -= size;
        if (range->size_bytes == 0)
            balloon->hint_count--;
    }
}

static void hold_and_look(struct virtio_balloon *balloon)
{
    const struct virtio_balloon_hold_ops *ops = balloon->hold_ops;
    const int error = ops ? ops->hold(balloon->hold_context) : 0;
    if (error) {
        log_warn("virtio-balloon: hints are passed over, the guest cannot be held: %s", strerror(-error));
        balloon->hint_count = 0;
        balloon->counts.discard_failures++;
        return;
    }
    look_at_hints(balloon);
    if (ops)
        ops->release(balloon->hold_context);
}

void balloon_on_notify(void *context, uint32_t events)
{
    struct virtio_balloon_queue *queue = context;
    struct virtio_balloon *balloon = queue->balloon;
    (void)events;
    (void)virtio_device_kick_clear(&balloon->device, queue->index);
    const bool looked = balloon->hint_count > 0;
    if (looked)
        hold_and_look(balloon);
    pthread_mutex_lock(&balloon->device.lock);
    if (virtio_device_serving(&balloon->device)) {
        const bool more = queue->role != BALLOON_NONE && serve_turn(queue);
        if (more || (queue->role == BALLOON_HINTS && (looked || balloon->hint_count > 0)))
            virtio_device_kick(&balloon->device, queue->index); /* the rest in a later turn */
        if (balloon->hinting == BALLOON_HINTING_RUNS && balloon->hints_named && balloon->hint_count == 0)
            balloon->hinting = BALLOON_HINTING_DONE;
    }
    pthread_mutex_unlock(&balloon->device.lock);
}
