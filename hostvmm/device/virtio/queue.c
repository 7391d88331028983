/* See queue.h. Memory order: the available index is loaded with acquire before its entries are read; the used
 * index is stored with release after its entry; a full fence separates a published index from the reading of
 * the other side's suppression word, else both sides could fall asleep. */
#include "hostvmm/device/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "hostvmm/snapshot/codec.h"

/* Bytes of the driver and the device area of `size` entries, the event word at the end included. */
static uint64_t avail_bytes(uint16_t size)
{
    return sizeof(struct vring_avail) + 2u * (uint64_t)size + 2u;
}

static uint64_t used_bytes(uint16_t size)
{
    return sizeof(struct vring_used) + sizeof(struct vring_used_elem) * (uint64_t)size + 2u;
}

static struct vring_avail *avail_ring(const struct virtq *queue, const struct guest_memory *memory)
{
    return guest_memory_at(memory, queue->avail, avail_bytes(queue->size));
}

static struct vring_used *used_ring(const struct virtq *queue, const struct guest_memory *memory)
{
    return guest_memory_at(memory, queue->used, used_bytes(queue->size));
}

int virtq_validate(const struct virtq *queue, const struct guest_memory *memory)
{
    if (queue->size == 0 || queue->size > queue->size_max || queue->size > VIRTQ_SIZE_MAX ||
        (queue->size & (queue->size - 1)) != 0)
        return -EINVAL;
    if (queue->desc.value % VRING_DESC_ALIGN_SIZE != 0 || queue->avail.value % VRING_AVAIL_ALIGN_SIZE != 0 ||
        queue->used.value % VRING_USED_ALIGN_SIZE != 0)
        return -EADDRNOTAVAIL;
    if (!guest_memory_at(memory, queue->desc, sizeof(struct vring_desc) * (uint64_t)queue->size) ||
        !avail_ring(queue, memory) || !used_ring(queue, memory))
        return -EFAULT;
    return 0;
}

const char *virtq_error_text(int error)
{
    switch (error) {
    case -EINVAL:
        return "a queue's size is not a power of two within its maximum";
    case -EADDRNOTAVAIL:
        return "a ring's address is not aligned";
    case -EFAULT:
        return "a ring or a buffer lies outside RAM";
    case -EOVERFLOW:
        return "the available index is further ahead than the queue is long";
    case -EBADSLT:
        return "a descriptor index is beyond its table";
    case -ELOOP:
        return "a descriptor chain is longer than its queue: a loop";
    case -EPROTO:
        return "a descriptor's flags contradict each other or what was negotiated";
    case -ENODATA:
        return "a descriptor has length zero";
    case -E2BIG:
        return "a descriptor chain is 4 GiB or larger";
    default:
        return "a ring is broken";
    }
}

/* Append one buffer to the chain. */
static int chain_add(struct virtq_chain *chain, const struct virtq *queue, const struct guest_memory *memory,
                     const struct vring_desc *desc)
{
    const unsigned count = (unsigned)chain->readable_count + chain->writable_count;
    const bool writable = (desc->flags & VRING_DESC_F_WRITE) != 0;
    if (count >= queue->size)
        return -ELOOP;
    if (!writable && chain->writable_count > 0)
        return -EPROTO; /* readable ones come first */
    if (desc->len == 0)
        return -ENODATA;
    uint64_t *total = writable ? &chain->writable_bytes : &chain->readable_bytes;
    if (*total + desc->len > UINT32_MAX)
        return -E2BIG;
    void *host = guest_memory_at(memory, gpa_of(desc->addr), desc->len);
    if (!host)
        return -EFAULT;
    chain->segments[count] = (struct iovec){.iov_base = host, .iov_len = desc->len};
    *total += desc->len;
    if (writable)
        chain->writable_count++;
    else
        chain->readable_count++;
    return 0;
}

/* Follow a chain through the queue's table and, at most once, into an indirect table. Each step but that one
 * appends a buffer, so chain_add's bound ends a loop. */
