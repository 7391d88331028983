/*
 * The session under load: who is slow holds back only who waits for him, and memory is bounded.
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

/* ---- bounded memory -------------------------------------------------------------------------------- */

/* Send fragments of a `total` byte answer until nobody takes more; the offset reached. */
static uint32_t respond_until_blocked(const char *id, const uint8_t *data, uint32_t total, uint32_t offset)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    static size_t left;
    static int64_t size;
    if (offset == 0)
        left = 0;
    for (int idle = 0; offset < total || left > 0;) {
        if (left == 0) {
            struct proto_message fragment = {.type = PROTO_RESPONSE, .u.response = {.id = proto_text(id)}};
            offset += payload_fragment(&fragment, data, total, offset);
            size = proto_encode(&fragment, frame, sizeof frame);
            left = (size_t)size;
        }
        const ssize_t n =
            send(fake.channel_fd, frame + ((size_t)size - left), left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            left -= (size_t)n;
            idle = 0;
        } else if (++idle > 5) {
            return offset;
        }
        turn(NULL);
    }
    return offset;
}

static void slow_client_holds_the_function_back(void **state)
{
    (void)state;
    static uint8_t data[4000000], answer[4000000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 >> 3);
    start_ready();
    struct talk *talk = client_ready(false), *other = client_ready(false);
    talk_invoke(talk, "r-1", "x", 60000);
    expect_event("r-1");
    const uint32_t taken = respond_until_blocked("r-1", data, sizeof data, 0);
    assert_true(taken < sizeof data / 2); /* what is under way sits in buffers of fixed size */
    assert_true(session.holding);
    talk_invoke(other, "r-2", "x", 20); /* others are served meanwhile: told that it lasts too long */
    talk_expect_error(other, "r-2", PROTO_ERROR_BUSY, "");

    /* Its output still gets out, and comes before the end of the answer. */
    assert_int_equal(write(fake.stdout_fd, "log line\n", 9), 9);
    turns(3);
    struct payload_assembly assembly;
    const char *why = "";
    uint32_t offset = taken;
    bool logged = false;
    payload_reset(&assembly);
    for (int step = 0; step != PAYLOAD_COMPLETE;) {
        const struct proto_message *message = talk_next(talk);
        assert_non_null(message);
        if (message->type == PROTO_LOG) {
            logged = true;
            continue;
        }
        if (assembly.id[0] == '\0')
            assert_int_equal(payload_begin(&assembly, message, &why), 0);
        step = payload_add(&assembly, message, answer, &why);
        assert_true(step >= 0);
        offset = respond_until_blocked("r-1", data, sizeof data, offset);
    }
    assert_true(logged);
    assert_memory_equal(data, answer, sizeof data);
    turns(2);
    assert_int_equal(session.state, LIFECYCLE_READY);
    client_free(talk);
    client_free(other);
}

static void slow_function_holds_the_client_back(void **state)
{
    (void)state;
    static uint8_t event[3000000], frame[PROTO_FRAME_MAX_BYTES];
    start_ready();
    struct talk *talk = client_ready(false);
    struct proto_message fragment = {.type = PROTO_INVOKE,
                                     .u.invoke = {.id = proto_text("r-1"), .timeout_ms = 60000}};
    uint32_t offset = 0;
    size_t left = 0;
    int64_t size = 0;
    for (int idle = 0; idle < 6;) {
        if (left == 0) {
            offset += payload_fragment(&fragment, event, sizeof event, offset);
            size = proto_encode(&fragment, frame, sizeof frame);
            left = (size_t)size;
        }
        const ssize_t n = send(talk->fd, frame + ((size_t)size - left), left, MSG_DONTWAIT | MSG_NOSIGNAL);
        left -= n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
        turn(NULL);
    }
    assert_true(offset < sizeof event / 2);
    /* Once the function reads, all of it arrives. */
    uint32_t have = 0;
    while (have < sizeof event) {
        const struct proto_message *message = talk_next(&function);
        assert_int_equal(message->u.invoke.offset_bytes, have);
        have += (uint32_t)message->u.invoke.body.size;
        while (left > 0 || offset < sizeof event) {
            if (left == 0) {
                offset += payload_fragment(&fragment, event, sizeof event, offset);
                size = proto_encode(&fragment, frame, sizeof frame);
                left = (size_t)size;
            }
            const ssize_t n =
                send(talk->fd, frame + ((size_t)size - left), left, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n <= 0)
                break;
            left -= (size_t)n;
        }
    }
    talk_respond(&function, "r-1", "all");
    talk_expect_answer(talk, "r-1", "all");
    client_free(talk);
}

