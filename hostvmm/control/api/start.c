/* /actions and /vm: the guest starts, stands still, goes on; and how the server operates it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/arguments.h"
#include "hostvmm/control/api/model.h"

#define EROFS_AT    1024
#define EROFS_MAGIC 0xe0f5e1e2u

/* ---- operating ---- */

const char *api_vsock_path(const struct api *api)
{
    return api->state != MODEL_NOT_STARTED && api->vsock[0] ? api->vsock : NULL;
}

int api_spawn(struct api *api, const char *const *arguments, int *out)
{
    return (int)child_beside(&api->child, arguments, out);
}

static const char *reason_of(int error)
{
    switch (-error) {
    case EPIPE:
        return "the guest's process is gone";
    case ENOTCONN:
        return "no guest runs";
    case ETIMEDOUT:
        return "the guest's process does not answer";
    case EPROTO:
        return "what the guest's process answers cannot be understood";
    default:
        return strerror(-error);
    }
}

json_t *api_operate(struct api *api, const struct api_request *request, struct api_response *response,
                    const char *line)
{
    char whole[8192];
    json_t *answer = NULL;
    const int size = snprintf(whole, sizeof whole, "%s\trequest=%s", line, request->id);
    const int error =
        size < 0 || (size_t)size >= sizeof whole ? -EINVAL : child_ask(&api->child, whole, &answer);
    if (error) {
        api_fail(response, 400, "Internal VMM error: %s", reason_of(error));
        return NULL;
    }
    if (model_flag(answer, "ok", false))
        return answer;
    const char *why = model_text(answer, "error");
    api_fail(response, 400, "%s", why ? why : "the guest's process refuses without a reason");
    json_decref(answer);
    return NULL;
}

/* ---- starting ---- */

bool start_child(struct api *api, const struct api_request *request, struct api_response *response,
                 const char *const *arguments, const char *what)
{
    char said[CHILD_SAID_BYTES];
    const int error = child_start(&api->child, arguments);
    if (error) {
        api_fail(response, 400, "%s: its process cannot be started: %s", what, strerror(-error));
        return false;
    }
    json_t *answer = api_operate(api, request, response, "status");
    if (answer) {
        json_decref(answer);
        child_started(&api->child);
        return true;
    }
    const int code = child_failed(&api->child, said);
    api_fail(response, 400, "%s: %s (exit code %d)", what,
             said[0] ? said : "its process ended without a word", code);
    return false;
}

bool start_limits(struct api *api, const struct api_request *request, struct api_response *response, bool all)
{
    char line[600];
    char rates[200];
    char more[200];
    json_t *answer = NULL;
    bool fine = true;
    const json_t *drives = json_object_get(api->config, "drives");
    const json_t *nets = json_object_get(api->config, "network-interfaces");
    for (size_t i = 0; i < json_array_size(drives) && fine; i++) {
        const json_t *drive = json_array_get(drives, i);
        (void)rates_words(model_object(drive, "rate_limiter"), "\t", "", rates, sizeof rates);
        if (!rates[0] || (!all && !(i == 0 && api->rekindle)))
            continue;
        (void)snprintf(line, sizeof line, "drive\tid=%s%s", drives_name(drive, api->rekindle), rates);
        answer = api_operate(api, request, response, line);
        fine = answer != NULL;
        json_decref(answer);
    }
    for (size_t i = 0; i < json_array_size(nets) && fine && all; i++) {
        const json_t *net = json_array_get(nets, i);
        (void)rates_words(model_object(net, "rx_rate_limiter"), "\t", "rx-", rates, sizeof rates);
        (void)rates_words(model_object(net, "tx_rate_limiter"), "\t", "tx-", more, sizeof more);
        if (!rates[0] && !more[0])
            continue;
        (void)snprintf(line, sizeof line, "net\tid=%zu%s%s", i, rates, more);
        answer = api_operate(api, request, response, line);
        fine = answer != NULL;
        json_decref(answer);
    }
    return fine;
}

