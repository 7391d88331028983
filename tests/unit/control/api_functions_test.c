/*
 * The handlers of our own resources, each called as the router calls it, with the lock held. Beside them: a
 * server that is this test (its lock, its headers, its guest), guests that are scripts (fake.h), and clones
 * that are processes which wait for a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "hostvmm/control/api/functions_clones.h"
#include "tests/unit/control/fake.h"

#define WORDS_MAX 64

/* ---- the server ---- */

struct api {
    pthread_mutex_t lock;
    const char *vsock_path;
    const char *told; /* what the guest answers when it is operated; NULL: there is none */
    char asked[64];
    char words[WORDS_MAX][1200]; /* of the last process started */
    unsigned word_count;
    unsigned spawned;
    const char
        *output; /* what a process writes, before it ends with `exit_code`; NULL: it waits for a signal */
    int exit_code;
    bool refuses;
};

static struct api api = {.lock = PTHREAD_MUTEX_INITIALIZER};
static char directory[] = "/tmp/api_functions.XXXXXX";
static char vsock[64];

void api_lock(struct api *one)
{
    assert_int_equal(pthread_mutex_lock(&one->lock), 0);
}

void api_unlock(struct api *one)
{
    assert_int_equal(pthread_mutex_unlock(&one->lock), 0);
}

void api_fail(struct api_response *response, int status, const char *format, ...)
{
    char text[1600];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_decref(response->json);
    free(response->body);
    response->body = NULL;
    response->status = status;
    response->json = json_pack("{s:s}", "fault_message", text);
    assert_non_null(response->json);
}

/* The request's headers are the pairs behind `connection`. */
const char *api_header(const struct api_request *request, const char *name)
{
    const char *const *pairs = request->connection;
    for (; pairs && pairs[0]; pairs += 2)
        if (strcasecmp(pairs[0], name) == 0)
            return pairs[1];
    return NULL;
}

const char *api_vsock_path(const struct api *one)
{
    return one->vsock_path;
}

json_t *api_operate(struct api *one, const struct api_request *request, struct api_response *response,
                    const char *line)
{
    (void)request;
    snprintf(one->asked, sizeof one->asked, "%s", line);
    json_t *answer = one->told ? json_loads(one->told, 0, NULL) : NULL;
    if (!answer)
        api_fail(response, 400, "no guest runs");
    return answer;
}

int api_spawn(struct api *one, const char *const *arguments, int *out)
{
    int pipes[2] = {-1, -1};
    one->word_count = 0;
    for (; *arguments; arguments++)
        snprintf(one->words[one->word_count++], sizeof one->words[0], "%s", *arguments);
    if (one->refuses)
        return -EAGAIN;
    if (out)
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGTERM, SIG_DFL);
        if (out && one->output)
            (void)fd_write_all(pipes[1], one->output, strlen(one->output));
        while (!one->output)
            pause();
        _exit(one->exit_code);
    }
    assert_true(pid > 0);
    one->spawned++;
    if (out) {
        *out = pipes[0];
        fd_close(&pipes[1]);
    }
    return pid;
}

static const char *word_after(const char *word)
{
    for (unsigned i = 0; i + 1 < api.word_count; i++)
        if (strcmp(api.words[i], word) == 0)
            return api.words[i + 1];
    return NULL;
}

static bool has_word(const char *word)
{
    for (unsigned i = 0; i < api.word_count; i++)
        if (strcmp(api.words[i], word) == 0)
            return true;
    return false;
}

/* ---- requests ---- */

static struct api_response response;

static void clear(void)
{
    json_decref(response.json);
    free(response.body);
    for (unsigned i = 0; i < response.header_count; i++)
        free(response.headers[i].value);
    memset(&response, 0, sizeof response);
}

static void call_raw(api_handler *handler, const char *name, const char *json, const void *body, size_t bytes,
                     const char *const *headers)
{
    struct api_request request = {.id = "0123456789abcdef",
                                  .method = "POST",
                                  .path = "/x",
                                  .name = name,
                                  .body = body,
                                  .body_bytes = bytes,
                                  .connection = (void *)(uintptr_t)headers};
    json_t *parsed = json ? json_loads(json, 0, NULL) : NULL;
    assert_true(!json || parsed);
    request.json = parsed;
    clear();
    api_lock(&api);
    handler(&api, &request, &response);
    api_unlock(&api);
    json_decref(parsed);
}

static void call(api_handler *handler, const char *name, const char *json)
{
    call_raw(handler, name, json, NULL, 0, NULL);
}

static const char *fault(void)
{
    const char *text = json_string_value(json_object_get(response.json, "fault_message"));
    return text ? text : "";
}

