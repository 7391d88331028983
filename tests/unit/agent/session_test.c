/*
 * The session in one thread with the test: real links, clients and limits, a function and clients played by
 * the test over socket pairs. What is tested is who gets what, in which order, and what it costs.
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
#include "agent/base/log.h"
#include "agent/proto/errors.h"
#include "agent/session.h"
#include "tests/unit/agent/fake_process.h"
#include "tests/unit/agent/talk.h"

static struct loop loop;
static struct process process;
static struct parent parent;
static struct session session;
static int init_fd; /* init's end of the handoff */
static struct talk function;

static void turn(struct talk *talk)
{
    (void)talk;
    assert_true(session_run_once(&session, 5) >= 0);
}

static void turns(int count)
{
    while (count-- > 0)
        turn(NULL);
}

static int set_up(void **state)
{
    (void)state;
    int pair[2];
    log_setup("agent", getenv("V") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, STDERR_FILENO);
    fake_reset();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    init_fd = pair[0];
    parent_none(&parent);
    parent.fd = pair[1];
    assert_int_equal(loop_init(&loop), 0);
    process_init(&process, "/nowhere", NULL, false);
    assert_int_equal(session_init(&session, &loop, &process, &parent), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    session_fini(&session);
    loop_fini(&loop);
    parent_fini(&parent);
    fd_close(&init_fd);
    fake_reset();
    return 0;
}

/* ---- the function, played -------------------------------------------------------------------------- */

static void function_hello(void)
{
    talk_init(&function, fake.channel_fd, turn);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("fake"), .state = PROTO_STATE_STARTING}};
    talk_send(&function, &hello);
}

static void function_init(enum proto_state state)
{
    struct proto_message init = {.type = PROTO_INIT, .u.init = {.state = state}};
    if (state == PROTO_STATE_FAILED) {
        init.u.init.failure.type = proto_text("Test.NoInit");
        init.u.init.failure.message = proto_text("as told");
    }
    talk_send(&function, &init);
}

static void function_ready(void)
{
    function_hello();
    function_init(PROTO_STATE_READY);
    while (session.state == LIFECYCLE_STARTING)
        turn(NULL);
    assert_true(session.state == LIFECYCLE_READY || session.state == LIFECYCLE_RUNNING);
}

static void start_ready(void)
{
    session_start(&session);
    function_ready();
}

static void expect_event(const char *id)
{
    const struct proto_message *event = talk_next(&function);
    assert_non_null(event);
    assert_int_equal(event->type, PROTO_INVOKE);
    assert_true(proto_slice_equal(event->u.invoke.id, proto_text(id)));
}

/* Takes what init was told; NUL-terminated. */
static const char *words_to_init(void)
{
    static char words[16];
    const ssize_t n = read(init_fd, words, sizeof words - 1);
    words[n > 0 ? n : 0] = '\0';
    return words;
}

/* ---- clients --------------------------------------------------------------------------------------- */

static struct talk *client_new(void)
{
    int pair[2];
    struct talk *talk = malloc(sizeof *talk);
    assert_non_null(talk);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    talk_init(talk, pair[0], turn);
    session_accept(&session, pair[1]);
    session_settle(&session);
    return talk;
}

static struct talk *client_ready(bool wants_logs)
{
    struct talk *talk = client_new();
    talk_ready(talk, wants_logs);
    return talk;
}

static void client_free(struct talk *talk)
{
    talk_close(talk);
    free(talk);
}

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
            if (step.next == LIFECYCLE_DOWN && s != LIFECYCLE_DOWN)
                assert_int_equal(e, LIFECYCLE_GONE);
            /* A process that failed is never given an event again. */
            if (e == LIFECYCLE_FAILED && step.action != LIFECYCLE_IMPOSSIBLE)
                assert_true(step.next == LIFECYCLE_ENDING || step.next == LIFECYCLE_STOPPING);
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

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

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
        WITH_SESSION(slow_client_holds_the_function_back),
        WITH_SESSION(slow_function_holds_the_client_back),
        WITH_SESSION(logs_nobody_reads_are_dropped_and_counted),
        WITH_SESSION(client_that_never_reads_is_closed),
        WITH_SESSION(answer_of_a_dead_function_still_reaches_a_slow_client),
        WITH_SESSION(shutdown_tells_init_when_the_function_is_gone),
        WITH_SESSION(function_that_ignores_its_end_is_killed),
        cmocka_unit_test(failures_are_cut_to_their_limits),
        cmocka_unit_test(memory_is_kept_for_the_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
