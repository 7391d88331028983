/* Clones beside the guest, and the audit: what is started, told, and ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/control/functions_stage.h"

/* ---- /clones ---- */

/* What a clone's hostvmm is asked: a socket that answers `told` to one line. */
static struct {
    int listen_fd;
    pthread_t thread;
    const char *told;
    char asked[64];
} control;

static void *control_thread(void *context)
{
    (void)context;
    int fd = accept(control.listen_fd, NULL, NULL);
    if (fd < 0)
        return NULL;
    const ssize_t n = read(fd, control.asked, sizeof control.asked - 1);
    control.asked[n > 0 ? n : 0] = '\0';
    (void)fd_write_all(fd, control.told, strlen(control.told));
    fd_close(&fd);
    return NULL;
}

static void control_begin(const char *path, const char *told)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    control.told = told;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    control.listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(control.listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(control.listen_fd, 1), 0);
    assert_int_equal(pthread_create(&control.thread, NULL, control_thread, NULL), 0);
}

static void control_end(const char *path)
{
    (void)shutdown(control.listen_fd, SHUT_RDWR);
    assert_int_equal(pthread_join(control.thread, NULL), 0);
    fd_close(&control.listen_fd);
    (void)unlink(path);
}

/* Ids as the answer to POST gave them. */
static char ids[4][16];

static void start_clones(unsigned count)
{
    char body[300];
    snprintf(body, sizeof body, "{\"snapshot_path\":\"/s\",\"vsock_path\":\"%s/v-%%n\",\"count\":%u}",
             stage_directory, count);
    stage_api.output = NULL;
    stage_call(functions_clones_post, NULL, body);
    assert_int_equal(stage_response.status, 201);
    const json_t *list = json_object_get(stage_response.json, "clones");
    assert_int_equal(json_array_size(list), count);
    for (unsigned i = 0; i < count; i++)
        snprintf(ids[i], sizeof ids[i], "%s", stage_member(json_array_get(list, i), "id"));
}

static void test_clones_live_and_end(void **state)
{
    char path[100];
    (void)state;
    start_clones(2);
    snprintf(path, sizeof path, "%s/v-%s.control", stage_directory, ids[1]);
    control_begin(path, "{\"ok\":true,\"state\":\"Running\",\"ready_us\":7,\"resume_steps\":[{\"name\":"
                        "\"clock\",\"us\":3}]}\n");
    stage_call(functions_clones_get, NULL, NULL);
    control_end(path);
    assert_int_equal(stage_response.status, 200);
    assert_string_equal(control.asked, "status\n");
    const json_t *list = json_object_get(stage_response.json, "clones");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(stage_member(json_array_get(list, 0), "state"), "Starting");
    assert_string_equal(stage_member(json_array_get(list, 1), "state"), "Running");
    assert_string_equal(stage_member(json_array_get(list, 1), "control_path"), path);
    const json_t *resume = json_object_get(json_array_get(list, 1), "resume");
    assert_int_equal(json_integer_value(json_object_get(resume, "total_us")), 3);
    assert_true(json_integer_value(json_object_get(json_array_get(list, 0), "started_at_ms")) >
                1600000000000);

    /* It once told that it runs: one that does not answer just now still does. */
    stage_call(functions_clone_get, ids[1], NULL);
    assert_string_equal(stage_member(stage_response.json, "state"), "Running");

    stage_call(functions_clone_delete, ids[0], NULL);
    assert_int_equal(stage_response.status, 204);
    stage_call(functions_clone_get, ids[0], NULL);
    stage_expect_fault(404, "no such clone");
    stage_call(functions_clone_delete, ids[0], NULL);
    stage_expect_fault(404, "no such clone");
    stage_call(functions_clone_delete, ids[1], NULL);
    assert_int_equal(stage_response.status, 204);
    stage_call(functions_clones_get, NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(stage_response.json, "clones")), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* all were waited for */
}

