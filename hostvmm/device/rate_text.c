/* Limits as text, and as a part of a snapshot. See rate.h. */
#include <errno.h>
#include <string.h>

#include "hostvmm/device/rate.h"
#include "hostvmm/snapshot/codec.h"

#define NUMBERS 6u /* of struct rate_limits */

/* A number with its unit, up to `max`. Whether all of it is one. */
static bool number(const char *text, size_t size, uint64_t max, uint64_t *value)
{
    static const char units[] = "KMG";
    unsigned shift = 0;
    uint64_t sum = 0;
    const char *unit = size > 0 && text[size - 1] ? strchr(units, text[size - 1]) : NULL;
    if (unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        size--;
    }
    if (size == 0)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(text[i] - '0');
        if (sum > max >> shift)
            return false;
    }
    *value = sum << shift;
    return true;
}

/* The part of `text` before the next slash; its size. */
static size_t part(const char *text, size_t size)
{
    const char *slash = memchr(text, '/', size);
    return slash ? (size_t)(slash - text) : size;
}

int rate_parse(struct bucket_limit *limit, const char *text, size_t size)
{
    struct bucket_limit parsed = {.size = 0};
    if (size == 4 && memcmp(text, "none", 4) == 0) {
        *limit = parsed;
        return 0;
    }
    const size_t first = part(text, size);
    if (first == size || !number(text, first, RATE_SIZE_MAX, &parsed.size) || parsed.size == 0)
        return -EINVAL;
    text += first + 1;
    size -= first + 1;
    const size_t second = part(text, size);
    if (second == 0 || text[second - 1] < '0' || text[second - 1] > '9' || /* milliseconds have no unit */
        !number(text, second, RATE_REFILL_MS_MAX, &parsed.refill_ms))
        return -EINVAL;
    if (second < size && !number(text + second + 1, size - second - 1, RATE_SIZE_MAX, &parsed.burst))
        return -EINVAL;
    if (!bucket_limit_valid(&parsed))
        return -EINVAL;
    *limit = parsed;
    return 0;
}

int rate_wish_word(struct rate_wish *wish, const char *prefix, const char *word, size_t size)
{
    static const char bandwidth[] = "bandwidth=", operations[] = "operations=";
    const size_t start = strlen(prefix);
    if (size < start || memcmp(word, prefix, start) != 0)
        return 0;
    word += start;
    size -= start;
    if (size >= strlen(bandwidth) && memcmp(word, bandwidth, strlen(bandwidth)) == 0) {
        wish->bandwidth = true;
        const size_t key = strlen(bandwidth);
        return rate_parse(&wish->limits.bandwidth, word + key, size - key) ? -EINVAL : 1;
    }
    if (size >= strlen(operations) && memcmp(word, operations, strlen(operations)) == 0) {
        wish->operations = true;
        const size_t key = strlen(operations);
        return rate_parse(&wish->limits.operations, word + key, size - key) ? -EINVAL : 1;
    }
    return 0;
}

static void save_limit(const struct bucket_limit *limit, struct state_writer *out)
{
    state_put_uint(out, NULL, limit->size);
    state_put_uint(out, NULL, limit->refill_ms);
    state_put_uint(out, NULL, limit->burst);
}

void rate_save(struct rate *rate, struct state_writer *out, const char *key)
{
    struct rate_limits limits;
    rate_limits_now(rate, &limits);
    const bool limited = limits.bandwidth.size != 0 || limits.operations.size != 0;
    state_put_array(out, key, limited ? NUMBERS : 0);
    if (limited) {
        save_limit(&limits.bandwidth, out);
        save_limit(&limits.operations, out);
    }
}

static void load_limit(struct bucket_limit *limit, struct state_reader *in)
{
    limit->size = state_get_uint(in, NULL, 0, RATE_SIZE_MAX);
    limit->refill_ms = state_get_uint(in, NULL, 0, RATE_REFILL_MS_MAX);
    limit->burst = state_get_uint(in, NULL, 0, RATE_SIZE_MAX);
}

void rate_load(struct rate *rate, struct state_reader *in, const char *key)
{
    struct rate_limits limits = {.bandwidth = {.size = 0}};
    const unsigned count = state_get_array(in, key, NUMBERS);
    if (count == NUMBERS) {
        load_limit(&limits.bandwidth, in);
        load_limit(&limits.operations, in);
        if (!in->failed &&
            (!bucket_limit_valid(&limits.bandwidth) || !bucket_limit_valid(&limits.operations)))
            state_refuse(in, NULL, "a limit without a time to refill, or one of nothing");
    } else if (!in->failed && count != 0) {
        state_refuse(in, NULL, "%u numbers, none or %u wanted", count, NUMBERS);
    }
    state_end(in);
    if (!in->failed && count == NUMBERS)
        rate_change(rate, &limits);
}
