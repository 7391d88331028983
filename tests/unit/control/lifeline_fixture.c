/* See lifeline_fixture.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/frame.h"
#include "tests/unit/control/lifeline_fixture.h"

struct loop loop;
struct lifeline lifeline;
int agent_fd;
static struct frame_reader heard;
struct lifeline_outcome told;
int told_count;
int fact_count;
bool fini_when_told;
bool resume_when_told;
struct lifeline_resume order;
const uint8_t key[20] = "a key of this clone";

void on_done(void *context, const struct lifeline_outcome *outcome)
{
    assert_ptr_equal(context, &told);
    told = *outcome;
    told_count++;
    if (fini_when_told)
        lifeline_fini(&lifeline);
    if (resume_when_told) {
        resume_when_told = false;
        assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), 0);
    }
}

void on_fact(void *context, struct proto_slice name, struct proto_slice body)
{
    assert_ptr_equal(context, &told);
    assert_true(name.size > 0 && body.size == 3);
    fact_count++;
}

int setup(void **state)
{
    (void)state;
    int fds[2];
    if (loop_init(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    agent_fd = fds[0];
    frame_reader_init(&heard);
    memset(&told, 0, sizeof told);
    told_count = fact_count = 0;
    fini_when_told = resume_when_told = false;
    order = (struct lifeline_resume){.generation = 7,
                                     .hostname = "clone-7",
                                     .network = "mtu=1400,address=192.0.2.7/24",
                                     .hooks_limit_ms = 500};
    memset(order.seed, 0xa5, sizeof order.seed);
    memset(order.clone_id, 0x5a, sizeof order.clone_id);
    order.secret_count = 1;
    order.secrets[0] = (struct lifeline_secret){.name = "token", .data = key, .size = sizeof key};
    lifeline_init(&lifeline, &loop);
    return lifeline_open(&lifeline, fds[1]);
}

int teardown(void **state)
{
    (void)state;
    lifeline_fini(&lifeline);
    fd_close(&agent_fd);
    loop_fini(&loop);
    return 0;
}

/* Deliver what is ready now. */
void turn(void)
{
    for (int i = 0; i < 50 && loop_run_once(&loop, 0) > 0; i++)
        ;
}

void say(const struct proto_message *message)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    assert_true(size > 0);
    assert_int_equal(fd_write_all(agent_fd, frame, (size_t)size), 0);
}

void say_hello_of(uint32_t version)
{
    say(&(struct proto_message){
        .type = PROTO_HELLO,
        .u.hello = {.version = version, .name = proto_text("agent"), .state = PROTO_STATE_READY}});
}

void say_hello(void)
{
    say_hello_of(PROTO_VERSION);
    turn();
}

struct proto_failure failure_of(const char *type, const char *text)
{
    return (struct proto_failure){.type = proto_text(type), .message = proto_text(text)};
}

void say_step(const char *name, const char *failure)
{
    struct proto_message step = {.type = PROTO_STEP, .u.step = {.name = proto_text(name), .duration_us = 35}};
    if (failure)
        step.u.step.failure = failure_of("Agent.NotResumed", failure);
    say(&step);
}

void say_end(enum proto_type type, const char *failure)
{
    struct proto_message end = {.type = type, .u.resumed.duration_us = 1900};
    if (failure)
        end.u.resumed.failure = failure_of("Agent.NotResumed", failure);
    say(&end);
}

void say_chatter(void)
{
    say(&(struct proto_message){.type = PROTO_LOG,
                                .u.log = {.stream = PROTO_STREAM_STDOUT, .body = proto_text("a line")}});
    say(&(struct proto_message){.type = PROTO_INIT, .u.init.state = PROTO_STATE_READY});
}

/* The next message of hostvmm's; the type must be this. Slices are good until the next call. */
struct proto_message hear(enum proto_type type)
{
    struct proto_slice body;
    struct proto_message message;
    const char *why = "";
    int got = frame_reader_next(&heard, &body);
    while (got == 0) {
        size_t room;
        uint8_t *space = frame_reader_space(&heard, &room);
        const ssize_t n = read(agent_fd, space, room);
        assert_true(n > 0);
        frame_reader_fill(&heard, (size_t)n);
        got = frame_reader_next(&heard, &body);
    }
    assert_int_equal(got, 1);
    assert_int_equal(proto_decode(body.data, body.size, &message, &why), 0);
    assert_int_equal(message.type, type);
    return message;
}

void hear_nothing(void)
{
    uint8_t byte;
    assert_true(frame_reader_idle(&heard));
    assert_int_equal(read(agent_fd, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

void begin_checkpoint(void)
{
    assert_int_equal(lifeline_checkpoint(&lifeline, LIMIT_MS, on_done, &told), 0);
    turn();
}

void begin_resume(void)
{
    assert_int_equal(lifeline_resume(&lifeline, &order, LIMIT_MS, on_done, &told), 0);
    turn();
}

void expect(int error, const char *text)
{
    turn();
    assert_int_equal(told_count, 1);
    assert_int_equal(told.error, error);
    if (text && !strstr(told.why, text))
        fail_msg("'%s' does not say '%s'", told.why, text);
    assert_int_equal(lifeline_is_open(&lifeline), error == 0 || error == -EREMOTEIO);
}