static int chain_walk(struct virtq_chain *chain, const struct virtq *queue, const struct guest_memory *memory)
{
    struct gpa table = queue->desc;
    uint32_t table_count = queue->size;
    uint32_t index = chain->head;
    bool in_indirect = false;
    for (;;) {
        struct vring_desc desc;
        if (index >= table_count)
            return -EBADSLT;
        if (guest_memory_read(memory, gpa_of(table.value + sizeof desc * index), &desc, sizeof desc) < 0)
            return -EFAULT;
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            if (!queue->indirect || in_indirect || (desc.flags & VRING_DESC_F_NEXT))
                return -EPROTO;
            if (desc.len == 0)
                return -ENODATA;
            if (desc.len % sizeof desc != 0)
                return -EPROTO;
            if (!guest_memory_at(memory, gpa_of(desc.addr), desc.len))
                return -EFAULT;
            table = gpa_of(desc.addr);
            table_count = desc.len / (uint32_t)sizeof desc;
            index = 0;
            in_indirect = true;
            continue;
        }
        int error = chain_add(chain, queue, memory, &desc);
        if (error)
            return error;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        index = desc.next;
    }
}

int virtq_pop(struct virtq *queue, const struct guest_memory *memory, struct virtq_chain *chain)
{
    if (!queue->ready)
        return 0;
    const struct vring_avail *avail = avail_ring(queue, memory);
    if (!avail)
        return -EFAULT;
    const uint16_t index = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
    const uint16_t waiting = (uint16_t)(index - queue->last_avail);
    if (waiting == 0)
        return 0;
    if (waiting > queue->size)
        return -EOVERFLOW;
    if (waiting > queue->deepest)
        __atomic_store_n(&queue->deepest, waiting, __ATOMIC_RELAXED);
    chain->head = __atomic_load_n(&avail->ring[queue->last_avail & (queue->size - 1)], __ATOMIC_RELAXED);
    chain->readable_count = 0;
    chain->writable_count = 0;
    chain->readable_bytes = 0;
    chain->writable_bytes = 0;
    int error = chain_walk(chain, queue, memory);
    if (error)
        return error;
    /* Written to by whatever means until it is pushed: count it as written now. */
    for (unsigned i = 0; i < chain->writable_count; i++) {
        const struct iovec *segment = &chain->segments[chain->readable_count + i];
        guest_memory_dirtied(memory, segment->iov_base, segment->iov_len);
    }
    queue->last_avail++;
    return 1;
}

void virtq_unpop(struct virtq *queue)
{
    queue->last_avail--;
}

int virtq_push_all(struct virtq *queue, const struct guest_memory *memory, const struct virtq_used *chains,
                   unsigned count)
{
    struct vring_used *used = used_ring(queue, memory);
    if (!used)
        return -EFAULT;
    for (unsigned i = 0; i < count; i++) {
        struct vring_used_elem *element = &used->ring[queue->last_used & (queue->size - 1)];
        element->id = chains[i].head;
        element->len = chains[i].written;
        queue->last_used++;
        guest_memory_dirtied(memory, element, sizeof *element);
    }
    __atomic_store_n(&used->idx, queue->last_used, __ATOMIC_RELEASE);
    guest_memory_dirtied(memory, used, sizeof *used);
    return 0;
}

int virtq_push(struct virtq *queue, const struct guest_memory *memory, uint16_t head, uint32_t written)
{
    const struct virtq_used chain = {.head = head, .written = written};
    return virtq_push_all(queue, memory, &chain, 1);
}

