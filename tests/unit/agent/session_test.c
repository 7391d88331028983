/*
 * The session: the function's life, whose turn it is, and every wait's end.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/stage.h"

/* ---- the lifecycle table --------------------------------------------------------------------------- */

static void lifecycle_holds_its_promises(void **state)
{
    (void)state;
    for (int s = 0; s < LIFECYCLE_STATE_COUNT; s++) {
        assert_non_null(lifecycle_state_name((enum lifecycle_state)s));
        for (int e = 0; e < LIFECYCLE_EVENT_COUNT; e++) {
            const struct lifecycle_step step =
                lifecycle_step((enum lifecycle_state)s, (enum lifecycle_event)e);
            assert_non_null(lifecycle_event_name((enum lifecycle_event)e));
            if (step.action == LIFECYCLE_IMPOSSIBLE)
                assert_int_equal(step.next, s);
            /* Never a second process: a spawn only where there is none, and the old one is gone before. */
            if (step.action == LIFECYCLE_SPAWN)
                assert_int_equal(s, LIFECYCLE_DOWN);
            if (step.action == LIFECYCLE_RENEW)
                assert_int_equal(s, LIFECYCLE_RENEWING);
            if (step.next == LIFECYCLE_RENEWING && s != LIFECYCLE_RENEWING)
                assert_int_equal(s, LIFECYCLE_DOWN);
            if (step.next == LIFECYCLE_DOWN && s != LIFECYCLE_DOWN)
                assert_int_equal(e, LIFECYCLE_GONE);
            /* A process that failed is never given an event again. */
            if (e == LIFECYCLE_FAILED && step.action != LIFECYCLE_IMPOSSIBLE)
                assert_true(step.next == LIFECYCLE_ENDING || step.next == LIFECYCLE_STOPPING ||
                            step.next == LIFECYCLE_UNRESUMED);
            /* Frozen for a snapshot: thawed only by the steps of a resume, all of them. */
            if (step.action == LIFECYCLE_THAW)
                assert_true(s == LIFECYCLE_STEPPING && e == LIFECYCLE_STEPPED);
            if (s == LIFECYCLE_UNRESUMED)
                assert_true(step.next == LIFECYCLE_UNRESUMED || step.next == LIFECYCLE_STOPPING);
            if (e == LIFECYCLE_RESUME) /* whatever was under way when the snapshot was taken */
                assert_true(step.action != LIFECYCLE_IMPOSSIBLE || s == LIFECYCLE_STEPPING ||
                            s == LIFECYCLE_RENEWING);
            if (s == LIFECYCLE_STOPPING || s == LIFECYCLE_STOPPED)
                assert_true(step.next >= LIFECYCLE_STOPPING);
        }
        const struct lifecycle_step stop = lifecycle_step((enum lifecycle_state)s, LIFECYCLE_STOP);
        assert_int_not_equal(stop.action, LIFECYCLE_IMPOSSIBLE);
        assert_true(stop.next == LIFECYCLE_STOPPING || stop.next == LIFECYCLE_STOPPED);
    }
}

/* ---- init ------------------------------------------------------------------------------------------ */

static void clients_are_told_when_init_ends(void **state)
{
    (void)state;
    session_start(&session);
    struct talk *early = client_new();
    talk_hello(early, false);
    assert_true(talk_is_quiet(early));
    function_ready();
    const struct proto_message *init = talk_next(early);
    assert_int_equal(init->type, PROTO_INIT);
    assert_int_equal(init->u.init.state, PROTO_STATE_READY);
    struct talk *late = client_new();
    talk_ready(late, false);
    assert_string_equal(words_to_init(), "R");
    client_free(early);
    client_free(late);
}

