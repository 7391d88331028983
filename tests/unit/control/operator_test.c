/* The server's socket and inherited connection: clients that come, wait, misbehave and go away. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/operator.h"

static char directory[64];
static char path[96];
static struct loop loop;
static struct operator_server operator_;
static struct operator_request asked;
static int asked_count;
static bool answer_at_once;
static int clients[OPERATOR_CLIENTS_MAX + 1];
static int inherited; /* our end of it */
static int hung_up_count;

static void on_request(void *context, const struct operator_request *request)
{
    assert_ptr_equal(context, &asked);
    asked = *request;
    asked_count++;
    if (answer_at_once)
        operator_answer(&operator_, true, 0, "\"pause_ns\":5");
}

static void on_hung_up(void *context)
{
    assert_ptr_equal(context, &asked);
    hung_up_count++;
}

static const struct operator_ops ops = {.request = on_request, .hung_up = on_hung_up};

static void expect_out(const char *path_asked_for)
{
    assert_int_equal(asked.verb, OPERATOR_SNAPSHOT);
    assert_string_equal(operator_value(&asked, OPERATOR_OUT), path_asked_for);
}

static int setup(void **state)
{
    (void)state;
    log_setup("test", LOG_LEVEL_ERROR, 2);
    (void)snprintf(directory, sizeof directory, "/tmp/operator-test.XXXXXX");
    if (!mkdtemp(directory) || loop_init(&loop) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s/control", directory);
    for (unsigned i = 0; i <= OPERATOR_CLIENTS_MAX; i++)
        clients[i] = -1;
    asked_count = 0;
    answer_at_once = false;
    hung_up_count = 0;
    inherited = -1;
    operator_init(&operator_, &loop, &ops, &asked);
    return operator_open(&operator_, path);
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= OPERATOR_CLIENTS_MAX; i++)
        fd_close(&clients[i]);
    fd_close(&inherited);
    operator_fini(&operator_);
    loop_fini(&loop);
    return rmdir(directory); /* fails when anything was left behind */
}

static void turn(void)
{
    for (int i = 0; i < 100 && loop_run_once(&loop, 0) > 0; i++)
        ;
}

static void connect_client(int i)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(clients[i], (const struct sockaddr *)&address, sizeof address), 0);
    turn();
}

static void ask(int i, const char *text)
{
    if (clients[i] < 0)
        connect_client(i);
    (void)fd_write_all(clients[i], text, strlen(text));
    turn();
}

