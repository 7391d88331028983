/*
 * libFuzzer target: a native function whose agent says what the fuzzer wants: messages that are right but for
 * their values, in any order, and bytes that are none. function_run() serves them to the end of the stream.
 *
 * What is checked beside memory safety: the process ends with one of two codes; what it says is frames that
 * decode: HELLO, INIT, then answers whose fragments fit together; a handler sees whole events alone.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/cursor.h"
#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/function.h"
#include "agent/proto/frame.h"
#include "agent/proto/proto.h"

#define MESSAGES_MAX 100 /* whose answers fit the socket */
#define STREAM_BYTES 65536
#define EVENT_MAX    600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t stream[STREAM_BYTES];
static size_t stream_size;
static unsigned events;

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    const uint8_t *bytes = event->data;
    const uint8_t what = event->size > 0 ? bytes[0] : 0;
    (void)context;
    events++;
    for (size_t i = 0; i < event->size; i++)
        if (bytes[i] != what) /* as every event is filled */
            abort();
    if (!event->request_id[0] || strlen(event->request_id) > PROTO_ID_MAX_BYTES)
        abort();
    if (what % 4 == 1)
        function_reply_fail(reply, "Fuzz.Error", "%s", event->trace_id);
    else if (what % 4 == 2)
        (void)function_reply_printf(reply, "%zu", event->size);
    else
        (void)function_reply_write(reply, event->data, event->size);
    return what == 7;
}

static int before_checkpoint(void *context)
{
    return ++*(unsigned *)context % 3 == 0;
}

static int after_restore(void *context, uint64_t generation)
{
    (void)context;
    return generation % 5 == 4;
}

static void add(const struct proto_message *message)
{
    const int64_t size = proto_encode(message, stream + stream_size, sizeof stream - stream_size);
    stream_size += size > 0 ? (size_t)size : 0;
}

/* A fragment of an event, which may or may not follow the last. */
static void add_invoke(struct cursor *in)
{
    static uint8_t bytes[EVENT_MAX];
    static const char *const ids[] = {"a", "b-1", "", "not/good"};
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    const uint32_t total = (uint32_t)cursor_get_le(in, 1),
                   offset = how & 4u ? (uint32_t)cursor_get_le(in, 1) : 0;
    const uint32_t size = how & 8u ? (uint32_t)cursor_get_le(in, 1) : total > offset ? total - offset : 0;
    memset(bytes, (int)total, sizeof bytes);
    const struct proto_message message = {
        .type = PROTO_INVOKE,
        .u.invoke = {.id = proto_text(ids[how & 3u]),
                     .trace = proto_text(how & 16u ? "trace" : ""),
                     .timeout_ms = 1 + (how >> 5),
                     .total_bytes = total,
                     .offset_bytes = offset,
                     .body = {bytes, size}},
    };
    add(&message);
}

static void add_turn(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    struct proto_message message = {.type = how & 1u ? PROTO_RESUME : PROTO_CHECKPOINT};
    if (how & 1u) {
        message.u.resume.timeout_ms = 1;
        message.u.resume.generation = how >> 1;
    } else {
        message.u.checkpoint.timeout_ms = how >> 1;
    }
    add(&message);
}

static void add_bytes(struct cursor *in)
{
    const size_t size = (size_t)cursor_get_le(in, 1) % 64;
    const uint8_t *from = cursor_take(in, size);
    if (from && size <= sizeof stream - stream_size) {
        memcpy(stream + stream_size, from, size);
        stream_size += size;
    }
}

/* What is to come of a fragment: where the answer stands, for the next. */
static void check_answer(const struct proto_message *message, uint32_t *due)
{
    if (message->u.response.offset_bytes != *due)
        abort();
    *due += (uint32_t)message->u.response.body.size;
    if (*due > message->u.response.total_bytes)
        abort();
    if (*due == message->u.response.total_bytes)
        *due = 0;
}

static void check_said(int fd)
{
    static struct frame_reader reader;
    struct proto_message message;
    struct proto_slice body;
    const char *why = NULL;
    unsigned count = 0;
    uint32_t due = 0;
    frame_reader_init(&reader);
    for (;;) {
        const int got = frame_reader_next(&reader, &body);
        if (got < 0 || (got > 0 && proto_decode(body.data, body.size, &message, &why) < 0))
            abort();
        if (got > 0) {
            if ((message.type == PROTO_HELLO) != (count == 0) || (message.type == PROTO_INIT) != (count == 1))
                abort();
            if (message.type == PROTO_RESPONSE)
                check_answer(&message, &due);
            else if (due != 0)
                abort();
            count++;
            continue;
        }
        size_t room;
        uint8_t *space = frame_reader_space(&reader, &room);
        const ssize_t n = recv(fd, space, room, MSG_DONTWAIT);
        if (n <= 0)
            break;
        frame_reader_fill(&reader, (size_t)n);
    }
    if (count < 2 || due != 0 || !frame_reader_idle(&reader))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {add_invoke, add_invoke, add_turn, add_bytes};
    uint8_t script[2048];
    unsigned checkpoints = 0;
    const struct function function = {.handle = handle,
                                      .before_checkpoint = before_checkpoint,
                                      .after_restore = after_restore,
                                      .context = &checkpoints};
    char number[16];
    int ends[2];
    if (size > sizeof script)
        return -1;
    memcpy(script, data, size);
    stream_size = 0;
    struct cursor in = cursor_over(script, size);
    for (unsigned i = 0; i < MESSAGES_MAX && cursor_left(&in) > 0; i++)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        abort();
    if (stream_size > 0 &&
        send(ends[1], stream, stream_size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)stream_size)
        abort();
    (void)shutdown(ends[1], SHUT_WR);
    (void)snprintf(number, sizeof number, "%d", ends[0]);
    (void)setenv(FUNCTION_ENV_FD, number, 1);
    const int code = function_run(&function);
    if (code != FUNCTION_EXIT_OK && code != FUNCTION_EXIT_CHANNEL)
        abort();
    fd_close(&ends[0]);
    check_said(ends[1]);
    fd_close(&ends[1]);
    return 0;
}
