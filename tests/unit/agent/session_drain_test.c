/* The connections held for the function, in the session: begun before it, drained before it is frozen. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/fake_connections.h"
#include "tests/unit/agent/snapshot_stage.h"

#define NS_PER_MS UINT64_C(1000000)

/* A function whose hooks have run, and whose connections are being drained. */
static struct talk *start_draining(uint32_t timeout_ms)
{
    fake_connections.drains_late = true;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, timeout_ms);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    turns(2);
    assert_int_equal(session.state, LIFECYCLE_DRAINING);
    assert_true(talk_is_quiet(talk));
    assert_false(fake.frozen);
    return talk;
}

static void connections_begin_before_the_function(void **state)
{
    (void)state;
    session.connections_directory = "/nowhere/connections";
    fake_connections.wanted = true;
    start_ready();
    assert_string_equal(fake_connections.calls, "b");
    assert_string_equal(process.connections, "/nowhere/connections");
}

static void without_a_manifest_the_function_is_told_nothing(void **state)
{
    (void)state;
    session.connections_directory = "/nowhere/connections";
    start_ready();
    assert_null(process.connections);
}

static void a_bad_manifest_fails_the_init(void **state)
{
    (void)state;
    session.connections_directory = "/nowhere/connections";
    fake_connections.begin_why = "/function/connections: line 3: port: 70000 is not in 1..65535";
    session_start(&session);
    turns(2);
    assert_int_equal(fake.starts, 0);
    assert_int_equal(session.state, LIFECYCLE_DOWN);
    assert_string_equal(words_to_init(), "F");
    struct talk *talk = client_new();
    talk_hello(talk, false);
    const struct proto_message *init = talk_next(talk);
    assert_int_equal(init->type, PROTO_INIT);
    assert_int_equal(init->u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(init->u.init.failure.type, proto_text("Function.InitError")));
    assert_non_null(
        memmem(init->u.init.failure.message.data, init->u.init.failure.message.size, "line 3", 6));
    talk_invoke(talk, "r-1", "x", 5000); /* asked for, it fails the same way */
    while (fake.starts == 0 && talk_is_quiet(talk))
        turn(NULL);
    assert_int_equal(fake.starts, 0);
    client_free(talk);
}

static void they_are_drained_then_frozen_then_forgotten(void **state)
{
    (void)state;
    struct talk *talk = start_draining(5000);
    assert_string_equal(fake_connections.calls, "d");
    const uint64_t now_ns = clock_monotonic_ns();
    assert_in_range(fake_connections.drain_deadline_ns - now_ns, 1500 * NS_PER_MS, 2500 * NS_PER_MS);
    fake_drained();
    expect_quiesced(talk, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
    assert_string_equal(fake_connections.calls, "df");
    turns(2);
    assert_true(session.armed_ns == LOOP_TIMER_NEVER);
    client_free(talk);
}

static void a_long_checkpoint_drains_no_longer(void **state)
{
    (void)state;
    struct talk *talk = start_draining(60000);
    assert_in_range(fake_connections.drain_deadline_ns - clock_monotonic_ns(), 4000 * NS_PER_MS,
                    5000 * NS_PER_MS);
    client_free(talk);
}

static void restarted(struct talk *talk)
{
    while (fake.starts < 2)
        turn(NULL);
    fake_connections.drains_late = false;
    function_ready();
    assert_int_equal(talk_next_but_log(talk)->type, PROTO_INIT);
    next_works(talk);
    client_free(talk);
}

static void a_function_that_ends_meanwhile_is_told(void **state)
{
    (void)state;
    struct talk *talk = start_draining(5000);
    fake_exit(&process, SIGSEGV);
    expect_quiesced(talk, PROTO_ERROR_CRASHED, "signal 11");
    assert_string_equal(fake_connections.calls, "du");
    restarted(talk);
}

static void a_function_that_speaks_meanwhile_is_ended(void **state)
{
    (void)state;
    struct talk *talk = start_draining(5000);
    function_quiesced();
    expect_quiesced(talk, PROTO_ERROR_BAD_CHANNEL, "");
    assert_string_equal(fake_connections.calls, "du");
    restarted(talk);
}

static void a_drain_that_does_not_end_is_given_up(void **state)
{
    (void)state;
    struct talk *talk = start_draining(5000);
    session.state_limit_ns = 1;
    turns(1);
    expect_quiesced(talk, PROTO_ERROR_NOT_QUIESCED, "its connections were not closed in time");
    assert_string_equal(fake_connections.calls, "du");
    restarted(talk);
}

static void what_cannot_be_forgotten_serves_on(void **state)
{
    (void)state;
    fake_resume.forget_fails = true;
    struct talk *talk = start_draining(5000);
    fake_drained();
    expect_quiesced(talk, PROTO_ERROR_NOT_QUIESCED, "cannot drop the page cache");
    assert_string_equal(fake_connections.calls, "du");
    fake_resume.forget_fails = false;
    restarted(talk);
}

static void a_hook_that_declines_drains_nothing(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    const struct proto_message no = {
        .type = PROTO_QUIESCED,
        .u.quiesced.failure = {.type = proto_text("My.Reason"), .message = proto_text("no")}};
    talk_send(&function, &no);
    expect_quiesced(talk, "My.Reason", "no");
    assert_string_equal(fake_connections.calls, "");
    client_free(talk);
}

static void a_resume_meanwhile_is_taken(void **state)
{
    (void)state;
    struct talk *host = start_draining(5000), *other = client_ready(false);
    ask_resume(other, 2, 1000);
    expect_quiesced(host, PROTO_ERROR_NOT_QUIESCED, "a resume came first");
    expect_steps(other);
    hooks_go_well(other);
    fake_drained(); /* late: it means nothing any more */
    next_works(other);
    client_free(host);
    client_free(other);
}

static void a_shutdown_meanwhile_ends_the_function(void **state)
{
    (void)state;
    struct talk *host = start_draining(5000), *other = client_ready(false);
    talk_shutdown(other);
    expect_quiesced(host, PROTO_ERROR_SHUTTING_DOWN, "");
    assert_int_equal(fake.stops, 1);
    client_free(host);
    client_free(other);
}

static void a_clone_that_is_given_up_says_nothing_more(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    fake_resume.failing = "generation";
    ask_resume(host, 2, 1000);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_UNRESUMED);
    assert_string_equal(fake_connections.calls, "dfa");
    client_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(connections_begin_before_the_function),
        WITH_SESSION(without_a_manifest_the_function_is_told_nothing),
        WITH_SESSION(a_bad_manifest_fails_the_init),
        WITH_SESSION(they_are_drained_then_frozen_then_forgotten),
        WITH_SESSION(a_long_checkpoint_drains_no_longer),
        WITH_SESSION(a_function_that_ends_meanwhile_is_told),
        WITH_SESSION(a_function_that_speaks_meanwhile_is_ended),
        WITH_SESSION(a_drain_that_does_not_end_is_given_up),
        WITH_SESSION(what_cannot_be_forgotten_serves_on),
        WITH_SESSION(a_hook_that_declines_drains_nothing),
        WITH_SESSION(a_resume_meanwhile_is_taken),
        WITH_SESSION(a_shutdown_meanwhile_ends_the_function),
        WITH_SESSION(a_clone_that_is_given_up_says_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
