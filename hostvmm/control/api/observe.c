/* /logger and /metrics. Descriptor 2 is the log of this process and of the guest's: another file takes its place. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/model.h"

static const struct {
    const char *name; /* Firecracker's */
    enum log_level level;
    const char *word; /* hostvmm's */
} levels[] = {
    {"Error", LOG_LEVEL_ERROR, "error"}, {"Warning", LOG_LEVEL_WARN, "warning"},
    {"Warn", LOG_LEVEL_WARN, "warning"}, {"Info", LOG_LEVEL_INFO, "info"},
    {"Debug", LOG_LEVEL_DEBUG, "debug"}, {"Trace", LOG_LEVEL_DEBUG, "debug"},
    {"Off", LOG_LEVEL_ERROR, "error"},
};

static const struct model_member logger_members[] = {
    {.name = "log_path", .kind = MODEL_PATH},   {.name = "level", .kind = MODEL_TEXT},
    {.name = "show_level", .kind = MODEL_FLAG}, {.name = "show_log_origin", .kind = MODEL_FLAG},
    {.name = "module", .kind = MODEL_TEXT},     {.name = NULL},
};

static const struct model_member metrics_members[] = {
    {.name = "metrics_path", .kind = MODEL_PATH, .required = true},
    {.name = NULL},
};

/* A file or a named pipe; a pipe that nobody reads yet holds nobody up. */
static int open_sink(const char *path)
{
    const int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0600);
    return fd < 0 ? -errno : fd;
}

int observe_log_to(const char *path)
{
    int fd = open_sink(path);
    if (fd < 0)
        return fd;
    const int error = dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

void observe_put_logger(struct api *api, const struct api_request *request, struct api_response *response)
{
    size_t at = 0;
    const json_t *body = request->json;
    if (!model_check(body, logger_members, response) || !model_before_start(api, response))
        return;
    const char *level = model_text(body, "level");
    const char *path = model_text(body, "log_path");
    while (level && at < sizeof levels / sizeof levels[0] && strcasecmp(levels[at].name, level) != 0)
        at++;
    if (at == sizeof levels / sizeof levels[0]) {
        model_refuse(response,
                     "level: unknown variant `%.40s`, expected one of `Error`, `Warning`, `Info`, `Debug`, "
                     "`Trace`, `Off`",
                     level);
        return;
    }
    if (model_text(body, "module")) {
        api_fail(response, 400,
                 "Logger error: module: messages are not filtered by module here: leave it out.");
        return;
    }
    const int error = path ? observe_log_to(path) : 0;
    if (error) {
        api_fail(response, 400, "Logger error: Failed to open target file: %s: %s", path, strerror(-error));
        return;
    }
    if (level) {
        log_set_most(levels[at].level); /* other threads may be logging */
        api->log_level = levels[at].word;
    }
    (void)json_object_set_new(api->config, "logger", model_copy(body));
}

void observe_put_metrics(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, metrics_members, response) || !model_before_start(api, response))
        return;
    if (api->metrics >= 0) {
        api_fail(response, 400,
                 "Metrics error: Cannot initialize the metrics system due to bad user input: it is "
                 "initialized already.");
        return;
    }
    const char *path = model_text(request->json, "metrics_path");
    const int fd = open_sink(path);
    if (fd < 0) {
        api_fail(response, 400,
                 "Metrics error: Cannot initialize the metrics system due to bad user input: %s: %s", path,
                 strerror(-fd));
        return;
    }
    api->metrics = fd;
    (void)json_object_set_new(api->config, "metrics", model_copy(request->json));
}

bool observe_flush(struct api *api, const struct api_request *request, struct api_response *response)
{
    json_t *answer = api_operate(api, request, response, "metrics");
    if (!answer)
        return false;
    const json_t *metrics = json_object_get(answer, "metrics");
    char *line = metrics ? json_dumps(metrics, JSON_COMPACT) : NULL;
    json_decref(answer);
    int error = line ? 0 : -ENOMEM;
    if (line && api->metrics >= 0) {
        const size_t size = strlen(line);
        line[size] = '\n'; /* one write: lines of two never mix */
        error = fd_write_all(api->metrics, line, size + 1);
    }
    free(line);
    if (error)
        api_fail(response, 400, "Internal VMM error: the metrics cannot be written: %s", strerror(-error));
    return error == 0;
}
