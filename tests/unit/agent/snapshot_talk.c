/* See snapshot_talk.h. */
#include "tests/unit/agent/snapshot_talk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void ask_checkpoint(struct talk *talk, uint32_t timeout_ms)
{
    const struct proto_message message = {.type = PROTO_CHECKPOINT, .u.checkpoint.timeout_ms = timeout_ms};
    talk_send(talk, &message);
}

void ask_resume(struct talk *talk, uint64_t generation, uint32_t timeout_ms)
{
    const struct proto_message message = {
        .type = PROTO_RESUME,
        .u.resume = {.timeout_ms = timeout_ms,
                     .generation = generation,
                     .seed = proto_text("0123456789abcdef0123456789abcdef"),
                     .realtime_ns = UINT64_C(1767225600000000000),
                     .clone_id = proto_text("fedcba9876543210"),
                     .hostname = proto_text("clone-7"),
                     .network = proto_text("mtu=1400,address=192.0.2.7/24")},
    };
    talk_send(talk, &message);
}

void give_secret(struct talk *talk, const char *name, const char *body)
{
    const struct proto_message message = {.type = PROTO_SECRET,
                                          .u.secret = {.name = proto_text(name), .body = proto_text(body)}};
    talk_send(talk, &message);
}

const struct proto_message *next_but_init(struct talk *talk)
{
    const struct proto_message *message;
    do {
        message = talk_next_but_log(talk);
    } while (message && message->type == PROTO_INIT);
    return message;
}

static void check_failure(const struct proto_failure *failure, const char *type, const char *part)
{
    char text[PROTO_ERROR_TEXT_MAX_BYTES + 1] = "";
    if (failure->message.size > 0)
        memcpy(text, failure->message.data, failure->message.size);
    text[failure->message.size] = '\0';
    if (!proto_slice_equal(failure->type, proto_text(type ? type : "")))
        fail_msg("%.*s: %s", (int)failure->type.size, (const char *)failure->type.data, text);
    if (type && !strstr(text, part))
        fail_msg("\"%s\" is not in \"%s\"", part, text);
}

void expect_quiesced(struct talk *talk, const char *type, const char *part)
{
    const struct proto_message *message = next_but_init(talk);
    assert_non_null(message);
    assert_int_equal(message->type, PROTO_QUIESCED);
    check_failure(&message->u.quiesced.failure, type, part);
}

void expect_step(struct talk *talk, const char *name, bool failed)
{
    const struct proto_message *message = next_but_init(talk);
    assert_non_null(message);
    assert_int_equal(message->type, PROTO_STEP);
    if (!proto_slice_equal(message->u.step.name, proto_text(name)))
        fail_msg("step %.*s, not %s", (int)message->u.step.name.size, (const char *)message->u.step.name.data,
                 name);
    assert_int_equal(message->u.step.failure.type.size > 0, failed);
}

void expect_resumed(struct talk *talk, const char *type, const char *part)
{
    const struct proto_message *message = next_but_init(talk);
    assert_non_null(message);
    assert_int_equal(message->type, PROTO_RESUMED);
    check_failure(&message->u.resumed.failure, type, part);
}
