/*
 * The real agent, under sanitizers, and a function that speaks the Lambda Runtime API: events and answers,
 * each status, each way to go wrong, and who may connect.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/proto/errors.h"
#include "tests/unit/agent/host.h"

static int http_set_up(void **state)
{
    return host_set_up_with(state, "http-function", "");
}

#define WITH_HTTP(test) cmocka_unit_test_setup_teardown(test, http_set_up, host_tear_down)

static void ask(struct talk *talk, const char *event, const char *answer)
{
    talk_invoke(talk, "r-1", event, 10000);
    talk_expect_answer(talk, "r-1", answer);
}

/* ---- the good path --------------------------------------------------------------------------------- */

static void answers_events(void **state)
{
    struct talk *talk = dial_ready(*state);
    ask(talk, "good day", "good day");
    ask(talk, "", "");
    next_works(talk);
    ask(talk, "statuses", "202 202 202");
    hang_up(talk);
}

/* In any framing of the answer, with a first word that chooses it. */
static void answers_the_largest_event(void **state)
{
    static const char *const words[] = {"echo ", "chunked ", "expect "};
    static char event[PROTO_PAYLOAD_MAX_BYTES], answer[PROTO_PAYLOAD_MAX_BYTES];
    struct talk *talk = dial_ready(*state);
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        uint32_t random = 1;
        for (size_t i = 0; i < sizeof event; i++) {
            random = random * 1664525u + 1013904223u;
            event[i] = (char)(random >> 24);
        }
        memcpy(event, words[w], strlen(words[w]));
        talk_invoke_bytes(talk, "big", event, sizeof event, 30000);
        assert_int_equal(talk_answer(talk, "big", answer, sizeof answer, NULL), sizeof event);
        assert_memory_equal(event, answer, sizeof event);
    }
    ask(talk, "chunked", "chunked");
    hang_up(talk);
}

static void event_has_its_fields(void **state)
{
    char answer[4096] = "";
    struct talk *talk = dial_ready(*state);
    const uint64_t before_ms = (uint64_t)time(NULL) * 1000;
    const struct proto_message event = {.type = PROTO_INVOKE,
                                        .u.invoke = {.id = proto_text("r-77"),
                                                     .trace = proto_text("Root=1-abc"),
                                                     .timeout_ms = 8000,
                                                     .total_bytes = 4,
                                                     .body = proto_text("head")}};
    talk_send(talk, &event);
    answer[talk_answer(talk, "r-77", answer, sizeof answer - 1, NULL)] = '\0';
    assert_non_null(strstr(answer, "\r\nLambda-Runtime-Aws-Request-Id: r-77\r\n"));
    assert_non_null(strstr(answer, "\r\nLambda-Runtime-Trace-Id: Root=1-abc\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Length: 4\r\n"));
    const char *deadline = strstr(answer, "\r\nLambda-Runtime-Deadline-Ms: ");
    assert_non_null(deadline);
    const uint64_t deadline_ms = strtoull(deadline + strlen("\r\nLambda-Runtime-Deadline-Ms: "), NULL, 10);
    assert_in_range(deadline_ms, before_ms + 8000, (uint64_t)time(NULL) * 1000 + 9000);
    hang_up(talk);
}

static void environment_is_lambdas(void **state)
{
    struct host *host = *state;
    char expected[128];
    (void)snprintf(expected, sizeof expected, "%s function", host->directory);
    struct talk *talk = dial_ready(host);
    ask(talk, "environment", expected);
    hang_up(talk);
}

static void logs_come_before_the_answer(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs logs = {0};
    char answer[64];
    talk_invoke(talk, "r-1", "print", 5000);
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, &logs), 7);
    assert_string_equal(logs.text[0], "to stdout\n");
    assert_string_equal(logs.id, "r-1");
    hang_up(talk);
}

static void errors_are_passed_on(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "error", 5000);
    const struct proto_message *message = talk_next(talk);
    assert_non_null(message);
    assert_int_equal(message->type, PROTO_ERROR);
    const struct proto_failure *failure = &message->u.error.failure;
    assert_true(proto_slice_equal(failure->type, proto_text("Test.Failed")));
    assert_true(proto_slice_equal(failure->message, proto_text("as told")));
    assert_int_equal(failure->stack_count, 2);
    assert_true(proto_slice_equal(failure->stack[1], proto_text("second")));
    talk_invoke(talk, "r-2", "error-plain", 5000);
    talk_expect_error(talk, "r-2", "Test.Plain", "no object");
    ask(talk, "statuses", "202 202");
    hang_up(talk);
}

/* ---- the function goes wrong ------------------------------------------------------------------------ */

struct wrong {
    const char *event;
    const char *type;
    const char *part;
    uint32_t timeout_ms;
    const char *statuses; /* what it got; NULL: it was ended */
};

static const struct wrong wrongs[] = {
    {"crash", PROTO_ERROR_CRASHED, "SIGABRT", 5000, NULL},
    {"exit 5", PROTO_ERROR_EXITED, "exit code 5", 5000, NULL},
    {"hang", PROTO_ERROR_TIMED_OUT, "0.20 seconds", 200, NULL},
    {"half", PROTO_ERROR_BAD_CHANNEL, "closed its channel", 5000, NULL},
    {"half-crash", PROTO_ERROR_CRASHED, "SIGABRT", 5000, NULL},
    {"other", PROTO_ERROR_BAD_RESPONSE, "somebody-else", 5000, "202 202 400"},
    {"large", PROTO_ERROR_TOO_LARGE, "6291556", 10000, "202 202 413"},
    {"large-chunked", PROTO_ERROR_TOO_LARGE, "6291556", 10000, "202 202 413"},
};

