/*
 * The balloon's life, its configuration, and what the host asks of it: see balloon.h. balloon_serve.c serves
 * the queues.
 *
 * Which queue does what depends on the features: the first two are always there, the others take the next
 * index each as far as they were negotiated, in the order statistics, hints, reports.
 *
 * VIRTIO_BALLOON_F_PAGE_POISON is offered with reporting: a Linux guest that zeroes what it frees reports
 * nothing unless it can say that it wants zeros there. Zeros are what it gets. A guest that wants another value
 * is not taken at its word: its reports are acknowledged and nothing is done.
 */
#include "hostvmm/device/virtio/balloon.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/device/virtio/balloon_parts.h"
#include "hostvmm/snapshot/codec.h"

#define QUEUE_SIZE    128 /* Linux wants 32 for reports, and loses a hint for which there is no room */
#define PAGES_PER_MIB (1024u * 1024 / GUEST_PAGE_BYTES)
#define FIRST_COMMAND (VIRTIO_BALLOON_CMD_ID_DONE + 1u)

static uint64_t bit(unsigned feature)
{
    return UINT64_C(1) << feature;
}

bool balloon_has(const struct virtio_balloon *balloon, unsigned feature)
{
    return (balloon->device.driver_features & bit(feature)) != 0;
}

static uint64_t features_of(const struct virtio_balloon_plan *plan)
{
    return bit(VIRTIO_BALLOON_F_MUST_TELL_HOST) | (plan->stats_s ? bit(VIRTIO_BALLOON_F_STATS_VQ) : 0) |
           (plan->deflate_on_oom ? bit(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) : 0) |
           (plan->free_page_hinting ? bit(VIRTIO_BALLOON_F_FREE_PAGE_HINT) : 0) |
           (plan->free_page_reporting ? bit(VIRTIO_BALLOON_F_REPORTING) | bit(VIRTIO_BALLOON_F_PAGE_POISON)
                                      : 0);
}

/* ---- configuration: on vCPU threads, without the lock ---- */

static void config_read(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
    const struct virtio_balloon *balloon = (const struct virtio_balloon *)(const void *)device;
    const uint32_t config[] = {
        __atomic_load_n(&balloon->target_pages, __ATOMIC_ACQUIRE),
        __atomic_load_n(&balloon->actual_pages, __ATOMIC_ACQUIRE),
        __atomic_load_n(&balloon->command, __ATOMIC_ACQUIRE),
        __atomic_load_n(&balloon->poison, __ATOMIC_ACQUIRE),
    };
    _Static_assert(sizeof config == sizeof(struct virtio_balloon_config), "the fields are these, in order");
    virtio_config_copy(config, sizeof config, offset, data, size);
}

/* The guest writes two fields, each whole. */
static void config_write(struct virtio_device *device, uint32_t offset, const void *data, uint32_t size)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)(void *)device;
    uint32_t value;
    if (size != sizeof value)
        return;
    memcpy(&value, data, sizeof value);
    if (offset == offsetof(struct virtio_balloon_config, actual))
        __atomic_store_n(&balloon->actual_pages, value, __ATOMIC_RELEASE);
    else if (offset == offsetof(struct virtio_balloon_config, poison_val))
        __atomic_store_n(&balloon->poison, value, __ATOMIC_RELEASE);
}

/* ---- life ---- */

