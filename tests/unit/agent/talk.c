/* See talk.h. */
#include "tests/unit/agent/talk.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/fd.h"

void talk_init(struct talk *talk, int fd, void (*idle)(struct talk *talk))
{
    talk->fd = fd;
    talk->idle = idle;
    frame_reader_init(&talk->in);
}

void talk_close(struct talk *talk)
{
    fd_close(&talk->fd);
}

void talk_poll(struct talk *talk)
{
    struct pollfd wait = {.fd = talk->fd, .events = POLLIN};
    const int count = poll(&wait, 1, 20000);
    if (count != 1)
        fail_msg("nothing from the other side within 20 s");
}

void talk_send_bytes(struct talk *talk, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        const ssize_t n = send(talk->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            at += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (talk->idle == talk_poll) {
                struct pollfd wait = {.fd = talk->fd, .events = POLLOUT};
                assert_int_equal(poll(&wait, 1, 20000), 1);
            } else {
                talk->idle(talk);
            }
        } else {
            return; /* the other side has closed: what it said tells why */
        }
    }
}

void talk_send(struct talk *talk, const struct proto_message *message)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    assert_true(size > 0);
    talk_send_bytes(talk, frame, (size_t)size);
}

/* 1 with a message, 0 when there is none yet, -1 at the end. */
static int take(struct talk *talk)
{
    struct proto_slice body;
    for (;;) {
        const int got = frame_reader_next(&talk->in, &body);
        assert_true(got >= 0);
        if (got > 0) {
            const char *why = "";
            if (proto_decode(body.data, body.size, &talk->message, &why) != 0)
                fail_msg("not valid: %s", why);
            return 1;
        }
        size_t room;
        uint8_t *space = frame_reader_space(&talk->in, &room);
        const ssize_t n = recv(talk->fd, space, room, MSG_DONTWAIT);
        if (n > 0)
            frame_reader_fill(&talk->in, (size_t)n);
        else if (n < 0 && errno == EAGAIN)
            return 0;
        else
            return -1;
    }
}

const struct proto_message *talk_next(struct talk *talk)
{
    for (int turns = 0; turns < 100000; turns++) {
        const int got = take(talk);
        if (got != 0)
            return got > 0 ? &talk->message : NULL;
        talk->idle(talk);
    }
    fail_msg("the session has settled, and nothing came");
    return NULL;
}

const struct proto_message *talk_next_but_log(struct talk *talk)
{
    const struct proto_message *message;
    do {
        message = talk_next(talk);
    } while (message && message->type == PROTO_LOG);
    return message;
}

bool talk_is_quiet(struct talk *talk)
{
    for (int i = 0; i < 4; i++) {
        if (take(talk) != 0)
            return false;
        talk->idle(talk);
    }
    return take(talk) == 0;
}

void talk_hello(struct talk *talk, bool wants_logs)
{
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION,
                    .name = proto_text("test"),
                    .wants_logs = wants_logs,
                    .state = PROTO_STATE_STARTING},
    };
    talk_send(talk, &hello);
    const struct proto_message *answer = talk_next(talk);
    assert_non_null(answer);
    assert_int_equal(answer->type, PROTO_HELLO);
    assert_int_equal(answer->u.hello.version, PROTO_VERSION);
}

void talk_ready(struct talk *talk, bool wants_logs)
{
    talk_hello(talk, wants_logs);
    const struct proto_message *init = talk_next_but_log(talk);
    assert_non_null(init);
    assert_int_equal(init->type, PROTO_INIT);
    assert_int_equal(init->u.init.state, PROTO_STATE_READY);
}

void talk_invoke_bytes(struct talk *talk, const char *id, const void *event, uint32_t size,
                       uint32_t timeout_ms)
{
    struct proto_message fragment = {
        .type = PROTO_INVOKE,
        .u.invoke = {.id = proto_text(id), .trace = proto_text("trace-1"), .timeout_ms = timeout_ms},
    };
    uint32_t offset = 0;
    do {
        offset += payload_fragment(&fragment, event, size, offset);
        talk_send(talk, &fragment);
    } while (offset < size);
}

void talk_invoke(struct talk *talk, const char *id, const char *event, uint32_t timeout_ms)
{
    talk_invoke_bytes(talk, id, event, (uint32_t)strlen(event), timeout_ms);
}

void talk_fragment(struct talk *talk, const char *id, uint32_t total, uint32_t offset, uint32_t size)
{
    static const uint8_t zeros[PROTO_FRAGMENT_MAX_BYTES];
    const struct proto_message fragment = {
        .type = PROTO_INVOKE,
        .u.invoke = {.id = proto_text(id),
                     .timeout_ms = 5000,
                     .total_bytes = total,
                     .offset_bytes = offset,
                     .body = {zeros, size}},
    };
    talk_send(talk, &fragment);
}