static void failed_init_is_tried_again_once_a_request(void **state)
{
    (void)state;
    session_start(&session);
    function_hello();
    function_init(PROTO_STATE_FAILED);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_DOWN);
    assert_string_equal(words_to_init(), "F");
    turns(10);
    assert_int_equal(fake.starts, 1);

    struct talk *first = client_new(), *second = client_new();
    talk_hello(first, false);
    talk_hello(second, false);
    assert_int_equal(talk_next(first)->type, PROTO_INIT);
    assert_int_equal(talk_next(second)->type, PROTO_INIT);
    talk_invoke(first, "r-1", "x", 5000);
    talk_invoke(second, "r-2", "x", 5000);
    turns(3);
    assert_int_equal(fake.starts, 2); /* one attempt for both, who waited for it together */
    function_hello();
    function_init(PROTO_STATE_FAILED);
    talk_expect_error(first, "r-1", "Test.NoInit", "as told");
    talk_expect_error(second, "r-2", "Test.NoInit", "as told");
    turns(10);
    assert_int_equal(fake.starts, 2);
    assert_string_equal(words_to_init(), ""); /* said already */

    talk_invoke(first, "r-3", "x", 5000);
    turns(3);
    function_ready();
    assert_string_equal(words_to_init(), "R");
    expect_event("r-3");
    talk_respond(&function, "r-3", "at last");
    talk_expect_answer(first, "r-3", "at last");
    client_free(first);
    client_free(second);
}

static void spawn_that_fails_is_an_init_that_failed(void **state)
{
    (void)state;
    fake.start_error = -EAGAIN;
    session_start(&session);
    struct talk *talk = client_new();
    talk_hello(talk, false);
    const struct proto_message *init = talk_next(talk);
    assert_int_equal(init->u.init.state, PROTO_STATE_FAILED);
    talk_invoke(talk, "r-1", "x", 5000);
    talk_expect_error(talk, "r-1", PROTO_ERROR_INIT, strerror(EAGAIN));
    fake.start_error = 0;
    talk_invoke(talk, "r-2", "x", 5000);
    turns(3);
    function_ready();
    expect_event("r-2");
    client_free(talk);
}

static void init_has_a_time_limit(void **state)
{
    (void)state;
    session.init_limit_ms = 50;
    session_start(&session);
    function_hello();
    struct talk *talk = client_new();
    talk_hello(talk, false);
    const struct proto_message *init = talk_next(talk);
    assert_int_equal(init->u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(init->u.init.failure.type, proto_text(PROTO_ERROR_INIT)));
    assert_int_equal(fake.kills, 1);
    client_free(talk);
}

/* ---- one at a time --------------------------------------------------------------------------------- */

static void requests_take_turns_in_order(void **state)
{
    (void)state;
    start_ready();
    struct talk *talks[4];
    const char *const ids[4] = {"a", "b", "c", "d"};
    const int arrival[4] = {2, 0, 3, 1};
    for (int i = 0; i < 4; i++)
        talks[i] = client_ready(false);
    for (int i = 0; i < 4; i++) {
        talk_invoke(talks[arrival[i]], ids[arrival[i]], "x", 5000);
        turns(2);
    }
    for (int i = 0; i < 4; i++) {
        const char *id = ids[arrival[i]];
        expect_event(id);
        assert_true(talk_is_quiet(&function)); /* one at a time */
        talk_respond(&function, id, id);
        talk_expect_answer(talks[arrival[i]], id, id);
    }
    for (int i = 0; i < 4; i++)
        client_free(talks[i]);
}

static void one_client_may_send_ahead(void **state)
{
    (void)state;
    start_ready();
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-1", "x", 5000);
    talk_invoke(talk, "r-2", "x", 5000);
    for (int i = 1; i <= 2; i++) {
        const char *id = i == 1 ? "r-1" : "r-2";
        expect_event(id);
        talk_respond(&function, id, "done");
        talk_expect_answer(talk, id, "done");
    }
    client_free(talk);
}

static void waiting_has_a_deadline_too(void **state)
{
    (void)state;
    start_ready();
    struct talk *running = client_ready(false), *waiting = client_ready(false);
    talk_invoke(running, "r-1", "x", 5000);
    expect_event("r-1");
    talk_invoke(waiting, "r-2", "x", 60);
    talk_expect_error(waiting, "r-2", PROTO_ERROR_BUSY, "60 ms");
    talk_respond(&function, "r-1", "fine");
    talk_expect_answer(running, "r-1", "fine");
    assert_true(talk_is_quiet(&function));
    talk_invoke(waiting, "r-3", "x", 5000);
    expect_event("r-3");
    client_free(running);
    client_free(waiting);
}

