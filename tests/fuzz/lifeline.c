/*
 * libFuzzer target: what a guest sends in place of its agent. The first byte chooses the exchange and whether
 * a good hello comes first; the rest is the guest's, in pieces of the size the second byte names.
 *
 * What is checked beside memory safety: `done` is called at most once an exchange, and the loop comes to
 * rest.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/control/lifeline.h"

#define LIMIT_MS  60000
#define TURNS_MAX 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop loop;
static struct lifeline lifeline;
static int done_count;

static void on_done(void *context, const struct lifeline_outcome *outcome)
{
    (void)context;
    if (done_count++ > 0 || outcome->step_count > LIFELINE_STEPS_MAX ||
        !memchr(outcome->why, '\0', sizeof outcome->why))
        abort();
}

static void on_fact(void *context, struct proto_slice name, struct proto_slice body)
{
    (void)context;
    if (name.size == 0 || body.size > PROTO_FACT_MAX_BYTES)
        abort();
}

static void turn(void)
{
    int turns = 0;
    while (loop_run_once(&loop, 0) > 0)
        if (turns++ > TURNS_MAX)
            abort();
}

static void begin(unsigned exchange)
{
    struct lifeline_resume order = {.generation = 1, .hooks_limit_ms = 1};
    done_count = 0;
    if (exchange == 0)
        (void)lifeline_checkpoint(&lifeline, LIMIT_MS, on_done, NULL);
    else if (exchange == 1)
        (void)lifeline_collect(&lifeline, LIMIT_MS, on_fact, on_done, NULL);
    else
        (void)lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, NULL);
    turn();
}

static void say_hello(int fd)
{
    uint8_t frame[256];
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("agent"), .state = PROTO_STATE_READY},
    };
    const int64_t size = proto_encode(&hello, frame, sizeof frame);
    if (size < 0 || fd_write_all(fd, frame, (size_t)size) < 0)
        abort();
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    int fds[2];
    if (size < 2)
        return 0;
    if (!started) {
        if (loop_init(&loop) < 0)
            abort();
        lifeline_init(&lifeline, &loop);
        started = true;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ||
        lifeline_open(&lifeline, fds[1]) < 0)
        abort();
    begin(data[0] & 3u);
    if (data[0] & 4u)
        say_hello(fds[0]);
    for (size_t at = 2; at < size;) {
        size_t piece = (size_t)data[1] * 8 + 1;
        piece = piece < size - at ? piece : size - at;
        if (send(fds[0], data + at, piece, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break; /* hung up on */
        at += piece;
        turn();
    }
    if (done_count > 0 && lifeline_is_open(&lifeline))
        begin((unsigned)data[0] >> 3 & 3u);
    fd_close(&fds[0]);
    turn();
    if (done_count != 1 && lifeline_is_open(&lifeline))
        abort();
    lifeline_fini(&lifeline);
    return 0;
}
