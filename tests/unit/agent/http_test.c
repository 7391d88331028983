/*
 * The HTTP form's parser and writers: requests as existing runtime clients send them, in pieces of any size;
 * every refusal with its status; the error object from JSON.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/http.h"
#include "agent/proto/utf8.h"

#define API "/2018-06-01/runtime/"

static struct http_parser parser;
static char body[65536];
static size_t body_size;
static unsigned heads;

static struct proto_slice slice(const char *data, size_t size)
{
    return (struct proto_slice){(const uint8_t *)data, size};
}

/* Parse `text` in pieces of `piece` bytes until it is used up or refused: requests ended, -1 when refused. */
static int parse(const char *text, size_t size, size_t piece)
{
    int ended = 0;
    http_parser_init(&parser);
    body_size = 0;
    heads = 0;
    for (size_t at = 0; at < size;) {
        const size_t count = piece < size - at ? piece : size - at;
        char *exact = malloc(count); /* the sanitizer sees a read past it */
        memcpy(exact, text + at, count);
        struct proto_slice input = slice(exact, count);
        enum http_event event = HTTP_MORE;
        do {
            struct proto_slice part;
            event = http_parse(&parser, &input, &part);
            heads += event == HTTP_HEAD;
            ended += event == HTTP_END;
            if (event == HTTP_BODY) {
                assert_true(part.size <= sizeof body - body_size);
                memcpy(body + body_size, part.data, part.size);
                body_size += part.size;
            }
        } while (event != HTTP_MORE && event != HTTP_REFUSED);
        assert_true(event == HTTP_REFUSED || input.size == 0);
        free(exact);
        if (event == HTTP_REFUSED) {
            assert_non_null(parser.why);
            return -1;
        }
        at += count;
    }
    return ended;
}

