/* Token buckets: by hand, exhaustively where they are small, against 128-bit arithmetic where they are not;
 * limits as text and in a snapshot; the device's side, with a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/device/rate.h"
#include "hostvmm/snapshot/codec.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

__extension__ typedef unsigned __int128 wide;

static struct bucket_limit limit_of(uint64_t size, uint64_t refill_ms, uint64_t burst)
{
    const struct bucket_limit limit = {.size = size, .refill_ms = refill_ms, .burst = burst};
    return limit;
}

/* Ask for `cost` and take it when it may pass. Whether it did. */
static bool pass(struct bucket *bucket, uint64_t cost, uint64_t now_ns)
{
    if (bucket_wait_ns(bucket, cost, now_ns) > 0)
        return false;
    bucket_take(bucket, cost);
    return true;
}

static void a_bucket_empties_and_fills(void **state)
{
    (void)state;
    struct bucket bucket;
    const struct bucket_limit limit = limit_of(1000, 1000, 0);
    bucket_init(&bucket, &limit, SECOND);
    assert_true(pass(&bucket, 600, SECOND));
    assert_true(pass(&bucket, 400, SECOND));
    assert_int_equal(bucket_wait_ns(&bucket, 1, SECOND), MS); /* a token each millisecond */
    assert_int_equal(bucket_wait_ns(&bucket, 300, SECOND), 300 * MS);
    assert_int_equal(bucket_wait_ns(&bucket, 300, SECOND + 300 * MS - 1), 1);
    assert_true(pass(&bucket, 300, SECOND + 300 * MS));
    assert_false(pass(&bucket, 1, SECOND + 300 * MS));
    assert_false(pass(&bucket, 1, 0)); /* time that goes back brings nothing, and takes nothing */
    assert_true(pass(&bucket, 1, SECOND + 301 * MS));
    assert_int_equal(bucket_wait_ns(&bucket, 1000, 1000 * SECOND), 0); /* full, and not more */
    assert_true(pass(&bucket, 1000, 1000 * SECOND));
    assert_false(pass(&bucket, 1, 1000 * SECOND));
}

static void a_burst_comes_first_and_once(void **state)
{
    (void)state;
    struct bucket bucket;
    const struct bucket_limit limit = limit_of(10, 10, 100);
    bucket_init(&bucket, &limit, 0);
    assert_true(pass(&bucket, 60, 0));
    assert_true(pass(&bucket, 50, 0)); /* 40 of the burst, and the bucket */
    assert_int_equal(bucket_wait_ns(&bucket, 1, 0), MS);
    assert_true(pass(&bucket, 10, 10 * SECOND));
    assert_false(pass(&bucket, 1, 10 * SECOND));
}

static void what_is_larger_than_the_bucket_makes_debt(void **state)
{
    (void)state;
    struct bucket bucket;
    const struct bucket_limit limit = limit_of(10, 10, 0);
    bucket_init(&bucket, &limit, 0);
    assert_true(pass(&bucket, 35, 0)); /* full: it passes */
    assert_int_equal(bucket.debt, 25);
    assert_int_equal(bucket_wait_ns(&bucket, 35, 0), 10 * MS); /* to ask again, at most a refill ahead */
    assert_false(pass(&bucket, 1, 25 * MS));
    assert_true(pass(&bucket, 1, 26 * MS));
    assert_false(pass(&bucket, 35, 34 * MS)); /* not full */
    assert_int_equal(bucket_wait_ns(&bucket, 35, 35 * MS), 1 * MS);
    assert_true(pass(&bucket, 35, 36 * MS));
    bucket_take(&bucket, UINT64_MAX); /* never beyond its bound */
    bucket_take(&bucket, UINT64_MAX);
    assert_int_equal(bucket.debt, RATE_SIZE_MAX);
}

