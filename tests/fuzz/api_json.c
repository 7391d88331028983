/*
 * libFuzzer target: requests to the control API, from the router through every handler. The input is lines
 * "METHOD PATH", each with a body up to a NUL. The guest's process is a thread that answers as the input's first
 * byte says; every line it is asked must be one that hostvmm's own parser takes.
 *
 * Requests that would write files of the input's naming are left out; they are told by their path and by the
 * characters without which no such member has a name.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/arguments.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/route.h"
#include "hostvmm/control/operator.h"

#define REQUESTS_MAX 12
#define TEXT_MAX     4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

const struct api_route api_function_routes[] = {{.method = NULL}};

/* ---- the guest's process ---- */

static const char *const answers[] = {
    "{\"ok\":true}\n",
    "{\"ok\":false,\"error\":\"no\",\"code\":9}\n",
    "{\"ok\":true,\"balloon\":{\"target_pages\":-1,\"stats\":[],\"hinting\":5}}\n",
    "{\"ok\":true,\"metrics\":[]}\n",
    "[]\n",
    "{\n",
};

struct guest {
    int fd;
    unsigned answer;
};

static void check_line(char *line, size_t size)
{
    static struct operator_request request;
    char why[OPERATOR_WHY_BYTES];
    if (operator_parse(line, size, &request, why) && !strstr(why, "MiB"))
        abort();
}

static void *guest_main(void *context)
{
    const struct guest *guest = context;
    char line[OPERATOR_LINE_MAX_BYTES + 1];
    size_t used = 0;
    while (used < sizeof line && read(guest->fd, line + used, 1) == 1) {
        if (line[used++] != '\n')
            continue;
        check_line(line, used - 1);
        used = 0;
        if (fd_write_all(guest->fd, answers[guest->answer], strlen(answers[guest->answer])))
            break;
    }
    return NULL;
}

/* ---- requests ---- */

/* The next NUL-ended text, moved behind: not longer than TEXT_MAX. */
static size_t next_text(const uint8_t **data, size_t *size, char *text)
{
    const size_t end = strnlen((const char *)*data, *size);
    const size_t bytes = end < TEXT_MAX ? end : TEXT_MAX;
    memcpy(text, *data, bytes);
    text[bytes] = '\0';
    *data += end < *size ? end + 1 : end;
    *size -= end < *size ? end + 1 : end;
    return bytes;
}

static bool writes_files(const char *path, const char *body)
{
    static const char *const parts[] = {"logger", "metrics", "snapshot"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(path, parts[i]))
            return strpbrk(body, "_\\") != NULL;
    return false;
}

static void ask(struct api *api, char *head, char *body, size_t bytes)
{
    struct api_request request = {.method = head};
    struct api_response response = {.status = 0};
    char *blank = strchr(head, ' ');
    if (!blank)
        return;
    *blank = '\0';
    request.path = blank + 1;
    if (writes_files(request.path, body))
        return;
    route_new_id(request.id);
    route_handle(api, &request, body, bytes, &response);
    if (response.status < 200 || response.status > 499 || (response.status >= 400 && !response.json) ||
        (response.status == 204 && response.json))
        abort();
    if (response.json) {
        char *text = json_dumps(response.json, 0);
        if (!text)
            abort();
        free(text);
    }
    route_free(&response);
}

/* What was taken can be told as a command line, of a boot or of a clone. */
static void check_arguments(const struct api *api, bool rekindle)
{
    struct arguments arguments = {.count = 0};
    const struct arguments_about about = {.rekindle = rekindle};
    const struct arguments_clone clone = {.snapshot = "/s"};
    (void)arguments_run(&arguments, api->config, &about);
    for (unsigned i = 0; i < arguments.count; i++)
        if (strchr(arguments.at[i], '\n'))
            abort();
    arguments_fini(&arguments);
    (void)arguments_restore(&arguments, api->config, &about, &clone);
    arguments_fini(&arguments);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    int null[2];
    if (pipe(null) < 0)
        abort();
    log_setup("api_json", LOG_LEVEL_ERROR, null[1]);
    (void)close(null[0]);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct api api;
    static char head[TEXT_MAX + 1];
    static char body[TEXT_MAX + 1];
    int pair[2];
    pthread_t thread;
    if (size < 1 || api_init(&api, "/nonexistent") ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    struct guest guest = {.fd = pair[1], .answer = (data[0] >> 1) % (sizeof answers / sizeof answers[0])};
    if (pthread_create(&thread, NULL, guest_main, &guest))
        abort();
    api.child.served = false; /* nobody spawns */
    api.child.fd = pair[0];
    const bool runs = data[0] & 1;
    data++;
    size--;
    for (unsigned i = 0; i < REQUESTS_MAX && size > 0; i++) {
        (void)next_text(&data, &size, head);
        const size_t bytes = next_text(&data, &size, body);
        if (runs && i == REQUESTS_MAX / 2)
            api.state = MODEL_RUNNING;
        ask(&api, head, body, bytes);
    }
    check_arguments(&api, runs);
    api_fini(&api);
    (void)pthread_join(thread, NULL);
    (void)close(pair[1]);
    return 0;
}
