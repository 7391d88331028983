/* See functions_stage.h. */
#include "tests/unit/control/functions_stage.h"

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

/* ---- the server ---- */

struct api stage_api = {.lock = PTHREAD_MUTEX_INITIALIZER};
char stage_directory[] = "/tmp/api_functions.XXXXXX";
char stage_vsock[64];

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

const char *stage_word_after(const char *word)
{
    for (unsigned i = 0; i + 1 < stage_api.word_count; i++)
        if (strcmp(stage_api.words[i], word) == 0)
            return stage_api.words[i + 1];
    return NULL;
}

bool stage_has_word(const char *word)
{
    for (unsigned i = 0; i < stage_api.word_count; i++)
        if (strcmp(stage_api.words[i], word) == 0)
            return true;
    return false;
}

/* ---- requests ---- */

struct api_response stage_response;

void stage_clear(void)
{
    json_decref(stage_response.json);
    free(stage_response.body);
    for (unsigned i = 0; i < stage_response.header_count; i++)
        free(stage_response.headers[i].value);
    memset(&stage_response, 0, sizeof stage_response);
}

void stage_call_raw(api_handler *handler, const char *name, const char *json, const void *body, size_t bytes,
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
    stage_clear();
    api_lock(&stage_api);
    handler(&stage_api, &request, &stage_response);
    api_unlock(&stage_api);
    json_decref(parsed);
}

void stage_call(api_handler *handler, const char *name, const char *json)
{
    stage_call_raw(handler, name, json, NULL, 0, NULL);
}

const char *stage_fault(void)
{
    const char *text = json_string_value(json_object_get(stage_response.json, "fault_message"));
    return text ? text : "";
}

void stage_expect_fault(int status, const char *text)
{
    if (stage_response.status != status || !strstr(stage_fault(), text))
        fail_msg("%d and '%s' were expected, not %d: %s", status, text, stage_response.status, stage_fault());
}

const char *stage_header(const char *name)
{
    for (unsigned i = 0; i < stage_response.header_count; i++)
        if (strcmp(stage_response.headers[i].name, name) == 0)
            return stage_response.headers[i].value;
    return NULL;
}

const char *stage_member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "(none)";
}

struct fake stage_vm;

/* The lock is free while it works: another request would go on. */
void stage_echo(struct fake *agent)
{
    static char data[PROTO_PAYLOAD_MAX_BYTES];
    char id[PROTO_ID_MAX_BYTES + 1];
    fake_hello(agent, PROTO_STATE_READY);
    const uint32_t size = fake_take_event(agent, data, id);
    api_lock(&stage_api);
    api_unlock(&stage_api);
    fake_log(agent, id, "line one\n");
    fake_response(agent, id, data, size);
}

int stage_set_up(void **state)
{
    (void)state;
    if (!mkdtemp(stage_directory))
        return -1;
    snprintf(stage_vsock, sizeof stage_vsock, "%s/vm", stage_directory);
    return 0;
}

int stage_tear_down(void **state)
{
    (void)state;
    stage_clear();
    return rmdir(stage_directory);
}