static void every_failure_is_reported_and_survived(void **state)
{
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        next_works(talk);
        talk_invoke(talk, "bad", wrongs[i].event, wrongs[i].timeout_ms);
        talk_expect_error(talk, "bad", wrongs[i].type, wrongs[i].part);
        ask(talk, "statuses", wrongs[i].statuses ? wrongs[i].statuses : "");
    }
    hang_up(talk);
}

/* Only the beginning of the event has been sent when the function does something else than read it. */
static void event_must_be_read(void **state)
{
    static const struct {
        const char *word, *type, *part;
    } rows[] = {
        {"early", PROTO_ERROR_BAD_CHANNEL, "before it had read the whole event"},
        {"leave", PROTO_ERROR_BAD_CHANNEL, "closed its channel"},
    };
    static char event[200000];
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        memcpy(event, rows[i].word, 5);
        struct proto_message fragment = {.type = PROTO_INVOKE,
                                         .u.invoke = {.id = proto_text("r-1"), .timeout_ms = 10000}};
        (void)payload_fragment(&fragment, event, sizeof event, 0);
        talk_send(talk, &fragment);
        talk_expect_error(talk, "r-1", rows[i].type, rows[i].part);
        next_works(talk);
    }
    hang_up(talk);
}

static void second_answer_is_refused(void **state)
{
    struct talk *talk = dial_ready(*state);
    ask(talk, "twice", "once");
    ask(talk, "statuses", "202 400");
    next_works(talk);
    hang_up(talk);
}

static void requests_out_of_turn_are_refused(void **state)
{
    struct talk *talk = dial_ready(*state);
    ask(talk, "requests", "403 403 403 404 400");
    ask(talk, "many", "opened and closed");
    next_works(talk);
    hang_up(talk);
}

/* It answers and never asks again: who waits for it is told, and it is started anew. */
static void function_that_does_not_ask_is_restarted(void **state)
{
    struct talk *talk = dial_ready(*state);
    ask(talk, "silent", "that was all");
    talk_invoke(talk, "r-2", "hello", 300);
    talk_expect_error(talk, "r-2", PROTO_ERROR_TIMED_OUT, "before the function asked");
    next_works(talk);
    hang_up(talk);
}

/* Its end of the native channel is not missed. */
static void native_socket_may_be_closed(void **state)
{
    (void)host_set_up_with(state, "http-function", "close");
    struct talk *talk = dial_ready(*state);
    ask(talk, "good day", "good day");
    hang_up(talk);
    assert_int_equal(host_tear_down(state), 0);
}

static void expect_init_failed(struct talk *talk, const char *type)
{
    const struct proto_message *message = talk_next_but_log(talk);
    if (message && message->type == PROTO_HELLO)
        message = talk_next_but_log(talk);
    assert_non_null(message);
    assert_int_equal(message->type, PROTO_INIT);
    assert_int_equal(message->u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(message->u.init.failure.type, proto_text(type)));
}

static void init_failure(void **state, const char *mode, const char *type, const char *part)
{
    (void)host_set_up_with(state, "http-function", mode);
    struct talk *talk = dial(*state);
    talk_hello(talk, false);
    expect_init_failed(talk, type);
    talk_invoke(talk, "r-1", "hello", 5000);
    talk_expect_error(talk, "r-1", type, part);
    set_mode(*state, "");
    next_works(talk);
    hang_up(talk);
    assert_int_equal(host_tear_down(state), 0);
}

static void init_says_it_failed(void **state)
{
    init_failure(state, "fail", "Test.NoInit", "no database");
}

static void init_exits(void **state)
{
    init_failure(state, "exit", PROTO_ERROR_INIT, "exit code 7");
}

/* ---- others ---------------------------------------------------------------------------------------- */

/* The function has a user of its own only where the agent is root: there, a connection of root's is closed.
 */
static void only_the_function_is_served(void **state)
{
    if (geteuid() != 0)
        skip();
    char where[64] = "";
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "port", 5000);
    (void)talk_answer(talk, "r-1", where, sizeof where - 1, NULL);
    struct sockaddr_in api = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atoi(strchr(where, ':') + 1)),
                              .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&api, sizeof api), 0);
    char byte;
    assert_true(read(fd, &byte, 1) <= 0);
    close(fd);
    wait_for_log(*state, "it is not the function's");
    next_works(talk);
    hang_up(talk);
}

int main(void)
{
    if (host_find_programs() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        WITH_HTTP(answers_events),
        WITH_HTTP(answers_the_largest_event),
        WITH_HTTP(event_has_its_fields),
        WITH_HTTP(environment_is_lambdas),
        WITH_HTTP(logs_come_before_the_answer),
        WITH_HTTP(errors_are_passed_on),
        WITH_HTTP(every_failure_is_reported_and_survived),
        WITH_HTTP(event_must_be_read),
        WITH_HTTP(second_answer_is_refused),
        WITH_HTTP(requests_out_of_turn_are_refused),
        WITH_HTTP(function_that_does_not_ask_is_restarted),
        cmocka_unit_test(native_socket_may_be_closed),
        cmocka_unit_test(init_says_it_failed),
        cmocka_unit_test(init_exits),
        WITH_HTTP(only_the_function_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
