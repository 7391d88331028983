/*
 * A checkpoint, from CHECKPOINT to QUIESCED: what is done before it is said, who waits, what each failure
 * means.
 */
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

#include "agent/proto/errors.h"
#include "tests/unit/agent/snapshot_stage.h"

/* The state's time is up, without waiting for it. */
static void pass_limit(void)
{
    session.state_limit_ns = 1;
    turns(1);
}

static void function_is_frozen_before_it_is_said(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    const struct proto_message *message = talk_next(&function);
    assert_int_equal(message->type, PROTO_CHECKPOINT);
    assert_in_range(message->u.checkpoint.timeout_ms, 4000, 5000);
    assert_int_equal(session.state, LIFECYCLE_QUIESCING);
    assert_true(talk_is_quiet(talk));
    fake.freezes_late = true;
    function_quiesced();
    assert_true(talk_is_quiet(talk));
    assert_int_equal(session.state, LIFECYCLE_FREEZING);
    assert_int_equal(fake_resume.forgets, 0); /* not while it could touch what is forgotten */
    fake_freeze_is_done();
    expect_quiesced(talk, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
    assert_int_equal(fake_resume.forgets, 1);
    turns(3);
    assert_true(session.armed_ns == LOOP_TIMER_NEVER); /* nothing happens by itself in an idle clone */
    client_free(talk);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
    assert_true(session.armed_ns == LOOP_TIMER_NEVER);
}

static void output_before_it_is_heard_or_forgotten(void **state)
{
    (void)state;
    start_ready();
    assert_int_equal(write(fake.stdout_fd, "unheard\n", 8), 8);
    turns(3);
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    assert_int_equal(write(fake.stdout_fd, "from the hook\n", 14), 14);
    function_quiesced();
    expect_quiesced(talk, NULL, "");
    struct talk *listener = client_new();
    talk_hello(listener, true);
    assert_int_equal(talk_next(listener)->type, PROTO_INIT); /* and no log: it was the original's */
    client_free(listener);
    client_free(talk);
}

static void hook_that_declines_keeps_the_function(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    const struct proto_message no = {
        .type = PROTO_QUIESCED,
        .u.quiesced.failure = {.type = proto_text("My.Reason"), .message = proto_text("a transfer runs")}};
    talk_send(&function, &no);
    expect_quiesced(talk, "My.Reason", "a transfer runs");
    assert_int_equal(session.state, LIFECYCLE_READY);
    assert_false(fake.frozen);
    assert_int_equal(fake_resume.forgets, 0);
    next_works(talk);
    assert_int_equal(fake.starts, 1);
    client_free(talk);
}

static void restarted(struct talk *talk)
{
    while (fake.starts < 2)
        turn(NULL);
    assert_int_equal(fake.kills > 0, 1);
    function_ready();
    assert_int_equal(talk_next_but_log(talk)->type, PROTO_INIT);
    next_works(talk);
    client_free(talk);
}

static void hook_that_hangs_ends_the_function(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 20);
    function_expect(PROTO_CHECKPOINT);
    expect_quiesced(talk, PROTO_ERROR_TIMED_OUT, "in its hooks before a snapshot");
    restarted(talk);
}

static void function_that_crashes_in_its_hook_is_told(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    fake_exit(&process, SIGSEGV);
    expect_quiesced(talk, PROTO_ERROR_CRASHED, "signal 11");
    restarted(talk);
}

static void function_that_says_something_else_is_ended(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_resumed();
    expect_quiesced(talk, PROTO_ERROR_BAD_CHANNEL, "while its hooks ran");
    restarted(talk);
}

static void function_that_does_not_freeze_is_ended(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    fake.freezes_late = true;
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    turns(3);
    fake.freezes_late = false;
    pass_limit();
    expect_quiesced(talk, PROTO_ERROR_NOT_QUIESCED, "did not freeze");
    restarted(talk);
}

static void freezer_that_fails_is_told(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    fake.freeze_error = -EIO;
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(talk, PROTO_ERROR_INTERNAL, "cannot freeze the function");
    restarted(talk);
}

static void what_cannot_be_forgotten_is_told(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    fake_resume.forget_fails = true;
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(talk, PROTO_ERROR_NOT_QUIESCED, "cannot drop the page cache");
    restarted(talk);
}

/* ---- waiting --------------------------------------------------------------------------------------- */