static void test_a_clone_that_ended_by_itself(void **state)
{
    (void)state;
    stage_api.output = "";
    stage_api.exit_code = 8;
    stage_call(functions_clones_post, NULL, "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\"}");
    assert_int_equal(stage_response.status, 201);
    char id[16];
    snprintf(id, sizeof id, "%s",
             stage_member(json_array_get(json_object_get(stage_response.json, "clones"), 0), "id"));
    siginfo_t about;
    assert_int_equal(waitid(P_ALL, 0, &about, WEXITED | WNOWAIT), 0);
    stage_call(functions_clone_get, id, NULL);
    assert_string_equal(stage_member(stage_response.json, "state"), "Ended");
    assert_int_equal(json_integer_value(json_object_get(stage_response.json, "exit_code")), 8);
    stage_call_raw(functions_clone_invoke, id, NULL, "", 0, NULL);
    stage_expect_fault(400, "exit code 8");
    stage_call(functions_clone_delete, id, NULL);
    assert_int_equal(stage_response.status, 204);
}

static void test_a_clone_is_invoked(void **state)
{
    char path[100];
    (void)state;
    start_clones(1);
    snprintf(path, sizeof path, "%s/v-%s", stage_directory, ids[0]);
    fake_vm(&stage_vm, path, stage_echo);
    stage_call_raw(functions_clone_invoke, ids[0], NULL, "hi", 2, NULL);
    fake_join(&stage_vm);
    (void)unlink(path);
    assert_int_equal(stage_response.status, 200);
    assert_memory_equal(stage_response.body, "hi", 2);
    api_functions_end(); /* as the server does: nothing is left */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    stage_call_raw(functions_clone_invoke, "999999999", NULL, "", 0, NULL);
    stage_expect_fault(404, "no such clone");
    stage_call_raw(functions_clone_invoke, "0x1", NULL, "", 0, NULL);
    stage_expect_fault(404, "no such clone");
}

static void test_a_clones_command_line(void **state)
{
    (void)state;
    stage_api.output = "";
    stage_api.exit_code = 0;
    stage_call(
        functions_clones_post, NULL,
        "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v%n\",\"control_path\":\"/c%n\",\"hostname\":\"h%n\","
        "\"jail\":\"uid=5\",\"net\":[\"tap=t%n,address=10.0.0.0+%n/24\",\"none\"],"
        "\"drives\":[{\"drive_id\":\"data\",\"path_on_host\":\"/d%n\"}],"
        "\"secrets\":[{\"name\":\"key\",\"path\":\"/k=,\"}],\"resume_limit_ms\":5,\"hooks_limit_ms\":6}");
    assert_int_equal(stage_response.status, 201);
    const char *id = stage_member(json_array_get(json_object_get(stage_response.json, "clones"), 0), "id");
    const char *const wanted[] = {"--snapshot=/s",    "--vsock=/v",      "--control=/c",
                                  "--hostname=h",     "--net=tap=t",     "--drive=/d",
                                  "--jail=uid=5",     "--net=none",      "--secret=key=/k=,",
                                  "--resume-limit=5", "--hooks-limit=6", "--console=none"};
    const char *const tails[] = {"", "%", "%", "%", "%,address=10.0.0.0+%/24", "%,id=data", "", "",
                                 "", "",  "",  ""};
    assert_string_equal(stage_api.words[0], "restore");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        char word[200];
        size_t used = (size_t)snprintf(word, sizeof word, "%s", wanted[i]);
        for (const char *at = tails[i]; *at; at++)
            used += (size_t)snprintf(word + used, sizeof word - used, *at == '%' ? "%s" : "%.1s",
                                     *at == '%' ? id : at);
        if (!stage_has_word(word))
            fail_msg("%s was expected", word);
    }
    assert_int_equal(stage_api.word_count, 13);
    api_functions_end();
}

