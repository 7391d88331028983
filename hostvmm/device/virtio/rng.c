/* See rng.h. */
#include "hostvmm/device/virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "agent/base/fd.h"
#include "hostvmm/snapshot/codec.h"

#define QUEUE_SIZE    16
#define REQUEST_QUEUE 0

static uint64_t wanted_bytes(const struct virtq_chain *chain)
{
    return chain->writable_bytes < VIRTIO_RNG_REQUEST_MAX_BYTES ? chain->writable_bytes
                                                                : VIRTIO_RNG_REQUEST_MAX_BYTES;
}

/* Fill the chain's buffers, VIRTIO_RNG_REQUEST_MAX_BYTES at most. The bytes given. */
static uint32_t fill(const struct virtq_chain *chain)
{
    struct iovec list[VIRTQ_SIZE_MAX];
    const unsigned count = virtq_chain_writable(chain, 0, VIRTIO_RNG_REQUEST_MAX_BYTES, list);
    uint32_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t at = 0;
        while (at < list[i].iov_len) {
            /* The pool was ready at init: this does not block. */
            ssize_t n = getrandom((uint8_t *)list[i].iov_base + at, list[i].iov_len - at, 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return done;
            at += (size_t)n;
            done += (uint32_t)n;
        }
    }
    return done;
}

/* One writer, many readers: no locked instruction is needed. */
static void count(uint64_t *total, uint64_t more)
{
    __atomic_store_n(total, *total + more, __ATOMIC_RELAXED);
}

static void on_timer(void *context, uint32_t events)
{
    struct virtio_rng *rng = context;
    (void)events;
    loop_timer_clear(rng->timer_fd);
    virtio_device_kick(&rng->device, REQUEST_QUEUE);
}

/* Look at the queue again after that time. */
static void wait_for(struct virtio_rng *rng, uint64_t wait_ns)
{
    int error = 0;
    if (rng->timer_fd < 0) {
        rng->timer_fd = loop_timer_open();
        error = rng->timer_fd < 0 ? rng->timer_fd
                                  : loop_add(rng->loop, &rng->timer, rng->timer_fd, EPOLLIN, on_timer, rng);
        if (error)
            fd_close(&rng->timer_fd);
    }
    if (error || loop_timer_arm(rng->timer_fd, wait_ns) < 0)
        virtio_device_broken(&rng->device, "the host has no timer for its limit");
}

/* Serve a turn's worth. Whether more may wait. */
static bool serve_turn(struct virtio_rng *rng)
{
    struct virtio_device *device = &rng->device;
    struct virtq *queue = &device->queues[REQUEST_QUEUE];
    struct virtq_chain chain;
    uint64_t given = 0;
    unsigned served = 0;
    while (given < VIRTIO_RNG_TURN_MAX_BYTES && served < QUEUE_SIZE) {
        int taken = virtq_pop(queue, device->memory, &chain);
        if (taken == 0) {
            if (virtq_notify_enable(queue, device->memory))
                continue;
            return false;
        }
        if (taken < 0 || chain.readable_count > 0) {
            virtio_device_broken(device, taken < 0 ? virtq_error_text(taken)
                                                   : "an entropy request with a device-readable buffer");
            return false;
        }
        const uint64_t wait_ns = rate_ask(&rng->rate, wanted_bytes(&chain));
        if (wait_ns > 0) {
            virtq_unpop(queue);
            wait_for(rng, wait_ns);
            return false;
        }
        const uint32_t written = fill(&chain);
        rate_charge(&rng->rate, written);
        count(&rng->counts.operations, 1);
        count(&rng->counts.bytes, written);
        (void)virtq_push(queue, device->memory, chain.head, written);
        virtio_device_signal(device, queue);
        given += written;
        served++;
    }
    return true;
}

static void on_notify(void *context, uint32_t events)
{
    struct virtio_rng *rng = context;
    (void)events;
    pthread_mutex_lock(&rng->device.lock);
    (void)virtio_device_kick_clear(&rng->device, REQUEST_QUEUE);
    if (virtio_device_serving(&rng->device) && serve_turn(rng))
        virtio_device_kick(&rng->device, REQUEST_QUEUE); /* the rest in a later turn */
    pthread_mutex_unlock(&rng->device.lock);
}

static int activate(struct virtio_device *device)
{
    rate_idle(&((struct virtio_rng *)device)->rate); /* on_notify looks at device->active, under the lock */
    return 0;
}

static void reset(struct virtio_device *device)
{
    (void)device; /* the lock is held: on_notify is not in the queue, and finds it inactive afterwards */
}

static const struct virtio_kind kind = {
    .id = VIRTIO_ID_RNG,
    .name = "virtio-rng",
    .queue_count = 1,
    .queue_size_max = QUEUE_SIZE,
    .activate = activate,
    .reset = reset,
};

int virtio_rng_init(struct virtio_rng *rng, const struct guest_memory *memory, struct loop *loop)
{
    uint8_t probe;
    *rng = (struct virtio_rng){.loop = loop, .notify = {.fd = -1}, .timer = {.fd = -1}, .timer_fd = -1};
    if (getrandom(&probe, sizeof probe, 0) < 0)
        return -errno;
    int error = virtio_device_init(&rng->device, &kind, memory, 0);
    if (error)
        return error;
    error = loop_add(loop, &rng->notify, rng->device.notify_fds[REQUEST_QUEUE], EPOLLIN, on_notify, rng);
    if (error)
        virtio_device_fini(&rng->device);
    else
        rate_init(&rng->rate);
    return error;
}

void virtio_rng_fini(struct virtio_rng *rng)
{
    loop_remove(rng->loop, &rng->notify);
    if (rng->timer_fd >= 0)
        loop_remove(rng->loop, &rng->timer);
    fd_close(&rng->timer_fd);
    virtio_device_fini(&rng->device);
    rate_fini(&rng->rate);
}

void virtio_rng_set_rate(struct virtio_rng *rng, const struct rate_limits *limits)
{
    rate_change(&rng->rate, limits);
    virtio_device_kick(&rng->device, REQUEST_QUEUE); /* what waits is looked at anew */
}

/* No entropy is kept between requests. */
void virtio_rng_save(struct virtio_rng *rng, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 2);
    rate_save(&rng->rate, out, "rate");
    virtio_device_save(&rng->device, out, "device");
}

void virtio_rng_load(struct virtio_rng *rng, struct state_reader *in, const char *key)
{
    state_get_map(in, key, 2);
    rate_load(&rng->rate, in, "rate");
    virtio_device_load(&rng->device, in, "device");
    state_end(in);
}
