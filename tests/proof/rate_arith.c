/*
 * The token bucket, hostvmm/device/rate_bucket.c, for every limit there may be: nothing overflows, not even
 * the unsigned numbers, which here would be tokens or time from nowhere; and what comes out stays as bound as
 * what went in. (Exactly what passes when is rate_passes.c's.)
 *
 * Bounds: sizes to RATE_SIZE_MAX and refills to RATE_REFILL_MS_MAX, a case for each eight binary places; any
 * cost of 64 bits; any instant of 64 bits, after the last or before it; any tokens, debt, burst and fraction.
 *
 * options: -eva-slevel 0 -eva-domains octagon -warn-unsigned-overflow -eva-precision 0 -eva-auto-loop-unroll 8
 */
#include "tests/proof/bounds.h"

#include "hostvmm/device/rate_bucket.c"

static uint64_t size_min, size_max, ms_min, ms_max;

static struct bucket_limit any_limit(void)
{
    const struct bucket_limit limit = {
        .size = any_u64(size_min, size_max),
        .burst = any_u64(0, RATE_SIZE_MAX),
        .refill_ms = any_u64(ms_min, ms_max),
    };
    return limit;
}

static void check(const struct bucket *bucket)
{
    //@ assert bucket->tokens <= size_max;
    //@ assert bucket->debt <= RATE_SIZE_MAX;
    //@ assert bucket->burst_left <= RATE_SIZE_MAX;
}

static void one(void)
{
    const struct bucket_limit limit = any_limit(), other = any_limit();
    struct bucket bucket = {
        .limit = limit,
        .burst_left = any_u64(0, RATE_SIZE_MAX),
        .tokens = any_u64(0, size_max),
        .debt = any_u64(0, RATE_SIZE_MAX),
        .fraction = any_u64(0, ms_max * RATE_NS_PER_MS - 1),
        .counted_ns = any_u64(0, UINT64_MAX),
    };
    struct bucket changed = bucket;
    const uint64_t wait = bucket_wait_ns(&bucket, any_u64(0, UINT64_MAX), any_u64(0, UINT64_MAX));
    check(&bucket);
    bucket_take(&bucket, any_u64(0, UINT64_MAX));
    check(&bucket);
    bucket_change(&changed, &other, any_u64(0, UINT64_MAX));
    check(&changed);
}

int main(void)
{
    //@ loop unroll 20;
    for (unsigned size = 0; size <= 48; size += 8)
        //@ loop unroll 20;
        for (unsigned refill = 0; refill <= 24; refill += 8) {
            size_min = UINT64_C(1) << size;
            size_max = size == 48 ? RATE_SIZE_MAX : (UINT64_C(1) << (size + 8)) - 1;
            ms_min = UINT64_C(1) << refill;
            ms_max = refill == 24 ? RATE_REFILL_MS_MAX : (UINT64_C(1) << (refill + 8)) - 1;
            one();
        }
    return 0;
}
