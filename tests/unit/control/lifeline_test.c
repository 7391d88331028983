/* hostvmm's dialogue with the agent: as it should go, and when the agent reports a failure. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/control/lifeline_fixture.h"

static uint64_t realtime_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- as it should be
 * ----------------------------------------------------------------------------------------- */

static void test_checkpoint_then_the_original_goes_on(void **state)
{
    (void)state;
    begin_checkpoint();
    (void)hear(PROTO_HELLO);
    const uint32_t limit = hear(PROTO_CHECKPOINT).u.checkpoint.timeout_ms;
    assert_in_range(limit, LIMIT_MS / 2, LIMIT_MS - 1);
    say_hello();
    say_chatter();
    say_end(PROTO_QUIESCED, NULL);
    expect(0, NULL);
    assert_int_equal(told.duration_us, 1900);

    begin_resume();
    (void)hear(PROTO_SECRET); /* and no second hello */
    (void)hear(PROTO_RESUME);
    say_end(PROTO_RESUMED, NULL);
    turn();
    assert_int_equal(told_count, 2);
    assert_int_equal(told.error, 0);
}

static void test_resume(void **state)
{
    (void)state;
    begin_resume();
    (void)hear(PROTO_HELLO);
    const struct proto_message secret = hear(PROTO_SECRET);
    assert_int_equal(secret.u.secret.body.size, sizeof key);
    assert_memory_equal(secret.u.secret.body.data, key, sizeof key);
    hear_nothing(); /* the time is told when the agent is there to hear it */
    const uint64_t before = realtime_ns();
    say_hello();
    const struct proto_message resume = hear(PROTO_RESUME);
    assert_in_range(resume.u.resume.realtime_ns, before, realtime_ns());
    assert_int_equal(resume.u.resume.generation, 7);
    assert_int_equal(resume.u.resume.timeout_ms, 500);
    assert_memory_equal(resume.u.resume.seed.data, order.seed, sizeof order.seed);
    assert_memory_equal(resume.u.resume.clone_id.data, order.clone_id, sizeof order.clone_id);
    assert_true(proto_slice_equal(resume.u.resume.hostname, proto_text("clone-7")));
    assert_true(proto_slice_equal(resume.u.resume.network, proto_text("mtu=1400,address=192.0.2.7/24")));
    say_step("entropy", NULL);
    say_chatter();
    say_step("clock", NULL);
    say_end(PROTO_RESUMED, NULL);
    expect(0, NULL);
    assert_int_equal(told.step_count, 2);
    assert_string_equal(told.steps[1].name, "clock");
    assert_int_equal(told.steps[1].duration_us, 35);
    assert_string_equal(told.step, "");
}

static bool holds(const void *memory, size_t size, const void *what, size_t bytes)
{
    const uint8_t *at = memory;
    for (size_t i = 0; i + bytes <= size; i++)
        if (memcmp(at + i, what, bytes) == 0)
            return true;
    return false;
}

static void test_nothing_secret_is_kept(void **state)
{
    (void)state;
    begin_resume();
    assert_true(holds(&lifeline, sizeof lifeline, order.seed, sizeof order.seed));
    say_hello();
    assert_false(holds(&lifeline, sizeof lifeline, order.seed, sizeof order.seed));
    assert_null(lifeline.request);
}

static void test_a_guest_that_reads_nothing_gets_the_time_of_then(void **state)
{
    (void)state;
    static uint8_t large[PROTO_SECRET_MAX_BYTES];
    const int little = 4096;
    assert_int_equal(setsockopt(lifeline.fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
    order.secret_count = LIFELINE_SECRETS_MAX;
    for (unsigned i = 0; i < order.secret_count; i++) {
        order.secrets[i] = (struct lifeline_secret){.data = large, .size = sizeof large};
        (void)snprintf(order.secrets[i].name, sizeof order.secrets[i].name, "secret-%u", i);
    }
    begin_resume();
    say_hello();
    (void)hear(PROTO_HELLO);
    const uint64_t before = realtime_ns();
    for (unsigned i = 0; i < order.secret_count; i++) {
        turn();
        (void)hear(PROTO_SECRET);
    }
    turn();
    assert_true(hear(PROTO_RESUME).u.resume.realtime_ns >= before);
    say_end(PROTO_RESUMED, NULL);
    expect(0, NULL);
}

static void test_collect(void **state)
{
    (void)state;
    assert_int_equal(lifeline_collect(&lifeline, LIMIT_MS, on_fact, on_done, &told), 0);
    turn();
    (void)hear(PROTO_HELLO);
    (void)hear(PROTO_COLLECT);
    say_hello();
    for (int i = 0; i < 5; i++)
        say(&(struct proto_message){.type = PROTO_FACT,
                                    .u.fact = {.name = proto_text("boot_id"), .body = proto_text("abc")}});
    say_end(PROTO_COLLECTED, NULL);
    expect(0, NULL);
    assert_int_equal(fact_count, 5);
}

static void test_next_exchange_from_within_done(void **state)
{
    (void)state;
    resume_when_told = true;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, NULL);
    turn();
    assert_int_equal(told_count, 1);
    say_end(PROTO_RESUMED, NULL);
    turn();
    assert_int_equal(told_count, 2);
    assert_int_equal(told.error, 0);
}

static void test_fini_from_within_done(void **state)
{
    (void)state;
    fini_when_told = true;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, "no");
    turn();
    assert_int_equal(told_count, 1);
    assert_false(lifeline_is_open(&lifeline));
}

/* ---- the agent reports a failure
 * ----------------------------------------------------------------------------- */

static void test_refused_checkpoint(void **state)
{
    (void)state;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, "before_checkpoint returned 3\x1b[2J");
    expect(-EREMOTEIO, "before_checkpoint returned 3?[2J");
}

static void test_failed_step(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    say_step("entropy", NULL);
    say_step("clock", "cannot set the time");
    say_end(PROTO_RESUMED, "clock: cannot set the time");
    expect(-EREMOTEIO, "clock: ");
    assert_string_equal(told.step, "clock");
    assert_int_equal(told.step_count, 1);
}

static void test_connection_refused_by_error(void **state)
{
    (void)state;
    begin_resume();
    say(&(struct proto_message){.type = PROTO_ERROR,
                                .u.error.failure = failure_of("Agent.TooMany", "no room")});
    expect(-EREMOTEIO, "Agent.TooMany: no room");
}

static void test_long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    char text[PROTO_ERROR_TEXT_MAX_BYTES + 1] = "x";
    for (size_t i = 1; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, text);
    expect(-EREMOTEIO, "xé");
    assert_int_equal((uint8_t)told.why[strlen(told.why) - 1], 0xa9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_then_the_original_goes_on),
        TEST(test_resume),
        TEST(test_nothing_secret_is_kept),
        TEST(test_a_guest_that_reads_nothing_gets_the_time_of_then),
        TEST(test_collect),
        TEST(test_next_exchange_from_within_done),
        TEST(test_fini_from_within_done),
        TEST(test_refused_checkpoint),
        TEST(test_failed_step),
        TEST(test_connection_refused_by_error),
        TEST(test_long_texts_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
