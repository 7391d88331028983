/*
 * See mmio.h; device.c is the part apart from registers. Registers: virtio 1.2, table in section 4.2.2.
 * Initialisation: section 3.1.
 *
 *   status:  0 --> ACKNOWLEDGE --> DRIVER --> FEATURES_OK --> DRIVER_OK (active)
 *            ^         |              |            |              |
 *            +---------+---- write 0 -+------------+--------------+     DEVICE_NEEDS_RESET may join any
 *
 * A driver may set several bits at once, never clear one but by writing 0. Features change before
 * FEATURES_OK, queues before DRIVER_OK; a driver that does otherwise breaks its device until the reset.
 */
#include "hostvmm/device/virtio/mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "agent/base/log.h"

#define MAGIC   0x74726976u /* "virt" */
#define VERSION 2u
/* "REKD". Our kernel takes it for a promise: vsock and entropy never change their configuration, so their
 * interrupts need no look at the status (kernel-config/patches, 0009). */
#define VENDOR 0x444b4552u

#define STATUS_DRIVER_BITS                                                                                   \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |                    \
     VIRTIO_CONFIG_S_DRIVER_OK)

static uint32_t status_of(const struct virtio_device *device)
{
    return __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
}

static void status_write(struct virtio_device *device, uint32_t value)
{
    if (value == 0) {
        virtio_device_reset(device);
        return;
    }
    const uint32_t before = status_of(device);
    const char *end;
    if (value & VIRTIO_CONFIG_S_FAILED) {
        (void)__atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_FAILED, __ATOMIC_ACQ_REL);
        if (!(before & VIRTIO_CONFIG_S_FAILED) && virtio_device_may_log(device, &end))
            log_warn("%s: the guest's driver gave the device up%s", device->kind->name, end);
        return;
    }
    if (before & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    uint32_t added = value & STATUS_DRIVER_BITS & ~before;
    if (before & STATUS_DRIVER_BITS & ~value) {
        virtio_device_broken(device, "status bits cleared without a reset");
        return;
    }
    if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && !(value & VIRTIO_CONFIG_S_FEATURES_OK)) {
        virtio_device_broken(device, "DRIVER_OK without FEATURES_OK");
        return;
    }
    if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
        const uint64_t wanted = device->driver_features;
        if ((wanted & ~device->offered_features) != 0 || !(wanted >> VIRTIO_F_VERSION_1 & 1)) {
            /* Refused: the driver reads the bit back and finds it clear. */
            if (virtio_device_may_log(device, &end))
                log_warn("%s: the guest's driver wants features 0x%llx, 0x%llx with VERSION_1 are on offer%s",
                         device->kind->name, (unsigned long long)wanted,
                         (unsigned long long)device->offered_features, end);
            added &= ~(uint32_t)(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
        }
    }
    (void)__atomic_fetch_or(&device->status, added, __ATOMIC_ACQ_REL);
    if (added & VIRTIO_CONFIG_S_DRIVER_OK)
        virtio_device_activate(device);
}

/* The queue the driver selected; NULL when the device has no such queue. */
static struct virtq *selected(struct virtio_device *device)
{
    return device->queue_select < device->kind->queue_count ? &device->queues[device->queue_select] : NULL;
}

static void set_low(uint64_t *value, uint32_t half)
{
    *value = (*value & ~(uint64_t)UINT32_MAX) | half;
}

static void set_high(uint64_t *value, uint32_t half)
{
    *value = (*value & UINT32_MAX) | (uint64_t)half << 32;
}

static void queue_ready_write(struct virtio_device *device, struct virtq *queue, uint32_t value)
{
    if (value == 0) {
        queue->ready = false;
        return;
    }
    int error = virtq_validate(queue, device->memory);
    if (error)
        virtio_device_broken(device, virtq_error_text(error));
    else
        queue->ready = true;
}