static void function_is_told_what_is_left_of_the_deadline(void **state)
{
    (void)state;
    session_start(&session);
    struct talk *talk = client_new();
    talk_hello(talk, false);
    talk_invoke(talk, "r-1", "x", 5000);
    const uint64_t until_ns = clock_monotonic_ns() + 100000000;
    while (clock_monotonic_ns() < until_ns)
        turn(NULL);
    function_ready();
    const struct proto_message *event = talk_next(&function);
    assert_in_range(event->u.invoke.timeout_ms, 1, 4901);
    client_free(talk);
}

static void deadline_kills_and_restarts(void **state)
{
    (void)state;
    start_ready();
    fake.lingers = true;
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-1", "x", 60);
    expect_event("r-1");
    talk_expect_error(talk, "r-1", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.06 seconds");
    turns(3);
    assert_int_equal(fake.kills, 1);
    assert_int_equal(fake.starts, 1); /* not while something of the old one is left */
    fake.lingers = false;
    turns(2);
    assert_int_equal(fake.starts, 2);
    function_ready();
    client_free(talk);
}

static void what_does_not_die_is_killed_again(void **state)
{
    (void)state;
    start_ready();
    fake.survives_kill = true;
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-1", "x", 20);
    expect_event("r-1");
    talk_expect_error(talk, "r-1", PROTO_ERROR_TIMED_OUT, "");
    assert_int_equal(fake.kills, 1);
    session.state_limit_ns = 0; /* as if it had lasted too long */
    turns(1);
    assert_int_equal(fake.kills, 2);
    fake_exit(&process, SIGKILL);
    turns(2);
    assert_int_equal(fake.starts, 2);
    client_free(talk);
}

static void idle_function_that_ends_waits_to_be_asked_for(void **state)
{
    (void)state;
    start_ready();
    fake_exit(&process, 0);
    turns(5);
    assert_int_equal(session.state, LIFECYCLE_DOWN);
    assert_int_equal(fake.starts, 1); /* it had served nothing: no loop of restarts */
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-1", "x", 5000);
    turns(3);
    assert_int_equal(fake.starts, 2);
    function_ready();
    expect_event("r-1");
    talk_respond(&function, "r-1", "here");
    talk_expect_answer(talk, "r-1", "here");
    fake_exit(&process, 0);
    turns(5);
    assert_int_equal(fake.starts, 3); /* it had: the next finds a fresh one ready */
    client_free(talk);
}

static void second_answer_is_not_given_to_the_next_request(void **state)
{
    (void)state;
    start_ready();
    struct talk *first = client_ready(false), *second = client_ready(false);
    talk_invoke(first, "r-1", "x", 5000);
    expect_event("r-1");
    talk_invoke(second, "r-2", "x", 5000);
    turns(2);
    talk_respond(&function, "r-1", "one");
    talk_respond(&function, "r-1", "two");
    talk_expect_answer(first, "r-1", "one");
    turns(3);
    assert_int_equal(fake.starts, 2);
    function_ready();
    expect_event("r-2");
    talk_respond(&function, "r-2", "mine");
    talk_expect_answer(second, "r-2", "mine");
    assert_int_equal(talk_next(first)->type, PROTO_INIT); /* of the restart */
    assert_true(talk_is_quiet(first));
    client_free(first);
    client_free(second);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void shutdown_tells_init_when_the_function_is_gone(void **state)
{
    (void)state;
    start_ready();
    assert_string_equal(words_to_init(), "R");
    struct talk *talk = client_ready(false);
    talk_shutdown(talk);
    turns(3);
    assert_int_equal(fake.stops, 1);
    assert_null(talk_next(&function)); /* its channel ends */
    assert_string_equal(words_to_init(), "");
    talk_invoke(talk, "r-1", "x", 5000);
    talk_expect_error(talk, "r-1", PROTO_ERROR_SHUTTING_DOWN, "");
    fake_exit(&process, 0);
    turns(2);
    assert_string_equal(words_to_init(), "H");
    assert_false(loop.stopped);
    session_stop(&session, true); /* init's SIGTERM */
    turns(2);
    assert_true(loop.stopped);
    client_free(talk);
}

static void function_that_ignores_its_end_is_killed(void **state)
{
    (void)state;
    start_ready();
    session_stop(&session, true);
    session_settle(&session);
    assert_int_equal(fake.kills, 0);
    session.state_limit_ns = 0; /* its grace is over */
    turns(2);
    assert_int_equal(fake.kills, 1);
    turns(2);
    assert_true(loop.stopped);
}

/* ---- small parts ----------------------------------------------------------------------------------- */

static void failures_are_cut_to_their_limits(void **state)
{
    (void)state;
    static char text[PROTO_ERROR_TEXT_MAX_BYTES * 2];
    static struct failure failure, copy;
    memset(text, 'x', sizeof text - 1);
    failure_set(&failure, FAILURE_BAD_CHANNEL, "%s", text);
    assert_in_range(failure.message_bytes, 100, PROTO_ERROR_TEXT_MAX_BYTES);
    struct proto_failure view = failure_view(&failure);
    view.stack_count = PROTO_STACK_MAX;
    for (int i = 0; i < PROTO_STACK_MAX; i++)
        view.stack[i] = (struct proto_slice){(const uint8_t *)text, PROTO_STACK_ENTRY_MAX_BYTES};
    failure_copy(&copy, &view);
    view = failure_view(&copy);
    assert_int_equal(view.stack_count, PROTO_STACK_MAX);
    /* The largest there is fits one frame, and the room kept for control messages. */
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const struct proto_message error = {.type = PROTO_ERROR,
                                        .u.error = {.id = proto_text("r-1"), .failure = view}};
    assert_in_range(proto_encode(&error, frame, sizeof frame), 1, LINK_CONTROL_BYTES);
    failure_set_timed_out(&failure, 3000, "");
    char line[128];
    assert_string_equal(failure_text(&failure, line, sizeof line),
                        PROTO_ERROR_TIMED_OUT ": Task timed out after 3.00 seconds");
}

static void memory_is_kept_for_the_agent(void **state)
{
    (void)state;
    const uint64_t mib = 1 << 20;
    assert_int_equal(cgroup_memory_max(128 * mib), 120 * mib);
    assert_int_equal(cgroup_memory_max(1024 * mib), 960 * mib);
    assert_int_equal(cgroup_memory_max(10 * mib), 5 * mib);
    assert_int_equal(cgroup_memory_max(48 * mib + 1), 40 * mib);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lifecycle_holds_its_promises),
        WITH_SESSION(clients_are_told_when_init_ends),
        WITH_SESSION(failed_init_is_tried_again_once_a_request),
        WITH_SESSION(spawn_that_fails_is_an_init_that_failed),
        WITH_SESSION(init_has_a_time_limit),
        WITH_SESSION(requests_take_turns_in_order),
        WITH_SESSION(one_client_may_send_ahead),
        WITH_SESSION(waiting_has_a_deadline_too),
        WITH_SESSION(function_is_told_what_is_left_of_the_deadline),
        WITH_SESSION(deadline_kills_and_restarts),
        WITH_SESSION(what_does_not_die_is_killed_again),
        WITH_SESSION(idle_function_that_ends_waits_to_be_asked_for),
        WITH_SESSION(second_answer_is_not_given_to_the_next_request),
        WITH_SESSION(shutdown_tells_init_when_the_function_is_gone),
        WITH_SESSION(function_that_ignores_its_end_is_killed),
        cmocka_unit_test(failures_are_cut_to_their_limits),
        cmocka_unit_test(memory_is_kept_for_the_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
