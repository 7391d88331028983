/* The protocol client against an agent that behaves, and against every way of not behaving. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/control/client.h"
#include "tests/unit/control/fake.h"

#define LONG_NS  UINT64_C(20000000000)
#define SHORT_NS UINT64_C(30000000)

static struct fake fake;
static struct control_client client;
static struct control_answer answer;
static char logs[512];
static unsigned log_count;

static uint64_t in(uint64_t ns)
{
    return clock_monotonic_ns() + ns;
}

static void on_log(void *context, const struct proto_message *message)
{
    assert_ptr_equal(context, logs);
    log_count++;
    const size_t used = strlen(logs);
    if (used + message->u.log.body.size < sizeof logs) {
        memcpy(logs + used, message->u.log.body.data, message->u.log.body.size);
        logs[used + message->u.log.body.size] = '\0';
    }
}

static void begin(void (*script)(struct fake *))
{
    int fd;
    logs[0] = '\0';
    log_count = 0;
    fake_pair(&fake, &fd, script);
    assert_int_equal(control_client_init(&client, fd, false, on_log, logs), 0);
}

static int end(void **state)
{
    (void)state;
    control_client_fini(&client);
    fake_join(&fake);
    free(answer.data);
    answer = (struct control_answer){0};
    return 0;
}

static int invoke_with(const char *event, uint32_t size, uint64_t limit_ns)
{
    const struct control_request request = {
        .id = "r1", .trace = "t1", .timeout_ms = 1000, .event = event, .event_size = size};
    return control_client_invoke(&client, &request, &answer, in(limit_ns));
}

/* ---- an agent that behaves
 * ---------------------------------------------------------------------------------- */

static void script_echo(struct fake *agent)
{
    static char event[PROTO_PAYLOAD_MAX_BYTES];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    for (int i = 0; i < 2; i++) {
        const uint32_t size = fake_take_event(agent, event, id);
        fake_log(agent, id, "before\n");
        fake_response(agent, id, event, size);
    }
}

static void test_echo_twice_on_one_connection(void **state)
{
    (void)state;
    begin(script_echo);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("hello", 5, LONG_NS), 0);
    assert_int_equal(answer.size, 5);
    assert_memory_equal(answer.data, "hello", 5);
    assert_string_equal(logs, "before\n");
    free(answer.data);
    assert_int_equal(invoke_with("", 0, LONG_NS), 0);
    assert_int_equal(answer.size, 0);
}

static void test_echo_of_the_largest_event(void **state)
{
    (void)state;
    char *event = malloc(PROTO_PAYLOAD_MAX_BYTES);
    assert_non_null(event);
    for (size_t i = 0; i < PROTO_PAYLOAD_MAX_BYTES; i++)
        event[i] = (char)(i * 31 + i / 4096);
    begin(script_echo);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with(event, PROTO_PAYLOAD_MAX_BYTES, LONG_NS), 0);
    assert_int_equal(answer.size, PROTO_PAYLOAD_MAX_BYTES);
    assert_memory_equal(answer.data, event, PROTO_PAYLOAD_MAX_BYTES);
    free(event);
    free(answer.data);
    assert_int_equal(invoke_with("", 0, LONG_NS), 0);
}

static void test_event_past_the_limit_is_not_sent(void **state)
{
    (void)state;
    begin(script_echo);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("", PROTO_PAYLOAD_MAX_BYTES + 1, LONG_NS), -EINVAL);
    assert_non_null(strstr(client.problem, "at most"));
    /* The connection still works. */
    assert_int_equal(invoke_with("a", 1, LONG_NS), 0);
    free(answer.data);
    assert_int_equal(invoke_with("b", 1, LONG_NS), 0);
}

/* Talks while it is sent an event, through socket buffers that hold little: both must move at the same time.
 */
static void script_chatter(struct fake *agent)
{
    static char text[PROTO_LOG_MAX_BYTES + 1];
    char id[PROTO_ID_MAX_BYTES + 1];
    memset(text, 'x', sizeof text - 1);
    fake_hello(agent, PROTO_STATE_READY);
    for (int i = 0; i < 200; i++)
        fake_log(agent, "", text);
    (void)fake_take_event(agent, NULL, id);
    fake_response(agent, id, "done", 4);
}

static void test_agent_that_talks_before_it_listens(void **state)
{
    (void)state;
    static char event[1 << 20];
    begin(script_chatter);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with(event, sizeof event, LONG_NS), 0);
    assert_memory_equal(answer.data, "done", 4);
    assert_int_equal(log_count, 200);
}

