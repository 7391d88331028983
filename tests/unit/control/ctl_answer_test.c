/* The client's parser of answers: what it takes, what it refuses, at every cut of the bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/ctl_answer.h"

/* Parse `text` byte by byte as it would come; the result once it is not 0, or 0 at the end. */
static int drip(struct ctl_answer *answer, const char *text, char **data)
{
    const size_t size = strlen(text);
    *data = malloc(size + 1);
    assert_non_null(*data);
    memcpy(*data, text, size);
    memset(answer, 0, sizeof *answer);
    for (size_t i = 0; i < size; i++) {
        const int got = ctl_answer_parse(answer, *data, i + 1);
        if (got)
            return got;
    }
    return 0;
}

static void expect_body(const char *text, int status, const char *body)
{
    struct ctl_answer answer;
    char *data;
    assert_int_equal(drip(&answer, text, &data), 1);
    assert_int_equal(answer.status, status);
    assert_int_equal(answer.body_bytes, strlen(body));
    assert_memory_equal(data + answer.head_bytes, body, strlen(body));
    free(data);
}

static void expect_refused(const char *text, const char *why)
{
    struct ctl_answer answer;
    char *data;
    assert_int_equal(drip(&answer, text, &data), -EPROTO);
    if (!strstr(answer.why, why))
        fail_msg("'%s' was expected in: %s", why, answer.why);
    free(data);
}

static void expect_unfinished(const char *text)
{
    struct ctl_answer answer;
    char *data;
    assert_int_equal(drip(&answer, text, &data), 0);
    free(data);
}

static void test_takes_answers(void **state)
{
    (void)state;
    expect_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
    expect_body("HTTP/1.1 200\r\ncontent-length:5\t\r\n\r\nhello", 200, "hello");
    expect_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    expect_body("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 400, "");
    expect_body(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n",
        200, "hello0123456789");
    expect_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200, "");
}

static void test_waits_for_the_rest(void **state)
{
    (void)state;
    expect_unfinished("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
    expect_unfinished("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n");
    expect_unfinished("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
}

static void test_refuses_what_is_no_answer(void **state)
{
    (void)state;
    expect_refused("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "status line");
    expect_refused("OK 1024\r\n\r\n", "status line");
    expect_refused("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "status line");
    expect_refused("HTTP/1.1 100 Continue\r\n\r\n", "status");
    expect_refused("HTTP/1.1 200 OK\r\n\r\n", "unknown length");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n", "Content-Length");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "Content-Length");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "twice");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n", "8 MiB");
    expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                   "and a length");
    expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding");
    expect_refused("HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n", "204");
    expect_refused("HTTP/1.1 200 OK\r\nName with blank: 1\r\n\r\n", "header");
    expect_refused("HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", "header");
    expect_refused("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header");
}

static void test_refuses_bad_chunks(void **state)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    char text[256];
    (void)state;
    const char *const bad[] = {"x\r\n",
                               "5;ext=1\r\nhello\r\n0\r\n\r\n",
                               "5\r\nhelloX\n0\r\n\r\n",
                               "\r\n",
                               "5\nhello\r\n",
                               "800001\r\n",
                               "00000000000000000000000000000000000000\r\n",
                               "5\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, "%s%s", head, bad[i]);
        expect_refused(text, "chunk");
    }
}

static void test_bounds_the_head(void **state)
{
    (void)state;
    char *text = malloc(CTL_HEAD_MAX_BYTES + 200);
    assert_non_null(text);
    int size = snprintf(text, 64, "HTTP/1.1 200 OK\r\nX: ");
    memset(text + size, 'x', CTL_HEAD_MAX_BYTES);
    text[size + CTL_HEAD_MAX_BYTES] = '\0';
    expect_refused(text, "16 KiB");
    size = snprintf(text, 64, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i <= CTL_HEADERS_MAX; i++)
        size += snprintf(text + size, 16, "A: 1\r\n");
    (void)snprintf(text + size, 8, "\r\n");
    expect_refused(text, "too many");
    free(text);
}

static void test_finds_headers(void **state)
{
    struct ctl_answer answer;
    char *data;
    char value[8];
    (void)state;
    assert_int_equal(drip(&answer, "HTTP/1.1 204 X\r\nA-b:  one \r\nB: toolong8\r\nA-B: two\r\n\r\n", &data),
                     1);
    assert_true(ctl_answer_header(&answer, data, "a-B", value, sizeof value));
    assert_string_equal(value, "one");
    assert_false(ctl_answer_header(&answer, data, "B", value, sizeof value));
    assert_false(ctl_answer_header(&answer, data, "C", value, sizeof value));
    free(data);
}

static bool text_of(const char *json, const char *name, char *to, size_t capacity)
{
    /* Exactly as large as it is, so that the sanitizer sees a look beyond. */
    const size_t size = strlen(json);
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, json, size);
    const bool found = ctl_answer_text(copy, size, name, to, capacity);
    free(copy);
    return found;
}

static void test_finds_texts(void **state)
{
    char to[16];
    (void)state;
    assert_true(text_of("{\"fault_message\": \"why \\\"x\\\"\\n\"}", "fault_message", to, sizeof to));
    assert_string_equal(to, "why \"x\" ");
    assert_true(text_of("{\"a\":{\"m\":\"inner\"},\"b\":\"m\",\"m\":\"\\u001bx\x1b\"}", "m", to, sizeof to));
    assert_string_equal(to, "?x?");
    assert_true(text_of("{\"m\":\"01234567890123456789\"}", "m", to, sizeof to));
    assert_string_equal(to, "012345678901234");
    assert_false(text_of("{\"m\":5}", "m", to, sizeof to));
    assert_false(text_of("{\"n\":\"m\"}", "m", to, sizeof to));
    assert_false(text_of("[\"m\",\"x\"]", "y", to, sizeof to));
    assert_false(text_of("{\"m\":\"cut", "m", to, sizeof to));
    assert_false(text_of("{\"m\":\"cut\\", "m", to, sizeof to));
    assert_false(text_of("{\"m", "m", to, sizeof to));
    assert_false(text_of("", "m", to, sizeof to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_answers),
        cmocka_unit_test(test_waits_for_the_rest),
        cmocka_unit_test(test_refuses_what_is_no_answer),
        cmocka_unit_test(test_refuses_bad_chunks),
        cmocka_unit_test(test_bounds_the_head),
        cmocka_unit_test(test_finds_headers),
        cmocka_unit_test(test_finds_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