static void expect_fault(int status, const char *text)
{
    if (response.status != status || !strstr(fault(), text))
        fail_msg("%d and '%s' were expected, not %d: %s", status, text, response.status, fault());
}

static const char *header(const char *name)
{
    for (unsigned i = 0; i < response.header_count; i++)
        if (strcmp(response.headers[i].name, name) == 0)
            return response.headers[i].value;
    return NULL;
}

static const char *member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "(none)";
}

/* ---- /resume-steps, /metrics ---- */

static void test_resume_steps(void **state)
{
    (void)state;
    api.told = NULL;
    call(api_function_routes[0].handler, NULL, NULL);
    expect_fault(400, "no guest");
    api.told = "{\"ok\":true,\"state\":\"Running\",\"origin\":\"boot\"}";
    call(api_function_routes[0].handler, NULL, NULL);
    expect_fault(400, "only a clone");
    assert_string_equal(api.asked, "status");
    api.told =
        "{\"ok\":true,\"origin\":\"restore\",\"generation\":\"18446744073709551615\",\"clone_id\":\"00ff\","
        "\"ready_us\":900,\"resume_steps\":[{\"name\":\"entropy\",\"us\":12},{\"name\":\"clock\",\"us\":30}]"
        "}";
    call(api_function_routes[0].handler, NULL, NULL);
    assert_int_equal(response.status, 200);
    assert_string_equal(json_string_value(json_object_get(response.json, "generation")),
                        "18446744073709551615");
    assert_int_equal(json_integer_value(json_object_get(response.json, "total_us")), 42);
    assert_int_equal(json_integer_value(json_object_get(response.json, "ready_us")), 900);
    const json_t *steps = json_object_get(response.json, "steps");
    assert_int_equal(json_array_size(steps), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(steps, 1), "name")), "clock");
}

static void test_metrics(void **state)
{
    static const char *const text[] = {"accept", "text/plain", NULL};
    (void)state;
    api.told = "{\"ok\":true,\"metrics\":{\"exits\":{\"mmio\":5},\"vcpu.0\":[1,2],\"name\":\"x\"}}";
    call(functions_metrics, NULL, NULL);
    assert_int_equal(response.status, 200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(response.json, "exits"), "mmio")), 5);
    call_raw(functions_metrics, NULL, NULL, NULL, 0, text);
    static const char wanted[] = "hostvmm_exits_mmio 5\nhostvmm_vcpu_0_0 1\nhostvmm_vcpu_0_1 2\n";
    assert_int_equal(response.body_bytes, sizeof wanted - 1);
    assert_memory_equal(response.body, wanted, sizeof wanted - 1);
    assert_non_null(strstr(response.type, "text/plain"));
    api.told = "{\"ok\":true}";
    call(functions_metrics, NULL, NULL);
    expect_fault(502, "no metrics");
}

/* ---- /invocations ---- */

static struct fake vm;

/* The lock is free while it works: another request would go on. */
static void script_echo(struct fake *agent)
{
    static char data[PROTO_PAYLOAD_MAX_BYTES];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    const uint32_t size = fake_take_event(agent, data, id);
    api_lock(&api);
    api_unlock(&api);
    fake_log(agent, id, "line one\n");
    fake_response(agent, id, data, size);
}

static void invoke(void (*script)(struct fake *agent), const void *event, size_t size,
                   const char *const *headers)
{
    api.vsock_path = vsock;
    fake_vm(&vm, vsock, script);
    call_raw(functions_invocation, NULL, NULL, event, size, headers);
    fake_join(&vm);
    (void)unlink(vsock);
}

static void test_invocation(void **state)
{
    static const char *const tail[] = {"X-Log-Type", "Tail", "x-deadline-ms", "5000", NULL};
    static char large[300000];
    (void)state;
    invoke(script_echo, "ping", 4, NULL);
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body_bytes, 4);
    assert_memory_equal(response.body, "ping", 4);
    assert_null(header("X-Log-Result"));
    invoke(script_echo, "", 0, tail);
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body_bytes, 0);
    assert_string_equal(header("X-Log-Result"), "bGluZSBvbmUK");
    memset(large, 'z', sizeof large);
    invoke(script_echo, large, sizeof large, NULL);
    assert_int_equal(response.body_bytes, sizeof large);
    assert_memory_equal(response.body, large, sizeof large);
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
    const char *text = header("X-Log-Result");
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
    assert_int_equal(response.status, 200);
    assert_string_equal(header("X-Function-Error"), "Unhandled");
    assert_string_equal(response.type, "application/json");
    json_t *error = json_loadb(response.body, response.body_bytes, 0, NULL);
    assert_string_equal(member(error, "errorType"), "Function.Crashed");
    assert_string_equal(member(error, "errorMessage"), "signal \"11\"");
    assert_true(json_is_array(json_object_get(error, "stackTrace")));
    json_decref(error);
    invoke(script_times_out, "", 0, NULL);
    expect_fault(504, "killed");
    invoke(script_dies, "", 0, NULL);
    expect_fault(502, "ended");
    invoke(script_is_silent, "", 0, soon);
    expect_fault(504, "within 50 ms");
}

