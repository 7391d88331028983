/* hostvmm's dialogue with an agent that breaks the rules, falls silent or goes away. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/control/lifeline_fixture.h"

/* ---- the agent breaks the rules
 * ------------------------------------------------------------------------------ */

static void test_no_hello(void **state)
{
    (void)state;
    begin_checkpoint();
    say_end(PROTO_QUIESCED, NULL);
    expect(-EPROTO, "did not begin with hello");
}

static void test_two_hellos(void **state)
{
    (void)state;
    begin_checkpoint();
    say_hello();
    say_hello_of(PROTO_VERSION);
    expect(-EPROTO, "twice");
}

static void test_other_version(void **state)
{
    (void)state;
    begin_resume();
    say_hello_of(PROTO_VERSION + 1);
    expect(-EPROTO, "same release");
}

static void test_unexpected_type(void **state)
{
    (void)state;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_RESUMED, NULL);
    expect(-EPROTO, "asked for checkpoint");
}

static void test_answer_before_the_question(void **state)
{
    (void)state;
    begin_resume();
    say_hello_of(PROTO_VERSION);
    say_end(PROTO_RESUMED, NULL); /* in one piece with the hello: RESUME has not gone out */
    expect(-EPROTO, "type 10");
}

static void test_answer_in_advance(void **state)
{
    (void)state;
    resume_when_told = true;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, NULL);
    say_end(PROTO_RESUMED, NULL);
    turn();
    assert_int_equal(told_count, 2);
    assert_int_equal(told.error, -EPROTO);
}

static void test_steps_without_end(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    for (int i = 0; i <= LIFELINE_STEPS_MAX; i++)
        say_step("again", NULL);
    expect(-EPROTO, "more than 24 steps");
}

static void test_facts_without_end(void **state)
{
    (void)state;
    assert_int_equal(lifeline_collect(&lifeline, LIMIT_MS, on_fact, on_done, &told), 0);
    turn();
    say_hello();
    for (int i = 0; i <= LIFELINE_FACTS_MAX; i++)
        say(&(struct proto_message){.type = PROTO_FACT,
                                    .u.fact = {.name = proto_text("more"), .body = proto_text("abc")}});
    expect(-EPROTO, "more than 64 facts");
}

static void test_resumed_in_spite_of_a_failed_step(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    say_step("entropy", "no");
    say_end(PROTO_RESUMED, NULL);
    expect(-EPROTO, "entropy");
}

static void test_step_after_a_failed_one(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    say_step("entropy", "no");
    say_step("clock", NULL);
    expect(-EPROTO, "went on");
}

static void test_garbage(void **state)
{
    (void)state;
    begin_checkpoint();
    say_hello();
    assert_int_equal(fd_write_all(agent_fd, "\0\0\0\3xyz", 7), 0);
    expect(-EPROTO, "not valid");
}

static void test_impossible_frame(void **state)
{
    (void)state;
    begin_checkpoint();
    assert_int_equal(fd_write_all(agent_fd, "HTTP/1.1 200 OK\r\n", 17), 0);
    expect(-EPROTO, "impossible size");
}

/* ---- the connection and the clock
 * ---------------------------------------------------------------------------- */

static void test_closed_before_hello(void **state)
{
    (void)state;
    begin_resume();
    fd_close(&agent_fd);
    expect(-ECONNREFUSED, "before it said hello");
}

static void test_closed_after_hello(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    fd_close(&agent_fd);
    expect(-ECONNRESET, "went away");
}

static void test_closed_after_a_step(void **state)
{
    (void)state;
    begin_resume();
    say_hello();
    say_step("entropy", NULL);
    turn();
    fd_close(&agent_fd);
    expect(-ECONNRESET, NULL);
    assert_int_equal(told.step_count, 1);
}

static void test_closed_between_exchanges(void **state)
{
    (void)state;
    begin_checkpoint();
    say_hello();
    say_end(PROTO_QUIESCED, NULL);
    expect(0, NULL);
    fd_close(&agent_fd);
    turn();
    assert_int_equal(told_count, 1);
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -ENOTCONN);
}

static void test_agent_that_does_not_listen(void **state)
{
    (void)state;
    begin_resume();
    assert_int_equal(shutdown(agent_fd, SHUT_RD), 0);
    say_hello();
    int turns = 0;
    while (turns < 50 && loop_run_once(&loop, 0) > 0)
        turns++;
    assert_in_range(turns, 0, 10); /* it does not spin */
    assert_int_equal(told_count, 0);
}

static void wait_for_limit(void)
{
    while (told_count == 0)
        assert_true(loop_run_once(&loop, 5000) > 0);
}

static void test_late(void **state)
{
    (void)state;
    assert_int_equal(lifeline_resume(&lifeline, &order, 30, on_done, &told), 0);
    wait_for_limit();
    expect(-ETIMEDOUT, "did not even say hello");
}

static void test_late_after_a_step(void **state)
{
    (void)state;
    assert_int_equal(lifeline_resume(&lifeline, &order, 30, on_done, &told), 0);
    turn();
    say_hello();
    say_step("entropy", NULL);
    wait_for_limit();
    expect(-ETIMEDOUT, "within 30 ms; the last step it did: entropy");
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    begin_checkpoint();
    assert_int_equal(lifeline_checkpoint(&lifeline, LIMIT_MS, on_done, &told), -EBUSY);
    say_hello();
    say_end(PROTO_QUIESCED, NULL);
    expect(0, NULL);
}

static void test_order_outside_its_limits(void **state)
{
    (void)state;
    order.generation = 0;
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    order.generation = 1;
    order.hostname = "no spaces, please";
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    order.hostname = NULL;
    static char long_network[PROTO_NETWORK_MAX_BYTES + 2];
    memset(long_network, 'n', sizeof long_network - 1);
    order.network = long_network;
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    order.network = "no spaces, please";
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    long_network[PROTO_NETWORK_MAX_BYTES] = '\0';
    order.network = long_network;
    (void)snprintf(order.secrets[0].name, sizeof order.secrets[0].name, "../x");
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    order.secret_count = LIFELINE_SECRETS_MAX + 1;
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), -EINVAL);
    order.secret_count = 0;
    begin_resume();
    (void)hear(PROTO_HELLO);
    say_hello();
    const struct proto_message resume = hear(PROTO_RESUME);
    assert_int_equal(resume.u.resume.hostname.size, 0);
    assert_int_equal(resume.u.resume.network.size, PROTO_NETWORK_MAX_BYTES); /* the longest fits */
}

static void test_no_connection(void **state)
{
    (void)state;
    lifeline_fini(&lifeline);
    assert_int_equal(lifeline_checkpoint(&lifeline, LIMIT_MS, on_done, &told), -ENOTCONN);
    lifeline_fini(&lifeline);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_no_hello),
        TEST(test_two_hellos),
        TEST(test_other_version),
        TEST(test_unexpected_type),
        TEST(test_answer_before_the_question),
        TEST(test_answer_in_advance),
        TEST(test_steps_without_end),
        TEST(test_facts_without_end),
        TEST(test_resumed_in_spite_of_a_failed_step),
        TEST(test_step_after_a_failed_one),
        TEST(test_garbage),
        TEST(test_impossible_frame),
        TEST(test_closed_before_hello),
        TEST(test_closed_after_hello),
        TEST(test_closed_after_a_step),
        TEST(test_closed_between_exchanges),
        TEST(test_agent_that_does_not_listen),
        TEST(test_late),
        TEST(test_late_after_a_step),
        TEST(test_one_at_a_time),
        TEST(test_order_outside_its_limits),
        TEST(test_no_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
