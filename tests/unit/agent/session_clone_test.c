/*
 * A resume in every state in which a snapshot that nobody announced may find the agent: what was half-way
 * through something of the original's is replaced.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/proto/errors.h"
#include "tests/unit/agent/snapshot_stage.h"

/* The process in hand was killed, the steps were taken when it was gone, and a fresh one starts. */
static void fresh_process_goes_well(struct talk *host, int starts)
{
    expect_steps(host);
    assert_true(fake_resume.always_frozen);
    while (fake.starts < starts)
        turn(NULL);
    assert_int_equal(fake.starts, starts);
    function_ready();
    expect_step(host, "start", false);
    expect_resumed(host, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_READY);
}

/* ---- a snapshot that nobody announced -------------------------------------------------------------- */

static void ready_function_is_frozen_first(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false);
    fake.freezes_late = true;
    ask_resume(host, 7, 1000);
    assert_true(talk_is_quiet(host));
    assert_int_equal(session.state, LIFECYCLE_HOLDING);
    assert_string_equal(fake_resume.taken, "");
    fake_freeze_is_done();
    expect_steps(host);
    assert_true(fake_resume.always_frozen);
    hooks_go_well(host);
    next_works(host);
    assert_int_equal(fake.starts, 1);
    client_free(host);
}

static void ready_function_that_does_not_freeze_is_replaced(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false);
    fake.freezes_late = true;
    ask_resume(host, 7, 1000);
    turns(2);
    session.state_limit_ns = 1;
    turns(1);
    fake.freezes_late = false;
    fresh_process_goes_well(host, 2);
    next_works(host);
    client_free(host);
}

static void event_in_hand_is_the_originals(void **state)
{
    (void)state;
    start_ready();
    struct talk *worker = client_ready(false), *host = client_ready(false);
    talk_invoke(worker, "r-1", "x", 5000);
    expect_event("r-1");
    fake.survives_kill = true; /* it takes a while to go */
    ask_resume(host, 7, 1000);
    talk_expect_error(worker, "r-1", PROTO_ERROR_INTERNAL, "restored from a snapshot");
    assert_true(talk_is_quiet(host));
    assert_string_equal(fake_resume.taken, ""); /* not before nothing is left of it */
    fake.survives_kill = false;
    fake_exit(&process, SIGKILL);
    fresh_process_goes_well(host, 2);
    next_works(host);
    client_free(worker);
    client_free(host);
}

static void init_that_was_running_begins_anew(void **state)
{
    (void)state;
    session_start(&session);
    function_hello();
    turns(2);
    struct talk *host = client_new();
    talk_hello(host, false);
    ask_resume(host, 7, 1000);
    fresh_process_goes_well(host, 2);
    next_works(host);
    client_free(host);
}

static void function_that_is_down_starts(void **state)
{
    (void)state;
    session_start(&session);
    function_hello();
    function_init(PROTO_STATE_FAILED);
    turns(3);
    struct talk *host = client_new();
    talk_hello(host, false);
    ask_resume(host, 7, 1000);
    fresh_process_goes_well(host, 2);
    next_works(host);
    client_free(host);
}

