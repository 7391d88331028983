/* See guest.h. */
#include "tests/unit/virtio/guest.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BYTES 4096u

void guest_init(struct guest *guest, uint64_t size_bytes)
{
    /* Touched pages alone cost anything; a page out of reach on either side catches who leaves it. */
    *guest = (struct guest){.size_bytes = size_bytes};
    uint8_t *place = mmap(NULL, size_bytes + 2 * GUARD_BYTES, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED || mprotect(place + GUARD_BYTES, size_bytes, PROT_READ | PROT_WRITE) < 0)
        abort();
    guest->ram = place + GUARD_BYTES;
    guest_memory_over(&guest->memory, guest->ram, size_bytes);
}

void guest_fini(struct guest *guest)
{
    guest_memory_fini(&guest->memory);
    (void)munmap(guest->ram - GUARD_BYTES, guest->size_bytes + 2 * GUARD_BYTES);
}

uint64_t guest_alloc(struct guest *guest, uint64_t size_bytes, uint64_t alignment)
{
    const uint64_t at = (guest->used_bytes + alignment - 1) / alignment * alignment;
    if (at + size_bytes > guest->size_bytes)
        abort();
    guest->used_bytes = at + size_bytes;
    return at;
}

void *guest_at(struct guest *guest, uint64_t at)
{
    return guest->ram + at;
}

uint32_t guest_read32(struct virtio_device *device, uint32_t offset)
{
    uint32_t value;
    virtio_mmio_bus_ops.read(device, offset, &value, sizeof value);
    return value;
}

void guest_write32(struct virtio_device *device, uint32_t offset, uint32_t value)
{
    virtio_mmio_bus_ops.write(device, offset, &value, sizeof value);
}

