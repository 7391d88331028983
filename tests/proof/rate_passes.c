/*
 * The token bucket, hostvmm/device/rate_bucket.c: what passes when, and what it leaves, is what the
 * definition says, in fractions of a token that are never lost.
 *
 * Count a bucket's contents in parts of a token, of which there are as many as a refill has nanoseconds:
 * tokens less debt, and the fraction. Time adds size parts a nanosecond, up to a full bucket, and no more;
 * what passes takes cost tokens from burst and bucket together. So over any span of time no more can pass
 * than was in both, what the time added, and what the last request left as debt. Who may not pass is told the
 * first nanosecond at which it may, or, where that is further away than a whole refill, an earlier one.
 *
 * Bounds: sizes of 1 and 3 tokens, a refill of 5 nanoseconds, bursts of 0 and 1; every state of such a bucket
 * with a debt of up to 1; 0 to 5 nanoseconds later; costs of 0 to 4. Each is a case with its own numbers.
 *
 * options: -eva-slevel 10 -warn-unsigned-overflow -eva-precision 0 -eva-auto-loop-unroll 8
 */
#include "tests/proof/bounds.h"

#define RATE_NS_PER_MS UINT64_C(5)
#include "hostvmm/device/rate_bucket.c"

#define PERIOD RATE_NS_PER_MS

/* Debt is below zero: everything is moved up by one token. */
static uint64_t parts(const struct bucket *bucket)
{
    return (bucket->tokens + 1 - bucket->debt) * PERIOD + bucket->fraction;
}

static void one(struct bucket bucket, uint64_t elapsed, uint64_t cost)
{
    const uint64_t size = bucket.limit.size, burst = bucket.burst_left;
    const uint64_t full = (size + 1) * PERIOD;
    const uint64_t later = smaller(parts(&bucket) + elapsed * size, full);
    const uint64_t wanted = smaller(less(cost, burst), size) * PERIOD + PERIOD;
    const uint64_t lacking = cost > burst ? less(wanted, later) : 0;
    const uint64_t wait = bucket_wait_ns(&bucket, cost, elapsed);
    const bool passes = wait == 0;
    //@ assert passes <==> lacking == 0;
    if (!passes) {
        const uint64_t first = (lacking + size - 1) / size;
        const uint64_t told = smaller(first, wait);
        //@ assert 1 <= wait <= PERIOD && told == wait;
        //@ assert first <= PERIOD ==> wait == first;
        return;
    }
    (void)bucket_wait_ns(&bucket, cost + burst + 1, elapsed); /* the bucket is looked at, too */
    const uint64_t before = parts(&bucket);
    //@ assert before == later;
    bucket_take(&bucket, cost);
    const uint64_t over = bucket.debt * PERIOD; /* more than one token: beyond what parts() can say */
    bucket.debt = 0;
    const uint64_t left = parts(&bucket) + bucket.burst_left * PERIOD;
    //@ assert left + cost * PERIOD == before + burst * PERIOD + over;
    //@ assert bucket.fraction < PERIOD && bucket.tokens <= size;
    //@ assert over == 0 || bucket.tokens == 0;
}

static void from(uint64_t size, uint64_t gap, uint64_t fraction, uint64_t burst)
{
    const struct bucket bucket = {
        .limit = {.size = size, .refill_ms = 1, .burst = 1},
        .tokens = less(size, gap),
        .debt = less(gap, size),
        .fraction = fraction,
        .burst_left = burst,
    };
    //@ loop unroll 10;
    for (uint64_t elapsed = 0; elapsed <= 5; elapsed++)
        //@ loop unroll 10;
        for (uint64_t cost = 0; cost <= 4; cost++)
            one(bucket, elapsed, cost);
}

static void of(uint64_t size)
{
    //@ loop unroll 10;
    for (uint64_t gap = 0; gap <= size + 1; gap++)
        //@ loop unroll 10;
        for (uint64_t fraction = 0; fraction < (gap ? PERIOD : 1); fraction++) {
            from(size, gap, fraction, 0);
            from(size, gap, fraction, 1);
        }
}

int main(void)
{
    of(1);
    of(3);
    return 0;
}
