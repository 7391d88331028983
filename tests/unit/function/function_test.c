/*
 * The function library, from the agent's end of the channel: a child runs function_run() on a real socket,
 * and the test speaks the protocol to it frame by frame.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/function.h"
#include "agent/proto/frame.h"

static struct {
    int fd;
    pid_t pid;
    struct frame_reader reader;
} peer;

/* ---- the function under test ---- */

static int init_result;

static int test_init(void *context)
{
    (void)context;
    return init_result;
}

static int reply_errors(struct function_reply *reply)
{
    static uint8_t full[FUNCTION_PAYLOAD_MAX_BYTES - 3];
    int error = function_reply_write(reply, full, sizeof full);
    if (error == 0)
        error =
            function_reply_printf(reply, "%s", "abc"); /* exactly full: room for the NUL is no answer byte */
    if (error != 0)
        return 1;
    error = function_reply_write(reply, "", 1);
    const int sticks = function_reply_write(reply, NULL, 0);
    return error == -EFBIG && sticks == -EFBIG ? 0 : 2; /* 0: the failure must stick all the same */
}

static int test_handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    const char *text = event->data;
    if (event->size > 16 || event->size == 0)
        return function_reply_write(reply, event->data, event->size); /* echo */
    if (strncmp(text, "about", event->size) == 0)
        return function_reply_printf(reply, "%s|%s|%d", event->request_id, event->trace_id,
                                     event->deadline_ns > clock_monotonic_ns() &&
                                         event->deadline_ns < clock_monotonic_ns() + UINT64_C(60000000000));
    if (strncmp(text, "seven", event->size) == 0)
        return function_reply_write(reply, "dropped", 7) ? 1 : 7;
    if (strncmp(text, "fail", event->size) == 0) {
        char long_text[PROTO_ERROR_TEXT_MAX_BYTES + 100];
        memset(long_text, 'y', sizeof long_text - 1);
        long_text[sizeof long_text - 1] = '\0';
        memcpy(long_text, "bad \xff byte ", 11);
        memcpy(long_text + PROTO_ERROR_TEXT_MAX_BYTES - 1, "\xc3\xa9", 2); /* cut in half by the limit */
        function_reply_fail(reply, "Custom.Type", "%s", long_text);
        return 5;
    }
    if (strncmp(text, "errors", event->size) == 0)
        return reply_errors(reply);
    if (strncmp(text, "full", event->size) == 0) {
        static uint8_t full[FUNCTION_PAYLOAD_MAX_BYTES];
        memset(full, 'f', sizeof full);
        return function_reply_write(reply, full, sizeof full);
    }
    if (strncmp(text, "env", event->size) == 0)
        return function_reply_printf(reply, "%s", getenv(FUNCTION_ENV_FD) ? "set" : "unset");
    return function_reply_write(reply, event->data, event->size);
}

/* ---- the agent's end ---- */

static void start(int init)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    fflush(NULL);
    peer.pid = fork();
    assert_true(peer.pid >= 0);
    if (peer.pid == 0) {
        char number[16];
        close(ends[0]);
        snprintf(number, sizeof number, "%d", ends[1]);
        setenv(FUNCTION_ENV_FD, number, 1);
        init_result = init;
        const struct function function = {.init = test_init, .handle = test_handle};
        _exit(function_run(&function));
    }
    close(ends[1]);
    peer.fd = ends[0];
    frame_reader_init(&peer.reader);
}

