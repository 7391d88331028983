/*
 * A resume, from RESUME to RESUMED, in every state in which a snapshot may find the agent; every step failing
 * in turn; and what is left of a clone that was not resumed.
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

/* ---- as it should be ------------------------------------------------------------------------------- */

static void clone_is_resumed_on_a_new_connection(void **state)
{
    (void)state;
    client_free(start_frozen());
    turns(2);
    struct talk *host = client_ready(false);
    give_secret(host, "token", "s3cret");
    give_secret(host, "empty", "");
    ask_resume(host, 7, 1000);
    expect_steps(host);
    assert_string_equal(fake_resume.taken, "ecsig");
    assert_true(fake_resume.always_frozen);
    const struct resume_order *order = &fake_resume.order;
    assert_int_equal(order->generation, 7);
    assert_int_equal(order->realtime_ns, 1767225600000000000);
    assert_true(order->received_ns > 0);
    assert_memory_equal(order->seed, "0123456789abcdef0123456789abcdef", PROTO_SEED_BYTES);
    assert_memory_equal(order->clone_id, "fedcba9876543210", PROTO_CLONE_ID_BYTES);
    assert_string_equal(order->hostname, "clone-7");
    assert_string_equal(order->network, "mtu=1400,address=192.0.2.7/24");
    assert_int_equal(order->secret_count, 2);
    assert_string_equal(fake_resume.secrets[0].name, "token");
    assert_int_equal(fake_resume.secrets[0].size, 6);
    assert_memory_equal(fake_resume.secrets[0].data, "s3cret", 6);
    assert_string_equal(fake_resume.secrets[1].name, "empty");
    assert_int_equal(fake_resume.secrets[1].size, 0);

    expect_step(host, "thaw", false);
    const struct proto_message *resume = talk_next(&function);
    assert_int_equal(resume->type, PROTO_RESUME);
    assert_int_equal(resume->u.resume.generation, 7);
    assert_int_equal(resume->u.resume.timeout_ms, 1000);
    assert_int_equal(resume->u.resume.seed.size, 0); /* not the function's */
    assert_true(talk_is_quiet(host));
    function_resumed();
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    next_works(host);
    client_free(host);
}

static void original_goes_on_and_is_snapshotted_again(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    for (uint64_t generation = 2; generation < 5; generation++) {
        ask_resume(host, generation, 1000);
        expect_steps(host);
        hooks_go_well(host);
        next_works(host);
        ask_checkpoint(host, 5000);
        function_expect(PROTO_CHECKPOINT);
        function_quiesced();
        expect_quiesced(host, NULL, "");
    }
    assert_int_equal(fake.starts, 1);
    client_free(host);
}

static bool is_zero(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    while (size-- > 0)
        if (*at++ != 0)
            return false;
    return true;
}

/* Nothing of a clone's keys stays in the agent's memory, from where the next snapshot would take it. */
static void keys_are_not_kept(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    give_secret(host, "token", "s3cret");
    ask_resume(host, 7, 1000);
    expect_steps(host);
    const struct snapshot *snapshot = &session.snapshot;
    assert_true(is_zero(session.secrets, sizeof session.secrets));
    assert_true(is_zero(session.order_secrets, sizeof session.order_secrets));
    assert_true(is_zero(snapshot->order.seed, sizeof snapshot->order.seed));
    const struct frame_reader *reader = &session.clients[0].link.buffers->in;
    assert_null(memmem(reader, sizeof *reader, "s3cret", 6));
    assert_null(memmem(reader, sizeof *reader, "0123456789abcdef", 16));
    hooks_go_well(host);
    client_free(host);
}

static void secrets_are_those_of_one_connection(void **state)
{
    (void)state;
    struct talk *host = start_frozen(), *gone = client_ready(false), *other = client_ready(false);
    give_secret(gone, "a", "1");
    turns(2);
    client_free(gone);
    turns(2);
    assert_true(is_zero(session.secrets, sizeof session.secrets));
    give_secret(other, "b", "2");
    turns(2);
    give_secret(host, "c", "3");
    ask_resume(host, 7, 1000);
    expect_steps(host);
    assert_int_equal(fake_resume.order.secret_count, 1);
    assert_string_equal(fake_resume.secrets[0].name, "c");
    hooks_go_well(host);
    for (int i = 0; i <= RESUME_SECRETS_MAX; i++)
        give_secret(host, "many", "x");
    talk_expect_error(host, NULL, PROTO_ERROR_BAD_MESSAGE, "more secrets than 16");
    client_free(host);
    client_free(other);
}