static void test_invocation_without_a_guest(void **state)
{
    static const char *const soon[] = {"X-Deadline-Ms", "20", NULL};
    (void)state;
    api.vsock_path = NULL;
    call_raw(functions_invocation, NULL, NULL, "", 0, NULL);
    expect_fault(400, "no guest");
    api.vsock_path = vsock; /* nobody there yet */
    call_raw(functions_invocation, NULL, NULL, "", 0, soon);
    expect_fault(504, "within 20 ms");
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
    api.vsock_path = vsock;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        call_raw(functions_invocation, NULL, NULL, "", 0, wrong[i]);
        expect_fault(400, wrong[i][0]);
    }
    call_raw(functions_invocation, NULL, NULL, large, sizeof large, NULL);
    expect_fault(413, "bytes");
}

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
             directory, count);
    api.output = NULL;
    call(functions_clones_post, NULL, body);
    assert_int_equal(response.status, 201);
    const json_t *list = json_object_get(response.json, "clones");
    assert_int_equal(json_array_size(list), count);
    for (unsigned i = 0; i < count; i++)
        snprintf(ids[i], sizeof ids[i], "%s", member(json_array_get(list, i), "id"));
}

static void test_clones_live_and_end(void **state)
{
    char path[100];
    (void)state;
    start_clones(2);
    snprintf(path, sizeof path, "%s/v-%s.control", directory, ids[1]);
    control_begin(path, "{\"ok\":true,\"state\":\"Running\",\"ready_us\":7,\"resume_steps\":[{\"name\":"
                        "\"clock\",\"us\":3}]}\n");
    call(functions_clones_get, NULL, NULL);
    control_end(path);
    assert_int_equal(response.status, 200);
    assert_string_equal(control.asked, "status\n");
    const json_t *list = json_object_get(response.json, "clones");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(member(json_array_get(list, 0), "state"), "Starting");
    assert_string_equal(member(json_array_get(list, 1), "state"), "Running");
    assert_string_equal(member(json_array_get(list, 1), "control_path"), path);
    const json_t *resume = json_object_get(json_array_get(list, 1), "resume");
    assert_int_equal(json_integer_value(json_object_get(resume, "total_us")), 3);
    assert_true(json_integer_value(json_object_get(json_array_get(list, 0), "started_at_ms")) >
                1600000000000);

    /* It once told that it runs: one that does not answer just now still does. */
    call(functions_clone_get, ids[1], NULL);
    assert_string_equal(member(response.json, "state"), "Running");

    call(functions_clone_delete, ids[0], NULL);
    assert_int_equal(response.status, 204);
    call(functions_clone_get, ids[0], NULL);
    expect_fault(404, "no such clone");
    call(functions_clone_delete, ids[0], NULL);
    expect_fault(404, "no such clone");
    call(functions_clone_delete, ids[1], NULL);
    assert_int_equal(response.status, 204);
    call(functions_clones_get, NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(response.json, "clones")), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* all were waited for */
}

static void test_a_clone_that_ended_by_itself(void **state)
{
    (void)state;
    api.output = "";
    api.exit_code = 8;
    call(functions_clones_post, NULL, "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\"}");
    assert_int_equal(response.status, 201);
    char id[16];
    snprintf(id, sizeof id, "%s", member(json_array_get(json_object_get(response.json, "clones"), 0), "id"));
    siginfo_t about;
    assert_int_equal(waitid(P_ALL, 0, &about, WEXITED | WNOWAIT), 0);
    call(functions_clone_get, id, NULL);
    assert_string_equal(member(response.json, "state"), "Ended");
    assert_int_equal(json_integer_value(json_object_get(response.json, "exit_code")), 8);
    call_raw(functions_clone_invoke, id, NULL, "", 0, NULL);
    expect_fault(400, "exit code 8");
    call(functions_clone_delete, id, NULL);
    assert_int_equal(response.status, 204);
}

static void test_a_clone_is_invoked(void **state)
{
    char path[100];
    (void)state;
    start_clones(1);
    snprintf(path, sizeof path, "%s/v-%s", directory, ids[0]);
    fake_vm(&vm, path, script_echo);
    call_raw(functions_clone_invoke, ids[0], NULL, "hi", 2, NULL);
    fake_join(&vm);
    (void)unlink(path);
    assert_int_equal(response.status, 200);
    assert_memory_equal(response.body, "hi", 2);
    api_functions_end(); /* as the server does: nothing is left */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    call_raw(functions_clone_invoke, "999999999", NULL, "", 0, NULL);
    expect_fault(404, "no such clone");
    call_raw(functions_clone_invoke, "0x1", NULL, "", 0, NULL);
    expect_fault(404, "no such clone");
}