static void test_clones_that_are_refused(void **state)
{
    static const struct {
        const char *body;
        const char *fault;
    } rows[] = {
        {"[]", "a JSON object"},
        {"{}", "missing field `snapshot_path`"},
        {"{\"snapshot_path\":\"/s\"}", "missing field `vsock_path`"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"x\\u001by\":1}", "unknown field `x?y`"},
        {"{\"snapshot_path\":\"\",\"vsock_path\":\"/v\"}", "snapshot_path: want a text"},
        {"{\"snapshot_path\":\"/s\\n\",\"vsock_path\":\"/v\"}", "snapshot_path: want a text"},
        {"{\"snapshot_path\":5,\"vsock_path\":\"/v\"}", "snapshot_path: want a text"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"count\":0}",
         "count: want a number from 1 to 256"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"count\":257}", "count: want a number"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"count\":1.5}", "count: want a number"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"count\":2}", "vsock_path: want %n"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v%n\",\"control_path\":\"/c\",\"count\":2}",
         "control_path: want %n"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"net\":\"none\"}", "net: want a list"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"net\":[5]}", "net: want a list of texts"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"net\":[\"a\",\"a\",\"a\",\"a\",\"a\"]}",
         "net: want"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"drives\":[5]}", "drives: want a list of objects"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"drives\":[{\"drive_id\":\"d\"}]}",
         "drives: missing field `path_on_host`"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/"
         "v\",\"drives\":[{\"drive_id\":\"d\",\"path_on_host\":\"/a,ro\"}]}",
         "no comma"},
        {"{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\",\"secrets\":[{\"name\":\"a=b\",\"path\":\"/p\"}]}",
         "no comma"},
    };
    (void)state;
    const unsigned before = stage_api.spawned;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stage_call(functions_clones_post, NULL, rows[i].body);
        stage_expect_fault(400, rows[i].fault);
    }
    stage_call(functions_clones_post, NULL, NULL);
    stage_expect_fault(400, "a JSON object");
    assert_int_equal(stage_api.spawned, before);
    stage_api.refuses = true;
    stage_call(functions_clones_post, NULL, "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\"}");
    stage_api.refuses = false;
    stage_expect_fault(500, "cannot be started");
}

/* ---- /audit ---- */

static void test_audit(void **state)
{
    (void)state;
    stage_api.output = "{\"clones\":4,\"good\":false}";
    stage_api.exit_code = 1; /* twins were found: that is a report */
    stage_call(functions_audit, NULL,
               "{\"snapshot_path\":\"/s\",\"clones\":4,\"event\":\"who\",\"batch\":2,\"net\":[\"none\"]}");
    assert_int_equal(stage_response.status, 200);
    assert_true(json_is_false(json_object_get(stage_response.json, "good")));
    assert_string_equal(stage_api.words[0], "audit");
    assert_true(stage_has_word("--json"));
    assert_string_equal(stage_word_after("--snapshot"), "/s");
    assert_string_equal(stage_word_after("--clones"), "4");
    assert_string_equal(stage_word_after("--batch"), "2");
    assert_string_equal(stage_word_after("--"), "--net=none");
    assert_non_null(stage_word_after("--event"));
    stage_call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":4}");
    assert_null(stage_word_after("--event"));
}

static void test_audit_that_fails(void **state)
{
    (void)state;
    const struct {
        const char *output;
        int exit_code;
        int status;
    } rows[] = {{"", 3, 400}, {"", 2, 400}, {"", 7, 504}, {"", 1, 502}, {"{\"cut", 0, 502}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stage_api.output = rows[i].output;
        stage_api.exit_code = rows[i].exit_code;
        stage_call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":4}");
        stage_expect_fault(rows[i].status, "audit: ");
    }
    const unsigned before = stage_api.spawned;
    stage_call(functions_audit, NULL, "{\"snapshot_path\":\"/s\"}");
    stage_expect_fault(400, "missing field `clones`");
    stage_call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":1}");
    stage_expect_fault(400, "clones: want a number from 2");
    stage_call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":2,\"event\":5}");
    stage_expect_fault(400, "event: want a text");
    assert_int_equal(stage_api.spawned, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clones_live_and_end),     cmocka_unit_test(test_a_clone_that_ended_by_itself),
        cmocka_unit_test(test_a_clone_is_invoked),      cmocka_unit_test(test_a_clones_command_line),
        cmocka_unit_test(test_clones_that_are_refused), cmocka_unit_test(test_audit),
        cmocka_unit_test(test_audit_that_fails),
    };
    return cmocka_run_group_tests(tests, stage_set_up, stage_tear_down);
}
