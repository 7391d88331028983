/*
 * libFuzzer target: the agent's session between a function and clients, all of which say what the fuzzer
 * wants: right messages with any values at any moment, bytes that are none, output, ends. The function's
 * process is a fake one, whose death is a step as any other.
 *
 * What is checked beside memory safety: the agent goes on; what it says, to the clients and to the function,
 * is frames that decode; a client's first is HELLO; no event is handed to a function that has not answered
 * the last.
 */
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/cursor.h"
#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "tests/unit/agent/stage.h"

#define CLIENTS    4
#define TURNS_MAX  200
#define SCRIPT_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
    int fd; /* -1: none */
    bool greeted;
    struct frame_reader in;
};

static struct peer clients[CLIENTS], callee; /* the callee: the function's side of its channel */
static int callee_of;                        /* the start whose channel that is */
static char event_id[PROTO_ID_MAX_BYTES + 1];

static void send_bytes(const struct peer *peer, const void *data, size_t size)
{
    if (peer->fd >= 0 && size > 0)
        (void)send(peer->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void say(const struct peer *peer, const struct proto_message *message)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    if (size > 0)
        send_bytes(peer, frame, (size_t)size);
}

/* ---- what the agent has said ---- */

static void heard_by_function(const struct proto_message *message)
{
    if (message->type != PROTO_INVOKE)
        return;
    if (message->u.invoke.offset_bytes == 0 && message->u.invoke.id.size <= PROTO_ID_MAX_BYTES) {
        memcpy(event_id, message->u.invoke.id.data, message->u.invoke.id.size);
        event_id[message->u.invoke.id.size] = '\0';
    }
}

static void listen_to(struct peer *peer, bool is_function)
{
    struct proto_message message;
    struct proto_slice body;
    const char *why = NULL;
    while (peer->fd >= 0) {
        const int got = frame_reader_next(&peer->in, &body);
        if (got < 0 || (got > 0 && proto_decode(body.data, body.size, &message, &why) < 0))
            abort();
        if (got > 0 && is_function) {
            heard_by_function(&message);
        } else if (got > 0) {
            if (!peer->greeted && message.type != PROTO_HELLO && message.type != PROTO_ERROR)
                abort();
            peer->greeted = true;
        } else {
            size_t room;
            uint8_t *space = frame_reader_space(&peer->in, &room);
            const ssize_t n = recv(peer->fd, space, room, MSG_DONTWAIT);
            if (n <= 0)
                return;
            frame_reader_fill(&peer->in, (size_t)n);
        }
    }
}

/* The function's end is the fake process's, another with each start. */
static void find_callee(void)
{
    if (fake.starts != callee_of || fake.channel_fd < 0) {
        callee = (struct peer){.fd = fake.channel_fd};
        frame_reader_init(&callee.in);
        callee_of = fake.starts;
        event_id[0] = '\0';
    }
    callee.fd = fake.channel_fd;
}

static void turn_once(struct cursor *in)
{
    int batch;
    unsigned count = 0;
    (void)in;
    do {
        batch = session_run_once(&session, 0);
        if (batch < 0 || ++count > TURNS_MAX)
            abort();
        find_callee();
        listen_to(&callee, true);
        for (unsigned i = 0; i < CLIENTS; i++)
            listen_to(&clients[i], false);
    } while (batch > 0);
}

/* ---- what the function says ---- */

static void function_says(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    static const uint8_t bytes[256];
    struct proto_message message = {0};
    const uint32_t total = how >> 4, offset = how & 8u ? 1 : 0;
    find_callee();
    switch (how & 7u) {
    case 0:
        message.type = PROTO_HELLO;
        message.u.hello.version = how & 8u ? how : PROTO_VERSION;
        message.u.hello.name = proto_text("fuzz");
        message.u.hello.state = PROTO_STATE_STARTING;
        break;
    case 1:
        message.type = PROTO_INIT;
        message.u.init.state = how & 8u ? PROTO_STATE_FAILED : PROTO_STATE_READY;
        if (how & 8u)
            message.u.init.failure.type = proto_text("Fuzz.Init");
        break;
    case 2:
    case 3:
        message.type = PROTO_RESPONSE;
        message.u.response.id = proto_text(how & 1u ? event_id : "other");
        message.u.response.total_bytes = total;
        message.u.response.offset_bytes = offset;
        message.u.response.body = (struct proto_slice){bytes, total > offset ? total - offset : 0};
        break;
    case 4:
        message.type = PROTO_ERROR;
        message.u.error.id = proto_text(how & 8u ? event_id : "");
        message.u.error.failure.type = proto_text("Fuzz.Error");
        break;
    default:
        message.type = how & 1u ? PROTO_QUIESCED : PROTO_RESUMED;
        if (how & 8u)
            message.u.quiesced.failure.type = proto_text("Fuzz.Hook");
        break;
    }
    say(&callee, &message);
}

/* The function's output: a pipe that the agent may have closed, which is the function's to die of, not ours. */
static void print(int fd, const uint8_t *text, size_t size)
{
    if (fd < 0 || !text || size == 0)
        return;
    (void)signal(SIGPIPE, SIG_IGN);
    const ssize_t n = write(fd, text, size);
    (void)n;
    (void)signal(SIGPIPE, SIG_DFL);
}

static void function_does(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    const size_t size = (size_t)(how >> 3);
    const uint8_t *from;
    find_callee();
    switch (how & 7u) {
    case 0:
    case 1:
        from = cursor_take(in, size);
        if (from)
            send_bytes(&callee, from, size);
        break;
    case 2:
    case 3:
        print(how & 1u ? fake.stdout_fd : fake.stderr_fd, cursor_take(in, size), size);
        break;
    case 4:
        if (process.pid > 0 && !process.reaped)
            fake_exit(&process, how & 8u ? SIGSEGV : how << 8 & 0xff00);
        break;
    case 5:
        if (callee.fd >= 0)
            (void)shutdown(callee.fd, SHUT_WR);
        break;
    case 6:
        fake.lingers = (how & 8u) != 0;
        fake.survives_kill = (how & 16u) != 0;
        fake.freezes_late = (how & 32u) != 0;
        break;
    default:
        fake_freeze_is_done();
        break;
    }
}

/* ---- what clients say ---- */

static void client_opens(struct peer *peer)
{
    int pair[2];
    if (peer->fd >= 0)
        return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    *peer = (struct peer){.fd = pair[0]};
    frame_reader_init(&peer->in);
    session_accept(&session, pair[1]);
    session_settle(&session);
}

static void client_invokes(const struct peer *peer, struct cursor *in)
{
    static const uint8_t bytes[256];
    static const char *const ids[] = {"a", "b", "c-1", "a"};
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    const uint32_t total = (uint32_t)cursor_get_le(in, 1),
                   offset = how & 4u ? (uint32_t)cursor_get_le(in, 1) : 0;
    const uint32_t size = how & 8u ? (uint32_t)cursor_get_le(in, 1) : total > offset ? total - offset : 0;
    const struct proto_message message = {
        .type = PROTO_INVOKE,
        .u.invoke = {.id = proto_text(ids[how & 3u]),
                     .timeout_ms = how & 16u ? 1 : 60000,
                     .total_bytes = total,
                     .offset_bytes = offset,
                     .body = {bytes, size}},
    };
    say(peer, &message);
}

static void client_orders(const struct peer *peer, uint8_t how)
{
    static const uint8_t bytes[64];
    static uint64_t generation;
    struct proto_message message = {0};
    switch (how % 6) {
    case 0:
        message.type = PROTO_HELLO;
        message.u.hello.version = how & 64u ? how : PROTO_VERSION;
        message.u.hello.name = proto_text("fuzz");
        message.u.hello.wants_logs = (how & 128u) != 0;
        message.u.hello.state = PROTO_STATE_STARTING;
        break;
    case 1:
        message.type = PROTO_CHECKPOINT;
        message.u.checkpoint.timeout_ms = how & 64u ? 1 : 60000;
        break;
    case 2:
        message.type = PROTO_RESUME;
        message.u.resume.timeout_ms = 60000;
        message.u.resume.generation = how & 64u ? 1 : ++generation;
        message.u.resume.seed = (struct proto_slice){bytes, 32};
        message.u.resume.realtime_ns = 1;
        message.u.resume.clone_id = (struct proto_slice){bytes, 16};
        break;
    case 3:
        message.type = PROTO_SECRET;
        message.u.secret.name = proto_text(how & 64u ? "key" : "token");
        message.u.secret.body = (struct proto_slice){bytes, how & 31u};
        break;
    case 4:
        message.type = PROTO_COLLECT;
        break;
    default:
        message.type = how & 64u ? PROTO_SHUTDOWN : PROTO_QUIESCED;
        break;
    }
    say(peer, &message);
}

static void client_step(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    struct peer *peer = &clients[how & 3u];
    const size_t size = (size_t)(how >> 5);
    client_opens(peer);
    switch (how >> 2 & 7u) {
    case 0:
    case 1:
    case 2:
        client_invokes(peer, in);
        break;
    case 3:
    case 4:
    case 5:
        client_orders(peer, (uint8_t)cursor_get_le(in, 1));
        break;
    case 6: {
        const uint8_t *from = cursor_take(in, size);
        if (from)
            send_bytes(peer, from, size);
        break;
    }
    default:
        fd_close(&peer->fd);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {function_says, function_does, client_step, turn_once,
                                                     client_step,   function_says, turn_once,   client_step};
    uint8_t script[SCRIPT_MAX];
    if (size > sizeof script)
        return -1;
    memcpy(script, data, size);
    if (stage_set_up(NULL))
        abort();
    callee = (struct peer){.fd = -1};
    callee_of = -1;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = (struct peer){.fd = -1};
    session_start(&session);
    struct cursor in = cursor_over(script, size);
    while (cursor_left(&in) > 0 && session.state != LIFECYCLE_STOPPED)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    if (session.state != LIFECYCLE_STOPPED)
        turn_once(&in);
    for (unsigned i = 0; i < CLIENTS; i++)
        fd_close(&clients[i].fd);
    (void)stage_tear_down(NULL);
    return 0;
}