static void queue_write(struct virtio_device *device, uint64_t offset, uint32_t value)
{
    struct virtq *queue = selected(device);
    if (!queue)
        return;
    if (status_of(device) & VIRTIO_CONFIG_S_DRIVER_OK ||
        (queue->ready && offset != VIRTIO_MMIO_QUEUE_READY)) {
        virtio_device_broken(device, "a queue in use was configured");
        return;
    }
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        queue->size = value > UINT16_MAX ? 0 : (uint16_t)value; /* judged when it is made ready */
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        queue_ready_write(device, queue, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&queue->desc.value, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&queue->desc.value, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&queue->avail.value, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&queue->avail.value, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&queue->used.value, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&queue->used.value, value);
        break;
    default:
        break;
    }
}

static void driver_features_write(struct virtio_device *device, uint32_t value)
{
    if (status_of(device) & VIRTIO_CONFIG_S_FEATURES_OK) {
        virtio_device_broken(device, "features written after FEATURES_OK");
        return;
    }
    if (device->driver_features_select == 0)
        set_low(&device->driver_features, value);
    else if (device->driver_features_select == 1)
        set_high(&device->driver_features, value);
}

static uint32_t register_read(struct virtio_device *device, uint64_t offset)
{
    const struct virtq *queue = selected(device);
    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VERSION;
    case VIRTIO_MMIO_DEVICE_ID:
        return device->kind->id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return device->device_features_select < 2
                   ? (uint32_t)(device->offered_features >> (32 * device->device_features_select))
                   : 0;
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return queue ? queue->size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return queue && queue->ready;
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return __atomic_load_n(&device->config_generation, __ATOMIC_ACQUIRE);
    case VIRTIO_MMIO_SHM_LEN_LOW: /* no shared memory region: all ones */
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX;
    default:
        return 0;
    }
}

static void register_write(struct virtio_device *device, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        device->device_features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        driver_features_write(device, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        device->driver_features_select = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        device->queue_select = value;
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY: /* where no ioeventfd took it */
        if (value < device->kind->queue_count)
            virtio_device_kick(device, value);
        break;
    case VIRTIO_MMIO_STATUS:
        status_write(device, value);
        break;
    default:
        queue_write(device, offset, value);
        break;
    }
}

static void mmio_read(void *context, uint64_t offset, void *data, uint32_t size)
{
    struct virtio_device *device = context;
    memset(data, 0, size);
    if (offset >= VIRTIO_MMIO_CONFIG) {
        if (device->kind->config_read)
            device->kind->config_read(device, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), data, size);
        return;
    }
    if (size != 4 || offset % 4 != 0)
        return;
    uint32_t value;
    /* The two registers of an interrupt handler do not wait for a device that holds the lock. */
    if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {
        value = __atomic_load_n(&device->interrupt_status, __ATOMIC_SEQ_CST);
    } else if (offset == VIRTIO_MMIO_STATUS) {
        value = status_of(device);
    } else {
        pthread_mutex_lock(&device->lock);
        value = register_read(device, offset);
        pthread_mutex_unlock(&device->lock);
    }
    memcpy(data, &value, sizeof value);
}

static void mmio_write(void *context, uint64_t offset, const void *data, uint32_t size)
{
    struct virtio_device *device = context;
    if (offset >= VIRTIO_MMIO_CONFIG) {
        if (device->kind->config_write)
            device->kind->config_write(device, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), data, size);
        return;
    }
    if (size != 4 || offset % 4 != 0)
        return;
    uint32_t value;
    memcpy(&value, data, sizeof value);
    if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
        (void)__atomic_fetch_and(&device->interrupt_status, ~value, __ATOMIC_SEQ_CST);
        return;
    }
    pthread_mutex_lock(&device->lock);
    register_write(device, offset, value);
    pthread_mutex_unlock(&device->lock);
}

const struct bus_ops virtio_mmio_bus_ops = {.read = mmio_read, .write = mmio_write};
