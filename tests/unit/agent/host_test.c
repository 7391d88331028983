/*
 * The real agent, under sanitizers, with a real function process and real clients on this machine: events and
 * answers, logs, clients that go wrong, and the end.
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
#include "agent/handoff.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/host.h"

/* ---- the good path --------------------------------------------------------------------------------- */

static void answers_an_event(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "good day", 5000);
    talk_expect_answer(talk, "r-1", "good day");
    next_works(talk);
    hang_up(talk);
}

static void answers_an_empty_event(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "", 5000);
    talk_expect_answer(talk, "r-1", "");
    hang_up(talk);
}

static void answers_the_largest_event(void **state)
{
    static char event[PROTO_PAYLOAD_MAX_BYTES], answer[PROTO_PAYLOAD_MAX_BYTES];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof event; i++) {
        random = random * 1664525u + 1013904223u;
        event[i] = (char)(random >> 24);
    }
    struct talk *talk = dial_ready(*state);
    talk_invoke_bytes(talk, "big", event, sizeof event, 20000);
    assert_int_equal(talk_answer(talk, "big", answer, sizeof answer, NULL), sizeof event);
    assert_memory_equal(event, answer, sizeof event);
    next_works(talk);
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
    assert_string_equal(logs.text[1], "to stderr\n");
    assert_string_equal(logs.id, "r-1");
    assert_int_equal(logs.dropped_bytes, 0);
    hang_up(talk);
}

static void logs_go_to_who_wants_them(void **state)
{
    struct talk *owner = dial_ready(*state), *listener = dial(*state), *other = dial_ready(*state);
    talk_ready(listener, true);
    talk_invoke(owner, "r-1", "print", 5000);
    talk_expect_answer(owner, "r-1", "printed");
    struct talk_logs logs = {0};
    while (logs.total_bytes < 20) {
        const struct proto_message *message = talk_next(listener);
        assert_non_null(message);
        assert_int_equal(message->type, PROTO_LOG);
        talk_note_log(&logs, message);
    }
    assert_string_equal(logs.id, "r-1");
    /* The third client gets the answer to its own event next, and nothing else before. */
    talk_invoke(other, "r-2", "mine", 5000);
    assert_int_equal(talk_next(other)->type, PROTO_RESPONSE);
    hang_up(owner);
    hang_up(listener);
    hang_up(other);
}

static void flood_is_carried_or_counted(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs *logs = calloc(1, sizeof *logs);
    char answer[64];
    talk_invoke(talk, "r-1", "flood 20000000", 10000);
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, logs), 7);
    assert_int_equal(logs->total_bytes + logs->dropped_bytes, 20000000);
    free(logs);
    next_works(talk);
    hang_up(talk);
}

static void function_may_open_its_stdout_again(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs logs = {0};
    char answer[64] = "";
    talk_invoke(talk, "r-1", "reopen", 5000);
    (void)talk_answer(talk, "r-1", answer, sizeof answer - 1, &logs);
    assert_string_equal(answer, "reopened");
    assert_string_equal(logs.text[0], "reopened\n");
    hang_up(talk);
}

static void function_is_confined(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    char expected[256];
    const bool root = geteuid() == 0;
    (void)snprintf(expected, sizeof expected,
                   "uid=%d gid=%d groups=%d nnp=1 session=1 cwd=%s home=/tmp fds=0,1,2,3,",
                   root ? 1000 : (int)geteuid(), root ? 1000 : (int)getegid(), root ? 0 : getgroups(0, NULL),
                   host->directory);
    talk_invoke(talk, "r-1", "surroundings", 5000);
    talk_expect_answer(talk, "r-1", expected);
    hang_up(talk);
}

/* ---- the client goes wrong ------------------------------------------------------------------------- */

static void bad_frames_close_only_their_client(void **state)
{
    struct talk *good = dial_ready(*state);
    struct talk *bad = dial_ready(*state);
    talk_send_bytes(bad, "\0\0\0\3\xa1\x18\x63", 7);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "");
    talk_expect_end(bad);
    hang_up(bad);
    bad = dial_ready(*state);
    talk_send_bytes(bad, "\xff\xff\xff\xff", 4);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "impossible length");
    talk_expect_end(bad);
    hang_up(bad);
    bad = dial(*state);
    talk_invoke(bad, "r-1", "no hello", 5000);
    (void)talk_next(bad);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "before hello");
    hang_up(bad);
    next_works(good);
    hang_up(good);
}

static void other_version_is_refused(void **state)
{
    struct talk *talk = dial(*state);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = 2, .name = proto_text("test"), .state = PROTO_STATE_STARTING}};
    talk_send(talk, &hello);
    assert_int_equal(talk_next(talk)->type, PROTO_HELLO);
    talk_expect_error(talk, NULL, PROTO_ERROR_BAD_VERSION, "version 1, the client 2");
    talk_expect_end(talk);
    hang_up(talk);
}