static void script_slow_init(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_STARTING);
    fake_log(agent, "", "loading\n");
    const struct proto_message init = {.type = PROTO_INIT,
                                       .u.init = {.state = PROTO_STATE_READY, .duration_us = 1234}};
    fake_send(agent, &init);
    (void)fake_take_event(agent, NULL, id);
    fake_response(agent, id, "x", 1);
}

static void test_waits_for_init(void **state)
{
    (void)state;
    begin(script_slow_init);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(client.init_duration_us, 1234);
    assert_string_equal(logs, "loading\n");
    assert_int_equal(invoke_with("e", 1, LONG_NS), 0);
}

/* ---- functions that fail
 * ------------------------------------------------------------------------------------- */

static void script_init_fails(struct fake *agent)
{
    fake_hello(agent, PROTO_STATE_STARTING);
    const struct proto_message init = {
        .type = PROTO_INIT,
        .u.init = {.state = PROTO_STATE_FAILED,
                   .duration_us = 5,
                   .failure = {.type = proto_text("Function.InitError"), .message = proto_text("no table")}},
    };
    fake_send(agent, &init);
}

static void test_failed_init_gives_its_cause(void **state)
{
    (void)state;
    begin(script_init_fails);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EREMOTEIO);
    assert_string_equal(client.failure.type, "Function.InitError");
    assert_string_equal(client.failure.message, "no table");
}

static void script_failing(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_FAILED);
    (void)fake_take_event(agent, NULL, id);
    fake_error(agent, id, "Function.Crashed", "signal 11");
    (void)fake_take_event(agent, NULL, id);
    fake_response(agent, id, "up", 2);
}

static void test_error_object_then_the_next_works(void **state)
{
    (void)state;
    begin(script_failing);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("a", 1, LONG_NS), -EREMOTEIO);
    assert_string_equal(client.failure.type, "Function.Crashed");
    assert_string_equal(client.failure.message, "signal 11");
    assert_int_equal(client.failure.stack_count, 2);
    assert_string_equal(client.failure.stack[1], "crt.c:2");
    assert_int_equal(invoke_with("b", 1, LONG_NS), 0);
    assert_memory_equal(answer.data, "up", 2);
}

/* Fails the request after its first fragment: the rest of the event must not follow. */
static void script_early_error(struct fake *agent)
{
    struct proto_message message;
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    if (!fake_receive(agent, &message))
        return;
    fake_error(agent, "r1", "Agent.Busy", "later");
    do { /* what was under way when the error arrived; then the next event */
        if (!fake_receive(agent, &message))
            return;
    } while (message.u.invoke.offset_bytes != 0);
    memcpy(id, "r1", 3);
    fake_response(agent, id, "ok", 2);
}

static void test_error_in_the_middle_of_sending(void **state)
{
    (void)state;
    static char event[4 << 20];
    begin(script_early_error);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with(event, sizeof event, LONG_NS), -EREMOTEIO);
    assert_string_equal(client.failure.type, "Agent.Busy");
    assert_int_equal(invoke_with("n", 1, LONG_NS), 0);
    assert_memory_equal(answer.data, "ok", 2);
}

/* ---- agents that do not behave
 * ------------------------------------------------------------------------------- */

static void script_other_version(struct fake *agent)
{
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION + 1, .name = proto_text("later"), .state = PROTO_STATE_READY}};
    fake_send(agent, &hello);
}

static void test_other_version(void **state)
{
    (void)state;
    begin(script_other_version);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTONOSUPPORT);
    assert_non_null(strstr(client.problem, "version 2"));
}

static void script_refuses(struct fake *agent)
{
    fake_error(agent, "", "Agent.BadVersion", "want 9");
    fd_close(&agent->fd);
}

static void test_connection_refused_with_a_reason(void **state)
{
    (void)state;
    begin(script_refuses);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
    assert_non_null(strstr(client.problem, "want 9"));
}

static void script_log_first(struct fake *agent)
{
    fake_log(agent, "", "psst\n");
}

static void test_anything_before_hello(void **state)
{
    (void)state;
    begin(script_log_first);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
}

static void script_hello_twice(struct fake *agent)
{
    fake_hello(agent, PROTO_STATE_STARTING);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("f"), .state = PROTO_STATE_READY}};
    fake_send(agent, &hello);
}

static void test_hello_twice(void **state)
{
    (void)state;
    begin(script_hello_twice);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
}

static void script_huge_frame(struct fake *agent)
{
    static const uint8_t header[] = {0x7f, 0xff, 0xff, 0xff};
    fake_send_bytes(agent, header, sizeof header);
}

