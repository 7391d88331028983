/* `hostvmm invoke` as a whole, against a fake VM: what it prints and its exit codes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/output.h"
#include "hostvmm/exit.h"
#include "tests/unit/control/fake.h"

static char directory[] = "/tmp/invoke_test.XXXXXX";
static char vsock[64];
static char event[64];
static char out[64];
static char captured[2][65536]; /* standard output and error of the last run */
static struct fake vm;

static const char *in_directory(char *path, const char *name)
{
    snprintf(path, 64, "%s/%s", directory, name);
    return path;
}

static void capture(int which, const char *name)
{
    char path[64];
    const int64_t size = fd_read_file(in_directory(path, name), captured[which], sizeof captured[which] - 1);
    assert_true(size >= 0);
    captured[which][size] = '\0';
    unlink(path);
}

static void write_event(const void *data, size_t size)
{
    int fd = open(event, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, data, size), 0);
    fd_close(&fd);
}

/* Run in a process of its own, as the command is; its exit code. */
static int invoke(char **arguments)
{
    int count = 0;
    while (arguments[count])
        count++;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        char path[64];
        if (!freopen(in_directory(path, "stdout"), "w", stdout) ||
            !freopen(in_directory(path, "stderr"), "w", stderr))
            _exit(100);
        if (!freopen(event, "r", stdin))
            _exit(101);
        const int code = control_invoke_main(count, arguments);
        fflush(NULL);
        _exit(code);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    capture(0, "stdout");
    capture(1, "stderr");
    return WEXITSTATUS(status);
}
#define INVOKE(...) invoke((char *[]){"invoke", __VA_ARGS__, NULL})

static void script_echo(struct fake *agent)
{
    static char data[PROTO_PAYLOAD_MAX_BYTES];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    const uint32_t size = fake_take_event(agent, data, id);
    fake_log(agent, id, "line one\nline two");
    fake_response(agent, id, data, size);
}

static void test_answer_on_stdout_and_logs_on_stderr(void **state)
{
    (void)state;
    write_event("ping", 4);
    fake_vm(&vm, vsock, script_echo);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--id", "req-7"), HOSTVMM_EXIT_OK);
    fake_join(&vm);
    assert_string_equal(captured[0], "ping");
    assert_string_equal(captured[1], "[req-7 stdout] line one\n[req-7 stdout] line two\n");
}

static void test_event_from_standard_input_answer_to_a_file(void **state)
{
    (void)state;
    static char large[300000];
    static char back[sizeof large + 1];
    memset(large, 'z', sizeof large);
    write_event(large, sizeof large);
    fake_vm(&vm, vsock, script_echo);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", "-", "--out", out, "--times"), HOSTVMM_EXIT_OK);
    fake_join(&vm);
    assert_int_equal(fd_read_file(out, back, sizeof back), sizeof large);
    assert_memory_equal(back, large, sizeof large);
    assert_string_equal(captured[0], "");
    assert_non_null(strstr(captured[1], "times: connect "));
    unlink(out);
}

static void script_three(struct fake *agent)
{
    static const char *const ids[] = {"a", "a-2", "a-3"};
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    for (size_t i = 0; i < 3; i++) {
        (void)fake_take_event(agent, NULL, id);
        if (strcmp(id, ids[i]) != 0)
            abort();
        fake_response(agent, id, "x", 1);
    }
}

static void test_repeat_and_json(void **state)
{
    (void)state;
    write_event("e", 1);
    fake_vm(&vm, vsock, script_three);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--id", "a", "--repeat", "3", "--json"),
                     HOSTVMM_EXIT_OK);
    fake_join(&vm);
    assert_non_null(
        strstr(captured[0], "{\"id\":\"a-3\",\"outcome\":\"answer\",\"event_bytes\":1,\"answer_bytes\":1,"));
    size_t lines = 0;
    for (const char *at = captured[0]; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 3);
}

static void script_fails(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fake_error(agent, id, "Function.Crashed", "signal 11");
}

static void test_function_error(void **state)
{
    (void)state;
    write_event("e", 1);
    fake_vm(&vm, vsock, script_fails);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--out", out), HOSTVMM_EXIT_FUNCTION);
    fake_join(&vm);
    assert_string_equal(captured[0], "");
    assert_string_equal(captured[1], "{\"errorType\":\"Function.Crashed\",\"errorMessage\":\"signal 11\","
                                     "\"stackTrace\":[\"main.c:1\",\"crt.c:2\"]}\n");
    assert_int_equal(access(out, F_OK), -1);
}

static void script_times_out(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fake_error(agent, id, "Function.TimedOut", "after 1 ms");
}

static void test_function_timed_out(void **state)
{
    (void)state;
    write_event("e", 1);
    fake_vm(&vm, vsock, script_times_out);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--timeout", "1"), HOSTVMM_EXIT_TIMED_OUT);
    fake_join(&vm);
}

