/* The server's socket: its request line, and clients that come, wait, misbehave and go away. */
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
static struct operator_snapshot asked;
static int asked_count;
static bool answer_at_once;
static int clients[OPERATOR_CLIENTS_MAX + 1];

static void on_snapshot(void *context, const struct operator_snapshot *request)
{
    assert_ptr_equal(context, &asked);
    asked = *request;
    asked_count++;
    if (answer_at_once)
        operator_answer(&operator_, true, 0, "\"pause_ns\":5");
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
    operator_init(&operator_, &loop);
    return operator_open(&operator_, path, on_snapshot, &asked);
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= OPERATOR_CLIENTS_MAX; i++)
        fd_close(&clients[i]);
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

/* ---- the line
 * ------------------------------------------------------------------------------------------------ */

static int parse(const char *line, struct operator_snapshot *request)
{
    char why[OPERATOR_WHY_BYTES] = "";
    const int error = operator_parse(line, strlen(line), request, why);
    assert_int_equal(error != 0, why[0] != '\0');
    return error;
}

static void test_lines(void **state)
{
    (void)state;
    struct operator_snapshot request;
    assert_int_equal(parse("snapshot\tout=/a b", &request), 0);
    assert_string_equal(request.out, "/a b");
    assert_string_equal(request.parent, "");
    assert_true(request.checkpoint && !request.stop);
    assert_int_equal(parse("snapshot\tthen=stop\tcheckpoint=no\tparent=/p=q\tout=/o", &request), 0);
    assert_string_equal(request.parent, "/p=q");
    assert_true(!request.checkpoint && request.stop);
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "snap",
        "snapshots\tout=/o",
        "snapshot",
        "snapshot\t",
        "snapshot\tout=",
        "snapshot\tout=relative",
        "snapshot\tout=/o\tout=/o",
        "snapshot\tout=/o\t",
        "snapshot\tout=/o\tparent=x",
        "snapshot\tout=/o\tcheckpoint=maybe",
        "snapshot\tout=/o\tcheckpoint=yes\tcheckpoint=yes",
        "snapshot\tout=/o\tthen=",
        "snapshot\tout=/o\tthen=stop\tthen=run",
        "snapshot\tout=/o\tsurprise=1",
        "snapshot\tout=/o\x1b",
        "snapshot out=/o",
    };
    struct operator_snapshot request;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(bad[i], &request) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
}

static void test_long_path(void **state)
{
    (void)state;
    struct operator_snapshot request;
    char line[OPERATOR_PATH_MAX_BYTES + 32];
    const int start = snprintf(line, sizeof line, "snapshot\tout=/");
    memset(line + start, 'x', OPERATOR_PATH_MAX_BYTES);
    line[start + OPERATOR_PATH_MAX_BYTES - 1] = '\0';
    assert_int_equal(parse(line, &request), 0);
    line[start + OPERATOR_PATH_MAX_BYTES - 1] = 'x';
    line[start + OPERATOR_PATH_MAX_BYTES] = '\0';
    assert_int_equal(parse(line, &request), -EINVAL);
}

/* ---- clients
 * ------------------------------------------------------------------------------------------------- */

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
    assert_string_equal(asked.out, "/one");
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
    assert_string_equal(asked.out, "/one");
    expect_silence(2);
    answer_at_once = true; /* from within the call */
    operator_answer(&operator_, true, 0, "");
    assert_int_equal(asked_count, 3);
    assert_string_equal(asked.out, "/two");
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
    assert_string_equal(asked.out, "/two");
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

/* ---- the path
 * ------------------------------------------------------------------------------------------------ */

static void test_paths(void **state)
{
    (void)state;
    static struct operator_server other;
    char long_path[200];
    log_setup("test", LOG_LEVEL_ERROR, -1);
    operator_init(&other, &loop);
    assert_int_equal(operator_open(&other, path, on_snapshot, NULL), -EADDRINUSE); /* served */
    assert_int_equal(operator_open(&other, "", on_snapshot, NULL), -EINVAL);
    memset(long_path, 'x', sizeof long_path);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(operator_open(&other, long_path, on_snapshot, NULL), -ENAMETOOLONG);
    assert_int_equal(operator_open(&other, directory, on_snapshot, NULL), -EADDRINUSE); /* no socket */
    assert_int_equal(operator_open(&other, "/nowhere/at/all", on_snapshot, NULL), -ENOENT);
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
    operator_init(&operator_, &loop);
    assert_int_equal(operator_open(&operator_, path, on_snapshot, &asked), 0);
    ask(0, "snapshot\tout=/o\n");
    assert_int_equal(asked_count, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lines),
        TEST(test_bad_lines),
        TEST(test_long_path),
        TEST(test_request_and_answer),
        TEST(test_failure_is_quoted),
        TEST(test_others_wait_in_order),
        TEST(test_waiting_client_that_goes_away),
        TEST(test_asker_that_goes_away),
        TEST(test_half_a_close_is_no_end),
        TEST(test_too_many_clients),
        TEST(test_bad_requests_are_answered),
        TEST(test_answer_to_nobody),
        TEST(test_paths),
        TEST(test_stale_socket_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