/* Three tokens in ten milliseconds is no whole number of nanoseconds: asked at any rhythm, none is lost. */
static void no_fraction_is_lost(void **state)
{
    (void)state;
    static const uint64_t steps_ns[] = {1, 7, 999, 3333333, 3333334, 10 * MS - 1, 10 * MS + 1};
    for (size_t i = 0; i < sizeof steps_ns / sizeof steps_ns[0]; i++) {
        struct bucket bucket;
        const struct bucket_limit limit = limit_of(3, 10, 0);
        uint64_t given = 0, now = 5;
        bucket_init(&bucket, &limit, now);
        bucket_take(&bucket, RATE_SIZE_MAX); /* debt enough, so that it is never full */
        const uint64_t before = bucket.debt;
        for (unsigned n = 0; n < 20000; n++) {
            now += steps_ns[i];
            (void)bucket_wait_ns(&bucket, 1, now);
        }
        given = before - bucket.debt;
        assert_int_equal(given, (now - 5) * 3 / (10 * MS));
    }
}

/* What a bucket does is what the definition says, in arithmetic that is wide enough to say it plainly. */
struct model {
    wide gap; /* to full, in parts of a token: tokens times the nanoseconds of a refill */
    uint64_t burst_left;
    uint64_t at_ns;
};

static void model_check(struct model *model, const struct bucket_limit *limit, struct bucket *bucket,
                        uint64_t cost, uint64_t now_ns)
{
    const wide period = (wide)limit->refill_ms * MS;
    const wide gained = (wide)(now_ns - model->at_ns) * limit->size;
    const uint64_t wait = bucket_wait_ns(bucket, cost, now_ns);
    if (cost <= model->burst_left) {
        assert_int_equal(wait, 0);
        bucket_take(bucket, cost);
        model->burst_left -= cost;
        return;
    }
    model->gap = model->gap > gained ? model->gap - gained : 0;
    model->at_ns = now_ns;
    const uint64_t rest = cost - model->burst_left;
    const wide wanted = (wide)(rest < limit->size ? rest : limit->size) * period;
    const wide full = (wide)limit->size * period;
    if (wanted + model->gap <= full) {
        assert_int_equal(wait, 0);
        bucket_take(bucket, cost);
        model->burst_left = 0;
        model->gap += (wide)rest * period;
        return;
    }
    assert_true(wait > 0 && wait <= period);
    /* One nanosecond earlier it would not do, and then it does, unless a whole refill is not enough. */
    const wide lacking = wanted + model->gap - full;
    const wide ns = (lacking + limit->size - 1) / limit->size;
    if (ns <= period)
        assert_int_equal(wait, (uint64_t)ns);
    assert_true(wait <= ns);
}

static uint64_t random_below(uint64_t *seed, uint64_t bound)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    const uint64_t mixed = (*seed ^ *seed >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return bound ? (mixed ^ mixed >> 32) % bound : 0;
}

static uint64_t random_size(uint64_t *seed, uint64_t max)
{
    return 1 + random_below(seed, (UINT64_C(1) << random_below(seed, 49)) < max
                                      ? UINT64_C(1) << random_below(seed, 49) % 48
                                      : max);
}

static void it_agrees_with_wide_arithmetic(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned run = 0; run < 4000; run++) {
        const struct bucket_limit limit =
            limit_of(run % 7 ? random_size(&seed, RATE_SIZE_MAX) : RATE_SIZE_MAX,
                     run % 5 ? 1 + random_below(&seed, 5000) : RATE_REFILL_MS_MAX,
                     run % 3 ? 0 : random_size(&seed, RATE_SIZE_MAX));
        struct bucket bucket;
        struct model model = {.gap = 0, .burst_left = limit.burst, .at_ns = 0};
        uint64_t now = 0;
        if (!bucket_limit_valid(&limit))
            continue;
        bucket_init(&bucket, &limit, now);
        for (unsigned n = 0; n < 60; n++) {
            const uint64_t most = n % 9 ? limit.refill_ms * MS / (1 + n % 4) : 400 * 86400 * SECOND;
            now += random_below(&seed, most);
            model_check(&model, &limit, &bucket, random_size(&seed, RATE_SIZE_MAX), now);
        }
    }
}

/* Whoever asks as soon as it may: over any span no more than size + burst + size * T / refill, one larger
 * request besides, and over a long one no less than the average. */