static int activate(struct virtio_device *device)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)(void *)device;
    unsigned next = 0;
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++)
        balloon->queues[i].role = BALLOON_NONE;
    balloon->queues[next++].role = BALLOON_INFLATE;
    balloon->queues[next++].role = BALLOON_DEFLATE;
    if (balloon_has(balloon, VIRTIO_BALLOON_F_STATS_VQ))
        balloon->queues[next++].role = BALLOON_STATS;
    if (balloon_has(balloon, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
        balloon->queues[next++].role = BALLOON_HINTS;
    if (balloon_has(balloon, VIRTIO_BALLOON_F_REPORTING))
        balloon->queues[next++].role = BALLOON_REPORTS;
    /* Linux notifies of its first statistics before DRIVER_OK, when nobody may look. */
    for (unsigned i = 0; i < next; i++)
        virtio_device_kick(device, i);
    return 0;
}

/* The lock is held: no handler is in a queue, and each finds the device inactive afterwards. What was given
 * is the guest's again; what the host wants of it stays. */
static void reset(struct virtio_device *device)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)(void *)device;
    __atomic_store_n(&balloon->actual_pages, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&balloon->poison, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&balloon->command, VIRTIO_BALLOON_CMD_ID_STOP, __ATOMIC_RELEASE);
    balloon->stats_held = false;
    balloon->hinting = BALLOON_HINTING_OFF;
    balloon->hints_named = false;
    balloon->hints_for = VIRTIO_BALLOON_CMD_ID_STOP;
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++) {
        balloon->queues[i].role = BALLOON_NONE;
        balloon->queues[i].done_bytes = 0;
    }
}

static const struct virtio_kind kind = {
    .id = VIRTIO_ID_BALLOON,
    .name = "virtio-balloon",
    .queue_count = VIRTIO_BALLOON_QUEUES,
    .queue_size_max = QUEUE_SIZE,
    .activate = activate,
    .reset = reset,
    .config_read = config_read,
    .config_write = config_write,
};

static void lock(const struct virtio_balloon *balloon)
{
    (void)pthread_mutex_lock((pthread_mutex_t *)(uintptr_t)&balloon->device.lock);
}

static void unlock(const struct virtio_balloon *balloon)
{
    (void)pthread_mutex_unlock((pthread_mutex_t *)(uintptr_t)&balloon->device.lock);
}

static void arm(struct virtio_balloon *balloon)
{
    if (balloon->timer_fd >= 0)
        (void)loop_timer_arm(balloon->timer_fd, balloon->plan.stats_s * UINT64_C(1000000000));
}

static void on_timer(void *context, uint32_t events)
{
    struct virtio_balloon *balloon = context;
    (void)events;
    loop_timer_clear(balloon->timer_fd);
    lock(balloon);
    balloon_ask_stats(balloon);
    unlock(balloon);
    arm(balloon);
}

static int open_timer(struct virtio_balloon *balloon)
{
    if (!balloon->plan.stats_s)
        return 0;
    balloon->timer_fd = loop_timer_open();
    if (balloon->timer_fd < 0)
        return balloon->timer_fd;
    arm(balloon);
    return loop_add(balloon->loop, &balloon->timer, balloon->timer_fd, EPOLLIN, on_timer, balloon);
}

static bool fits(const struct virtio_balloon *balloon, uint64_t pages)
{
    return pages <= balloon->memory->size_bytes / GUEST_PAGE_BYTES;
}

int virtio_balloon_init(struct virtio_balloon *balloon, struct guest_memory *memory, struct loop *loop,
                        const struct virtio_balloon_plan *plan)
{
    *balloon = (struct virtio_balloon){
        .memory = memory,
        .loop = loop,
        .plan = *plan,
        .timer_fd = -1,
        .timer = {.fd = -1},
        .target_pages = plan->target_mib * PAGES_PER_MIB,
        .next_command = FIRST_COMMAND,
    };
    int error = virtio_device_init(&balloon->device, &kind, memory, features_of(plan));
    if (error)
        return error;
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++) {
        struct virtio_balloon_queue *queue = &balloon->queues[i];
        *queue = (struct virtio_balloon_queue){.balloon = balloon, .source = {.fd = -1}, .index = i};
        if (error == 0)
            error = loop_add(loop, &queue->source, balloon->device.notify_fds[i], EPOLLIN, balloon_on_notify,
                             queue);
    }
    if (error == 0)
        error = open_timer(balloon);
    if (error)
        virtio_balloon_fini(balloon);
    return error;
}