static int stop(void)
{
    int status = 0;
    if (peer.fd >= 0)
        close(peer.fd);
    assert_int_equal(waitpid(peer.pid, &status, 0), peer.pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void wait_for(int fd, int writing)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = {.tv_sec = 20};
    assert_int_equal(select(fd + 1, writing ? NULL : &set, writing ? &set : NULL, NULL, &limit), 1);
}

/* The next message; false at the end of the stream. */
static bool receive(struct proto_message *message)
{
    for (;;) {
        struct proto_slice body;
        const int got = frame_reader_next(&peer.reader, &body);
        assert_true(got >= 0);
        if (got > 0) {
            const char *why = NULL;
            if (proto_decode(body.data, body.size, message, &why) < 0)
                fail_msg("the function sent what does not decode: %s", why);
            return true;
        }
        size_t room;
        uint8_t *space = frame_reader_space(&peer.reader, &room);
        wait_for(peer.fd, 0);
        const ssize_t n = read(peer.fd, space, room);
        if (n == 0)
            return false;
        assert_true(n > 0);
        frame_reader_fill(&peer.reader, (size_t)n);
    }
}

static void send_bytes(const uint8_t *data, size_t size)
{
    while (size > 0) {
        wait_for(peer.fd, 1);
        const ssize_t n = send(peer.fd, data, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

static void send_message(const struct proto_message *message)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    assert_true(size > 0);
    send_bytes(frame, (size_t)size);
}

static void invoke(const char *id, const void *data, size_t size)
{
    struct proto_message part = {
        .type = PROTO_INVOKE,
        .u.invoke = {.id = proto_text(id), .trace = proto_text("trace-1"), .timeout_ms = 30000},
    };
    uint32_t offset = 0;
    do {
        offset += payload_fragment(&part, data, (uint32_t)size, offset);
        send_message(&part);
    } while (offset < size);
}

static uint8_t answer[PROTO_PAYLOAD_MAX_BYTES];

/* Receive a whole answer for `id` into `answer`: its size. */
static size_t receive_answer(const char *id)
{
    struct payload_assembly assembly;
    struct proto_message message;
    const char *why = NULL;
    payload_reset(&assembly);
    int step;
    do {
        assert_true(receive(&message));
        assert_int_equal(message.type, PROTO_RESPONSE);
        if (assembly.id[0] == '\0')
            assert_int_equal(payload_begin(&assembly, &message, &why), 0);
        step = payload_add(&assembly, &message, answer, &why);
        assert_true(step >= 0);
    } while (step == PAYLOAD_MORE);
    assert_string_equal(assembly.id, id);
    return assembly.total_bytes;
}

static void expect_answer(const char *id, const char *text)
{
    const size_t size = receive_answer(id);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(answer, text, size);
}

static void expect_error(const char *id, const char *type, const char *text)
{
    struct proto_message message;
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_ERROR);
    assert_true(proto_slice_equal(message.u.error.id, proto_text(id)));
    assert_true(proto_slice_equal(message.u.error.failure.type, proto_text(type)));
    if (text)
        assert_true(proto_slice_equal(message.u.error.failure.message, proto_text(text)));
}

static void start_ready(void)
{
    struct proto_message message;
    start(0);
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_HELLO);
    assert_int_equal(message.u.hello.version, PROTO_VERSION);
    assert_int_equal(message.u.hello.state, PROTO_STATE_STARTING);
    assert_false(message.u.hello.wants_logs);
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_INIT);
    assert_int_equal(message.u.init.state, PROTO_STATE_READY);
}