static void the_average_is_kept(void **state)
{
    (void)state;
    static const uint64_t costs[] = {1, 3, 512, 4096, 100000};
    for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
        struct bucket bucket;
        const struct bucket_limit limit = limit_of(10000, 100, 5000);
        uint64_t now = 17, passed = 0;
        bucket_init(&bucket, &limit, now);
        while (now < 30 * SECOND) {
            const uint64_t wait = bucket_wait_ns(&bucket, costs[i], now);
            now += wait;
            if (wait > 0)
                continue;
            bucket_take(&bucket, costs[i]);
            passed += costs[i];
            assert_true(passed <= 15000 + costs[i] + (now - 17) / (100 * MS) * 10000 + 10000);
        }
        assert_in_range(passed, 3000000 - 100000, 3000000 + 15000 + costs[i]);
    }
}

static void time_may_jump(void **state)
{
    (void)state;
    struct bucket bucket;
    const struct bucket_limit limits[] = {
        limit_of(1, 1, 0),
        limit_of(RATE_SIZE_MAX, 1, RATE_SIZE_MAX),
        limit_of(1, RATE_REFILL_MS_MAX, 0),
        limit_of(RATE_SIZE_MAX, RATE_REFILL_MS_MAX, RATE_SIZE_MAX),
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        bucket_init(&bucket, &limits[i], 0);
        bucket_take(&bucket, UINT64_MAX);
        bucket_take(&bucket, UINT64_MAX);
        assert_true(bucket_wait_ns(&bucket, 1, 0) <= limits[i].refill_ms * MS);
        (void)bucket_wait_ns(&bucket, 1, UINT64_MAX / 2);
        assert_int_equal(bucket_wait_ns(&bucket, UINT64_MAX, UINT64_MAX) == 0, bucket.debt == 0);
        if (limits[i].size == RATE_SIZE_MAX)
            assert_int_equal(bucket.debt, 0);
    }
}

static void a_changed_limit_keeps_what_is_there(void **state)
{
    (void)state;
    struct bucket bucket;
    const struct bucket_limit none = {.size = 0};
    struct bucket_limit limit = limit_of(1000, 1000, 0);
    bucket_init(&bucket, &none, 0);
    assert_true(pass(&bucket, UINT64_MAX, 0));
    bucket_change(&bucket, &limit, 5 * SECOND); /* a new one is full */
    assert_true(pass(&bucket, 700, 5 * SECOND));
    bucket_change(&bucket, &limit, 5 * SECOND + 100 * MS); /* the same: nothing changes */
    assert_int_equal(bucket.tokens, 300);
    limit.size = 200;
    bucket_change(&bucket, &limit, 5 * SECOND + 100 * MS); /* 400 by now, and room for 200 */
    assert_int_equal(bucket.tokens, 200);
    limit.size = 5000;
    limit.burst = 50;
    bucket_change(&bucket, &limit, 5 * SECOND + 100 * MS);
    assert_int_equal(bucket.tokens, 200);
    assert_int_equal(bucket.burst_left, 50);
    bucket_take(&bucket, 100250);
    assert_int_equal(bucket.debt, 100000);
    limit.size = 10;
    bucket_change(&bucket, &limit, 5 * SECOND + 100 * MS); /* a debt is no sentence for life */
    assert_int_equal(bucket.debt, 10);
    bucket_change(&bucket, &none, 6 * SECOND);
    assert_int_equal(bucket_wait_ns(&bucket, UINT64_MAX, 6 * SECOND), 0);
}

