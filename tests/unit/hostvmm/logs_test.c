/* hostvmm's messages: in JSON whatever is in them, with their request, up to a level, in a file of their own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/logs.h"

static char path[] = "/tmp/logs-test.XXXXXX";

static void expect_json(const char *request, const char *message, const char *wanted)
{
    char line[LOGS_JSON_BYTES];
    const size_t size = logs_json(line, "T", LOG_LEVEL_WARN, "prog", request, message);
    assert_true(size > 0 && size <= sizeof line);
    assert_int_equal(line[size - 1], '\n');
    line[size - 1] = '\0';
    assert_string_equal(line, wanted);
}

static void test_json(void **state)
{
    (void)state;
    expect_json(NULL, "plain",
                "{\"time\":\"T\",\"level\":\"warning\",\"program\":\"prog\",\"message\":\"plain\"}");
    expect_json("r-1", "a \"b\" \\ c\n\x01\x7f",
                "{\"time\":\"T\",\"level\":\"warning\",\"program\":\"prog\",\"request\":\"r-1\",\"message\":"
                "\"a \\\"b\\\" \\\\ c\\u000a\\u0001\\u007f\"}");
    expect_json(NULL, "gr\303\274n \xff\303",
                "{\"time\":\"T\",\"level\":\"warning\",\"program\":\"prog\",\"message\":\"gr\303\274n ??\"}");
}

static void test_json_is_never_cut_open(void **state)
{
    (void)state;
    static char message[LOGS_JSON_BYTES];
    char line[LOGS_JSON_BYTES];
    for (size_t size = LOGS_JSON_BYTES - 200; size < LOGS_JSON_BYTES; size++) {
        memset(message, size % 2 ? '"' : 'x', size);
        message[size] = '\0';
        const size_t used = logs_json(line, "T", LOG_LEVEL_INFO, "p", NULL, message);
        assert_true(used <= sizeof line);
        assert_memory_equal(line + used - 3, "\"}\n", 3);
    }
}

static void test_levels(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_ERROR;
    assert_true(logs_level("debug", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_true(logs_level("warning", &level));
    assert_int_equal(level, LOG_LEVEL_WARN);
    assert_false(logs_level("loud", &level));
    assert_false(logs_level("", &level));
}

static void expect_file(const char *wanted)
{
    char text[4096];
    const int64_t size = fd_read_file(path, text, sizeof text - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    assert_string_equal(text, wanted);
    assert_int_equal(truncate(path, 0), 0);
}

static void test_text_is_as_it_was(void **state)
{
    (void)state;
    const struct config config = {.log = path, .log_level = LOG_LEVEL_INFO};
    assert_int_equal(logs_begin(&config, "prog"), 0);
    errno = EXDEV;
    log_info("one %d", 1);
    log_warn("two");
    log_debug("not shown");
    assert_int_equal(errno, EXDEV);
    expect_file("prog: one 1\nprog: warning: two\n");
    logs_request("r.1");
    log_info("three");
    log_error("four");
    logs_request(NULL);
    log_info("five");
    expect_file("prog: request r.1: three\nprog: error: request r.1: four\nprog: five\n");
    log_set_most(LOG_LEVEL_DEBUG);
    log_debug("shown");
    expect_file("prog: debug: shown\n");
}

static void test_json_file_has_a_time(void **state)
{
    (void)state;
    const struct config config = {.log = path, .log_level = LOG_LEVEL_ERROR, .log_json = true};
    char text[512];
    unsigned parts[6];
    unsigned ns;
    char z;
    assert_int_equal(logs_begin(&config, "prog"), 0);
    log_info("below");
    log_error("here");
    const int64_t size = fd_read_file(path, text, sizeof text - 1);
    assert_true(size > 0);
    text[size] = '\0';
    assert_int_equal(sscanf(text, "{\"time\":\"%4u-%2u-%2uT%2u:%2u:%2u.%9u%c\"", &parts[0], &parts[1],
                            &parts[2], &parts[3], &parts[4], &parts[5], &ns, &z),
                     8);
    assert_int_equal(z, 'Z');
    assert_non_null(strstr(text, "\"message\":\"here\"}\n"));
    assert_null(strstr(text, "below"));
}

static void test_a_file_that_cannot_be_opened(void **state)
{
    (void)state;
    struct config config = {.log = "/nowhere/at/all", .log_level = LOG_LEVEL_ERROR};
    assert_int_equal(logs_begin(&config, "prog"), -ENOENT);
    config.log = "/nowhere/%n"; /* a clone's, opened when the number is known */
    config.command = CONFIG_RESTORE;
    assert_int_equal(logs_begin(&config, "prog"), 0);
}

static int setup(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_is_never_cut_open),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_text_is_as_it_was),
        cmocka_unit_test(test_json_file_has_a_time),
        cmocka_unit_test(test_a_file_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
