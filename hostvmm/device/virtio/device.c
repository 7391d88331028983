/*
 * The part that all virtio devices share, apart from the registers (mmio.c): its life, its notifications and
 * interrupts, its save and load. See mmio.h.
 */
#include "hostvmm/device/virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/snapshot/codec.h"

#define LOGGED_MAX 8 /* messages about one guest's driver */
#define STATUS_KNOWN                                                                                         \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)
#define INTERRUPTS_KNOWN (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG)

static uint32_t status_of(const struct virtio_device *device)
{
    return __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
}

bool virtio_device_serving(const struct virtio_device *device)
{
    return __atomic_load_n(&device->active, __ATOMIC_ACQUIRE) &&
           !(status_of(device) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

void virtio_device_kick(const struct virtio_device *device, unsigned queue_index)
{
    const uint64_t one = 1;
    ssize_t n = write(device->notify_fds[queue_index], &one, sizeof one);
    (void)n; /* full: readable already */
}

static void kick_all(const struct virtio_device *device)
{
    for (unsigned i = 0; i < device->kind->queue_count; i++)
        virtio_device_kick(device, i);
}

bool virtio_device_kick_clear(const struct virtio_device *device, unsigned queue_index)
{
    uint64_t count;
    return read(device->notify_fds[queue_index], &count, sizeof count) == (ssize_t)sizeof count;
}

static void interrupt(struct virtio_device *device, uint32_t cause)
{
    (void)__atomic_fetch_or(&device->interrupt_status, cause, __ATOMIC_SEQ_CST);
    irq_raise(&device->irq);
}

void virtio_device_signal(struct virtio_device *device, struct virtq *queue)
{
    if (virtq_should_signal(queue, device->memory))
        interrupt(device, VIRTIO_MMIO_INT_VRING);
}

void virtio_device_config_changed(struct virtio_device *device)
{
    (void)__atomic_fetch_add(&device->config_generation, 1, __ATOMIC_SEQ_CST);
    if (status_of(device) & VIRTIO_CONFIG_S_DRIVER_OK)
        interrupt(device, VIRTIO_MMIO_INT_CONFIG);
}

bool virtio_device_may_log(struct virtio_device *device, const char **end)
{
    uint32_t count = __atomic_load_n(&device->reported_count, __ATOMIC_RELAXED);
    if (count < LOGGED_MAX)
        count = __atomic_fetch_add(&device->reported_count, 1, __ATOMIC_RELAXED);
    *end = count + 1 == LOGGED_MAX ? "; further reports are left out" : "";
    return count < LOGGED_MAX;
}

void virtio_device_broken(struct virtio_device *device, const char *why)
{
    const uint32_t before = __atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_ACQ_REL);
    if (before & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    const char *end;
    (void)__atomic_fetch_add(&device->broken_count, 1, __ATOMIC_RELAXED);
    if (virtio_device_may_log(device, &end))
        log_warn("%s: the guest's driver broke the device's rules (%s); it serves again after a reset%s",
                 device->kind->name, why, end);
    if (before & VIRTIO_CONFIG_S_DRIVER_OK)
        interrupt(device, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_config_copy(const void *config, uint32_t config_bytes, uint32_t offset, void *data, uint32_t size)
{
    memset(data, 0, size);
    if (offset >= config_bytes)
        return;
    const uint32_t left = config_bytes - offset;
    memcpy(data, (const uint8_t *)config + offset, size < left ? size : left);
}

void virtio_device_reset(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->kind->queue_count; i++)
        (void)virtio_device_kick_clear(device,
                                       i); /* before the kind's reset, which may kick its own thread */
    const bool was_active = device->active;
    __atomic_store_n(&device->active, false, __ATOMIC_RELEASE);
    if (was_active)
        device->kind->reset(device);
    for (unsigned i = 0; i < device->kind->queue_count; i++)
        device->queues[i] =
            (struct virtq){.size_max = device->kind->queue_size_max, .deepest = device->queues[i].deepest};
    device->driver_features = 0;
    device->device_features_select = 0;
    device->driver_features_select = 0;
    device->queue_select = 0;
    __atomic_store_n(&device->interrupt_status, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&device->status, 0, __ATOMIC_SEQ_CST);
}

static void negotiated_rings(const struct virtio_device *device, struct virtq *queues)
{
    for (unsigned i = 0; i < device->kind->queue_count; i++) {
        queues[i].event_idx = (device->driver_features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0;
        queues[i].indirect = (device->driver_features >> VIRTIO_RING_F_INDIRECT_DESC & 1) != 0;
    }
}

/* Let the kind serve. */
static void start(struct virtio_device *device)
{
    const int error = device->kind->activate(device);
    if (error) {
        __atomic_store_n(&device->active, false, __ATOMIC_RELEASE);
        log_error("%s: cannot start serving the guest: %s", device->kind->name, strerror(-error));
        virtio_device_broken(device, "the host could not start it");
    }
}

void virtio_device_activate(struct virtio_device *device)
{
    negotiated_rings(device, device->queues);
    __atomic_store_n(&device->active, true, __ATOMIC_RELEASE);
    start(device);
}

int virtio_device_init(struct virtio_device *device, const struct virtio_kind *kind,
                       const struct guest_memory *memory, uint64_t features)
{
    *device = (struct virtio_device){
        .kind = kind,
        .memory = memory,
        .irq = {.fd = -1},
        .offered_features = features | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |
                            1ull << VIRTIO_RING_F_EVENT_IDX,
    };
    int error = -pthread_mutex_init(&device->lock, NULL);
    if (error)
        return error;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        device->notify_fds[i] = -1;
    for (unsigned i = 0; i < kind->queue_count; i++) {
        device->queues[i].size_max = kind->queue_size_max;
        device->notify_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (device->notify_fds[i] < 0) {
            error = -errno;
            log_error("%s: cannot open a notify descriptor: %s", kind->name, strerror(-error));
            virtio_device_fini(device);
            return error;
        }
    }
    return 0;
}

void virtio_device_fini(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
    virtio_device_reset(device);
    pthread_mutex_unlock(&device->lock);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        fd_close(&device->notify_fds[i]);
    (void)pthread_mutex_destroy(&device->lock);
}

void virtio_device_pause(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
    if (device->active && device->kind->pause)
        device->kind->pause(device);
    pthread_mutex_unlock(&device->lock);
}

void virtio_device_restart(struct virtio_device *device)
{
    start(device);
    kick_all(device);
}

void virtio_device_unpause(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
    if (device->active && device->kind->pause)
        virtio_device_restart(device);
    pthread_mutex_unlock(&device->lock);
}

void virtio_device_revive(struct virtio_device *device)
{
    pthread_mutex_lock(&device->lock);
    if (device->active)
        virtio_device_restart(device);
    pthread_mutex_unlock(&device->lock);
    if (__atomic_load_n(&device->interrupt_status, __ATOMIC_SEQ_CST))
        irq_raise(&device->irq);
}

void virtio_device_save(const struct virtio_device *device, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 10);
    state_put_uint(out, "kind", device->kind->id);
    state_put_uint(out, "driver_features", device->driver_features);
    state_put_uint(out, "device_features_select", device->device_features_select);
    state_put_uint(out, "driver_features_select", device->driver_features_select);
    state_put_uint(out, "queue_select", device->queue_select);
    state_put_uint(out, "status", status_of(device));
    state_put_uint(out, "interrupt_status", __atomic_load_n(&device->interrupt_status, __ATOMIC_SEQ_CST));
    state_put_uint(out, "config_generation", __atomic_load_n(&device->config_generation, __ATOMIC_SEQ_CST));
    state_put_bool(out, "active", device->active);
    state_put_array(out, "queues", device->kind->queue_count);
    for (unsigned i = 0; i < device->kind->queue_count; i++)
        virtq_save(&device->queues[i], out);
}

/* What the registers never let happen. */
static void refuse_contradictions(const struct virtio_device *device, uint32_t status, bool active,
                                  struct state_reader *in)
{
    const uint64_t wanted = device->driver_features;
    const uint64_t strange = wanted & ~device->offered_features;
    if (status & ~(uint32_t)STATUS_KNOWN)
        state_refuse(in, "status", "0x%x has bits that mean nothing", status);
    if ((status & VIRTIO_CONFIG_S_FEATURES_OK) && strange)
        state_refuse(in, "driver_features", "0x%llx of these are not on offer here",
                     (unsigned long long)strange);
    if ((status & VIRTIO_CONFIG_S_FEATURES_OK) && !(wanted >> VIRTIO_F_VERSION_1 & 1))
        state_refuse(in, "driver_features", "VERSION_1 is not among these");
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
        state_refuse(in, "status", "DRIVER_OK without FEATURES_OK");
    if (active && !(status & VIRTIO_CONFIG_S_DRIVER_OK))
        state_refuse(in, "active", "true without DRIVER_OK");
    if (!active && (status & VIRTIO_CONFIG_S_DRIVER_OK) && !(status & VIRTIO_CONFIG_S_NEEDS_RESET))
        state_refuse(in, "active", "false with DRIVER_OK");
}

void virtio_device_load(struct virtio_device *device, struct state_reader *in, const char *key)
{
    struct virtq queues[VIRTIO_QUEUES_MAX] = {{.size_max = 0}};
    state_get_map(in, key, 10);
    const uint64_t kind = state_get_uint(in, "kind", 0, UINT32_MAX);
    if (kind != device->kind->id)
        state_refuse(in, "kind", "%llu, where a %s (%u) is", (unsigned long long)kind, device->kind->name,
                     device->kind->id);
    device->driver_features = state_get_uint(in, "driver_features", 0, UINT64_MAX);
    device->device_features_select = (uint32_t)state_get_uint(in, "device_features_select", 0, UINT32_MAX);
    device->driver_features_select = (uint32_t)state_get_uint(in, "driver_features_select", 0, UINT32_MAX);
    device->queue_select = (uint32_t)state_get_uint(in, "queue_select", 0, UINT32_MAX);
    const uint32_t status = (uint32_t)state_get_uint(in, "status", 0, UINT32_MAX);
    const uint32_t interrupts = (uint32_t)state_get_uint(in, "interrupt_status", 0, INTERRUPTS_KNOWN);
    const uint32_t generation = (uint32_t)state_get_uint(in, "config_generation", 0, UINT32_MAX);
    const bool active = state_get_bool(in, "active");
    refuse_contradictions(device, status, active, in);
    const unsigned count = state_get_array(in, "queues", device->kind->queue_count);
    if (count != device->kind->queue_count)
        state_refuse(in, "queues", "%u, where a %s has %u", count, device->kind->name,
                     device->kind->queue_count);
    for (unsigned i = 0; i < device->kind->queue_count; i++)
        virtq_load(&queues[i], device->kind->queue_size_max, device->memory, in);
    state_end(in);
    state_end(in);
    if (in->failed)
        return; /* nothing of it counts: the device stays as it was made, waiting for a driver */
    if (active)
        negotiated_rings(device, queues);
    memcpy(device->queues, queues, sizeof queues);
    __atomic_store_n(&device->status, status, __ATOMIC_SEQ_CST);
    __atomic_store_n(&device->interrupt_status, interrupts, __ATOMIC_SEQ_CST);
    __atomic_store_n(&device->config_generation, generation, __ATOMIC_SEQ_CST);
    __atomic_store_n(&device->active, active, __ATOMIC_RELEASE);
}
