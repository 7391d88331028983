/* function_connect()'s question, asked well and badly. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/connections_stage.h"

#define ONE "[orders]\nhost = orders.test\npool = 0\n"

static void a_name_gets_its_server(void **state)
{
    (void)state;
    stage_serve(ONE);
    int fd = function_open(CONNECTIONS_ASK);
    function_write(fd, "orders\nand more");
    until(fake_count == 1);
    stage_rest();
    assert_int_equal(function_read(fd, (char[1]){0}, 1), -1); /* not before it is open */
    fake_open(fake_last());
    function_expect(fd, "ok\n");
    fake_expect(fake_last(), "and more");
    fake_give(fake_last(), "answer", 6);
    function_expect(fd, "answer");
    fd_close(&fd);
    until(fake_last()->closed);
}

static void a_name_may_come_in_pieces(void **state)
{
    (void)state;
    stage_serve(ONE);
    int fd = function_open(CONNECTIONS_ASK);
    for (const char *at = "orders\n"; *at; at++) {
        function_write(fd, (char[2]){*at, '\0'});
        stage_rest();
    }
    until(fake_count == 1);
    fake_open(fake_last());
    function_expect(fd, "ok\n");
    fd_close(&fd);
}

static void a_failure_is_an_answer(void **state)
{
    (void)state;
    stage_serve(ONE);
    int fd = function_open(CONNECTIONS_ASK);
    function_write(fd, "orders\nGET /");
    until(fake_count == 1);
    fake_fail(fake_last(), -129, "server's certificate\nis for another name");
    function_expect(fd, "error 129 server's certificate?is for another name\n");
    assert_int_equal(function_end(fd), 0);
    assert_non_null(stage_error_of("orders"));
    fd_close(&fd);
}

static void a_long_reason_is_cut_to_a_line(void **state)
{
    char why[UPSTREAM_WHY_BYTES], got[400];
    (void)state;
    stage_serve(ONE);
    memset(why, 'w', sizeof why - 1);
    why[sizeof why - 1] = '\0';
    int fd = function_open(CONNECTIONS_ASK);
    function_write(fd, "orders\n");
    until(fake_count == 1);
    fake_fail(fake_last(), -1, why);
    stage_rest();
    const int64_t size = function_read(fd, got, sizeof got);
    assert_true(size > 200 && size <= 320);
    assert_int_equal(got[size - 1], '\n');
    fd_close(&fd);
}

static void expect_refusal(const char *question, const char *answer)
{
    int fd = function_open(CONNECTIONS_ASK);
    function_write(fd, question);
    function_expect(fd, answer);
    assert_int_equal(function_end(fd), 0);
    fd_close(&fd);
    assert_int_equal(fake_count, 0);
}

static void questions_of_other_forms_are_refused(void **state)
{
    (void)state;
    stage_serve(ONE);
    expect_refusal("others\n", "error 2 the manifest names no connection others\n");
    expect_refusal("\n", "error 2 the manifest names no connection \n");
    expect_refusal("../orders\n", "error 2 the manifest names no connection ../orders\n");
    expect_refusal("or\x01"
                   "ders\n",
                   "error 2 the manifest names no connection or?ders\n");
    expect_refusal("0123456789012345678901234567890123456789",
                   "error 36 a connection's name has at most 32 bytes, and a newline after it\n");
    expect_refusal("01234567890123456789012345678901\n",
                   "error 2 the manifest names no connection 01234567890123456789012345678901\n");
}

static void one_that_leaves_in_the_middle_is_forgotten(void **state)
{
    (void)state;
    stage_serve(ONE);
    for (int i = 0; i < 200; i++) { /* more than there are places */
        int fd = function_open(CONNECTIONS_ASK);
        if (i % 2)
            function_write(fd, "ord");
        fd_close(&fd);
        stage_rest();
    }
    int fd = function_open(CONNECTIONS_ASK);
    function_write(fd, "ord");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    (void)function_end(fd);
    fd_close(&fd);
    assert_int_equal(fake_count, 0);
    fd = function_open(CONNECTIONS_ASK);
    function_write(fd, "orders\n");
    until(fake_count == 1);
    fd_close(&fd);
    until(fake_alive() == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STAGE(a_name_gets_its_server),
        WITH_STAGE(a_name_may_come_in_pieces),
        WITH_STAGE(a_failure_is_an_answer),
        WITH_STAGE(a_long_reason_is_cut_to_a_line),
        WITH_STAGE(questions_of_other_forms_are_refused),
        WITH_STAGE(one_that_leaves_in_the_middle_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
