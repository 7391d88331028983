/*
 * The real agent with a function that goes wrong, in its init or with an event: each way ends in the right
 * error, and the next invocation works.
 *
 * Limits of memory and processes need the guest's cgroup: tests/integration proves them in a VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/host.h"

/* ---- the function goes wrong ----------------------------------------------------------------------- */

struct wrong {
    const char *event, *type, *part;
    uint32_t timeout_ms;
};

static const struct wrong wrongs[] = {
    {"crash", PROTO_ERROR_CRASHED, "signal 11 (SIGSEGV)", 5000},
    {"print-crash", PROTO_ERROR_CRASHED, "signal 6 (SIGABRT)", 5000},
    {"exit 3", PROTO_ERROR_EXITED, "exit code 3", 5000},
    {"exit 0", PROTO_ERROR_EXITED, "exit code 0", 5000},
    {"fork-exit 4", PROTO_ERROR_EXITED, "exit code 4", 5000},
    {"hang", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.25 seconds", 250},
    {"other", PROTO_ERROR_BAD_RESPONSE, "somebody-else", 5000},
    {"gap", PROTO_ERROR_BAD_RESPONSE, "out of order", 5000},
    {"too-large", PROTO_ERROR_TOO_LARGE, "6291556", 5000},
    {"garbage", PROTO_ERROR_BAD_CHANNEL, "impossible length", 5000},
    {"hello", PROTO_ERROR_BAD_CHANNEL, "not an answer", 5000},
    {"close", PROTO_ERROR_BAD_CHANNEL, "closed its channel", 5000},
    {"give-up", "Test.Failed", "as told", 5000},
    {"error", "Test.Failed", "as told", 5000},
};

static void every_failure_is_reported_and_survived(void **state)
{
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        talk_invoke(talk, "bad", wrongs[i].event, wrongs[i].timeout_ms);
        talk_expect_error(talk, "bad", wrongs[i].type, wrongs[i].part);
        next_works(talk);
    }
    hang_up(talk);
}

static void stack_trace_is_passed_on(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "error", 5000);
    const struct proto_message *message = talk_next(talk);
    assert_int_equal(message->type, PROTO_ERROR);
    assert_int_equal(message->u.error.failure.stack_count, 2);
    assert_true(proto_slice_equal(message->u.error.failure.stack[1], proto_text("second")));
    hang_up(talk);
}

static void last_output_of_a_crash_comes_before_its_error(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "print-crash", 5000);
    const struct proto_message *message = talk_next(talk);
    assert_int_equal(message->type, PROTO_LOG);
    assert_true(proto_slice_equal(message->u.log.body, proto_text("last line\n")));
    talk_expect_error(talk, "r-1", PROTO_ERROR_CRASHED, "SIGABRT");
    hang_up(talk);
}

static void second_answer_reaches_nobody(void **state)
{
    static const char *const events[] = {"twice", "twice-open"};
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    for (int i = 0; i < 2; i++) {
        talk_invoke(talk, "r-1", events[i], 5000);
        talk_expect_answer(talk, "r-1", "once");
        wait_for_log(host, i == 0 ? "late or twice" : "began a message");
        next_works(talk);
    }
    hang_up(talk);
}

static void answer_given_before_exit_counts(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "answer-exit", 5000);
    talk_expect_answer(talk, "r-1", "last words");
    wait_for_log(*state, "exit code 0"); /* until then the next event could meet the process on its way out */
    next_works(talk);
    hang_up(talk);
}

static void answer_before_the_whole_event_is_refused(void **state)
{
    static const char event[200000] = "early";
    struct talk *talk = dial_ready(*state);
    struct proto_message fragment = {.type = PROTO_INVOKE,
                                     .u.invoke = {.id = proto_text("r-1"), .timeout_ms = 5000}};
    (void)payload_fragment(&fragment, event, sizeof event, 0);
    talk_send(talk, &fragment);
    talk_expect_error(talk, "r-1", PROTO_ERROR_BAD_RESPONSE, "before all of the event");
    next_works(talk);
    hang_up(talk);
}

/* The same through the library, which a function should use, and on purpose does not always. */
static const struct wrong misdeeds[] = {
    {"crash", PROTO_ERROR_CRASHED, "SIGSEGV", 5000},
    {"abort", PROTO_ERROR_CRASHED, "SIGABRT", 5000},
    {"exit 3", PROTO_ERROR_EXITED, "exit code 3", 5000},
    {"hang", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"spin", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"late 100", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"other", PROTO_ERROR_BAD_RESPONSE, "some-other-request", 5000},
    {"large", PROTO_ERROR_TOO_LARGE, "", 5000},
    {"large-raw", PROTO_ERROR_TOO_LARGE, "6291556", 5000},
    {"garbage", PROTO_ERROR_BAD_CHANNEL, "", 5000},
    {"header", PROTO_ERROR_BAD_CHANNEL, "impossible length", 5000},
    {"half", PROTO_ERROR_TIMED_OUT, "0.20", 200},
    {"half 1", PROTO_ERROR_EXITED, "exit code 0", 5000},
    {"close", PROTO_ERROR_BAD_CHANNEL, "closed its channel", 5000},
    {"fail 7", "Custom.Failure", "number 7", 5000},
    {"return 7", "Function.Error", "7", 5000},
    {"what?", "Misbehave.Unknown", "what?", 5000},
};