static void logs_nobody_reads_are_dropped_and_counted(void **state)
{
    (void)state;
    static char line[4096];
    const uint64_t lines = 1000;
    memset(line, 'l', sizeof line);
    start_ready();
    struct talk *talk = client_ready(false), *listener = client_ready(true);
    talk_invoke(talk, "r-1", "x", 60000);
    expect_event("r-1");
    for (uint64_t i = 0; i < lines; i++) {
        /* The pipe has room again after every turn: the function never waits for a reader of its logs. */
        assert_int_equal(write(fake.stderr_fd, line, sizeof line), sizeof line);
        turn(NULL);
    }
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        if (session.clients[i].state == CLIENT_OPEN)
            assert_true(session.clients[i].dropped_bytes > sizeof line);
    talk_respond(&function, "r-1", "done");
    struct talk_logs *logs = calloc(2, sizeof *logs);
    char answer[16];
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, &logs[0]), 4);
    assert_int_equal(logs[0].total_bytes + logs[0].dropped_bytes, lines * sizeof line);
    assert_true(logs[0].total_bytes >= LINK_LOG_BYTES / 2);

    /* The listener learns of its loss with the next line it gets. */
    while (!talk_is_quiet(listener))
        talk_note_log(&logs[1], &listener->message);
    assert_int_equal(logs[1].dropped_bytes, 0);
    assert_int_equal(write(fake.stdout_fd, "next\n", 5), 5);
    talk_note_log(&logs[1], talk_next(listener));
    assert_int_equal(logs[1].total_bytes + logs[1].dropped_bytes, lines * sizeof line + 5);
    free(logs);
    client_free(talk);
    client_free(listener);
}

/* What an init prints before anyone listens reaches the first who wants it, its newest bytes, once. */
static void output_before_the_first_client_is_kept(void **state)
{
    (void)state;
    static char line[4096];
    session_start(&session);
    for (int i = 0; i < 3; i++) {
        memset(line, 'a' + i, sizeof line);
        assert_int_equal(write(fake.stderr_fd, line, sizeof line), sizeof line);
        turns(2);
    }
    assert_int_equal(write(fake.stdout_fd, "hello\n", 6), 6);
    turns(2);
    struct talk *plain = client_new(), *first = client_new(), *second = client_new();
    talk_hello(plain, false);
    assert_true(talk_is_quiet(plain));
    talk_hello(first, true);
    struct talk_logs *logs = calloc(1, sizeof *logs);
    talk_note_log(logs, talk_next(first));
    talk_note_log(logs, talk_next(first));
    assert_string_equal(logs->text[0], "hello\n");
    assert_int_equal(logs->size[1], 8192);
    assert_int_equal(logs->text[1][0], 'b');
    assert_int_equal(logs->text[1][8191], 'c');
    assert_int_equal(logs->dropped_bytes, 4096);
    talk_hello(second, true);
    assert_true(talk_is_quiet(second));
    free(logs);
    client_free(plain);
    client_free(first);
    client_free(second);
}

static void client_that_never_reads_is_closed(void **state)
{
    (void)state;
    start_ready();
    struct talk *deaf = client_ready(false);
    for (int i = 0; i < 200000 && session.clients[0].state != CLIENT_FREE; i++) {
        talk_fragment(deaf, "r-1", 10, 5, 1);
        talk_fragment(deaf, "r-2", 10, 5, 1); /* each a new error to tell */
    }
    assert_int_equal(session.clients[0].state, CLIENT_FREE);
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-3", "x", 5000);
    expect_event("r-3");
    client_free(deaf);
    client_free(talk);
}

static void answer_of_a_dead_function_still_reaches_a_slow_client(void **state)
{
    (void)state;
    static uint8_t data[400000], answer[400000];
    memset(data, 'd', sizeof data);
    const int small = 16384;
    start_ready();
    struct talk *talk = client_ready(false);
    talk_invoke(talk, "r-1", "x", 60000);
    expect_event("r-1");
    /* As much as fits into all the buffers on the way is sent, and then the function exits. */
    (void)setsockopt(fake.channel_fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof small);
    uint32_t offset = respond_until_blocked("r-1", data, sizeof data, 0);
    if (offset < sizeof data)
        fail_msg("the test's buffers hold only %u bytes", offset);
    fake_exit(&process, 0);
    turns(3);
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, NULL), sizeof data);
    assert_memory_equal(data, answer, sizeof data);
    client_free(talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(slow_client_holds_the_function_back),
        WITH_SESSION(slow_function_holds_the_client_back),
        WITH_SESSION(logs_nobody_reads_are_dropped_and_counted),
        WITH_SESSION(output_before_the_first_client_is_kept),
        WITH_SESSION(client_that_never_reads_is_closed),
        WITH_SESSION(answer_of_a_dead_function_still_reaches_a_slow_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