static void requests_of_real_clients_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum http_route route;
        const char *id;
        const char *body;
        bool keep_alive;
    } cases[] = {
        {"GET " API
         "invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: aws-lambda-rust/1\r\n\r\n",
         HTTP_ROUTE_NEXT, "", "", true},
        {"POST " API "invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response HTTP/1.1\r\nHost: h\r\n"
         "content-length: 12\r\nContent-Type: application/json\r\n\r\n{\"ok\": true}",
         HTTP_ROUTE_RESPONSE, "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "{\"ok\": true}", true},
        {"POST " API "invocation/a.b_c/response HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n"
         "Connection: keep-alive, Close\r\n\r\n"
         "5\r\nhello\r\n1;x=y\r\n,\r\n00a  \r\n wonderful\r\n0\r\nTrailer: x\r\n\r\n",
         HTTP_ROUTE_RESPONSE, "a.b_c", "hello, wonderful", false},
        {"POST " API "invocation/7/error HTTP/1.0\r\n"
         "Lambda-Runtime-Function-Error-Type:  Runtime.Odd \r\nContent-Length: 2\r\n\r\n{}",
         HTTP_ROUTE_ERROR, "7", "{}", false},
        {"POST " API "init/error HTTP/1.1\r\nhost:\r\n\r\n", HTTP_ROUTE_INIT_ERROR, "", "", true},
        {"GET " API "restore/next HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
         HTTP_ROUTE_RESTORE_NEXT, "", "", true},
        {"POST " API "restore/error HTTP/1.1\r\nHost: h\r\n\r\n", HTTP_ROUTE_RESTORE_ERROR, "", "", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece < 100; piece += 13) {
            assert_int_equal(parse(cases[i].text, strlen(cases[i].text), piece), 1);
            assert_int_equal(heads, 1);
            assert_int_equal(parser.request.route, cases[i].route);
            assert_string_equal(parser.request.id, cases[i].id);
            assert_int_equal(parser.request.keep_alive, cases[i].keep_alive);
            assert_int_equal(body_size, strlen(cases[i].body));
            assert_memory_equal(body, cases[i].body, body_size);
            assert_int_equal(parser.request.expects_continue, strstr(cases[i].text, "Expect") != NULL);
            assert_string_equal(parser.request.error_type, strstr(cases[i].text, "Odd") ? "Runtime.Odd" : "");
        }
}

static void requests_follow_each_other_on_one_connection(void **state)
{
    (void)state;
    static const char text[] =
        "POST " API "invocation/1/response HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
        "GET " API "invocation/next HTTP/1.1\r\nHost: h\r\n\r\n"
        "POST " API "invocation/2/response HTTP/1.1\r\nHost: h\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
        "GET " API "invocation/next HTTP/1.1\r\nHost: h\r\n\r\n";
    for (size_t piece = 1; piece < sizeof text; piece += 7) {
        assert_int_equal(parse(text, sizeof text - 1, piece), 4);
        assert_int_equal(heads, 4);
        assert_int_equal(body_size, 6);
        assert_memory_equal(body, "onetwo", 6);
        assert_int_equal(parser.request.route, HTTP_ROUTE_NEXT);
        assert_string_equal(parser.request.id, "");
    }
}

#define NEXT     "GET " API "invocation/next HTTP/1.1\r\n"
#define RESPONSE "POST " API "invocation/1/response HTTP/1.1\r\nHost: h\r\n"

static const struct {
    const char *text;
    int status;
} refusals[] = {
    {"\r\n", 400},
    {"GET\r\n\r\n", 400},
    {"GET " API "invocation/next\r\n\r\n", 400},
    {" GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / x HTTP/1.1\r\n\r\n", 400},
    {"GET " API "invocation/next HTTP/2.0\r\n\r\n", 505},
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404},
    {"GET /2015-03-31/runtime/invocation/next HTTP/1.1\r\nHost: h\r\n\r\n", 404},
    {"GET " API "invocation/next/ HTTP/1.1\r\nHost: h\r\n\r\n", 404},
    {"GET " API "invocation/next?x HTTP/1.1\r\nHost: h\r\n\r\n", 404},
    {"POST " API "invocation/next HTTP/1.1\r\nHost: h\r\n\r\n", 405},
    {"get " API "invocation/next HTTP/1.1\r\nHost: h\r\n\r\n", 405},
    {"POST " API "invocation//response HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"POST " API "invocation/a%20/response HTTP/1.1\r\nHost: h\r\n\r\n", 400},
    {"POST " API "invocation/12345678901234567890123456789012345678901234567890123456789012345/response "
     "HTTP/1.1\r\nHost: h\r\n\r\n",
     400},
    {NEXT "\r\n", 400},
    {NEXT "Host: a\r\nHost: b\r\n\r\n", 400},
    {NEXT "Host: a\n\r\n", 400},
    {NEXT "Host: a\rb\r\n\r\n", 400},
    {NEXT "Host: a\001\r\n\r\n", 400},
    {NEXT "Host : a\r\n\r\n", 400},
    {NEXT "Host: a\r\n folded\r\n\r\n", 400},
    {NEXT "Host: a\r\nnothing\r\n\r\n", 400},
    {NEXT "Host: a\r\n: x\r\n\r\n", 400},
    {NEXT "Host: a\r\nExpect: more\r\n\r\n", 417},
    {RESPONSE "Content-Length: x\r\n\r\n", 400},
    {RESPONSE "Content-Length:\r\n\r\n", 400},
    {RESPONSE "Content-Length: -1\r\n\r\n", 400},
    {RESPONSE "Content-Length: 1, 1\r\n\r\n", 400},
    {RESPONSE "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
    {RESPONSE "Content-Length: 6291557\r\n\r\n", 413},
    {RESPONSE "Content-Length: 99999999999999999999999999\r\n\r\n", 413},
    {RESPONSE "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {RESPONSE "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
    {RESPONSE "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
    {"POST " API "init/error HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\n\r\n", 400},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 400},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\n1 2\r\nx\r\n", 400},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\n600065\r\n", 413},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 413},
    {RESPONSE "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n600064\r\n", 413},
};

static void what_is_refused_has_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        for (size_t piece = 1; piece < 200; piece += 66) {
            if (parse(refusals[i].text, strlen(refusals[i].text), piece) != -1)
                fail_msg("taken: %s", refusals[i].text);
            if (parser.status != refusals[i].status)
                fail_msg("%d (%s), not %d: %s", parser.status, parser.why, refusals[i].status,
                         refusals[i].text);
            struct proto_slice input = slice("GET", 3);
            struct proto_slice part;
            assert_int_equal(http_parse(&parser, &input, &part), HTTP_REFUSED); /* sticks */
        }
    /* Too large after a good head: whose answer it was is still known. */
    assert_string_equal(parser.request.id, "1");
    assert_int_equal(parser.request.route, HTTP_ROUTE_RESPONSE);
}