static void expect_answer(int i, const char *text)
{
    char line[1024];
    const ssize_t n = read(clients[i], line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    if (!strstr(line, text))
        fail_msg("%s: no '%s' in it", line, text);
    assert_int_equal(line[n - 1], '\n');
    assert_true(read(clients[i], line, 1) <= 0); /* and hung up */
}

static void expect_silence(int i)
{
    char byte;
    assert_int_equal(read(clients[i], &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

/* ---- clients ---- */

static void test_request_and_answer(void **state)
{
    (void)state;
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    ask(0, "snapshot\tou");
    assert_int_equal(asked_count, 0);
    ask(0, "t=/one\n");
    assert_int_equal(asked_count, 1);
    expect_out("/one");
    expect_silence(0);
    operator_answer(&operator_, true, 0, "\"pause_ns\":5");
    expect_answer(0, "{\"ok\":true,\"pause_ns\":5}\n");
}

static void test_failure_is_quoted(void **state)
{
    (void)state;
    ask(0, "snapshot\tout=/one\n");
    operator_answer(&operator_, false, 3, "no \"room\"\n");
    expect_answer(0, "{\"ok\":false,\"error\":\"no \\\"room\\\"\\n\",\"code\":3}\n");
}

static void test_others_wait_in_order(void **state)
{
    (void)state;
    connect_client(2);
    ask(0, "snapshot\tout=/zero\n");
    ask(1, "snapshot\tout=/one\n");
    ask(2, "snapshot\tout=/two\n");
    assert_int_equal(asked_count, 1);
    operator_answer(&operator_, true, 0, "");
    expect_answer(0, "{\"ok\":true}\n");
    assert_int_equal(asked_count, 2);
    expect_out("/one");
    expect_silence(2);
    answer_at_once = true; /* from within the call */
    operator_answer(&operator_, true, 0, "");
    assert_int_equal(asked_count, 3);
    expect_out("/two");
    expect_answer(1, "true");
    expect_answer(2, "true");
}

static void test_waiting_client_that_goes_away(void **state)
{
    (void)state;
    ask(0, "snapshot\tout=/zero\n");
    ask(1, "snapshot\tout=/one\n");
    ask(2, "snapshot\tout=/two\n");
    fd_close(&clients[1]);
    turn();
    operator_answer(&operator_, true, 0, "");
    expect_out("/two");
    assert_int_equal(asked_count, 2);
}

static void test_asker_that_goes_away(void **state)
{
    (void)state;
    ask(0, "snapshot\tout=/zero\n");
    fd_close(&clients[0]);
    turn();
    /* Its place is free for another, who does not get its answer. */
    for (int i = 1; i <= OPERATOR_CLIENTS_MAX; i++)
        connect_client(i);
    ask(1, "snapshot\tout=/one\n");
    assert_int_equal(asked_count, 1);
    operator_answer(&operator_, true, 0, "");
    assert_int_equal(asked_count, 2);
    expect_silence(1);
}

static void test_half_a_close_is_no_end(void **state)
{
    (void)state;
    ask(0, "snapshot\tout=/zero\n");
    assert_int_equal(shutdown(clients[0], SHUT_WR), 0);
    turn();
    operator_answer(&operator_, true, 0, "");
    expect_answer(0, "true");
}

static void test_too_many_clients(void **state)
{
    (void)state;
    for (int i = 0; i <= OPERATOR_CLIENTS_MAX; i++)
        connect_client(i);
    expect_answer(OPERATOR_CLIENTS_MAX, "try again later");
    fd_close(&clients[0]);
    turn();
    fd_close(&clients[OPERATOR_CLIENTS_MAX]);
    ask(OPERATOR_CLIENTS_MAX, "snapshot\tout=/o\n");
    assert_int_equal(asked_count, 1);
}

static void test_bad_requests_are_answered(void **state)
{
    (void)state;
    static char flood[OPERATOR_LINE_MAX_BYTES + 2];
    ask(0, "GET / HTTP/1.1\n");
    expect_answer(0, "\"code\":2}");
    ask(1, "snapshot\tout=/o\nsnapshot\tout=/o\n");
    expect_answer(1, "one request");
    memset(flood, 'x', sizeof flood - 1);
    ask(2, flood);
    expect_answer(2, "more than 8192");
    assert_int_equal(asked_count, 0);
}

static void test_answer_to_nobody(void **state)
{
    (void)state;
    operator_answer(&operator_, true, 0, "");
    ask(0, "snapshot\tout=/o\n");
    operator_fini(&operator_);
    operator_answer(&operator_, true, 0, "");
}

/* ---- the inherited connection ---- */

static void adopt(void)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    inherited = pair[0];
    assert_int_equal(operator_adopt(&operator_, pair[1]), 0);
}

static void tell(const char *text)
{
    assert_int_equal(fd_write_all(inherited, text, strlen(text)), 0);
    turn();
}

static void expect_told(const char *text)
{
    char line[1024];
    const ssize_t n = read(inherited, line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_string_equal(line, text);
}

static void test_inherited_takes_one_after_the_other(void **state)
{
    (void)state;
    adopt();
    answer_at_once = true;
    tell("pause\n");
    assert_int_equal(asked.verb, OPERATOR_PAUSE);
    expect_told("{\"ok\":true,\"pause_ns\":5}\n");
    tell("res");
    assert_int_equal(asked_count, 1);
    tell("ume\n");
    assert_int_equal(asked.verb, OPERATOR_RESUME);
    expect_told("{\"ok\":true,\"pause_ns\":5}\n");
    tell("nonsense\n");
    char line[512];
    assert_true(read(inherited, line, sizeof line) > 0);
    assert_non_null(strstr(line, "\"code\":2}"));
    tell("status\n");
    assert_int_equal(asked.verb, OPERATOR_STATUS);
    assert_int_equal(asked_count, 3);
    assert_int_equal(hung_up_count, 0);
}

static void test_inherited_sends_ahead(void **state)
{
    (void)state;
    adopt();
    tell("pause\nstatus\nresume\nkil");
    assert_int_equal(asked_count, 1);
    for (enum operator_verb verb = OPERATOR_PAUSE; verb <= OPERATOR_STATUS; verb++) {
        static const enum operator_verb order[] = {OPERATOR_PAUSE, OPERATOR_STATUS, OPERATOR_RESUME};
        assert_int_equal(asked.verb, order[verb - OPERATOR_PAUSE]);
        operator_answer(&operator_, true, 0, "");
        turn();
        expect_told("{\"ok\":true}\n");
    }
    assert_int_equal(asked_count, 3);
    tell("l\n");
    assert_int_equal(asked.verb, OPERATOR_KILL);
}

static void test_inherited_and_socket_take_turns(void **state)
{
    (void)state;
    adopt();
    tell("pause\n");
    ask(0, "status\n");
    tell("resume\n");
    assert_int_equal(asked.verb, OPERATOR_PAUSE);
    operator_answer(&operator_, true, 0, "");
    turn();
    assert_int_equal(asked.verb, OPERATOR_STATUS);
    operator_answer(&operator_, true, 0, "");
    expect_answer(0, "true");
    assert_int_equal(asked.verb, OPERATOR_RESUME);
}

static void test_inherited_line_too_long_is_skipped(void **state)
{
    (void)state;
    static char flood[OPERATOR_LINE_MAX_BYTES + 2];
    adopt();
    memset(flood, 'x', sizeof flood - 1);
    tell(flood);
    char line[512];
    assert_true(read(inherited, line, sizeof line) > 0);
    tell("\tpause\nstatus\n");
    assert_int_equal(asked_count, 1);
    assert_int_equal(asked.verb, OPERATOR_STATUS);
}

static void test_inherited_hang_up_is_told_once(void **state)
{
    (void)state;
    adopt();
    answer_at_once = true;
    tell("status\n");
    assert_int_equal(hung_up_count, 0);
    fd_close(&inherited);
    turn();
    assert_int_equal(hung_up_count, 1);
    assert_int_equal(asked_count, 1);
}

static void test_inherited_hang_up_during_a_request(void **state)
{
    (void)state;
    adopt();
    tell("pause\n");
    fd_close(&inherited);
    turn();
    assert_int_equal(hung_up_count, 1);
    operator_answer(&operator_, true, 0, "");
    ask(0, "status\n");
    assert_int_equal(asked.verb, OPERATOR_STATUS);
}

static void test_our_own_end_is_no_hang_up(void **state)
{
    (void)state;
    adopt();
    operator_fini(&operator_);
    assert_int_equal(hung_up_count, 0);
}

static void test_what_cannot_be_inherited(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    assert_int_equal(operator_adopt(&operator_, pair[0]), -ENOTSOCK);
    fd_close(&pair[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(operator_adopt(&operator_, pair[0]), -EPROTOTYPE);
    fd_close(&pair[1]);
    assert_int_equal(operator_adopt(&operator_, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), -ENOTCONN);
    assert_int_equal(operator_adopt(&operator_, 1000), -EBADF);
    assert_int_equal(hung_up_count, 0);
}

/* ---- the path ---- */

static void test_paths(void **state)
{
    (void)state;
    static struct operator_server other;
    char long_path[200];
    log_setup("test", LOG_LEVEL_ERROR, -1);
    operator_init(&other, &loop, &ops, NULL);
    assert_int_equal(operator_open(&other, path), -EADDRINUSE); /* served */
    assert_int_equal(operator_open(&other, ""), -EINVAL);
    memset(long_path, 'x', sizeof long_path);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(operator_open(&other, long_path), -ENAMETOOLONG);
    assert_int_equal(operator_open(&other, directory), -EADDRINUSE); /* no socket */
    assert_int_equal(operator_open(&other, "/nowhere/at/all"), -ENOENT);
    operator_fini(&other);
    log_setup("test", LOG_LEVEL_ERROR, 2);
    ask(0, "snapshot\tout=/still-served\n");
    assert_int_equal(asked_count, 1);
}

static void test_stale_socket_is_replaced(void **state)
{
    (void)state;
    /* As a killed process leaves it: the file is there, nobody listens. */
    fd_close(&operator_.place.fd);
    operator_.listener.fd = -1;
    operator_init(&operator_, &loop, &ops, &asked);
    assert_int_equal(operator_open(&operator_, path), 0);
    ask(0, "snapshot\tout=/o\n");
    assert_int_equal(asked_count, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_request_and_answer),
        TEST(test_failure_is_quoted),
        TEST(test_others_wait_in_order),
        TEST(test_waiting_client_that_goes_away),
        TEST(test_asker_that_goes_away),
        TEST(test_half_a_close_is_no_end),
        TEST(test_too_many_clients),
        TEST(test_bad_requests_are_answered),
        TEST(test_answer_to_nobody),
        TEST(test_inherited_takes_one_after_the_other),
        TEST(test_inherited_sends_ahead),
        TEST(test_inherited_and_socket_take_turns),
        TEST(test_inherited_line_too_long_is_skipped),
        TEST(test_inherited_hang_up_is_told_once),
        TEST(test_inherited_hang_up_during_a_request),
        TEST(test_our_own_end_is_no_hang_up),
        TEST(test_what_cannot_be_inherited),
        TEST(test_paths),
        TEST(test_stale_socket_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