static void too_large_event_is_refused(void **state)
{
    uint8_t frame[256];
    struct proto_message fragment = {.type = PROTO_INVOKE,
                                     .u.invoke = {.id = proto_text("r-1"),
                                                  .timeout_ms = 5,
                                                  .total_bytes = 0x00410203,
                                                  .body = {(const uint8_t *)"x", 1}}};
    const int64_t size = proto_encode(&fragment, frame, sizeof frame);
    uint8_t *total = memmem(frame, (size_t)size, "\x00\x41\x02\x03", 4);
    assert_non_null(total);
    total[1] = 0x7f;
    struct talk *talk = dial_ready(*state);
    talk_send_bytes(talk, frame, (size_t)size);
    talk_expect_error(talk, NULL, PROTO_ERROR_BAD_MESSAGE, "invoke.total_bytes");
    talk_expect_end(talk);
    hang_up(talk);
    talk = dial_ready(*state);
    next_works(talk);
    hang_up(talk);
}

static void fragments_out_of_order_are_refused(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_fragment(talk, "r-1", 1000, 500, 100); /* begins in the middle; said once */
    talk_fragment(talk, "r-1", 1000, 600, 100);
    talk_expect_error(talk, "r-1", PROTO_ERROR_BAD_REQUEST, "offset 0");
    next_works(talk);
    talk_fragment(talk, "r-2", 1000, 0, 100); /* leaves something out */
    talk_fragment(talk, "r-2", 1000, 200, 100);
    talk_fragment(talk, "r-2", 1000, 300, 700);
    talk_expect_error(talk, "r-2", PROTO_ERROR_BAD_REQUEST, "out of order");
    next_works(talk);
    talk_fragment(talk, "r-3", 1000, 0, 100); /* announces another size */
    talk_fragment(talk, "r-3", 1001, 100, 100);
    talk_expect_error(talk, "r-3", PROTO_ERROR_BAD_REQUEST, "total_bytes");
    next_works(talk);
    talk_fragment(talk, "r-4", 1000, 0, 100); /* begins another before this is complete */
    talk_invoke(talk, "r-5", "the other", 5000);
    talk_expect_error(talk, "r-4", PROTO_ERROR_BAD_REQUEST, "another began");
    talk_expect_answer(talk, "r-5", "the other");
    hang_up(talk);
}

static void client_gone_in_the_middle(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_fragment(talk, "r-1", 100000, 0, 1000); /* of its event */
    hang_up(talk);
    talk = dial_ready(*state);
    next_works(talk);
    talk_invoke(talk, "r-2", "hang", 60000); /* of its answer */
    struct talk *second = dial_ready(*state);
    talk_invoke(second, "r-3", "waits", 10000);
    hang_up(talk);
    talk_expect_answer(second, "r-3", "waits");
    hang_up(second);
}

static void one_client_too_many(void **state)
{
    struct talk *all[PROTO_CONNECTIONS_MAX];
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        all[i] = dial_ready(*state);
    struct talk *extra = dial(*state);
    assert_int_equal(talk_next(extra)->type, PROTO_HELLO);
    talk_expect_error(extra, NULL, PROTO_ERROR_BUSY, "16 are connected");
    talk_expect_end(extra);
    hang_up(extra);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        talk_invoke(all[i], "r-1", "all at once", 10000);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        talk_expect_answer(all[i], "r-1", "all at once");
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        hang_up(all[i]);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void shutdown_ends_the_agent(void **state)
{
    struct host *host = *state;
    struct talk *busy = dial_ready(host), *waiting = dial_ready(host), *talk = dial_ready(host);
    talk_invoke(busy, "r-1", "hang", 60000);
    talk_invoke(waiting, "r-2", "hello", 60000);
    wait_for_log(host, "function ready");
    talk_shutdown(talk);
    talk_expect_error(busy, "r-1", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_error(waiting, "r-2", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_end(talk);
    assert_int_equal(agent_end(host), 0);
    hang_up(busy);
    hang_up(waiting);
    hang_up(talk);
}

static void term_ends_the_agent_and_its_function(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    talk_invoke(talk, "r-1", "hang", 60000);
    struct talk *second = dial_ready(host); /* by then the agent has taken the event */
    kill(host->agent, SIGTERM);
    assert_int_equal(agent_end(host), 0);
    talk_expect_error(talk, "r-1", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_end(talk);
    hang_up(talk);
    hang_up(second);
}

static void other_contract_of_init_is_refused(void **state)
{
    (void)state;
    assert_int_equal(host_hand_off("2"), HANDOFF_EXIT_VERSION);
    assert_int_equal(host_hand_off(NULL), HANDOFF_EXIT_VERSION);
}

int main(void)
{
    if (host_find_programs() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        WITH_AGENT(answers_an_event),
        WITH_AGENT(answers_an_empty_event),
        WITH_AGENT(answers_the_largest_event),
        WITH_AGENT(logs_come_before_the_answer),
        WITH_AGENT(logs_go_to_who_wants_them),
        WITH_AGENT(flood_is_carried_or_counted),
        WITH_AGENT(function_may_open_its_stdout_again),
        WITH_AGENT(function_is_confined),
        WITH_AGENT(bad_frames_close_only_their_client),
        WITH_AGENT(other_version_is_refused),
        WITH_AGENT(too_large_event_is_refused),
        WITH_AGENT(fragments_out_of_order_are_refused),
        WITH_AGENT(client_gone_in_the_middle),
        WITH_AGENT(one_client_too_many),
        WITH_AGENT(shutdown_ends_the_agent),
        WITH_AGENT(term_ends_the_agent_and_its_function),
        cmocka_unit_test(other_contract_of_init_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
