/* The request for an orderly shutdown: what is sent, and what is made of the agent's silence, words and end.
 */
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
#include "hostvmm/control/shutdown.h"

#define UNTOLD 1

static struct loop loop;
static struct control_shutdown halt;
static int agent_fd;
static int told;
static int told_count;

static void on_done(void *context, int error)
{
    assert_ptr_equal(context, &told);
    told = error;
    told_count++;
}

static int setup(void **state)
{
    (void)state;
    int fds[2];
    if (loop_init(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    agent_fd = fds[0];
    told = UNTOLD;
    told_count = 0;
    control_shutdown_init(&halt);
    return control_shutdown_begin(&halt, &loop, fds[1], on_done, &told);
}

static int teardown(void **state)
{
    (void)state;
    control_shutdown_fini(&halt);
    fd_close(&agent_fd);
    loop_fini(&loop);
    return 0;
}

/* Deliver what is ready now. */
static void turn(void)
{
    while (loop_run_once(&loop, 0) > 0 && told_count == 0)
        ;
}

static void send_hello(void)
{
    uint8_t frame[256];
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("agent"), .state = PROTO_STATE_READY},
    };
    const int64_t size = proto_encode(&hello, frame, sizeof frame);
    assert_true(size > 0);
    assert_int_equal(fd_write_all(agent_fd, frame, (size_t)size), 0);
}

static void test_sends_hello_then_shutdown(void **state)
{
    (void)state;
    static struct frame_reader reader;
    struct proto_slice body;
    struct proto_message message;
    const char *why;
    turn();
    frame_reader_init(&reader);
    size_t room;
    uint8_t *space = frame_reader_space(&reader, &room);
    const ssize_t n = read(agent_fd, space, room);
    assert_true(n > 0);
    frame_reader_fill(&reader, (size_t)n);
    assert_int_equal(frame_reader_next(&reader, &body), 1);
    assert_int_equal(proto_decode(body.data, body.size, &message, &why), 0);
    assert_int_equal(message.type, PROTO_HELLO);
    assert_int_equal(message.u.hello.version, PROTO_VERSION);
    assert_int_equal(frame_reader_next(&reader, &body), 1);
    assert_int_equal(proto_decode(body.data, body.size, &message, &why), 0);
    assert_int_equal(message.type, PROTO_SHUTDOWN);
    assert_true(frame_reader_idle(&reader));
    assert_int_equal(told, UNTOLD);
}

static void test_agent_there(void **state)
{
    (void)state;
    turn();
    send_hello();
    turn();
    assert_int_equal(told, 0);
    /* Its end, later, is no news. */
    fd_close(&agent_fd);
    assert_true(loop_run_once(&loop, 0) >= 0);
    assert_int_equal(told_count, 1);
}

static void test_agent_that_closes_after_hello(void **state)
{
    (void)state;
    send_hello();
    turn();
    fd_close(&agent_fd);
    turn();
    assert_int_equal(told, 0);
    assert_int_equal(told_count, 1);
}

static void test_nobody_there(void **state)
{
    (void)state;
    fd_close(&agent_fd);
    turn();
    assert_int_equal(told, -ECONNREFUSED);
    assert_int_equal(told_count, 1);
    assert_int_equal(halt.fd, -1);
}

static void test_closed_before_a_word(void **state)
{
    (void)state;
    turn();
    fd_close(&agent_fd); /* with the request unread: a reset, or an end */
    turn();
    assert_true(told == -ECONNREFUSED || told == -ECONNRESET);
}

static void test_flood_is_cut(void **state)
{
    (void)state;
    static uint8_t noise[PROTO_FRAME_MAX_BYTES];
    turn();
    for (int i = 0; i < 100000 && halt.fd >= 0; i++) {
        ssize_t n = send(agent_fd, noise, sizeof noise, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)n;
        loop_run_once(&loop, 0);
    }
    assert_int_equal(halt.fd, -1);
}

static void test_nothing_after_fini(void **state)
{
    (void)state;
    control_shutdown_fini(&halt);
    fd_close(&agent_fd);
    assert_int_equal(loop_run_once(&loop, 0), 0);
    assert_int_equal(told_count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sends_hello_then_shutdown),
        TEST(test_agent_there),
        TEST(test_agent_that_closes_after_hello),
        TEST(test_nobody_there),
        TEST(test_closed_before_a_word),
        TEST(test_flood_is_cut),
        TEST(test_nothing_after_fini),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
