/* Invocations, resume steps and metrics: what is asked of the guest, and what is answered. */
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
#include "agent/proto/errors.h"
#include "tests/unit/control/functions_stage.h"

/* ---- /resume-steps, /metrics ---- */

static void test_resume_steps(void **state)
{
    (void)state;
    stage_api.told = NULL;
    stage_call(api_function_routes[0].handler, NULL, NULL);
    stage_expect_fault(400, "no guest");
    stage_api.told = "{\"ok\":true,\"state\":\"Running\",\"origin\":\"boot\"}";
    stage_call(api_function_routes[0].handler, NULL, NULL);
    stage_expect_fault(400, "only a clone");
    assert_string_equal(stage_api.asked, "status");
    stage_api.told =
        "{\"ok\":true,\"origin\":\"restore\",\"generation\":\"18446744073709551615\",\"clone_id\":\"00ff\","
        "\"ready_us\":900,\"resume_steps\":[{\"name\":\"entropy\",\"us\":12},{\"name\":\"clock\",\"us\":30}]"
        "}";
    stage_call(api_function_routes[0].handler, NULL, NULL);
    assert_int_equal(stage_response.status, 200);
    assert_string_equal(json_string_value(json_object_get(stage_response.json, "generation")),
                        "18446744073709551615");
    assert_int_equal(json_integer_value(json_object_get(stage_response.json, "total_us")), 42);
    assert_int_equal(json_integer_value(json_object_get(stage_response.json, "ready_us")), 900);
    const json_t *steps = json_object_get(stage_response.json, "steps");
    assert_int_equal(json_array_size(steps), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(steps, 1), "name")), "clock");
}

static void test_metrics(void **state)
{
    static const char *const text[] = {"accept", "text/plain", NULL};
    (void)state;
    stage_api.told = "{\"ok\":true,\"metrics\":{\"exits\":{\"mmio\":5},\"vcpu.0\":[1,2],\"name\":\"x\"}}";
    stage_call(functions_metrics, NULL, NULL);
    assert_int_equal(stage_response.status, 200);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(stage_response.json, "exits"), "mmio")), 5);
    stage_call_raw(functions_metrics, NULL, NULL, NULL, 0, text);
    static const char wanted[] = "hostvmm_exits_mmio 5\nhostvmm_vcpu_0_0 1\nhostvmm_vcpu_0_1 2\n";
    assert_int_equal(stage_response.body_bytes, sizeof wanted - 1);
    assert_memory_equal(stage_response.body, wanted, sizeof wanted - 1);
    assert_non_null(strstr(stage_response.type, "text/plain"));
    stage_api.told = "{\"ok\":true}";
    stage_call(functions_metrics, NULL, NULL);
    stage_expect_fault(502, "no metrics");
}

/* ---- /invocations ---- */

static void invoke(void (*script)(struct fake *agent), const void *event, size_t size,
                   const char *const *headers)
{
    stage_api.vsock_path = stage_vsock;
    fake_vm(&stage_vm, stage_vsock, script);
    stage_call_raw(functions_invocation, NULL, NULL, event, size, headers);
    fake_join(&stage_vm);
    (void)unlink(stage_vsock);
}

static void test_invocation(void **state)
{
    static const char *const tail[] = {"X-Log-Type", "Tail", "x-deadline-ms", "5000", NULL};
    static char large[300000];
    (void)state;
    invoke(stage_echo, "ping", 4, NULL);
    assert_int_equal(stage_response.status, 200);
    assert_int_equal(stage_response.body_bytes, 4);
    assert_memory_equal(stage_response.body, "ping", 4);
    assert_null(stage_header("X-Log-Result"));
    invoke(stage_echo, "", 0, tail);
    assert_int_equal(stage_response.status, 200);
    assert_int_equal(stage_response.body_bytes, 0);
    assert_string_equal(stage_header("X-Log-Result"), "bGluZSBvbmUK");
    memset(large, 'z', sizeof large);
    invoke(stage_echo, large, sizeof large, NULL);
    assert_int_equal(stage_response.body_bytes, sizeof large);
    assert_memory_equal(stage_response.body, large, sizeof large);
}