void talk_respond(struct talk *talk, const char *id, const char *answer)
{
    struct proto_message fragment = {.type = PROTO_RESPONSE, .u.response = {.id = proto_text(id)}};
    (void)payload_fragment(&fragment, answer, (uint32_t)strlen(answer), 0);
    talk_send(talk, &fragment);
}

void talk_shutdown(struct talk *talk)
{
    const struct proto_message message = {.type = PROTO_SHUTDOWN};
    talk_send(talk, &message);
}

static const struct proto_message *next_to_expect(struct talk *talk, struct talk_logs *logs)
{
    for (;;) {
        const struct proto_message *message = talk_next(talk);
        if (!message || (message->type != PROTO_LOG && message->type != PROTO_INIT))
            return message;
        if (message->type == PROTO_LOG && logs)
            talk_note_log(logs, message);
    }
}

void talk_note_log(struct talk_logs *logs, const struct proto_message *log)
{
    const int which = log->u.log.stream == PROTO_STREAM_STDOUT ? 0 : 1;
    size_t room = sizeof logs->text[which] - logs->size[which];
    room = room < log->u.log.body.size ? room : log->u.log.body.size;
    if (room > 0)
        memcpy(logs->text[which] + logs->size[which], log->u.log.body.data, room);
    logs->size[which] += room;
    logs->total_bytes += log->u.log.body.size;
    logs->dropped_bytes += log->u.log.dropped_bytes;
    (void)snprintf(logs->id, sizeof logs->id, "%.*s", (int)log->u.log.id.size,
                   (const char *)log->u.log.id.data);
}

static void expect_id(struct proto_slice id, const char *expected)
{
    char text[PROTO_ID_MAX_BYTES + 1] = "";
    (void)snprintf(text, sizeof text, "%.*s", (int)id.size, id.size ? (const char *)id.data : "");
    assert_string_equal(text, expected ? expected : "");
}

static void unexpected(const struct proto_message *message)
{
    if (!message)
        fail_msg("the other side has closed");
    else if (message->type == PROTO_ERROR)
        fail_msg("unexpected error %.*s: %.*s", (int)message->u.error.failure.type.size,
                 (const char *)message->u.error.failure.type.data, (int)message->u.error.failure.message.size,
                 (const char *)message->u.error.failure.message.data);
    else
        fail_msg("unexpected message of type %d", (int)message->type);
}

size_t talk_answer(struct talk *talk, const char *id, void *data, size_t capacity, struct talk_logs *logs)
{
    struct payload_assembly answer;
    payload_reset(&answer);
    for (;;) {
        const struct proto_message *message = next_to_expect(talk, logs);
        if (!message || message->type != PROTO_RESPONSE)
            unexpected(message);
        const char *why = "";
        expect_id(message->u.response.id, id);
        assert_true(message->u.response.total_bytes <= capacity);
        int step = answer.id[0] == '\0' ? payload_begin(&answer, message, &why) : 0;
        if (step == 0)
            step = payload_add(&answer, message, data, &why);
        if (step < 0)
            fail_msg("answer: %s", why);
        if (step == PAYLOAD_COMPLETE)
            return answer.have_bytes;
    }
}

void talk_expect_answer(struct talk *talk, const char *id, const char *text)
{
    static char data[65536];
    const size_t size = talk_answer(talk, id, data, sizeof data - 1, NULL);
    data[size] = '\0';
    assert_string_equal(data, text);
}

void talk_expect_error(struct talk *talk, const char *id, const char *type, const char *part)
{
    const struct proto_message *message;
    do { /* an error replaces the fragments before it */
        message = next_to_expect(talk, NULL);
    } while (message && message->type == PROTO_RESPONSE && id &&
             proto_slice_equal(message->u.response.id, proto_text(id)) &&
             message->u.response.body.size < message->u.response.total_bytes);
    if (!message || message->type != PROTO_ERROR)
        unexpected(message);
    char text[PROTO_ERROR_TEXT_MAX_BYTES + 1];
    const struct proto_failure *failure = &message->u.error.failure;
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->type.size, (const char *)failure->type.data);
    assert_string_equal(text, type);
    expect_id(message->u.error.id, id);
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->message.size,
                   (const char *)failure->message.data);
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

void talk_expect_end(struct talk *talk)
{
    const struct proto_message *message = next_to_expect(talk, NULL);
    if (message)
        unexpected(message);
}
