/*
 * The split virtqueue (virtio 1.2, section 2.7), device side.
 *
 * A struct virtq is plain data: guest addresses and counters, no pointer into the guest, so that it can be
 * saved and loaded as it is. Every access translates the ring's address anew. The guest writes the rings at
 * any time from any vCPU: each value is fetched once into a local and validated there; what cannot be valid
 * gives a negative error and leaves the queue as it was, and the caller then calls virtio_device_broken().
 *
 * Owner: one thread at a time (the device's own, or the main loop under the device's lock). Rings are
 * little-endian, as is every host hostvmm runs on.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_QUEUE_H
#define HOSTVMM_DEVICE_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "hostvmm/memory.h"

#define VIRTQ_SIZE_MAX 256 /* entries, of any queue of any device here; bounds a chain as well */

struct virtq {
    struct gpa desc;  /* descriptor table, 16-byte aligned */
    struct gpa avail; /* driver area, 2-byte aligned */
    struct gpa used;  /* device area, 4-byte aligned */
    uint16_t size_max;
    uint16_t size; /* entries: a power of two, 1..size_max; set by the driver */
    uint16_t last_avail;
    uint16_t last_used;      /* the used index as published */
    uint16_t signalled_used; /* last_used when virtq_should_signal was last asked */
    uint16_t deepest;        /* atomic: the most chains that waited at once; for metrics, never saved */
    bool ready;
    bool event_idx; /* VIRTIO_RING_F_EVENT_IDX negotiated */
    bool indirect;  /* VIRTIO_RING_F_INDIRECT_DESC negotiated */
};

struct state_reader;
struct state_writer;

/*
 * A descriptor chain, taken: host addresses inside guest RAM, device-readable ones first. Valid until it is
 * pushed. virtq_chain_read and the trim functions consume from the front of the readable part.
 */
struct virtq_chain {
    uint16_t head;
    uint16_t readable_count; /* segments[0 .. readable_count) */
    uint16_t writable_count; /* the ones after */
    uint64_t readable_bytes; /* each sum < 2^32 */
    uint64_t writable_bytes;
    struct iovec segments[VIRTQ_SIZE_MAX];
};

/* Whether size, alignment and place of the three areas are usable. 0; -EINVAL size, -EADDRNOTAVAIL
 * alignment, -EFAULT outside RAM. */
int virtq_validate(const struct virtq *queue, const struct guest_memory *memory);

/* Save and load as an element of an array. What was negotiated and size_max are the device's to know: the
 * former is left false. A queue that is ready is valid in `memory`, or refused. */
void virtq_save(const struct virtq *queue, struct state_writer *out);
void virtq_load(struct virtq *queue, uint16_t size_max, const struct guest_memory *memory,
                struct state_reader *in);

/* Take the next chain. 1 taken, 0 the driver has none waiting or the queue is not ready, negative: the ring
 * is broken, virtq_error_text() says how. */
int virtq_pop(struct virtq *queue, const struct guest_memory *memory, struct virtq_chain *chain);
/* Give back the chain taken last, untouched: the next virtq_pop takes it again. Again: the one before it. */
void virtq_unpop(struct virtq *queue);
/* Publish a chain as used, `written` bytes from its writable front on being valid. 0 or -EFAULT. */
int virtq_push(struct virtq *queue, const struct guest_memory *memory, uint16_t head, uint32_t written);
/* The same for several chains at once: the driver sees all of them or none. */
struct virtq_used {
    uint16_t head;
    uint32_t written;
};
int virtq_push_all(struct virtq *queue, const struct guest_memory *memory, const struct virtq_used *chains,
                   unsigned count);
const char *virtq_error_text(int error);

/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool virtq_should_signal(struct virtq *queue, const struct guest_memory *memory);
/* Ask the driver not to notify while the queue is being served, and to notify again. The latter tells
 * whether chains came in meanwhile: then serve again, no notification will come for them. */
void virtq_notify_disable(struct virtq *queue, const struct guest_memory *memory);
bool virtq_notify_enable(struct virtq *queue, const struct guest_memory *memory);

/* Whether a chain with this head waits to be taken: 1, 0 and the driver notifies of the next it makes
 * available, or negative: the ring is broken. */
int virtq_offered(const struct virtq *queue, const struct guest_memory *memory, uint16_t head);

/* Copy up to `size` bytes from the front of the readable part and consume them. The count copied. */
size_t virtq_chain_read(struct virtq_chain *chain, void *to, size_t size);
/* Copy up to `size` bytes into the writable part, `offset` bytes from its front. The count copied. */
size_t virtq_chain_write(const struct virtq_chain *chain, uint64_t offset, const void *from, size_t size);
/* The writable (or what is left of the readable) part from `offset` on, at most `size` bytes, as an iovec
 * list of capacity VIRTQ_SIZE_MAX. The number of entries. */
unsigned virtq_chain_writable(const struct virtq_chain *chain, uint64_t offset, uint64_t size,
                              struct iovec *out);
unsigned virtq_chain_readable(const struct virtq_chain *chain, uint64_t offset, uint64_t size,
                              struct iovec *out);

#endif