static void script_vanishes(struct fake *agent)
{
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    (void)fake_take_event(agent, NULL, id);
    fd_close(&agent->fd);
}

static void test_guest_that_vanishes(void **state)
{
    (void)state;
    write_event("e", 1);
    fake_vm(&vm, vsock, script_vanishes);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event), HOSTVMM_EXIT_HOST);
    fake_join(&vm);
    assert_non_null(strstr(captured[1], "the guest is gone"));
}

static void test_no_vm(void **state)
{
    (void)state;
    write_event("e", 1);
    unlink(vsock);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--wait", "0"), HOSTVMM_EXIT_HOST);
    assert_non_null(strstr(captured[1], "no VM has made it"));
}

static void test_command_line(void **state)
{
    (void)state;
    write_event("e", 1);
    assert_int_equal(INVOKE("--event", event), HOSTVMM_EXIT_USAGE);
    assert_int_equal(INVOKE("--vsock", vsock), HOSTVMM_EXIT_USAGE);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--frobnicate"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "more"), HOSTVMM_EXIT_USAGE);
    static char *const numbers[] = {"0", "-1", "900001", "1x", "", "99999999999999999999", " 5"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--timeout", numbers[i]),
                         HOSTVMM_EXIT_USAGE);
    assert_non_null(strstr(captured[1], "usage: hostvmm invoke"));
}

static void test_request_id_that_is_none(void **state)
{
    (void)state;
    write_event("e", 1);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--id", ""), HOSTVMM_EXIT_USAGE);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--id", "a b"), HOSTVMM_EXIT_USAGE);
    static char long_id[PROTO_ID_MAX_BYTES + 2];
    memset(long_id, 'i', sizeof long_id - 1);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--id", long_id), HOSTVMM_EXIT_USAGE);
}

static void test_events_that_cannot_be(void **state)
{
    (void)state;
    assert_int_equal(INVOKE("--vsock", vsock, "--event", "/nonexistent"), HOSTVMM_EXIT_INPUT);
    assert_non_null(strstr(captured[1], "/nonexistent"));
    assert_int_equal(INVOKE("--vsock", vsock, "--event", directory), HOSTVMM_EXIT_INPUT);
    write_event("", 0);
    assert_int_equal(truncate(event, PROTO_PAYLOAD_MAX_BYTES + 1), 0);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event), HOSTVMM_EXIT_INPUT);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", "-"), HOSTVMM_EXIT_INPUT);
    assert_non_null(strstr(captured[1], "6291556"));
}

static void test_answer_that_cannot_be_written(void **state)
{
    (void)state;
    write_event("e", 1);
    fake_vm(&vm, vsock, script_echo);
    assert_int_equal(INVOKE("--vsock", vsock, "--event", event, "--out", "/nonexistent/answer"),
                     HOSTVMM_EXIT_HOST);
    fake_join(&vm);
    assert_non_null(strstr(captured[1], "cannot write the answer to /nonexistent/answer"));
}

static void *feed(void *context)
{
    static char data[200001];
    int fd = *(int *)context;
    (void)fd_write_all(fd, data, sizeof data);
    close(fd);
    return NULL;
}

static void test_event_through_a_pipe_is_bounded(void **state)
{
    (void)state;
    const int standard_input = dup(STDIN_FILENO);
    for (int past = 0; past < 2; past++) {
        int fds[2];
        pthread_t thread;
        uint8_t *data;
        size_t size;
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(pthread_create(&thread, NULL, feed, &fds[1]), 0);
        dup2(fds[0], STDIN_FILENO);
        close(fds[0]);
        const int error = event_read("-", past ? 200000 : 200001, &data, &size);
        char rest[4096];
        while (read(STDIN_FILENO, rest, sizeof rest) > 0)
            ;
        pthread_join(thread, NULL);
        assert_int_equal(error, past ? -EFBIG : 0);
        assert_int_equal(size, past ? 0 : 200001);
        free(data);
    }
    dup2(standard_input, STDIN_FILENO);
    close(standard_input);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    in_directory(vsock, "vm.sock");
    in_directory(event, "event");
    in_directory(out, "answer");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(vsock);
    unlink(event);
    return rmdir(directory); /* fails when a temporary file was left behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_on_stdout_and_logs_on_stderr),
        cmocka_unit_test(test_event_from_standard_input_answer_to_a_file),
        cmocka_unit_test(test_repeat_and_json),
        cmocka_unit_test(test_function_error),
        cmocka_unit_test(test_function_timed_out),
        cmocka_unit_test(test_guest_that_vanishes),
        cmocka_unit_test(test_no_vm),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_request_id_that_is_none),
        cmocka_unit_test(test_events_that_cannot_be),
        cmocka_unit_test(test_answer_that_cannot_be_written),
        cmocka_unit_test(test_event_through_a_pipe_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