static void heads_have_their_limits(void **state)
{
    (void)state;
    static char text[2 * HTTP_HEAD_MAX_BYTES];
    for (int past = 0; past <= 1; past++) {
        int at = snprintf(text, sizeof text, NEXT "Host: h\r\nX: ");
        const int filled = HTTP_HEAD_MAX_BYTES - at - 4 + past;
        memset(text + at, 'x', (size_t)filled);
        memcpy(text + at + filled, "\r\n\r\n", 5);
        assert_int_equal(parse(text, strlen(text), 1000), past ? -1 : 1);
        assert_int_equal(parser.status, past ? 431 : 0);
    }
    for (int past = 0; past <= 1; past++) {
        size_t at = (size_t)snprintf(text, sizeof text, NEXT "Host: h\r\n");
        for (int i = 1; i < HTTP_FIELDS_MAX + past; i++)
            at += (size_t)snprintf(text + at, sizeof text - at, "X: %d\r\n", i);
        memcpy(text + at, "\r\n", 3);
        assert_int_equal(parse(text, strlen(text), 1000), past ? -1 : 1);
        assert_int_equal(parser.status, past ? 431 : 0);
    }
}

static void answers_are_written_whole(void **state)
{
    (void)state;
    char out[HTTP_REPLY_MAX_BYTES];
    int64_t size = http_write_next(out, "r-1", "Root=1", 1700000000123, 5);
    assert_string_equal(out,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
                        "Lambda-Runtime-Aws-Request-Id: r-1\r\nLambda-Runtime-Deadline-Ms: 1700000000123\r\n"
                        "Lambda-Runtime-Trace-Id: Root=1\r\n\r\n");
    assert_int_equal(size, strlen(out));
    assert_true(http_write_next(out, "r-1", "", 1, 0) > 0);
    assert_null(strstr(out, "Trace"));
    assert_non_null(strstr(out, ": 1\r\n\r\n"));
    assert_int_equal(http_write_next(out, "r-1", "a\r\nEvil: 1", 1, 0), -EINVAL);
    char trace[HTTP_REPLY_MAX_BYTES];
    memset(trace, 't', sizeof trace - 1);
    trace[PROTO_TRACE_MAX_BYTES] = '\0';
    char id[PROTO_ID_MAX_BYTES + 1];
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    assert_true(http_write_next(out, id, trace, UINT64_MAX, PROTO_PAYLOAD_MAX_BYTES) >
                0); /* the largest fits */

    size = http_write_refusal(out, 413, "Function.ResponseSizeTooLarge", "body: larger than 6291556 bytes");
    assert_int_equal(size, strlen(out));
    const char *text = strstr(out, "\r\n\r\n") + 4;
    char length[64];
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(text));
    assert_non_null(strstr(out, length));
    assert_non_null(strstr(out, "HTTP/1.1 413 Content Too Large\r\n"));
    assert_string_equal(text, "{\"errorMessage\":\"body: larger than 6291556 bytes\","
                              "\"errorType\":\"Function.ResponseSizeTooLarge\"}\n");
    size = http_write_accepted(out, 202);
    assert_int_equal(size, strlen(out));
    text = strstr(out, "\r\n\r\n") + 4;
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(text));
    assert_non_null(strstr(out, length));
    assert_true(http_write_continue(out) > 0);
}

static struct proto_failure failure;
static char scratch[HTTP_FAILURE_SCRATCH_BYTES];

static void read_failure(const char *text, size_t size)
{
    char *exact = malloc(size ? size : 1);
    memcpy(exact, text, size);
    memset(scratch, 0xee, sizeof scratch);
    http_failure(slice(exact, size), "Given.Type", &failure, scratch);
    free(exact);
    /* Whatever it was, the codec takes it. */
    const struct proto_message message = {.type = PROTO_ERROR, .u.error.failure = failure};
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    assert_true(proto_encode(&message, frame, sizeof frame) > 0);
}

static void expect_failure(const char *text, const char *type, const char *message, size_t entries)
{
    read_failure(text, strlen(text));
    if (!proto_slice_equal(failure.type, proto_text(type)) ||
        !proto_slice_equal(failure.message, proto_text(message)) || failure.stack_count != entries)
        fail_msg("%s: type %.*s, message %.*s, %zu entries", text, (int)failure.type.size, failure.type.data,
                 (int)failure.message.size, failure.message.data, failure.stack_count);
}

