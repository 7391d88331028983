/* The request line of the server's socket: every verb, good and bad. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/operator.h"

static int parse(const char *line, struct operator_request *request)
{
    char why[OPERATOR_WHY_BYTES] = "";
    const int error = operator_parse(line, strlen(line), request, why);
    assert_int_equal(error != 0, why[0] != '\0');
    return error;
}

static void test_snapshot_lines(void **state)
{
    (void)state;
    static struct operator_request request;
    assert_int_equal(parse("snapshot\tout=/a b", &request), 0);
    assert_int_equal(request.verb, OPERATOR_SNAPSHOT);
    assert_string_equal(operator_value(&request, OPERATOR_OUT), "/a b");
    assert_null(operator_value(&request, OPERATOR_PARENT));
    assert_null(operator_value(&request, OPERATOR_THEN));
    assert_int_equal(parse("snapshot\tthen=stop\tcheckpoint=no\tparent=/p=q\tout=/o", &request), 0);
    assert_string_equal(operator_value(&request, OPERATOR_PARENT), "/p=q");
    assert_true(operator_says(&request, OPERATOR_CHECKPOINT, "no"));
    assert_true(operator_says(&request, OPERATOR_THEN, "stop"));
    assert_int_equal(parse("snapshot\tout=/o\tthen=pause", &request), 0);
}

static void test_lines_of_every_verb(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum operator_verb verb;
    } good[] = {
        {"snapshot\tout=/o\trequest=r-1", OPERATOR_SNAPSHOT},
        {"pause", OPERATOR_PAUSE},
        {"resume\trequest=A._-9", OPERATOR_RESUME},
        {"status", OPERATOR_STATUS},
        {"metrics", OPERATOR_METRICS},
        {"metrics\tformat=prometheus", OPERATOR_METRICS},
        {"shutdown", OPERATOR_SHUTDOWN},
        {"kill", OPERATOR_KILL},
        {"drive\tid=rootfs", OPERATOR_DRIVE},
        {"drive\tid=d\tpath=/x\tbandwidth=1000/10/5\toperations=none", OPERATOR_DRIVE},
        {"net\tid=0\trx-bandwidth=1/1\ttx-bandwidth=none\trx-operations=2/2\ttx-operations=3/3",
         OPERATOR_NET},
        {"entropy\tbandwidth=1/1", OPERATOR_ENTROPY},
        {"balloon", OPERATOR_BALLOON},
        {"balloon\ttarget=64\tstats=65535\thinting=start", OPERATOR_BALLOON},
        {"log\tlevel=debug", OPERATOR_LOG},
    };
    static struct operator_request request;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (parse(good[i].line, &request))
            fail_msg("'%s' was refused", good[i].line);
        assert_int_equal(request.verb, good[i].verb);
        assert_memory_equal(good[i].line, operator_verb_name(request.verb),
                            strlen(operator_verb_name(request.verb)));
    }
    assert_int_equal(parse("balloon\ttarget=64", &request), 0);
    assert_int_equal(operator_number(&request, OPERATOR_TARGET, 7), 64);
    assert_int_equal(operator_number(&request, OPERATOR_STATS, 7), 7);
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "snap",
        "\tsnapshot",
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
        "snapshot\tout=/o\tid=x",
        "snapshot\tout=/o\x1b",
        "snapshot out=/o",
        "pause\tout=/o",
        "pause\trequest=",
        "pause\trequest=a b",
        "pause\trequest=a\trequest=a",
        "resume\t",
        "metrics\tformat=xml",
        "drive",
        "drive\tpath=/x",
        "drive\tid=d\tpath=x",
        "drive\tid=d\tbandwidth=",
        "drive\tid=d\tbandwidth=1e3/1",
        "drive\tid=d\trx-bandwidth=1/1",
        "net\tid=0\tbandwidth=1/1",
        "net\tid=../0",
        "entropy\tid=0",
        "balloon\ttarget=",
        "balloon\ttarget=-1",
        "balloon\ttarget=4294967296",
        "balloon\ttarget=99999999999999999999",
        "balloon\tstats=65536",
        "balloon\thinting=maybe",
        "log",
        "log\tlevel=loud",
    };
    static struct operator_request request;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(bad[i], &request) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
}

static void test_long_values(void **state)
{
    (void)state;
    static struct operator_request request;
    static char line[OPERATOR_LINE_MAX_BYTES + 2];
    const int start = snprintf(line, sizeof line, "snapshot\tout=/");
    memset(line + start, 'x', OPERATOR_PATH_MAX_BYTES);
    line[start + OPERATOR_PATH_MAX_BYTES - 1] = '\0';
    assert_int_equal(parse(line, &request), 0);
    line[start + OPERATOR_PATH_MAX_BYTES - 1] = 'x';
    line[start + OPERATOR_PATH_MAX_BYTES] = '\0';
    assert_int_equal(parse(line, &request), -EINVAL);
    (void)snprintf(line, sizeof line, "pause\trequest=%064d", 1);
    assert_int_equal(parse(line, &request), 0);
    (void)snprintf(line, sizeof line, "pause\trequest=%065d", 1);
    assert_int_equal(parse(line, &request), -EINVAL);
    (void)snprintf(line, sizeof line, "entropy\tbandwidth=%063d", 1);
    assert_int_equal(parse(line, &request), 0);
    (void)snprintf(line, sizeof line, "entropy\tbandwidth=%064d", 1);
    assert_int_equal(parse(line, &request), -EINVAL);
    memset(line, 'x', sizeof line - 1);
    assert_int_equal(parse(line, &request), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_lines),
        cmocka_unit_test(test_lines_of_every_verb),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_long_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