static void serves_one_event_after_another(void **state)
{
    (void)state;
    start_ready();
    invoke("a", "first", 5);
    expect_answer("a", "first");
    invoke("b", "", 0);
    expect_answer("b", "");
    invoke("c.1_2-3", "about", 5);
    expect_answer("c.1_2-3", "c.1_2-3|trace-1|1");
    invoke("d", "env", 3);
    expect_answer("d", "unset");
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void payloads_of_every_size_come_back_whole(void **state)
{
    (void)state;
    static uint8_t data[PROTO_PAYLOAD_MAX_BYTES];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 65536);
    static const size_t sizes[] = {17, 61440, 61441, 1 << 20, PROTO_PAYLOAD_MAX_BYTES, 17};
    start_ready();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        invoke("big", data, sizes[i]);
        assert_int_equal(receive_answer("big"), sizes[i]);
        assert_memory_equal(answer, data, sizes[i]);
    }
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void failures_are_errors_and_the_next_event_works(void **state)
{
    (void)state;
    start_ready();
    invoke("a", "seven", 5);
    expect_error("a", "Function.Error", "handle returned 7");
    invoke("b", "errors", 6);
    expect_error("b", "Function.ResponseSizeTooLarge", "the answer is larger than 6291556 bytes");
    invoke("c", "full", 4);
    assert_int_equal(receive_answer("c"), FUNCTION_PAYLOAD_MAX_BYTES);
    assert_int_equal(answer[FUNCTION_PAYLOAD_MAX_BYTES - 1], 'f');
    invoke("d", "fail", 4);
    struct proto_message message;
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_ERROR);
    const struct proto_slice text = message.u.error.failure.message;
    assert_true(proto_slice_equal(message.u.error.failure.type, proto_text("Custom.Type")));
    assert_int_equal(text.size, PROTO_ERROR_TEXT_MAX_BYTES - 1); /* the half character is left off */
    assert_memory_equal(text.data, "bad ? byte yyy", 14);
    invoke("e", "fine", 4);
    expect_answer("e", "fine");
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void failed_init_is_told_before_the_exit(void **state)
{
    (void)state;
    struct proto_message message;
    start(3);
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_HELLO);
    assert_true(receive(&message));
    assert_int_equal(message.type, PROTO_INIT);
    assert_int_equal(message.u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(message.u.init.failure.type, proto_text("Function.InitError")));
    assert_true(proto_slice_equal(message.u.init.failure.message, proto_text("init returned 3")));
    assert_false(receive(&message));
    assert_int_equal(stop(), FUNCTION_EXIT_INIT);
}

/* What an agent must not do ends the process, without an answer. */
static void expect_refusal(void)
{
    struct proto_message message;
    assert_false(receive(&message));
    assert_int_equal(stop(), FUNCTION_EXIT_CHANNEL);
}

static void agent_that_breaks_the_protocol_is_refused(void **state)
{
    (void)state;
    start_ready();
    send_bytes((const uint8_t *)"\0\0\0\0", 4);
    expect_refusal();

    start_ready();
    send_bytes((const uint8_t *)"\0\0\0\2\xff\xff", 6);
    expect_refusal();

    start_ready();
    send_message(&(struct proto_message){.type = PROTO_SHUTDOWN});
    expect_refusal();

    start_ready(); /* a second event in the middle of the first */
    struct proto_message part = {
        .type = PROTO_INVOKE,
        .u.invoke = {proto_text("one"), {0}, 1000, 10, 0, proto_text("12345")},
    };
    send_message(&part);
    part.u.invoke.id = proto_text("two");
    send_message(&part);
    expect_refusal();

    start_ready(); /* a fragment without its beginning */
    part.u.invoke.offset_bytes = 5;
    send_message(&part);
    expect_refusal();

    start_ready(); /* gone in the middle of an event, and of a frame */
    part.u.invoke.offset_bytes = 0;
    send_message(&part);
    assert_int_equal(stop(), FUNCTION_EXIT_CHANNEL);
    start_ready();
    send_bytes((const uint8_t *)"\0\0\0\2\xff", 5);
    assert_int_equal(stop(), FUNCTION_EXIT_CHANNEL);
}

static void wrong_descriptor_is_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"", "x", "3x", "-1", "99999999999", "1000", "0"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0) {
            setenv(FUNCTION_ENV_FD, values[i], 1);
            const struct function function = {.handle = test_handle};
            _exit(function_run(&function));
        }
        peer.pid = pid;
        peer.fd = -1;
        assert_int_equal(stop(), FUNCTION_EXIT_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_one_event_after_another),
        cmocka_unit_test(payloads_of_every_size_come_back_whole),
        cmocka_unit_test(failures_are_errors_and_the_next_event_works),
        cmocka_unit_test(failed_init_is_told_before_the_exit),
        cmocka_unit_test(agent_that_breaks_the_protocol_is_refused),
        cmocka_unit_test(wrong_descriptor_is_refused),
    };
    return cmocka_run_group_tests_name("function library", tests, NULL, NULL);
}