static void error_objects_are_read(void **state)
{
    (void)state;
    expect_failure("{\"errorMessage\":\"no\",\"errorType\":\"My.Type\",\"stackTrace\":[\"a\",\"b\"]}",
                   "My.Type", "no", 2);
    assert_true(proto_slice_equal(failure.stack[1], proto_text("b")));
    expect_failure(
        " { \"errorType\" : \"T\" , \"cause\" : {\"x\":[1,{\"}\":\"]\"}]} , \"errorMessage\" : \"m\" } \r\n",
        "T", "m", 0);
    expect_failure("{\"errorMessage\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00\"}",
                   "Given.Type", "\"\\/\b\f\n\r\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 0);
    expect_failure("{\"errorMessage\":\"\\ud83d x \\ude00\"}", "Given.Type", "? x ?", 0);
    expect_failure("{\"errorMessage\":\"\xff\xc3\xa9\xe2\x82\"}", "Given.Type", "?\xc3\xa9??", 0);
    expect_failure("{\"errorMessage\":5,\"errorType\":null,\"stackTrace\":\"x\"}", "Given.Type", "", 0);
    expect_failure("{\"stackTrace\":[],\"errorType\":\"\"}", "Given.Type", "", 0);
    expect_failure("{\"stackTrace\":[\"a\",[\"n\"],7,\"b\"]}", "Given.Type", "", 2);
    expect_failure("{}", "Given.Type", "", 0);
}

static void what_is_no_object_becomes_the_message(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "plain words",
        "[1]",
        "{\"errorMessage\":\"cut",
        "{\"errorMessage\":\"m\"",
        "{\"errorMessage\" \"m\"}",
        "{\"errorMessage\":}",
        "{\"errorMessage\": }",
        "{\"errorMessage\":\"m\"} more",
        "{\"errorMessage\":\"m\",}",
        "{\"errorMessage\":\"\\x\"}",
        "{\"errorMessage\":\"\\u12g4\"}",
        "{\"errorMessage\":\"\\",
        "{\"errorMessage\":\"\\u12",
        "{\"errorMessage\":\"a\nb\"}",
        "{\"stackTrace\":[\"a\"",
        "{\"stackTrace\":[\"a\"}",
        "{\"x\":[[[[",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_failure(texts[i], "Given.Type", texts[i], 0);
}

static void long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    static char text[3 * PROTO_ERROR_TEXT_MAX_BYTES];
    /* 4095 bytes, then a character of two: as an object, and as plain text. */
    int at = snprintf(text, sizeof text, "{\"errorMessage\":\"");
    memset(text + at, 'm', PROTO_ERROR_TEXT_MAX_BYTES - 1);
    memcpy(text + at + PROTO_ERROR_TEXT_MAX_BYTES - 1, "\xc3\xa9zz\"}", 7);
    read_failure(text, strlen(text));
    assert_int_equal(failure.message.size, PROTO_ERROR_TEXT_MAX_BYTES - 1);
    read_failure(text + at, strlen(text + at));
    assert_int_equal(failure.message.size, PROTO_ERROR_TEXT_MAX_BYTES - 1);
    assert_int_equal(failure.message.data[failure.message.size - 1], 'm');

    size_t size = (size_t)snprintf(text, sizeof text, "{\"stackTrace\":[\"\"");
    for (int i = 0; i < PROTO_STACK_MAX + 5; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, ",\"entry %d\"", i);
    size += (size_t)snprintf(text + size, sizeof text - size, "]}");
    read_failure(text, size);
    assert_int_equal(failure.stack_count, PROTO_STACK_MAX);
    assert_true(proto_slice_equal(failure.stack[PROTO_STACK_MAX - 1], proto_text("entry 30")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_real_clients_are_understood),
        cmocka_unit_test(requests_follow_each_other_on_one_connection),
        cmocka_unit_test(what_is_refused_has_its_status),
        cmocka_unit_test(heads_have_their_limits),
        cmocka_unit_test(answers_are_written_whole),
        cmocka_unit_test(error_objects_are_read),
        cmocka_unit_test(what_is_no_object_becomes_the_message),
        cmocka_unit_test(long_texts_are_cut_between_characters),
    };
    return cmocka_run_group_tests_name("agent http", tests, NULL, NULL);
}