static void test_frame_of_impossible_size(void **state)
{
    (void)state;
    begin(script_huge_frame);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
}

static void script_noise(struct fake *agent)
{
    static const uint8_t frame[] = {0, 0, 0, 5, 0xbf, 0x01, 0x02, 0xff, 0x00};
    fake_send_bytes(agent, frame, sizeof frame);
}

static void test_frame_that_is_no_message(void **state)
{
    (void)state;
    begin(script_noise);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
}

static void script_half_a_frame(struct fake *agent)
{
    static const uint8_t part[] = {0, 0, 1, 0, 0xa3};
    fake_hello(agent, PROTO_STATE_STARTING);
    fake_send_bytes(agent, part, sizeof part);
    fd_close(&agent->fd);
}

static void test_gone_in_the_middle_of_a_frame(void **state)
{
    (void)state;
    begin(script_half_a_frame);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -ECONNRESET);
}

static void script_other_id(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fake_response(agent, "r2", "x", 1);
}

static void test_answer_to_another_request(void **state)
{
    (void)state;
    begin(script_other_id);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("e", 1, LONG_NS), -EPROTO);
    assert_int_equal(answer.size, 0);
    assert_null(answer.data);
}

static void script_gap(struct fake *agent)
{
    static uint8_t body[100];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    struct proto_message part = {
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(id), .total_bytes = 300, .body = {body, sizeof body}}};
    fake_send(agent, &part);
    part.u.response.offset_bytes = 200;
    fake_send(agent, &part);
}

static void test_answer_with_a_gap(void **state)
{
    (void)state;
    begin(script_gap);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("e", 1, LONG_NS), -EPROTO);
    assert_non_null(strstr(client.problem, "out of order"));
    assert_null(answer.data);
}

static void script_gone_half_way(struct fake *agent)
{
    static uint8_t body[100];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    const struct proto_message part = {
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(id), .total_bytes = 300, .body = {body, sizeof body}}};
    fake_send(agent, &part);
    fd_close(&agent->fd);
}

static void test_gone_in_the_middle_of_an_answer(void **state)
{
    (void)state;
    begin(script_gone_half_way);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("e", 1, LONG_NS), -ECONNRESET);
    assert_null(answer.data);
}

static void script_asks_us(struct fake *agent)
{
    fake_hello(agent, PROTO_STATE_STARTING);
    const struct proto_message halt = {.type = PROTO_SHUTDOWN};
    fake_send(agent, &halt);
}

static void test_message_only_a_client_may_send(void **state)
{
    (void)state;
    begin(script_asks_us);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), -EPROTO);
}

static void script_silent(struct fake *agent)
{
    struct proto_message message;
    while (fake_receive(agent, &message))
        ;
}

static void test_silence_ends_at_the_deadline(void **state)
{
    (void)state;
    begin(script_silent);
    assert_int_equal(control_client_ready(&client, in(SHORT_NS)), -ETIMEDOUT);
    assert_non_null(strstr(client.problem, "hello"));
}

static void script_never_answers(struct fake *agent)
{
    fake_hello(agent, PROTO_STATE_READY);
    script_silent(agent);
}

static void test_no_answer_ends_at_the_deadline(void **state)
{
    (void)state;
    begin(script_never_answers);
    assert_int_equal(control_client_ready(&client, in(LONG_NS)), 0);
    assert_int_equal(invoke_with("e", 1, SHORT_NS), -ETIMEDOUT);
    assert_non_null(strstr(client.problem, "r1"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, end)
    const struct CMUnitTest tests[] = {
        TEST(test_echo_twice_on_one_connection),
        TEST(test_echo_of_the_largest_event),
        TEST(test_event_past_the_limit_is_not_sent),
        TEST(test_agent_that_talks_before_it_listens),
        TEST(test_waits_for_init),
        TEST(test_failed_init_gives_its_cause),
        TEST(test_error_object_then_the_next_works),
        TEST(test_error_in_the_middle_of_sending),
        TEST(test_other_version),
        TEST(test_connection_refused_with_a_reason),
        TEST(test_anything_before_hello),
        TEST(test_hello_twice),
        TEST(test_frame_of_impossible_size),
        TEST(test_frame_that_is_no_message),
        TEST(test_gone_in_the_middle_of_a_frame),
        TEST(test_answer_to_another_request),
        TEST(test_answer_with_a_gap),
        TEST(test_gone_in_the_middle_of_an_answer),
        TEST(test_message_only_a_client_may_send),
        TEST(test_silence_ends_at_the_deadline),
        TEST(test_no_answer_ends_at_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