static void script_talks(struct fake *agent)
{
    char line[1001];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    memset(line, 'a', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    for (int i = 0; i < 5; i++) {
        line[999] = (char)('0' + i);
        fake_log(agent, id, line);
    }
    fake_response(agent, id, "", 0);
}

static void test_invocation_gives_the_last_4_kib_of_output(void **state)
{
    static const char *const tail[] = {"X-Log-Type", "Tail", NULL};
    (void)state;
    invoke(script_talks, "", 0, tail);
    const char *text = stage_header("X-Log-Result");
    assert_non_null(text);
    assert_int_equal(strlen(text), 5464);
    assert_string_equal(text + 5460, "NA=="); /* it ends with the last '4' */
}

static void script_fails(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fake_error(agent, id, "Function.Crashed", "signal \"11\"");
}

static void script_times_out(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fake_error(agent, id, PROTO_ERROR_TIMED_OUT, "killed");
}

static void script_dies(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fd_close(&agent->fd);
}

static void script_is_silent(struct fake *agent)
{
    struct proto_message message;
    while (fake_receive(agent, &message))
        ;
}

static void test_invocation_that_fails(void **state)
{
    static const char *const soon[] = {"X-Deadline-Ms", "50", NULL};
    (void)state;
    invoke(script_fails, "", 0, NULL);
    assert_int_equal(stage_response.status, 200);
    assert_string_equal(stage_header("X-Function-Error"), "Unhandled");
    assert_string_equal(stage_response.type, "application/json");
    json_t *error = json_loadb(stage_response.body, stage_response.body_bytes, 0, NULL);
    assert_string_equal(stage_member(error, "errorType"), "Function.Crashed");
    assert_string_equal(stage_member(error, "errorMessage"), "signal \"11\"");
    assert_true(json_is_array(json_object_get(error, "stackTrace")));
    json_decref(error);
    invoke(script_times_out, "", 0, NULL);
    stage_expect_fault(504, "killed");
    invoke(script_dies, "", 0, NULL);
    stage_expect_fault(502, "ended");
    invoke(script_is_silent, "", 0, soon);
    stage_expect_fault(504, "within 50 ms");
}

static void test_invocation_without_a_guest(void **state)
{
    static const char *const soon[] = {"X-Deadline-Ms", "20", NULL};
    (void)state;
    stage_api.vsock_path = NULL;
    stage_call_raw(functions_invocation, NULL, NULL, "", 0, NULL);
    stage_expect_fault(400, "no guest");
    stage_api.vsock_path = stage_vsock; /* nobody there yet */
    stage_call_raw(functions_invocation, NULL, NULL, "", 0, soon);
    stage_expect_fault(504, "within 20 ms");
}

static void test_invocation_with_wrong_headers(void **state)
{
    static const char *const wrong[][3] = {
        {"X-Deadline-Ms", "0", NULL},      {"X-Deadline-Ms", "900001", NULL}, {"X-Deadline-Ms", "1e3", NULL},
        {"X-Deadline-Ms", "", NULL},       {"X-Deadline-Ms", "-1", NULL},     {"X-Log-Type", "tail", NULL},
        {"X-Amzn-Trace-Id", "a\tb", NULL}, {"X-Amzn-Trace-Id", "", NULL},
    };
    static char large[PROTO_PAYLOAD_MAX_BYTES + 1];
    (void)state;
    stage_api.vsock_path = stage_vsock;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        stage_call_raw(functions_invocation, NULL, NULL, "", 0, wrong[i]);
        stage_expect_fault(400, wrong[i][0]);
    }
    stage_call_raw(functions_invocation, NULL, NULL, large, sizeof large, NULL);
    stage_expect_fault(413, "bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_steps),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_invocation),
        cmocka_unit_test(test_invocation_gives_the_last_4_kib_of_output),
        cmocka_unit_test(test_invocation_that_fails),
        cmocka_unit_test(test_invocation_without_a_guest),
        cmocka_unit_test(test_invocation_with_wrong_headers),
    };
    return cmocka_run_group_tests(tests, stage_set_up, stage_tear_down);
}