static void limits_are_judged(void **state)
{
    (void)state;
    static const struct {
        struct bucket_limit limit;
        bool valid;
    } cases[] = {
        {{0, 0, 0}, true},
        {{0, 1, 0}, false},
        {{0, 0, 1}, false},
        {{1, 0, 0}, false},
        {{1, 0, 1}, true},
        {{RATE_SIZE_MAX, RATE_SIZE_MAX, RATE_REFILL_MS_MAX}, true},
        {{RATE_SIZE_MAX + 1, 0, 1}, false},
        {{1, RATE_SIZE_MAX + 1, 1}, false},
        {{1, 0, RATE_REFILL_MS_MAX + 1}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(bucket_limit_valid(&cases[i].limit), cases[i].valid);
}

static void text_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct bucket_limit limit;
    } good[] = {
        {"1/1", {1, 0, 1}},
        {"none", {0, 0, 0}},
        {"10M/1000", {10 << 20, 0, 1000}},
        {"1K/250/3G", {1024, UINT64_C(3) << 30, 250}},
        {"281474976710656/86400000/281474976710656", {RATE_SIZE_MAX, RATE_SIZE_MAX, RATE_REFILL_MS_MAX}},
        {"262144G/1", {RATE_SIZE_MAX, 0, 1}},
        {"7/1/0", {7, 0, 1}},
    };
    static const char *const bad[] = {
        "",
        "/",
        "1",
        "1/",
        "/1",
        "1/1/",
        "1/1/1/1",
        "0/1",
        "1/0",
        "-1/1",
        "1/1K",
        "K/1",
        "1k/1",
        "1 /1",
        "1/1/K",
        "none/1",
        "262145G/1",
        "1/86400001",
        "0x1/1",
        "1.5/1",
        "1MM/1",
        "+1/1",
        "18446744073709551617/1",
        "281474976710657/1",
        "1/1/281474976710657",
        "99999999999999999999999/1",
        "1/1/1 ",
        "NONE",
    };
    struct bucket_limit limit;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(rate_parse(&limit, good[i].text, strlen(good[i].text)), 0);
        assert_memory_equal(&limit, &good[i].limit, sizeof limit);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        limit.size = 42;
        char *exact = malloc(strlen(bad[i]) + 1); /* so that one byte too far is seen */
        memcpy(exact, bad[i], strlen(bad[i]));
        if (rate_parse(&limit, exact, strlen(bad[i])) != -EINVAL || limit.size != 42)
            fail_msg("%s was taken", bad[i]);
        free(exact);
    }
    assert_int_equal(rate_parse(&limit, "5/1,ro", 3), 0); /* only so many bytes of it */
}

static void words_make_a_wish(void **state)
{
    (void)state;
    struct rate_wish wish = {.bandwidth = false};
    struct rate_limits limits = {.bandwidth = limit_of(1, 2, 3), .operations = limit_of(4, 5, 6)};
    assert_int_equal(rate_wish_word(&wish, "", "ro", 2), 0);
    assert_int_equal(rate_wish_word(&wish, "rx-", "bandwidth=1/1", 13), 0);
    assert_int_equal(rate_wish_word(&wish, "rx-", "rx-bandwidth=1/", 15), -EINVAL);
    wish = (struct rate_wish){.bandwidth = false};
    assert_int_equal(rate_wish_word(&wish, "rx-", "rx-operations=none", 18), 1);
    assert_true(wish.operations && !wish.bandwidth);
    rate_wish_apply(&wish, &limits);
    assert_int_equal(limits.bandwidth.size, 1);
    assert_int_equal(limits.operations.size, 0);
    assert_int_equal(limits.operations.refill_ms, 0);
}

static uint64_t test_now_ns;

static uint64_t test_clock(void)
{
    return test_now_ns;
}

static void a_device_asks_both_buckets(void **state)
{
    (void)state;
    struct rate rate;
    struct rate_limits limits = {.bandwidth = limit_of(1000, 1000, 0), .operations = limit_of(2, 100, 0)};
    rate_init(&rate);
    rate.now_ns = NULL; /* without a limit the clock is not read */
    assert_int_equal(rate_take(&rate, UINT64_MAX), 0);
    rate.now_ns = test_clock;
    test_now_ns = SECOND;
    rate_change(&rate, &limits);
    assert_int_equal(rate_take(&rate, 10), 0);
    assert_int_equal(rate_take(&rate, 10), 0);
    assert_int_equal(rate_take(&rate, 10), 50 * MS); /* operations */
    assert_int_equal(rate_take(&rate, 990), 50 * MS);
    assert_int_equal(rate.bandwidth.tokens, 980); /* what did not pass took nothing */
    assert_int_equal(rate.throttled_count, 1);
    test_now_ns += 50 * MS;
    assert_int_equal(rate_take(&rate, 1000), 0); /* 20 came in: 1000 is what there is */
    assert_int_equal(rate.throttled_wait_ns, 50 * MS);
    test_now_ns += 100 * MS;
    assert_int_equal(rate_take(&rate, 200), 100 * MS); /* bytes */
    assert_int_equal(rate.throttled_count, 2);
    limits.bandwidth = limit_of(0, 0, 0);
    limits.operations = limit_of(0, 0, 0);
    rate_change(&rate, &limits); /* while it waits */
    test_now_ns += 10 * MS;
    assert_int_equal(rate_take(&rate, 1u << 30), 0);
    assert_int_equal(rate.throttled_wait_ns, 60 * MS);
    rate.now_ns = NULL;
    assert_int_equal(rate_take(&rate, 1u << 30), 0);
    rate_fini(&rate);
}