static void checkpoint_under_way_is_the_originals(void **state)
{
    (void)state;
    start_ready();
    struct talk *old = client_ready(false), *host = client_ready(false);
    ask_checkpoint(old, 5000);
    function_expect(PROTO_CHECKPOINT);
    ask_resume(host, 7, 1000);
    expect_quiesced(old, PROTO_ERROR_NOT_QUIESCED, "restored from a snapshot");
    fresh_process_goes_well(host, 2);

    fake.freezes_late = true; /* and once more, a moment later */
    ask_checkpoint(old, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    turns(2);
    assert_int_equal(session.state, LIFECYCLE_FREEZING);
    ask_resume(host, 8, 1000);
    expect_quiesced(old, PROTO_ERROR_NOT_QUIESCED, "a resume came first");
    fake_freeze_is_done();
    expect_steps(host);
    hooks_go_well(host);
    client_free(old);
    client_free(host);
}

static void client_may_send_resume_right_behind_its_checkpoint(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false);
    ask_checkpoint(host, 5000);
    ask_resume(host, 7, 1000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(host, NULL, "");
    expect_steps(host);
    hooks_go_well(host);
    client_free(host);
}

static void resume_under_way_is_the_originals(void **state)
{
    (void)state;
    struct talk *old = start_hooks(1000), *host = client_new();
    talk_hello(host, false);
    give_secret(host, "new", "1");
    ask_resume(host, 8, 1000);
    expect_resumed(old, PROTO_ERROR_NOT_RESUMED, "another resume has come");
    fresh_process_goes_well(host, 2);
    assert_int_equal(fake_resume.order.secret_count, 1);
    assert_int_equal(fake_resume.order.generation, 8);

    /* While the fresh process was starting, and its host is gone. */
    ask_checkpoint(host, 5000);
    function_expect(PROTO_CHECKPOINT);
    ask_resume(old, 9, 1000);
    expect_steps(old);
    client_free(old);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_STARTING);
    ask_resume(host, 10, 1000);
    expect_quiesced(host, PROTO_ERROR_NOT_QUIESCED, "");
    fresh_process_goes_well(host, 4);
    client_free(host);
}

static void start_that_fails_after_the_steps_is_told(void **state)
{
    (void)state;
    session_start(&session);
    struct talk *host = client_new();
    talk_hello(host, false);
    ask_resume(host, 7, 1000);
    expect_steps(host);
    while (fake.starts < 2)
        turn(NULL);
    function_hello();
    function_init(PROTO_STATE_FAILED);
    expect_step(host, "start", true);
    expect_resumed(host, "Test.NoInit", "as told");
    client_free(host);
}

static void step_that_fails_without_a_process_starts_none(void **state)
{
    (void)state;
    session_start(&session);
    struct talk *host = client_new();
    talk_hello(host, false);
    fake_resume.failing = "identity";
    ask_resume(host, 7, 1000);
    for (int i = 0; i < 3; i++)
        expect_step(host, resume_steps[i].name, false);
    expect_step(host, "identity", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "identity: identity cannot be done");
    assert_int_equal(fake.starts, 1);
    is_given_up(host, "identity: ");
}

/* A clone's connections break off before its RESUME comes: a process started then would draw its first random
 * numbers from the original's pool. */
static void function_of_a_connection_that_broke_off_is_not_started_before_it_is_asked_for(void **state)
{
    (void)state;
    start_ready();
    struct talk *worker = client_ready(false);
    talk_invoke(worker, "r-1", "x", 5000);
    expect_event("r-1");
    /* A socket pair resets when its end is closed with bytes unread. */
    const struct proto_message answer = {
        .type = PROTO_LOG,
        .u.log = {.stream = PROTO_STREAM_STDOUT, .body = proto_text("unread")},
    };
    assert_int_equal(link_send(&session.clients[0].link, LINK_LOG, &answer), 0);
    client_free(worker);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_DOWN);
    assert_int_equal(fake.starts, 1);
    struct talk *host = client_new();
    talk_hello(host, false);
    ask_resume(host, 7, 1000);
    fresh_process_goes_well(host, 2);
    next_works(host);
    client_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(ready_function_is_frozen_first),
        WITH_SESSION(ready_function_that_does_not_freeze_is_replaced),
        WITH_SESSION(event_in_hand_is_the_originals),
        WITH_SESSION(function_of_a_connection_that_broke_off_is_not_started_before_it_is_asked_for),
        WITH_SESSION(init_that_was_running_begins_anew),
        WITH_SESSION(function_that_is_down_starts),
        WITH_SESSION(checkpoint_under_way_is_the_originals),
        WITH_SESSION(client_may_send_resume_right_behind_its_checkpoint),
        WITH_SESSION(resume_under_way_is_the_originals),
        WITH_SESSION(start_that_fails_after_the_steps_is_told),
        WITH_SESSION(step_that_fails_without_a_process_starts_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
