/* See snapshot_stage.h. */
#include "tests/unit/agent/snapshot_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "agent/proto/errors.h"

void expect_steps(struct talk *talk)
{
    for (const struct resume_step *step = resume_steps; step->name; step++)
        expect_step(talk, step->name, false);
}

void function_expect(enum proto_type type)
{
    const struct proto_message *message = talk_next(&function);
    assert_non_null(message);
    assert_int_equal(message->type, type);
}

void function_quiesced(void)
{
    const struct proto_message message = {.type = PROTO_QUIESCED};
    talk_send(&function, &message);
}

void function_resumed(void)
{
    const struct proto_message message = {.type = PROTO_RESUMED};
    talk_send(&function, &message);
}

struct talk *start_frozen(void)
{
    start_ready();
    struct talk *talk = client_ready(false);
    ask_checkpoint(talk, 5000);
    function_expect(PROTO_CHECKPOINT);
    function_quiesced();
    expect_quiesced(talk, NULL, "");
    return talk;
}

void next_works(struct talk *talk)
{
    talk_invoke(talk, "next", "x", 5000);
    expect_event("next");
    talk_respond(&function, "next", "fine");
    talk_expect_answer(talk, "next", "fine");
}

/* From thawed to served. */
void hooks_go_well(struct talk *host)
{
    expect_step(host, "thaw", false);
    assert_false(fake.frozen);
    function_expect(PROTO_RESUME);
    function_resumed();
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_READY);
}

struct talk *start_hooks(uint32_t timeout_ms)
{
    struct talk *host = start_frozen();
    ask_resume(host, 7, timeout_ms);
    expect_steps(host);
    expect_step(host, "thaw", false);
    function_expect(PROTO_RESUME);
    return host;
}

/* This clone answers nothing, is not resumed, and can be shut down. */
void is_given_up(struct talk *host, const char *part)
{
    assert_int_equal(session.state, LIFECYCLE_UNRESUMED);
    assert_true(process_is_gone(&process) || fake.frozen);
    talk_invoke(host, "r-9", "x", 5000);
    const struct proto_message *refusal = next_but_init(host);
    assert_int_equal(refusal->type, PROTO_ERROR);
    assert_true(proto_slice_equal(refusal->u.error.failure.type, proto_text(PROTO_ERROR_NOT_RESUMED)));
    struct talk *late = client_new();
    talk_hello(late, false);
    const struct proto_message *init = talk_next(late);
    assert_int_equal(init->type, PROTO_INIT);
    assert_int_equal(init->u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(init->u.init.failure.type, proto_text(PROTO_ERROR_NOT_RESUMED)));
    talk_invoke(late, "r-10", "x", 5000);
    talk_expect_error(late, "r-10", PROTO_ERROR_NOT_RESUMED, part);
    ask_checkpoint(late, 1000);
    expect_quiesced(late, PROTO_ERROR_NOT_RESUMED, part);
    const int starts = fake.starts;
    fake_resume.failing = NULL;
    ask_resume(late, 8, 1000); /* there is no second chance */
    expect_resumed(late, PROTO_ERROR_NOT_RESUMED, part);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_UNRESUMED);
    assert_int_equal(fake.starts, starts);
    assert_true(session.armed_ns == LOOP_TIMER_NEVER);
    (void)words_to_init();
    talk_shutdown(late);
    turns(3);
    assert_int_equal(session.state, LIFECYCLE_STOPPED);
    assert_string_equal(words_to_init(), "H");
    client_free(late);
    client_free(host);
}
