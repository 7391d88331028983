/* Local ends: paired, pumped both ways, ended in every way. */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/connections_stage.h"

#define ONE      "[orders]\nhost = orders.test\n"
#define LAZY     ONE "pool = 0\n"
#define TCP_PORT 15871
#define WITH_TCP LAZY "local_port = 15871\nidle_timeout_ms = 1000\n"

/* A pair whose line is open. */
static int open_pair(struct fake **fake)
{
    const int before = fake_count;
    const int fd = function_open("orders");
    until(fake_count > before);
    *fake = fake_last();
    fake_open(*fake);
    return fd;
}

static void bytes_pass_both_ways(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "GET /");
    fake_expect(fake, "GET /");
    function_write(fd, " HTTP");
    fake_expect(fake, "GET / HTTP");
    fake_give(fake, "200", 3);
    function_expect(fd, "200");
    fd_close(&fd);
    until(fake->closed);
    until(fake->fini_in_order);
}

static void what_comes_before_it_is_open_is_sent_then(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders");
    function_write(fd, "early");
    until(fake_count == 1);
    stage_rest();
    assert_int_equal(fake_last()->sent_size, 0);
    fake_open(fake_last());
    fake_expect(fake_last(), "early");
    fd_close(&fd);
}

static void what_was_said_before_close_goes_out(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders");
    function_write(fd, "and gone");
    fd_close(&fd);
    until(fake_count == 1);
    struct fake *fake = fake_last();
    fake_open(fake);
    until(fake->closed);
    assert_int_equal(fake->sent_size, 8);
}

static void closed_before_anything(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders");
    fd_close(&fd);
    stage_rest();
    until(fake_alive() == 0);
}

static void a_server_that_does_not_read_stalls_its_pair_alone(void **state)
{
    static char much[4 * 65536];
    struct fake *slow, *quick;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&slow);
    int other = open_pair(&quick);
    slow->room = 1000;
    memset(much, 'x', sizeof much);
    ssize_t total = 0, count;
    for (int i = 0; i < 200; i++, stage_turn())
        while ((count = send(fd, much, sizeof much, MSG_NOSIGNAL)) > 0)
            total += count;
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(slow->sent_size, 1000);
    assert_true(total < (ssize_t)sizeof much * 4); /* only what the socket holds */
    function_write(other, "hello");
    fake_expect(quick, "hello");
    assert_int_equal(loop_run_once(&loop, 20), 0); /* nothing spins */
    fake_add_room(slow, FAKE_BYTES - 1000);
    until(slow->sent_size == (size_t)total);
    for (size_t i = 0; i < slow->sent_size; i++)
        assert_int_equal(slow->sent[i], 'x');
    fd_close(&fd);
    fd_close(&other);
}

static void a_function_that_does_not_read_stalls_its_pair_alone(void **state)
{
    static uint8_t much[FAKE_BYTES], got[FAKE_BYTES];
    struct fake *slow, *quick;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&slow);
    int other = open_pair(&quick);
    for (size_t i = 0; i < sizeof much; i++)
        much[i] = (uint8_t)(i * 31 >> 3);
    fake_give(slow, much, sizeof much);
    stage_rest();
    assert_true(slow->given_start < slow->given_end);
    fake_give(quick, "hello", 5);
    function_expect(other, "hello");
    stage_rest();
    assert_int_equal(loop_run_once(&loop, 20), 0);
    size_t size = 0;
    while (size < sizeof got) {
        const int64_t count = function_read(fd, got + size, sizeof got - size);
        if (count > 0)
            size += (size_t)count;
        else
            stage_turn();
    }
    assert_memory_equal(got, much, sizeof got);
    fd_close(&fd);
    fd_close(&other);
}