/* Images that Rekindle's builder makes are EROFS. */
static bool is_erofs(const char *path)
{
    uint8_t magic[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const ssize_t n = fd < 0 ? -1 : pread(fd, magic, sizeof magic, EROFS_AT);
    fd_close(&fd);
    return n == (ssize_t)sizeof magic && ((uint32_t)magic[0] | (uint32_t)magic[1] << 8 |
                                          (uint32_t)magic[2] << 16 | (uint32_t)magic[3] << 24) == EROFS_MAGIC;
}

/* Whether our init is to start the guest; a refusal where that cannot be. */
static bool choose_init(struct api *api, struct api_response *response)
{
    const json_t *boot = model_object(api->config, "boot-source");
    const json_t *root = drives_root(api->config);
    if (!boot) {
        api_fail(response, 400, "Start microvm error: Cannot start microvm without kernel configuration.");
        return false;
    }
    const char *path = model_text(root, "path_on_host");
    const bool otherwise = root && !model_text(boot, "initrd_path") && is_erofs(path);
    api->rekindle = model_flag(boot, "rekindle", otherwise);
    const char *wrong = NULL;
    if (api->rekindle && !root)
        wrong = "\"rekindle\": true: there is no root drive to take the image from";
    else if (api->rekindle && model_text(root, "partuuid"))
        wrong = "partuuid: Rekindle's init takes the whole drive as the image: leave it out, or set "
                "\"rekindle\": false";
    if (wrong)
        api_fail(response, 400, "Start microvm error: %s", wrong);
    return !wrong;
}

bool start_guest(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct arguments arguments = {.count = 0};
    bool runs = false;
    if (!choose_init(api, response))
        return false;
    const struct arguments_about about = {
        .rekindle = api->rekindle, .jail = api->jail, .log_level = api->log_level};
    const int error = arguments_run(&arguments, api->config, &about);
    if (error)
        api_fail(response, 400, "Start microvm error: this is more than a command line holds: %s",
                 strerror(-error));
    else
        runs = start_child(api, request, response, (const char *const *)arguments.at, "Start microvm error");
    arguments_fini(&arguments);
    if (!runs)
        return false;
    const char *vsock = model_text(json_object_get(api->config, "vsock"), "uds_path");
    if (!vsock || model_absolute(vsock, api->vsock))
        api->vsock[0] = '\0';
    api->state = MODEL_RUNNING;
    return start_limits(api, request, response, false);
}

/* ---- /actions ---- */

static const char *const actions[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};

static const struct model_member action_members[] = {
    {.name = "action_type", .kind = MODEL_TEXT, .required = true, .words = actions},
    {.name = NULL},
};

void start_put_actions(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, action_members, response))
        return;
    const char *action = model_text(request->json, "action_type");
    if (strcmp(action, "InstanceStart") == 0) {
        if (model_before_start(api, response))
            (void)start_guest(api, request, response);
        return;
    }
    if (!model_after_start(api, response))
        return;
    if (strcmp(action, "FlushMetrics") == 0)
        (void)observe_flush(api, request, response);
    else
        json_decref(api_operate(api, request, response, "shutdown"));
}

/* ---- /vm ---- */

static const char *const states[] = {"Paused", "Resumed", NULL};

static const struct model_member vm_members[] = {
    {.name = "state", .kind = MODEL_TEXT, .required = true, .words = states},
    {.name = NULL},
};

/* To be told again what it is already, is no mistake. */
void start_patch_vm(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, vm_members, response) || !model_after_start(api, response))
        return;
    const bool pause = strcmp(model_text(request->json, "state"), "Paused") == 0;
    const enum model_state wanted = pause ? MODEL_PAUSED : MODEL_RUNNING;
    if (api->state == wanted)
        return;
    json_t *answer = api_operate(api, request, response, pause ? "pause" : "resume");
    if (answer)
        api->state = wanted;
    json_decref(answer);
}