void virtio_balloon_set_hold(struct virtio_balloon *balloon, const struct virtio_balloon_hold_ops *ops,
                             void *context)
{
    balloon->hold_ops = ops;
    balloon->hold_context = context;
}

void virtio_balloon_fini(struct virtio_balloon *balloon)
{
    loop_remove(balloon->loop, &balloon->timer);
    fd_close(&balloon->timer_fd);
    for (unsigned i = 0; i < VIRTIO_BALLOON_QUEUES; i++)
        loop_remove(balloon->loop, &balloon->queues[i].source);
    virtio_device_fini(&balloon->device);
}

/* ---- what the host asks ---- */

int virtio_balloon_set_target(struct virtio_balloon *balloon, uint32_t mib)
{
    const uint64_t pages = (uint64_t)mib * PAGES_PER_MIB;
    if (!fits(balloon, pages))
        return -EINVAL;
    balloon->plan.target_mib = mib;
    __atomic_store_n(&balloon->target_pages, (uint32_t)pages, __ATOMIC_RELEASE);
    lock(balloon);
    virtio_device_config_changed(&balloon->device);
    unlock(balloon);
    return 0;
}

int virtio_balloon_set_stats_interval(struct virtio_balloon *balloon, uint16_t seconds)
{
    if (!balloon->plan.stats_s || !seconds)
        return -EINVAL;
    balloon->plan.stats_s = seconds;
    arm(balloon);
    return 0;
}

/* The lock is held. */
static void command(struct virtio_balloon *balloon, uint32_t value)
{
    __atomic_store_n(&balloon->command, value, __ATOMIC_RELEASE);
    virtio_device_config_changed(&balloon->device);
}

static bool hints_possible(const struct virtio_balloon *balloon)
{
    return virtio_device_serving(&balloon->device) && balloon_has(balloon, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
}

int virtio_balloon_hint_start(struct virtio_balloon *balloon)
{
    int error = 0;
    lock(balloon);
    if (!hints_possible(balloon)) {
        error = -EOPNOTSUPP;
    } else if (balloon->hinting == BALLOON_HINTING_RUNS) {
        error = -EBUSY;
    } else {
        balloon->hinting = BALLOON_HINTING_RUNS;
        balloon->hints_named = false;
        command(balloon, balloon->next_command);
        balloon->next_command =
            balloon->next_command == UINT32_MAX ? FIRST_COMMAND : balloon->next_command + 1;
    }
    unlock(balloon);
    return error;
}

int virtio_balloon_hint_stop(struct virtio_balloon *balloon)
{
    int error = 0;
    lock(balloon);
    if (!hints_possible(balloon)) {
        error = -EOPNOTSUPP;
    } else {
        balloon->hinting = BALLOON_HINTING_OFF;
        balloon->hint_count = 0;
        command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
    }
    unlock(balloon);
    return error;
}

void virtio_balloon_look(const struct virtio_balloon *balloon, struct virtio_balloon_view *view)
{
    lock(balloon);
    *view = balloon->counts;
    view->plan = balloon->plan;
    view->target_pages = __atomic_load_n(&balloon->target_pages, __ATOMIC_ACQUIRE);
    view->actual_pages = __atomic_load_n(&balloon->actual_pages, __ATOMIC_ACQUIRE);
    view->stats = balloon->stats;
    view->hinting = balloon->hinting;
    unlock(balloon);
}

/* ---- saving ---- */

void virtio_balloon_save(const struct virtio_balloon *balloon, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 12);
    state_put_uint(out, "target_pages", __atomic_load_n(&balloon->target_pages, __ATOMIC_ACQUIRE));
    state_put_uint(out, "actual_pages", __atomic_load_n(&balloon->actual_pages, __ATOMIC_ACQUIRE));
    state_put_uint(out, "command", __atomic_load_n(&balloon->command, __ATOMIC_ACQUIRE));
    state_put_uint(out, "poison", __atomic_load_n(&balloon->poison, __ATOMIC_ACQUIRE));
    state_put_uint(out, "stats_s", balloon->plan.stats_s);
    state_put_bool(out, "stats_held", balloon->stats_held);
    state_put_uint(out, "stats_head", balloon->stats_head);
    state_put_uint(out, "hinting", balloon->hinting);
    state_put_bool(out, "hints_named", balloon->hints_named);
    state_put_uint(out, "hints_for", balloon->hints_for);
    state_put_uint(out, "next_command", balloon->next_command);
    virtio_device_save(&balloon->device, out, "device");
}