static void much_both_ways_at_once(void **state)
{
    static uint8_t much[700000], got[700000];
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    for (size_t i = 0; i < sizeof much; i++)
        much[i] = (uint8_t)(i * 2654435761u >> 7);
    fake_give(fake, much, sizeof much);
    size_t sent = 0, size = 0;
    while (sent < sizeof much || size < sizeof got) {
        const ssize_t out = send(fd, much + sent, sizeof much - sent, MSG_NOSIGNAL);
        sent += out > 0 ? (size_t)out : 0;
        const int64_t in = function_read(fd, got + size, 3000);
        size += in > 0 ? (size_t)in : 0;
        stage_turn();
    }
    until(fake->sent_size == sizeof much);
    assert_memory_equal(fake->sent, much, sizeof much);
    assert_memory_equal(got, much, sizeof got);
    fd_close(&fd);
}

static void the_servers_end_is_an_end(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "GET");
    fake_expect(fake, "GET");
    fake->given_end = 4;
    memcpy(fake->given, "last", 4);
    fake_end(fake);
    function_expect(fd, "last");
    assert_int_equal(function_end(fd), 0);
    until(fake->fini_in_order);
    assert_null(stage_error_of("orders"));
    fd_close(&fd);
}

static void an_idle_one_that_the_server_ends(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    fake_end(fake);
    assert_int_equal(function_end(fd), 0);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    fd_close(&fd);
}

static void a_failure_is_a_reset(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "GET");
    fake_expect(fake, "GET");
    fake_give(fake, "half", 4);
    fake_fail(fake, -ECONNRESET, "the server broke off\nin the middle");
    function_expect(fd, "half");
    assert_int_equal(function_end(fd), ECONNRESET);
    assert_string_equal(stage_error_of("orders"), "the server broke off?in the middle\n");
    fd_close(&fd);
    until(fake_alive() == 0);
}

static void a_function_that_never_wrote_sees_an_end(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders");
    until(fake_count == 1);
    fake_fail(fake_last(), -ECONNREFUSED, "refused");
    assert_int_equal(function_end(fd), 0);
    assert_string_equal(stage_error_of("orders"), "refused\n");
    fd_close(&fd);
}

static void a_failure_with_unsent_bytes_is_a_reset(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders");
    function_write(fd, "GET");
    until(fake_count == 1);
    fake_fail(fake_last(), -EKEYREJECTED, "expired");
    assert_int_equal(function_end(fd), ECONNRESET);
    fd_close(&fd);
}

static void half_an_end_waits_for_the_answer(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "GET");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    fake_expect(fake, "GET");
    stage_rest();
    assert_false(fake->closed);
    fake_give(fake, "first", 5);
    function_expect(fd, "first");
    fake_give(fake, "second", 6);
    function_expect(fd, "second");
    fake_end(fake);
    assert_int_equal(function_end(fd), 0);
    fd_close(&fd);
}

static void half_an_end_ends_after_a_silence(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY "idle_timeout_ms = 1000\n");
    int fd = open_pair(&fake);
    function_write(fd, "GET");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    const uint64_t start_ns = clock_monotonic_ns();
    until(fake->closed);
    assert_true(clock_monotonic_ns() - start_ns >= UINT64_C(900000000));
    assert_int_equal(function_end(fd), 0);
    fd_close(&fd);
}

static void tcp_is_served_and_reset(void **state)
{
    (void)state;
    stage_serve(WITH_TCP);
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        int fd = function_open_tcp(ipv6, TCP_PORT);
        if (fd < 0 && ipv6)
            break; /* a machine without IPv6 */
        assert_true(fd >= 0);
        const int before = fake_count;
        until(fake_count > before);
        struct fake *fake = fake_last();
        fake_open(fake);
        function_write(fd, "hello");
        fake_expect(fake, "hello");
        fake_give(fake, "world", 5);
        function_expect(fd, "world");
        fake_fail(fake, -ECONNRESET, "broke off");
        assert_int_equal(function_end(fd), ECONNRESET);
        fd_close(&fd);
    }
}

static void tcp_that_was_never_written_is_reset_too(void **state)
{
    (void)state;
    stage_serve(WITH_TCP);
    int fd = function_open_tcp(false, TCP_PORT);
    until(fake_count == 1);
    fake_fail(fake_last(), -ECONNREFUSED, "refused");
    assert_int_equal(function_end(fd), ECONNRESET);
    fd_close(&fd);
}