static void checkpoint_waits_for_the_invocation_in_hand(void **state)
{
    (void)state;
    start_ready();
    struct talk *worker = client_ready(false), *host = client_ready(false), *late = client_ready(false);
    talk_invoke(worker, "r-1", "x", 5000);
    expect_event("r-1");
    ask_checkpoint(host, 5000);
    assert_true(talk_is_quiet(host));
    talk_invoke(late, "r-2", "x", 5000); /* behind the checkpoint, and so behind the resume */
    turns(3);
    talk_respond(&function, "r-1", "done");
    talk_expect_answer(worker, "r-1", "done");
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(host, NULL, "");
    assert_true(talk_is_quiet(late));
    ask_resume(host, 2, 1000);
    expect_steps(host);
    expect_step(host, "thaw", false);
    function_expect(PROTO_RESUME);
    function_resumed();
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    expect_event("r-2");
    talk_respond(&function, "r-2", "later");
    talk_expect_answer(late, "r-2", "later");
    client_free(worker);
    client_free(host);
    client_free(late);
}

static void checkpoint_that_waits_too_long_says_why(void **state)
{
    (void)state;
    start_ready();
    struct talk *worker = client_ready(false), *host = client_ready(false);
    talk_invoke(worker, "r-1", "x", 5000);
    expect_event("r-1");
    ask_checkpoint(host, 20);
    expect_quiesced(host, PROTO_ERROR_NOT_QUIESCED, "it is running");
    talk_respond(&function, "r-1", "done");
    talk_expect_answer(worker, "r-1", "done");
    assert_int_equal(session.state, LIFECYCLE_READY);
    client_free(worker);
    client_free(host);
}

static void checkpoint_starts_a_function_that_is_down(void **state)
{
    (void)state;
    session_start(&session);
    function_hello();
    function_init(PROTO_STATE_FAILED);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_DOWN);
    struct talk *host = client_new();
    talk_hello(host, false);
    ask_checkpoint(host, 5000);
    turns(3);
    function_hello();
    function_init(PROTO_STATE_FAILED);
    expect_quiesced(host, "Test.NoInit", "as told");
    ask_checkpoint(host, 5000);
    turns(3);
    function_hello();
    function_init(PROTO_STATE_READY);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(host, NULL, "");
    client_free(host);
}

static void second_checkpoint_finds_it_frozen(void **state)
{
    (void)state;
    struct talk *first = start_frozen(), *second = client_ready(false);
    client_free(first);
    ask_checkpoint(second, 5000);
    expect_quiesced(second, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
    client_free(second);
}

static void two_checkpoints_at_once_are_both_answered(void **state)
{
    (void)state;
    start_ready();
    struct talk *first = client_ready(false), *second = client_ready(false);
    ask_checkpoint(first, 5000);
    function_expect(PROTO_CHECKPOINT);
    ask_checkpoint(second, 5000);
    turns(2);
    function_quiesced();
    expect_quiesced(first, NULL, "");
    expect_quiesced(second, NULL, "");
    client_free(first);
    client_free(second);
}

static void client_that_vanishes_leaves_it_frozen(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false);
    ask_checkpoint(host, 5000);
    function_expect(PROTO_CHECKPOINT);
    client_free(host);
    turns(2);
    function_quiesced();
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
}

static void shutdown_ends_a_checkpoint(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false), *other = client_ready(false);
    ask_checkpoint(host, 5000);
    function_expect(PROTO_CHECKPOINT);
    talk_shutdown(other);
    expect_quiesced(host, PROTO_ERROR_SHUTTING_DOWN, "");
    ask_checkpoint(host, 5000);
    expect_quiesced(host, PROTO_ERROR_SHUTTING_DOWN, "");
    assert_int_equal(fake.stops, 1);
    client_free(host);
    client_free(other);
}

static void shutdown_of_a_frozen_function_kills_it(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    (void)words_to_init();
    talk_shutdown(host);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_STOPPED);
    assert_int_equal(fake.stops, 0); /* it could not hear it */
    assert_true(fake.kills > 0);
    assert_string_equal(words_to_init(), "H");
    client_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(function_is_frozen_before_it_is_said),
        WITH_SESSION(output_before_it_is_heard_or_forgotten),
        WITH_SESSION(hook_that_declines_keeps_the_function),
        WITH_SESSION(hook_that_hangs_ends_the_function),
        WITH_SESSION(function_that_crashes_in_its_hook_is_told),
        WITH_SESSION(function_that_says_something_else_is_ended),
        WITH_SESSION(function_that_does_not_freeze_is_ended),
        WITH_SESSION(freezer_that_fails_is_told),
        WITH_SESSION(what_cannot_be_forgotten_is_told),
        WITH_SESSION(checkpoint_waits_for_the_invocation_in_hand),
        WITH_SESSION(checkpoint_that_waits_too_long_says_why),
        WITH_SESSION(checkpoint_starts_a_function_that_is_down),
        WITH_SESSION(second_checkpoint_finds_it_frozen),
        WITH_SESSION(two_checkpoints_at_once_are_both_answered),
        WITH_SESSION(client_that_vanishes_leaves_it_frozen),
        WITH_SESSION(shutdown_ends_a_checkpoint),
        WITH_SESSION(shutdown_of_a_frozen_function_kills_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