bool virtq_should_signal(struct virtq *queue, const struct guest_memory *memory)
{
    const uint16_t before = queue->signalled_used;
    queue->signalled_used = queue->last_used;
    if (!queue->ready || before == queue->last_used)
        return false;
    const struct vring_avail *avail = avail_ring(queue, memory);
    if (!avail)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!queue->event_idx)
        return !(__atomic_load_n(&avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
    const uint16_t event = __atomic_load_n(&avail->ring[queue->size], __ATOMIC_RELAXED);
    return vring_need_event(event, queue->last_used, before);
}

/* The device area's word after its entries: the available index at which the driver shall notify. */
static uint16_t *avail_event(struct vring_used *used, uint16_t size)
{
    return (uint16_t *)(void *)&used->ring[size];
}

void virtq_notify_disable(struct virtq *queue, const struct guest_memory *memory)
{
    /* With the event index a stale one does: the driver notifies only when it crosses it. */
    if (queue->event_idx || !queue->ready)
        return;
    struct vring_used *used = used_ring(queue, memory);
    if (!used)
        return;
    __atomic_store_n(&used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
    guest_memory_dirtied(memory, used, sizeof *used);
}

/* Ask for a notification when the available index moves beyond `index`. Whether it has. */
static bool notify_beyond(const struct virtq *queue, const struct guest_memory *memory, uint16_t index)
{
    struct vring_used *used = queue->ready ? used_ring(queue, memory) : NULL;
    const struct vring_avail *avail = queue->ready ? avail_ring(queue, memory) : NULL;
    if (!used || !avail)
        return false;
    uint16_t *event = queue->event_idx ? avail_event(used, queue->size) : &used->flags;
    __atomic_store_n(event, queue->event_idx ? index : 0, __ATOMIC_RELAXED);
    guest_memory_dirtied(memory, event, sizeof *event);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&avail->idx, __ATOMIC_RELAXED) != index;
}

bool virtq_notify_enable(struct virtq *queue, const struct guest_memory *memory)
{
    return notify_beyond(queue, memory, queue->last_avail);
}

int virtq_offered(const struct virtq *queue, const struct guest_memory *memory, uint16_t head)
{
    const struct vring_avail *avail = queue->ready ? avail_ring(queue, memory) : NULL;
    uint16_t seen = queue->last_avail;
    if (!avail)
        return 0;
    do {
        const uint16_t index = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
        const uint16_t waiting = (uint16_t)(index - queue->last_avail);
        if (waiting > queue->size || waiting < (uint16_t)(seen - queue->last_avail))
            return -EOVERFLOW; /* or it went back */
        for (; seen != index; seen++)
            if (__atomic_load_n(&avail->ring[seen & (queue->size - 1)], __ATOMIC_RELAXED) == head)
                return 1;
    } while (notify_beyond(queue, memory, seen));
    return 0;
}

void virtq_save(const struct virtq *queue, struct state_writer *out)
{
    state_put_map(out, NULL, 8);
    state_put_uint(out, "desc", queue->desc.value);
    state_put_uint(out, "avail", queue->avail.value);
    state_put_uint(out, "used", queue->used.value);
    state_put_uint(out, "size", queue->size);
    state_put_uint(out, "last_avail", queue->last_avail);
    state_put_uint(out, "last_used", queue->last_used);
    state_put_uint(out, "signalled_used", queue->signalled_used);
    state_put_bool(out, "ready", queue->ready);
}

void virtq_load(struct virtq *queue, uint16_t size_max, const struct guest_memory *memory,
                struct state_reader *in)
{
    *queue = (struct virtq){.size_max = size_max};
    state_get_map(in, NULL, 8);
    queue->desc.value = state_get_uint(in, "desc", 0, UINT64_MAX);
    queue->avail.value = state_get_uint(in, "avail", 0, UINT64_MAX);
    queue->used.value = state_get_uint(in, "used", 0, UINT64_MAX);
    queue->size = (uint16_t)state_get_uint(in, "size", 0, UINT16_MAX); /* judged where it is ready */
    queue->last_avail = (uint16_t)state_get_uint(in, "last_avail", 0, UINT16_MAX);
    queue->last_used = (uint16_t)state_get_uint(in, "last_used", 0, UINT16_MAX);
    queue->signalled_used = (uint16_t)state_get_uint(in, "signalled_used", 0, UINT16_MAX);
    queue->ready = state_get_bool(in, "ready");
    const int error = queue->ready ? virtq_validate(queue, memory) : 0;
    if (error)
        state_refuse(in, "ready", "%s", virtq_error_text(error));
    else if (queue->ready && (uint16_t)(queue->last_avail - queue->last_used) > queue->size)
        state_refuse(in, "last_used", "%u, while %u were taken of a queue of %u", queue->last_used,
                     queue->last_avail, queue->size);
    state_end(in);
    if (in->failed)
        *queue = (struct virtq){.size_max = size_max};
}