uint32_t guest_negotiate(struct virtio_device *device, uint64_t features)
{
    features |= 1ull << VIRTIO_F_VERSION_1;
    guest_write32(device, VIRTIO_MMIO_STATUS, 0);
    guest_write32(device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    guest_write32(device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    guest_write32(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    guest_write32(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    guest_write32(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    guest_write32(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    guest_write32(device, VIRTIO_MMIO_STATUS,
                  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
    return guest_read32(device, VIRTIO_MMIO_STATUS);
}

void guest_driver_ok(struct virtio_device *device)
{
    guest_write32(device, VIRTIO_MMIO_STATUS,
                  guest_read32(device, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

struct vring_desc *guest_queue_desc(struct guest_queue *queue, uint16_t index)
{
    return (struct vring_desc *)guest_at(queue->guest, queue->desc) + index;
}

struct vring_avail *guest_queue_avail(struct guest_queue *queue)
{
    return guest_at(queue->guest, queue->avail);
}

struct vring_used *guest_queue_used(struct guest_queue *queue)
{
    return guest_at(queue->guest, queue->used);
}

static void write64(struct virtio_device *device, uint32_t low, uint64_t value)
{
    guest_write32(device, low, (uint32_t)value);
    guest_write32(device, low + 4, (uint32_t)(value >> 32));
}

void guest_queue_init(struct guest_queue *queue, struct guest *guest, struct virtio_device *device,
                      unsigned index, uint16_t size)
{
    *queue = (struct guest_queue){
        .guest = guest,
        .device = device,
        .index = index,
        .size = size,
        .desc = guest_alloc(guest, 16ull * size, 16),
        .avail = guest_alloc(guest, 6 + 2ull * size, 2),
        .used = guest_alloc(guest, 6 + 8ull * size, 4),
        .tables = guest_alloc(guest, 16ull * GUEST_INDIRECT_MAX * size, 16),
        .free_count = size,
        .event_idx = device && (device->driver_features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0,
    };
    for (uint16_t i = 0; i < size; i++)
        guest_queue_desc(queue, i)->next = (uint16_t)(i + 1);
    if (!device)
        return;
    guest_write32(device, VIRTIO_MMIO_QUEUE_SEL, index);
    guest_write32(device, VIRTIO_MMIO_QUEUE_NUM, size);
    write64(device, VIRTIO_MMIO_QUEUE_DESC_LOW, queue->desc);
    write64(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue->avail);
    write64(device, VIRTIO_MMIO_QUEUE_USED_LOW, queue->used);
    guest_write32(device, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void fill_desc(struct vring_desc *desc, const struct guest_buffer *buffer, bool last)
{
    desc->addr = buffer->at;
    desc->len = buffer->size;
    desc->flags = (uint16_t)((buffer->writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
}

uint16_t guest_queue_add(struct guest_queue *queue, const struct guest_buffer *buffers, unsigned count,
                         bool indirect)
{
    const unsigned needed = indirect ? 1 : count;
    if (queue->free_count < needed || count == 0 || (indirect && count > GUEST_INDIRECT_MAX))
        abort();
    const uint16_t head = queue->free_first;
    uint16_t at = head;
    queue->free_count = (uint16_t)(queue->free_count - needed);
    if (indirect) {
        const uint64_t table = queue->tables + 16ull * GUEST_INDIRECT_MAX * head;
        struct vring_desc *entries = guest_at(queue->guest, table);
        for (unsigned i = 0; i < count; i++) {
            fill_desc(&entries[i], &buffers[i], i + 1 == count);
            entries[i].next = (uint16_t)(i + 1);
        }
        struct vring_desc *desc = guest_queue_desc(queue, head);
        desc->addr = table;
        desc->len = 16 * count;
        desc->flags = VRING_DESC_F_INDIRECT;
        at = desc->next;
    } else {
        for (unsigned i = 0; i < count; i++) {
            struct vring_desc *desc = guest_queue_desc(queue, at);
            fill_desc(desc, &buffers[i], i + 1 == count);
            at = desc->next;
        }
    }
    queue->free_first = at;
    guest_queue_publish(queue, head);
    return head;
}

void guest_queue_publish(struct guest_queue *queue, uint16_t head)
{
    struct vring_avail *avail = guest_queue_avail(queue);
    avail->ring[queue->avail_index % queue->size] = head;
    queue->avail_index++;
    __atomic_store_n(&avail->idx, queue->avail_index, __ATOMIC_RELEASE);
}

bool guest_queue_must_kick(struct guest_queue *queue, uint16_t before)
{
    struct vring_used *used = guest_queue_used(queue);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!queue->event_idx)
        return !(__atomic_load_n(&used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
    const uint16_t *event = (const uint16_t *)(const void *)&used->ring[queue->size];
    return vring_need_event(__atomic_load_n(event, __ATOMIC_RELAXED), queue->avail_index, before) != 0;
}

void guest_queue_kick(struct guest_queue *queue)
{
    guest_write32(queue->device, VIRTIO_MMIO_QUEUE_NOTIFY, queue->index);
}

bool guest_queue_take_used(struct guest_queue *queue, uint16_t *head, uint32_t *written)
{
    struct vring_used *used = guest_queue_used(queue);
    if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == queue->used_seen)
        return false;
    const struct vring_used_elem *element = &used->ring[queue->used_seen % queue->size];
    queue->used_seen++;
    *head = (uint16_t)element->id;
    *written = element->len;
    uint16_t last = *head;
    uint16_t count = 1;
    while (guest_queue_desc(queue, last)->flags & VRING_DESC_F_NEXT) {
        last = guest_queue_desc(queue, last)->next;
        count++;
    }
    guest_queue_desc(queue, last)->next = queue->free_first;
    queue->free_first = *head;
    queue->free_count = (uint16_t)(queue->free_count + count);
    return true;
}

void guest_queue_want_interrupt(struct guest_queue *queue)
{
    __atomic_store_n(&guest_queue_avail(queue)->ring[queue->size], queue->used_seen, __ATOMIC_SEQ_CST);
}

bool guest_wait_interrupt(struct virtio_device *device)
{
    struct pollfd wait = {.fd = device->irq.fd, .events = POLLIN};
    return poll(&wait, 1, 10000) == 1 && guest_interrupted(device);
}

bool guest_interrupted(struct virtio_device *device)
{
    uint64_t count;
    return read(device->irq.fd, &count, sizeof count) == (ssize_t)sizeof count;
}
