/* Rate limiters: Firecracker's {"bandwidth": {...}, "ops": {...}} as words of hostvmm's. See model.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/control/api/model.h"

/* As hostvmm/device/rate.h has them. */
#define SIZE_MOST      (UINT64_C(1) << 48)
#define REFILL_MS_MOST UINT64_C(86400000)

static const struct model_member limiter_members[] = {
    {.name = "bandwidth", .kind = MODEL_OBJECT},
    {.name = "ops", .kind = MODEL_OBJECT},
    {.name = NULL},
};

static const struct model_member bucket_members[] = {
    {.name = "size", .kind = MODEL_NUMBER, .required = true, .most = SIZE_MOST},
    {.name = "one_time_burst", .kind = MODEL_NUMBER, .most = SIZE_MOST},
    {.name = "refill_time", .kind = MODEL_NUMBER, .required = true, .most = REFILL_MS_MOST},
    {.name = NULL},
};

static const struct {
    const char *member;
    const char *word;
} buckets[] = {{"bandwidth", "bandwidth"}, {"ops", "operations"}};

#define BUCKETS (sizeof buckets / sizeof buckets[0])

bool rates_check(const json_t *limiter, struct api_response *response)
{
    if (limiter && !model_check(limiter, limiter_members, response))
        return false;
    for (size_t i = 0; i < BUCKETS && limiter; i++) {
        const json_t *bucket = model_object(limiter, buckets[i].member);
        if (bucket && !model_check(bucket, bucket_members, response))
            return false;
    }
    return true;
}

/* A bucket of no size, or that takes no time to fill, is no limit. */
static int bucket_word(const json_t *bucket, const char *start, const char *word, char *to, size_t size)
{
    const uint64_t tokens = model_number(bucket, "size", 0);
    const uint64_t refill_ms = model_number(bucket, "refill_time", 0);
    const uint64_t burst = model_number(bucket, "one_time_burst", 0);
    int n;
    if (tokens == 0 || refill_ms == 0)
        n = snprintf(to, size, "%s%s=none", start, word);
    else if (burst == 0)
        n = snprintf(to, size, "%s%s=%" PRIu64 "/%" PRIu64, start, word, tokens, refill_ms);
    else
        n = snprintf(to, size, "%s%s=%" PRIu64 "/%" PRIu64 "/%" PRIu64, start, word, tokens, refill_ms,
                     burst);
    return n < 0 || (size_t)n >= size ? -ENOSPC : n;
}

int rates_words(const json_t *limiter, const char *separator, const char *prefix, char *to, size_t size)
{
    char start[32];
    (void)snprintf(start, sizeof start, "%s%s", separator, prefix);
    if (size > 0)
        to[0] = '\0';
    for (size_t i = 0; i < BUCKETS && limiter; i++) {
        const json_t *bucket = model_object(limiter, buckets[i].member);
        const int n = bucket ? bucket_word(bucket, start, buckets[i].word, to, size) : 0;
        if (n < 0)
            return n;
        to += n;
        size -= (size_t)n;
    }
    return 0;
}