static void messages_out_of_place_are_refused(void **state)
{
    (void)state;
    start_ready();
    static const struct proto_message bad[] = {
        {.type = PROTO_RESUME, .u.resume = {.timeout_ms = 1, .generation = 2}}, /* the function's form */
        {.type = PROTO_QUIESCED},
        {.type = PROTO_RESUMED},
        {.type = PROTO_COLLECTED},
        {.type = PROTO_STEP, .u.step.name = {(const uint8_t *)"x", 1}},
        {.type = PROTO_FACT, .u.fact.name = {(const uint8_t *)"x", 1}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct talk *talk = client_ready(false);
        talk_send(talk, &bad[i]);
        talk_expect_error(talk, NULL, PROTO_ERROR_BAD_MESSAGE, "");
        talk_expect_end(talk);
        client_free(talk);
    }
    static const enum proto_type before_hello[] = {PROTO_CHECKPOINT, PROTO_COLLECT};
    for (size_t i = 0; i < 2; i++) {
        struct talk *talk = client_new();
        const struct proto_message message = {.type = before_hello[i], .u.checkpoint.timeout_ms = 1};
        talk_send(talk, &message);
        assert_int_equal(talk_next(talk)->type, PROTO_HELLO);
        talk_expect_error(talk, NULL, PROTO_ERROR_BAD_MESSAGE, "before hello");
        client_free(talk);
    }
    assert_int_equal(session.state, LIFECYCLE_READY);
}

/* ---- a step fails ---------------------------------------------------------------------------------- */

static void step_that_fails_is_the_last(void **state)
{
    for (int i = 0; resume_steps[i].name; i++) {
        const char *name = resume_steps[i].name;
        char part[64];
        (void)snprintf(part, sizeof part, "%s: %s cannot be done", name, name);
        struct talk *host = start_frozen(), *waiting = client_ready(false);
        talk_invoke(waiting, "r-1", "x", 5000);
        turns(2);
        fake_resume.failing = name;
        ask_resume(host, 7, 1000);
        for (int before = 0; before < i; before++)
            expect_step(host, resume_steps[before].name, false);
        expect_step(host, name, true);
        expect_resumed(host, PROTO_ERROR_NOT_RESUMED, part);
        assert_int_equal(strlen(fake_resume.taken), i + 1);
        assert_true(fake.frozen);
        assert_true(fake_resume.always_frozen);
        assert_true(talk_is_quiet(&function)); /* it was told nothing, and runs nothing */
        talk_expect_error(waiting, "r-1", PROTO_ERROR_NOT_RESUMED, part);
        assert_int_equal(fake.kills, 0);
        client_free(waiting);
        is_given_up(host, part);
        assert_int_equal(stage_tear_down(state), 0);
        assert_int_equal(stage_set_up(state), 0);
    }
}

/* init starts an agent that has crashed again: that changes nothing. */
static void clone_stays_given_up_for_the_next_agent(void **state)
{
    char path[] = "/tmp/rekindle-given-up-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    session.given_up_path = path;
    struct talk *host = start_frozen();
    fake_resume.failing = "clock";
    ask_resume(host, 7, 1000);
    expect_step(host, "entropy", false);
    expect_step(host, "clock", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "clock: ");
    client_free(host);
    assert_int_equal(stage_tear_down(state), 0);
    assert_int_equal(stage_set_up(state), 0);
    session.given_up_path = path;
    session_start(&session);
    host = client_new();
    talk_hello(host, false);
    is_given_up(host, "clock: clock cannot be done");
    assert_int_equal(fake.starts, 0);
    assert_int_equal(unlink(path), 0);
}

static void step_without_words_says_its_errno(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    fake_resume.failing = "clock";
    fake_resume.fails_without_why = true;
    ask_resume(host, 7, 1000);
    expect_step(host, "entropy", false);
    expect_step(host, "clock", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "clock: Operation not permitted");
    client_free(host);
}

static void hook_that_fails_freezes_it_again(void **state)
{
    (void)state;
    struct talk *host = start_hooks(1000);
    const struct proto_message no = {.type = PROTO_RESUMED,
                                     .u.resumed.failure = {.type = proto_text("Function.RestoreError"),
                                                           .message = proto_text("no lease")}};
    talk_send(&function, &no);
    expect_step(host, "hooks", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "hooks: Function.RestoreError: no lease");
    assert_true(fake.frozen);
    is_given_up(host, "hooks: ");
}

static void hook_that_hangs_freezes_it_again(void **state)
{
    (void)state;
    struct talk *host = start_hooks(20);
    expect_step(host, "hooks", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "in its hooks after the restore");
    assert_true(fake.frozen);
    is_given_up(host, "hooks: ");
}

static void function_that_crashes_in_its_hook_is_not_started_again(void **state)
{
    (void)state;
    struct talk *host = start_hooks(1000);
    fake_exit(&process, SIGSEGV);
    expect_step(host, "hooks", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "hooks: Function.Crashed");
    is_given_up(host, "hooks: ");
}

static void function_that_cannot_be_thawed_is_given_up(void **state)
{
    (void)state;
    struct talk *host = start_frozen();
    fake.freeze_error = -EIO;
    ask_resume(host, 7, 1000);
    expect_steps(host);
    expect_step(host, "thaw", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "thaw: cannot thaw the function");
    assert_true(fake.kills > 0); /* nor could it be frozen: it must not run */
    client_free(host);
}

/* ---- the rest -------------------------------------------------------------------------------------- */

static void host_that_vanishes_is_not_waited_for(void **state)
{
    (void)state;
    struct talk *host = start_hooks(1000);
    client_free(host);
    turns(2);
    function_resumed();
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_READY);
    struct talk *next = client_ready(false);
    next_works(next);
    client_free(next);
}