static void what_was_not_asked_for_becomes_debt(void **state)
{
    (void)state;
    struct rate rate;
    const struct rate_limits limits = {.bandwidth = limit_of(1000, 1000, 0)};
    rate_init(&rate);
    rate.now_ns = test_clock;
    test_now_ns = SECOND;
    rate_change(&rate, &limits);
    assert_int_equal(rate_ask(&rate, 1), 0); /* a frame whose size is not known yet */
    rate_charge(&rate, 1500);
    assert_int_equal(rate_ask(&rate, 1), 501 * MS);
    rate_idle(&rate); /* given up: not waiting any more */
    test_now_ns += 10 * SECOND;
    assert_int_equal(rate_ask(&rate, 1), 0);
    assert_int_equal(rate.throttled_wait_ns, 0);
    rate_fini(&rate);
}

static void limits_survive_a_snapshot(void **state)
{
    (void)state;
    const struct rate_limits limits = {.bandwidth = limit_of(RATE_SIZE_MAX, 7, 9)};
    struct state_writer out;
    struct state_reader in;
    struct rate rate, other;
    struct rate_limits loaded;
    rate_init(&rate);
    rate_init(&other);
    state_writer_init(&out);
    state_put_map(&out, NULL, 2);
    rate_save(&rate, &out, "a"); /* none */
    rate_change(&rate, &limits);
    rate_save(&rate, &out, "b");
    assert_false(out.failed);
    state_reader_init(&in, out.data, out.size_bytes);
    state_get_map(&in, NULL, 2);
    rate_load(&other, &in, "a");
    assert_false(other.changed);
    rate_load(&other, &in, "b");
    state_end(&in);
    assert_int_equal(state_reader_finish(&in), 0);
    rate_limits_now(&other, &loaded);
    assert_memory_equal(&loaded, &limits, sizeof loaded);
    state_writer_fini(&out);
    rate_fini(&rate);
    rate_fini(&other);
}

static void a_snapshots_limits_are_judged(void **state)
{
    (void)state;
    static const uint64_t bad[][6] = {
        {1, 0, 0, 0, 0, 0},
        {0, 1, 0, 0, 0, 0},
        {0, 0, 1, 1, 1, 1},
        {RATE_SIZE_MAX + 1, 1, 0, 0, 0, 0},
        {1, RATE_REFILL_MS_MAX + 1, 0, 0, 0, 0},
    };
    for (size_t i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
        struct state_writer out;
        struct state_reader in;
        struct rate rate;
        const unsigned count = i < sizeof bad / sizeof bad[0] ? 6 : 3;
        rate_init(&rate);
        state_writer_init(&out);
        state_put_array(&out, NULL, count);
        for (unsigned j = 0; j < count; j++)
            state_put_uint(&out, NULL, count == 6 ? bad[i][j] : 1);
        state_reader_init(&in, out.data, out.size_bytes);
        rate_load(&rate, &in, NULL);
        assert_int_equal(state_reader_finish(&in), -EBADMSG);
        assert_false(rate.changed);
        state_writer_fini(&out);
        rate_fini(&rate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_empties_and_fills),
        cmocka_unit_test(a_burst_comes_first_and_once),
        cmocka_unit_test(what_is_larger_than_the_bucket_makes_debt),
        cmocka_unit_test(no_fraction_is_lost),
        cmocka_unit_test(it_agrees_with_wide_arithmetic),
        cmocka_unit_test(the_average_is_kept),
        cmocka_unit_test(time_may_jump),
        cmocka_unit_test(a_changed_limit_keeps_what_is_there),
        cmocka_unit_test(limits_are_judged),
        cmocka_unit_test(text_is_read),
        cmocka_unit_test(words_make_a_wish),
        cmocka_unit_test(a_device_asks_both_buckets),
        cmocka_unit_test(what_was_not_asked_for_becomes_debt),
        cmocka_unit_test(limits_survive_a_snapshot),
        cmocka_unit_test(a_snapshots_limits_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
