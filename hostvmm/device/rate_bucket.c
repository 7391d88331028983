/*
 * See rate.h: one bucket, without threads or clocks.
 *
 * A bucket is refilled by size / refill_ns tokens a nanosecond, which is seldom a whole number: `fraction`
 * holds what is left over, in parts of refill_ns, so that nothing is lost however often it is asked. The
 * products that this takes do not fit 64 bits; multiply_divide goes through them in limbs, so that no step
 * needs more.
 */
#include "hostvmm/device/rate.h"

#ifndef RATE_NS_PER_MS
#define RATE_NS_PER_MS UINT64_C(1000000) /* a proof by cases has fewer */
#endif
#define LIMB_BITS 12u
#define LIMBS     4u /* 48 bits: RATE_SIZE_MAX - 1, and the nanoseconds of a refill */
#define LIMB_MASK ((UINT64_C(1) << LIMB_BITS) - 1)

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* a - b, or 0 where that would be less. */
static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

struct quotient {
    uint64_t whole;
    uint64_t rest;
};

/* a * b / c, for a < c <= 2^48 and b <= 2^48. */
static struct quotient multiply_divide(uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t whole = b / c, rest = b % c;
    struct quotient result = {.whole = 0, .rest = 0};
    for (unsigned limb = LIMBS; limb > 0; limb--) {
        const uint64_t digit = a >> (LIMB_BITS * (limb - 1)) & LIMB_MASK;
        const uint64_t here = (result.rest << LIMB_BITS) + digit * rest; /* < 2 * 2^12 * 2^48 */
        result.whole = (result.whole << LIMB_BITS) + here / c;
        result.rest = here % c;
    }
    result.whole += a * whole;
    return result;
}

static uint64_t refill_ns(const struct bucket_limit *limit)
{
    return limit->refill_ms * RATE_NS_PER_MS;
}

bool bucket_limit_valid(const struct bucket_limit *limit)
{
    if (limit->size == 0)
        return limit->burst == 0 && limit->refill_ms == 0;
    return limit->size <= RATE_SIZE_MAX && limit->burst <= RATE_SIZE_MAX && limit->refill_ms > 0 &&
           limit->refill_ms <= RATE_REFILL_MS_MAX;
}

void bucket_init(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns)
{
    *bucket = (struct bucket){
        .limit = *limit,
        .burst_left = limit->burst,
        .tokens = limit->size,
        .counted_ns = now_ns,
    };
}

/* It lacks so many tokens of being full. */
static void set_gap(struct bucket *bucket, uint64_t gap)
{
    const uint64_t size = bucket->limit.size;
    bucket->tokens = less(size, gap);
    bucket->debt = smaller(less(gap, size), RATE_SIZE_MAX);
}

/* Put in what `now_ns` has brought since it was looked at last. */
static void refill(struct bucket *bucket, uint64_t now_ns)
{
    const uint64_t size = bucket->limit.size, period = refill_ns(&bucket->limit);
    const uint64_t gap = less(size, bucket->tokens) + bucket->debt;
    const uint64_t elapsed = less(now_ns, bucket->counted_ns);
    if (elapsed == 0)
        return;
    bucket->counted_ns = now_ns;
    const uint64_t periods = elapsed / period;
    if (periods <= gap / size) {
        const struct quotient part = multiply_divide(elapsed % period, size, period);
        const uint64_t sum = part.rest + bucket->fraction;
        const uint64_t gained = periods * size + part.whole + (sum >= period ? 1 : 0);
        if (gained < gap) {
            bucket->fraction = sum >= period ? sum - period : sum;
            set_gap(bucket, gap - gained);
            return;
        }
    }
    bucket->fraction = 0; /* what is full does not fill */
    set_gap(bucket, 0);
}

void bucket_change(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns)
{
    const struct bucket_limit *before = &bucket->limit;
    struct bucket next;
    if (before->size == limit->size && before->burst == limit->burst && before->refill_ms == limit->refill_ms)
        return;
    bucket_init(&next, limit, now_ns);
    if (before->size != 0 && limit->size != 0) {
        refill(bucket, now_ns);
        next.tokens = smaller(bucket->tokens, limit->size);
        next.debt = smaller(bucket->debt, limit->size);
        if (next.counted_ns < bucket->counted_ns)
            next.counted_ns = bucket->counted_ns;
    }
    *bucket = next;
}

/* Nanoseconds until a bucket has got `missing` more tokens, 1 to size of them. */
static uint64_t until(const struct bucket *bucket, uint64_t missing)
{
    const uint64_t size = bucket->limit.size, period = refill_ns(&bucket->limit);
    /* (missing * period - fraction) / size, rounded up */
    struct quotient all = {.whole = period, .rest = 0};
    if (missing < size)
        all = multiply_divide(missing, period, size);
    const uint64_t had = bucket->fraction / size, had_rest = bucket->fraction % size;
    const uint64_t wait_ns = less(all.whole + (all.rest > had_rest ? 1 : 0), had);
    return wait_ns > 0 ? wait_ns : 1;
}

uint64_t bucket_wait_ns(struct bucket *bucket, uint64_t cost, uint64_t now_ns)
{
    const uint64_t size = bucket->limit.size;
    if (size == 0 || cost <= bucket->burst_left)
        return 0;
    refill(bucket, now_ns);
    const uint64_t wanted = smaller(less(cost, bucket->burst_left), size); /* beyond that: debt */
    const uint64_t missing = less(wanted + bucket->debt, bucket->tokens);
    return missing > 0 ? until(bucket, smaller(missing, size)) : 0;
}

void bucket_take(struct bucket *bucket, uint64_t cost)
{
    if (bucket->limit.size == 0)
        return;
    const uint64_t all = smaller(cost, RATE_SIZE_MAX);
    const uint64_t rest = less(all, bucket->burst_left);
    const uint64_t owed = bucket->debt + less(rest, bucket->tokens);
    bucket->burst_left = less(bucket->burst_left, all);
    bucket->tokens = less(bucket->tokens, rest);
    bucket->debt = smaller(owed, RATE_SIZE_MAX);
}