static void every_misdeed_is_reported_and_survived(void **state)
{
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof misdeeds / sizeof *misdeeds; i++) {
        talk_invoke(talk, "bad", misdeeds[i].event, misdeeds[i].timeout_ms);
        talk_expect_error(talk, "bad", misdeeds[i].type, misdeeds[i].part);
        talk_invoke(talk, "next", "ok", 10000);
        talk_expect_answer(talk, "next", "ok");
    }
    hang_up(talk);
}

/* A child that outlives its invocation holds the channel and both outputs open: the end of the function is
 * seen all the same, and with it the child's. */
static void orphan_ends_with_its_function(void **state)
{
    struct talk *talk = dial_ready(*state);
    char answer[64] = "";
    talk_invoke(talk, "r-1", "orphan", 5000);
    (void)talk_answer(talk, "r-1", answer, sizeof answer - 1, NULL);
    const pid_t orphan = (pid_t)atoi(answer + strlen("orphan "));
    assert_true(orphan > 1);
    assert_int_equal(kill(orphan, 0), 0);
    talk_invoke(talk, "r-2", "exit 5", 5000);
    talk_expect_error(talk, "r-2", PROTO_ERROR_EXITED, "exit code 5");
    talk_invoke(talk, "r-3", "ok", 5000);
    talk_expect_answer(talk, "r-3", "ok");
    char path[64], text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)orphan);
    if (fd_read_file(path, text, sizeof text - 1) > 0 && !strstr(text, ") Z"))
        fail_msg("the orphan lives: %s", text);
    hang_up(talk);
}

/* ---- init goes wrong ------------------------------------------------------------------------------- */

static void expect_init_failed(struct talk *talk, const char *type, const char *part)
{
    const struct proto_message *message;
    do {
        message = talk_next_but_log(talk);
        assert_non_null(message);
    } while (message->type == PROTO_INIT && message->u.init.state == PROTO_STATE_READY);
    assert_int_equal(message->type, PROTO_INIT);
    char text[PROTO_ERROR_TEXT_MAX_BYTES + 1];
    const struct proto_failure *failure = &message->u.init.failure;
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->type.size, (const char *)failure->type.data);
    assert_string_equal(text, type);
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->message.size,
                   (const char *)failure->message.data);
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* INIT says why; each invocation makes one attempt more and gets the error; once it is mended, it works. */
static void init_failure(void **state, const char *mode, const char *type, const char *part)
{
    (void)host_set_up_with(state, "rude", mode);
    struct host *host = *state;
    struct talk *talk = dial(host);
    talk_hello(talk, false);
    expect_init_failed(talk, type, part);
    for (int i = 0; i < 2; i++) {
        talk_invoke(talk, "r-1", "hello", 5000);
        talk_expect_error(talk, "r-1", type, part);
    }
    set_mode(host, "");
    next_works(talk);
    hang_up(talk);
    assert_int_equal(host_tear_down(state), 0);
}

static void init_exits(void **state)
{
    init_failure(state, "exit", PROTO_ERROR_INIT, "exit code 7");
}

static void init_crashes(void **state)
{
    init_failure(state, "crash", PROTO_ERROR_INIT, "signal 4 (SIGILL)");
}

static void init_hangs(void **state)
{
    init_failure(state, "hang", PROTO_ERROR_INIT, "timed out after 0.70 seconds");
}

static void init_says_it_failed(void **state)
{
    init_failure(state, "fail", "Test.NoInit", "no database");
}

static void init_without_hello(void **state)
{
    init_failure(state, "mute", PROTO_ERROR_INIT, "did not begin with hello");
}

static void program_is_missing(void **state)
{
    (void)host_set_up_with(state, "", "");
    struct talk *talk = dial(*state);
    talk_hello(talk, false);
    expect_init_failed(talk, PROTO_ERROR_INIT, "No such file");
    talk_invoke(talk, "r-1", "hello", 5000);
    talk_expect_error(talk, "r-1", PROTO_ERROR_INIT, "bootstrap");
    hang_up(talk);
    assert_int_equal(host_tear_down(state), 0);
}

int main(void)
{
    if (host_find_programs() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        WITH_AGENT(every_failure_is_reported_and_survived),
        WITH_AGENT(stack_trace_is_passed_on),
        WITH_AGENT(last_output_of_a_crash_comes_before_its_error),
        WITH_AGENT(second_answer_reaches_nobody),
        WITH_AGENT(answer_given_before_exit_counts),
        WITH_AGENT(answer_before_the_whole_event_is_refused),
        cmocka_unit_test_setup_teardown(every_misdeed_is_reported_and_survived, host_set_up_misbehave,
                                        host_tear_down),
        cmocka_unit_test_setup_teardown(orphan_ends_with_its_function, host_set_up_misbehave, host_tear_down),
        cmocka_unit_test(init_exits),
        cmocka_unit_test(init_crashes),
        cmocka_unit_test(init_hangs),
        cmocka_unit_test(init_says_it_failed),
        cmocka_unit_test(init_without_hello),
        cmocka_unit_test(program_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
