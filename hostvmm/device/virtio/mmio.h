/*
 * The virtio-mmio transport (virtio 1.2, section 4.2), version 2 only, apart from the device kinds behind it.
 *
 * One 4 KiB window per device. Register accesses come on vCPU threads and are serialised by the transport's
 * lock; queue notifications come through an ioeventfd (datamatch: the queue's index) that the device reads on
 * its own thread. Guest misbehaviour sets DEVICE_NEEDS_RESET and a configuration interrupt, on this device
 * alone.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_MMIO_H
#define HOSTVMM_DEVICE_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "hostvmm/bus.h"
#include "hostvmm/device/irq.h"
#include "hostvmm/device/virtio/queue.h"
#include "hostvmm/memory.h"

#define VIRTIO_MMIO_WINDOW_BYTES 4096
#define VIRTIO_MMIO_NOTIFY       0x050 /* QueueNotify: where each queue's ioeventfd matches */
#define VIRTIO_QUEUES_MAX        5

struct state_reader;
struct state_writer;

struct virtio_device; /* below */

/* What a device kind is. All but config_* run with the transport's lock held. config_* may be NULL: reads
 * give zeros, writes are dropped; they bound offset and size themselves. */
struct virtio_kind {
    uint32_t id; /* virtio 1.2 section 5 */
    const char *name;
    unsigned queue_count;
    uint16_t queue_size_max;
    /* The driver set DRIVER_OK: queues are valid. Start serving. 0, or -errno: DEVICE_NEEDS_RESET. */
    int (*activate)(struct virtio_device *device);
    /* The driver reset the device, or the VM ends: stop serving; on return no thread touches the queues. */
    void (*reset)(struct virtio_device *device);
    /* Stop serving for a while; activate starts again. NULL for a kind that is served on the main loop: who
     * pauses is that thread. */
    void (*pause)(struct virtio_device *device);
    void (*config_read)(struct virtio_device *device, uint32_t offset, void *data, uint32_t size);
    void (*config_write)(struct virtio_device *device, uint32_t offset, const void *data, uint32_t size);
};

/* The common part; a device kind embeds it as its first member. */
struct virtio_device {
    const struct virtio_kind *kind;
    const struct guest_memory *memory;
    struct irq_line irq;
    pthread_mutex_t lock;
    struct virtq queues[VIRTIO_QUEUES_MAX];
    int notify_fds[VIRTIO_QUEUES_MAX]; /* eventfds, nonblocking; the VM binds them with KVM_IOEVENTFD */
    uint64_t offered_features;
    uint64_t driver_features;
    uint32_t device_features_select;
    uint32_t driver_features_select;
    uint32_t queue_select;
    uint32_t status;            /* atomic: device threads set NEEDS_RESET */
    uint32_t interrupt_status;  /* atomic: set by device threads, cleared by the guest */
    uint32_t config_generation; /* atomic */
    uint32_t broken_count;      /* atomic: how often it broke the rules */
    uint32_t reported_count;    /* how often the guest gave cause for a message; the first few are logged */
    bool active;                /* between activate and reset; atomic, changed under the lock */
};

extern const struct bus_ops virtio_mmio_bus_ops; /* its device argument is a struct virtio_device * */

/* Set up the common part and open the notify descriptors. `features` beyond VIRTIO_F_VERSION_1 and the ring
 * features, which are added here. 0 or -errno. */
int virtio_device_init(struct virtio_device *device, const struct virtio_kind *kind,
                       const struct guest_memory *memory, uint64_t features);
void virtio_device_fini(struct virtio_device *device);

/* For the transport, with the lock held: back to the state after power-on; DRIVER_OK was set. */
void virtio_device_reset(struct virtio_device *device);
void virtio_device_activate(struct virtio_device *device);

/*
 * For snapshots, on the main thread, while no vCPU runs.
 *
 * Pause: on return nothing touches the queues, no request is half done. Unpause: serve again, first of all
 * what came in meanwhile. Load goes into a device just made and starts nothing. Revive comes once all is
 * loaded: the device serves as if the driver had just set DRIVER_OK, looks at every queue, and repeats the
 * interrupt that the driver has not acknowledged, which may have been lost on its way.
 */
void virtio_device_pause(struct virtio_device *device);
void virtio_device_unpause(struct virtio_device *device);
/* For a kind that has stopped an active device itself, with the lock held: serve again, as unpause does. */
void virtio_device_restart(struct virtio_device *device);
void virtio_device_save(const struct virtio_device *device, struct state_writer *out, const char *key);
void virtio_device_load(struct virtio_device *device, struct state_reader *in, const char *key);
void virtio_device_revive(struct virtio_device *device);

/* Whether the device may touch its queues: active and not broken. On the thread that serves them. */
bool virtio_device_serving(const struct virtio_device *device);

/* Make the queue's notify descriptor readable, as the driver does. Any thread. */
void virtio_device_kick(const struct virtio_device *device, unsigned queue_index);
/* Empty the queue's notify descriptor. Whether it was readable. */
bool virtio_device_kick_clear(const struct virtio_device *device, unsigned queue_index);

/* For config_read: a part of a configuration structure, zeros beyond its end. */
void virtio_config_copy(const void *config, uint32_t config_bytes, uint32_t offset, void *data,
                        uint32_t size);

/* Raise the used-buffer interrupt if the driver wants it for this queue. Any thread that owns the queue. */
void virtio_device_signal(struct virtio_device *device, struct virtq *queue);
/* The configuration changed: new generation, configuration interrupt. */
void virtio_device_config_changed(struct virtio_device *device);
/* Whether one more message that the guest has caused is logged: a guest must not fill the host's disk. Tells
 * the end to append to it. Any thread. */
bool virtio_device_may_log(struct virtio_device *device, const char **end);
/* The guest broke the rules: mark DEVICE_NEEDS_RESET, interrupt, log `why` once. The device stops serving
 * until reset. Takes no lock: any thread. */
void virtio_device_broken(struct virtio_device *device, const char *why);

#endif
