/* See rate.h: the buckets of a device, its clock, and limits that change below it. */
#include "hostvmm/device/rate.h"

#include "agent/base/fd.h"

void rate_init(struct rate *rate)
{
    *rate = (struct rate){.limited = false, .now_ns = clock_monotonic_ns};
    (void)pthread_mutex_init(&rate->lock, NULL); /* with default attributes it cannot fail on Linux */
}

void rate_fini(struct rate *rate)
{
    (void)pthread_mutex_destroy(&rate->lock);
}

void rate_change(struct rate *rate, const struct rate_limits *limits)
{
    pthread_mutex_lock(&rate->lock);
    rate->wanted = *limits;
    __atomic_store_n(&rate->changed, true, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&rate->lock);
}

void rate_limits_now(struct rate *rate, struct rate_limits *limits)
{
    pthread_mutex_lock(&rate->lock);
    *limits = rate->wanted;
    pthread_mutex_unlock(&rate->lock);
}

void rate_wish_apply(const struct rate_wish *wish, struct rate_limits *limits)
{
    if (wish->bandwidth)
        limits->bandwidth = wish->limits.bandwidth;
    if (wish->operations)
        limits->operations = wish->limits.operations;
}

static void take_over(struct rate *rate, uint64_t now_ns)
{
    struct rate_limits wanted;
    pthread_mutex_lock(&rate->lock);
    wanted = rate->wanted;
    __atomic_store_n(&rate->changed, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&rate->lock);
    bucket_change(&rate->bandwidth, &wanted.bandwidth, now_ns);
    bucket_change(&rate->operations, &wanted.operations, now_ns);
    rate->limited = wanted.bandwidth.size != 0 || wanted.operations.size != 0;
}

/* One writer, many readers: no locked instruction is needed. */
static void count(uint64_t *total, uint64_t more)
{
    __atomic_store_n(total, *total + more, __ATOMIC_RELAXED);
}

void rate_idle(struct rate *rate)
{
    rate->waiting_since_ns = 0;
}

uint64_t rate_ask_limited(struct rate *rate, uint64_t bytes)
{
    const uint64_t now_ns = rate->now_ns();
    if (__atomic_load_n(&rate->changed, __ATOMIC_ACQUIRE))
        take_over(rate, now_ns);
    const uint64_t for_bytes = bucket_wait_ns(&rate->bandwidth, bytes, now_ns);
    const uint64_t for_operation = bucket_wait_ns(&rate->operations, 1, now_ns);
    const uint64_t wait_ns = for_bytes > for_operation ? for_bytes : for_operation;
    if (wait_ns > 0 && rate->waiting_since_ns == 0) {
        rate->waiting_since_ns = now_ns ? now_ns : 1;
        count(&rate->throttled_count, 1);
    } else if (wait_ns == 0 && rate->waiting_since_ns != 0) {
        count(&rate->throttled_wait_ns, now_ns - rate->waiting_since_ns);
        rate->waiting_since_ns = 0;
    }
    return wait_ns;
}

void rate_charge_limited(struct rate *rate, uint64_t bytes)
{
    bucket_take(&rate->bandwidth, bytes);
    bucket_take(&rate->operations, 1);
}