static void shutdown_ends_a_resume(void **state)
{
    (void)state;
    struct talk *host = start_hooks(1000), *other = client_ready(false);
    talk_shutdown(other);
    expect_resumed(host, PROTO_ERROR_SHUTTING_DOWN, "");
    ask_resume(host, 8, 1000);
    expect_resumed(host, PROTO_ERROR_SHUTTING_DOWN, "");
    client_free(host);
    client_free(other);
}

static void facts_are_told(void **state)
{
    (void)state;
    start_ready();
    struct talk *host = client_ready(false);
    const struct proto_message collect = {.type = PROTO_COLLECT};
    for (int round = 0; round < 2; round++) {
        talk_send(host, &collect);
        const struct proto_message *message = talk_next(host);
        assert_int_equal(message->type, PROTO_FACT);
        assert_true(proto_slice_equal(message->u.fact.name, proto_text("boot_id")));
        assert_true(proto_slice_equal(message->u.fact.body, proto_text("1234")));
        message = talk_next(host);
        assert_int_equal(message->u.fact.body.size, 0);
        message = talk_next(host);
        assert_int_equal(message->type, PROTO_COLLECTED);
        assert_true(proto_slice_equal(message->u.collected.failure.message,
                                      proto_text(round ? "the agent failed: cannot read it" : "")));
        fake_resume.facts_fail = true;
    }
    next_works(host);
    client_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(clone_is_resumed_on_a_new_connection),
        WITH_SESSION(original_goes_on_and_is_snapshotted_again),
        WITH_SESSION(keys_are_not_kept),
        WITH_SESSION(secrets_are_those_of_one_connection),
        WITH_SESSION(messages_out_of_place_are_refused),
        WITH_SESSION(step_that_fails_is_the_last),
        WITH_SESSION(clone_stays_given_up_for_the_next_agent),
        WITH_SESSION(step_without_words_says_its_errno),
        WITH_SESSION(hook_that_fails_freezes_it_again),
        WITH_SESSION(hook_that_hangs_freezes_it_again),
        WITH_SESSION(function_that_crashes_in_its_hook_is_not_started_again),
        WITH_SESSION(function_that_cannot_be_thawed_is_given_up),
        WITH_SESSION(host_that_vanishes_is_not_waited_for),
        WITH_SESSION(shutdown_ends_a_resume),
        WITH_SESSION(facts_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