/* What is read, apart, until all of it is known to be good. */
struct loaded {
    uint32_t target_pages, actual_pages, command, poison, hints_for, next_command;
    uint16_t stats_s, stats_head;
    bool stats_held, hints_named;
    enum virtio_balloon_hinting hinting;
};

static void take(struct virtio_balloon *balloon, const struct loaded *from)
{
    balloon->plan.target_mib = from->target_pages / PAGES_PER_MIB;
    balloon->plan.stats_s = from->stats_s;
    __atomic_store_n(&balloon->target_pages, from->target_pages, __ATOMIC_RELEASE);
    __atomic_store_n(&balloon->actual_pages, from->actual_pages, __ATOMIC_RELEASE);
    __atomic_store_n(&balloon->command, from->command, __ATOMIC_RELEASE);
    __atomic_store_n(&balloon->poison, from->poison, __ATOMIC_RELEASE);
    balloon->stats_held = from->stats_held;
    balloon->stats_head = from->stats_head;
    balloon->hinting = from->hinting;
    balloon->hints_named = from->hints_named;
    balloon->hints_for = from->hints_for;
    balloon->next_command = from->next_command;
    arm(balloon);
}

void virtio_balloon_load(struct virtio_balloon *balloon, struct state_reader *in, const char *key)
{
    struct loaded from;
    const uint16_t stats_max = balloon->plan.stats_s ? VIRTIO_BALLOON_STATS_S_MAX : 0;
    state_get_map(in, key, 12);
    from.target_pages = (uint32_t)state_get_uint(in, "target_pages", 0, UINT32_MAX);
    if (!in->failed && !fits(balloon, from.target_pages))
        state_refuse(in, "target_pages", "%u, more than there is memory", from.target_pages);
    from.actual_pages = (uint32_t)state_get_uint(in, "actual_pages", 0, UINT32_MAX);
    from.command = (uint32_t)state_get_uint(in, "command", 0, UINT32_MAX);
    from.poison = (uint32_t)state_get_uint(in, "poison", 0, UINT32_MAX);
    from.stats_s = (uint16_t)state_get_uint(in, "stats_s", stats_max ? 1 : 0, stats_max);
    from.stats_held = state_get_bool(in, "stats_held");
    from.stats_head = (uint16_t)state_get_uint(in, "stats_head", 0, QUEUE_SIZE - 1);
    from.hinting = (enum virtio_balloon_hinting)state_get_uint(in, "hinting", 0, BALLOON_HINTING_DONE);
    from.hints_named = state_get_bool(in, "hints_named");
    from.hints_for = (uint32_t)state_get_uint(in, "hints_for", 0, UINT32_MAX);
    from.next_command = (uint32_t)state_get_uint(in, "next_command", FIRST_COMMAND, UINT32_MAX);
    virtio_device_load(&balloon->device, in, "device");
    if (!in->failed && from.stats_held &&
        !(balloon->device.active && balloon_has(balloon, VIRTIO_BALLOON_F_STATS_VQ)))
        state_refuse(in, "stats_held", "true, and the guest has no queue for statistics");
    state_end(in);
    if (!in->failed)
        take(balloon, &from);
}