static void tcp_that_is_closed_is_let_go(void **state)
{
    (void)state;
    stage_serve(WITH_TCP);
    int fd = function_open_tcp(false, TCP_PORT);
    until(fake_count == 1);
    struct fake *fake = fake_last();
    fake_open(fake);
    function_write(fd, "q");
    fake_expect(fake, "q");
    fake_give(fake, "a", 1);
    function_expect(fd, "a");
    fd_close(&fd);
    until(fake->closed);
    until(fake_alive() == 0);
}

static void no_more_than_its_places_are_taken(void **state)
{
    int fds[CONNECTIONS_LOCAL_MAX + 3];
    (void)state;
    stage_serve(LAZY);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX + 3; i++) {
        fds[i] = function_open("orders");
        if (i % 16 == 15)
            stage_rest(); /* the kernel's queue is no longer than that */
    }
    stage_rest();
    assert_int_equal(fake_count, CONNECTIONS_LOCAL_MAX);
    assert_int_equal(loop_run_once(&loop, 20), 0);
    fd_close(&fds[0]);
    until(fake_count == CONNECTIONS_LOCAL_MAX + 1);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX + 3; i++)
        fd_close(&fds[i]);
    stage_rest();
    until(fake_alive() == 0);
}

static void tcp_that_says_something_and_closes_is_heard(void **state)
{
    (void)state;
    stage_serve(WITH_TCP);
    int fd = function_open_tcp(false, TCP_PORT);
    function_write(fd, "count one");
    fd_close(&fd);
    until(fake_count == 1);
    fake_open(fake_last());
    fake_expect(fake_last(), "count one");
    until(fake_last()->closed);
}

/* Another user of this machine, in a process of its own: 0 when it is not let in. */
static int come_as_another(bool tcp)
{
    const pid_t child = fork();
    if (child == 0) {
        char byte;
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
            _exit(2);
        const int fd = tcp ? function_open_tcp(false, TCP_PORT) : function_open("orders");
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 8000) != 1)
            _exit(3);
        _exit(function_read(fd, &byte, 1) > 0);
    }
    int status = 0;
    bool over = false;
    until(over || (over = waitpid(child, &status, WNOHANG) == child));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void another_user_is_not_let_in(void **state)
{
    char path[128];
    (void)state;
    if (geteuid() != 0)
        skip();
    stage_serve(WITH_TCP);
    /* As if the modes were no obstacle. */
    (void)snprintf(path, sizeof path, "%s/orders", stage_directory);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(chmod(stage_directory, 0755), 0);
    (void)snprintf(path, sizeof path, "%s/..", stage_directory);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(come_as_another(false), 0);
    assert_int_equal(come_as_another(true), 0);
    assert_int_equal(fake_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STAGE(bytes_pass_both_ways),
        WITH_STAGE(what_comes_before_it_is_open_is_sent_then),
        WITH_STAGE(what_was_said_before_close_goes_out),
        WITH_STAGE(closed_before_anything),
        WITH_STAGE(a_server_that_does_not_read_stalls_its_pair_alone),
        WITH_STAGE(a_function_that_does_not_read_stalls_its_pair_alone),
        WITH_STAGE(much_both_ways_at_once),
        WITH_STAGE(the_servers_end_is_an_end),
        WITH_STAGE(an_idle_one_that_the_server_ends),
        WITH_STAGE(a_failure_is_a_reset),
        WITH_STAGE(a_function_that_never_wrote_sees_an_end),
        WITH_STAGE(a_failure_with_unsent_bytes_is_a_reset),
        WITH_STAGE(half_an_end_waits_for_the_answer),
        WITH_STAGE(half_an_end_ends_after_a_silence),
        WITH_STAGE(tcp_is_served_and_reset),
        WITH_STAGE(tcp_that_was_never_written_is_reset_too),
        WITH_STAGE(tcp_that_is_closed_is_let_go),
        WITH_STAGE(no_more_than_its_places_are_taken),
        WITH_STAGE(tcp_that_says_something_and_closes_is_heard),
        WITH_STAGE(another_user_is_not_let_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