static void test_a_clones_command_line(void **state)
{
    (void)state;
    api.output = "";
    api.exit_code = 0;
    call(functions_clones_post, NULL,
         "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v%n\",\"control_path\":\"/c%n\",\"hostname\":\"h%n\","
         "\"jail\":\"uid=5\",\"net\":[\"tap=t%n,address=10.0.0.0+%n/24\",\"none\"],"
         "\"drives\":[{\"drive_id\":\"data\",\"path_on_host\":\"/d%n\"}],"
         "\"secrets\":[{\"name\":\"key\",\"path\":\"/k=,\"}],\"resume_limit_ms\":5,\"hooks_limit_ms\":6}");
    assert_int_equal(response.status, 201);
    const char *id = member(json_array_get(json_object_get(response.json, "clones"), 0), "id");
    const char *const wanted[] = {"--snapshot=/s",    "--vsock=/v",      "--control=/c",
                                  "--hostname=h",     "--net=tap=t",     "--drive=/d",
                                  "--jail=uid=5",     "--net=none",      "--secret=key=/k=,",
                                  "--resume-limit=5", "--hooks-limit=6", "--console=none"};
    const char *const tails[] = {"", "%", "%", "%", "%,address=10.0.0.0+%/24", "%,id=data", "", "",
                                 "", "",  "",  ""};
    assert_string_equal(api.words[0], "restore");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        char word[200];
        size_t used = (size_t)snprintf(word, sizeof word, "%s", wanted[i]);
        for (const char *at = tails[i]; *at; at++)
            used += (size_t)snprintf(word + used, sizeof word - used, *at == '%' ? "%s" : "%.1s",
                                     *at == '%' ? id : at);
        if (!has_word(word))
            fail_msg("%s was expected", word);
    }
    assert_int_equal(api.word_count, 13);
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
    const unsigned before = api.spawned;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        call(functions_clones_post, NULL, rows[i].body);
        expect_fault(400, rows[i].fault);
    }
    call(functions_clones_post, NULL, NULL);
    expect_fault(400, "a JSON object");
    assert_int_equal(api.spawned, before);
    api.refuses = true;
    call(functions_clones_post, NULL, "{\"snapshot_path\":\"/s\",\"vsock_path\":\"/v\"}");
    api.refuses = false;
    expect_fault(500, "cannot be started");
}

/* ---- /audit ---- */

static void test_audit(void **state)
{
    (void)state;
    api.output = "{\"clones\":4,\"good\":false}";
    api.exit_code = 1; /* twins were found: that is a report */
    call(functions_audit, NULL,
         "{\"snapshot_path\":\"/s\",\"clones\":4,\"event\":\"who\",\"batch\":2,\"net\":[\"none\"]}");
    assert_int_equal(response.status, 200);
    assert_true(json_is_false(json_object_get(response.json, "good")));
    assert_string_equal(api.words[0], "audit");
    assert_true(has_word("--json"));
    assert_string_equal(word_after("--snapshot"), "/s");
    assert_string_equal(word_after("--clones"), "4");
    assert_string_equal(word_after("--batch"), "2");
    assert_string_equal(word_after("--"), "--net=none");
    assert_non_null(word_after("--event"));
    call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":4}");
    assert_null(word_after("--event"));
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
        api.output = rows[i].output;
        api.exit_code = rows[i].exit_code;
        call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":4}");
        expect_fault(rows[i].status, "audit: ");
    }
    const unsigned before = api.spawned;
    call(functions_audit, NULL, "{\"snapshot_path\":\"/s\"}");
    expect_fault(400, "missing field `clones`");
    call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":1}");
    expect_fault(400, "clones: want a number from 2");
    call(functions_audit, NULL, "{\"snapshot_path\":\"/s\",\"clones\":2,\"event\":5}");
    expect_fault(400, "event: want a text");
    assert_int_equal(api.spawned, before);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(vsock, sizeof vsock, "%s/vm", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    clear();
    return rmdir(directory);
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
        cmocka_unit_test(test_clones_live_and_end),
        cmocka_unit_test(test_a_clone_that_ended_by_itself),
        cmocka_unit_test(test_a_clone_is_invoked),
        cmocka_unit_test(test_a_clones_command_line),
        cmocka_unit_test(test_clones_that_are_refused),
        cmocka_unit_test(test_audit),
        cmocka_unit_test(test_audit_that_fails),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
