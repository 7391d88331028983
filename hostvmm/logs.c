/* See logs.h. A line is built in place and written once, as log.c does, so that lines do not mix. */
#include "hostvmm/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/proto/utf8.h"

static int logs_fd = STDERR_FILENO;
static bool logs_as_json;
static _Thread_local const char *logs_for;

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

bool logs_level(const char *name, enum log_level *level)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (strcmp(level_names[i], name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

/* ---- JSON ---- */

struct line {
    char *at;
    size_t used;
    size_t room;
};

static void put(struct line *line, const char *text, size_t size)
{
    if (size > line->room - line->used)
        return;
    memcpy(line->at + line->used, text, size);
    line->used += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Bytes that are no UTF-8 become '?'. */
static void put_escaped(struct line *line, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        size_t good = utf8_valid_prefix(text, left);
        for (; good > 0; good--, text++, left--) {
            const unsigned char byte = (unsigned char)*text;
            char escaped[8];
            if (byte == '"' || byte == '\\')
                (void)snprintf(escaped, sizeof escaped, "\\%c", byte);
            else if (byte < 0x20 || byte == 0x7f)
                (void)snprintf(escaped, sizeof escaped, "\\u%04x", byte);
            else
                (void)snprintf(escaped, sizeof escaped, "%c", byte);
            put_text(line, escaped);
        }
        if (left > 0) {
            put_text(line, "?");
            text++;
            left--;
        }
    }
}

size_t logs_json(char *to, const char *time, enum log_level level, const char *program, const char *request,
                 const char *message)
{
    struct line line = {.at = to, .room = LOGS_JSON_BYTES - 4}; /* there is room for the end */
    put_text(&line, "{\"time\":\"");
    put_text(&line, time);
    put_text(&line, "\",\"level\":\"");
    put_text(&line, level_names[level]);
    put_text(&line, "\",\"program\":\"");
    put_escaped(&line, program);
    if (request) {
        put_text(&line, "\",\"request\":\"");
        put_escaped(&line, request);
    }
    put_text(&line, "\",\"message\":\"");
    put_escaped(&line, message);
    line.room = LOGS_JSON_BYTES;
    put_text(&line, "\"}\n");
    return line.used;
}

/* ---- writing ---- */

static void now_text(char *text, size_t size)
{
    struct timespec now = {0};
    struct tm parts = {0};
    char day[40];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(text, size, "%s.%09ldZ", day, now.tv_nsec);
}

static void write_line(enum log_level level, const char *program, const char *message)
{
    char line[LOGS_JSON_BYTES];
    size_t size;
    if (logs_as_json) {
        char time[64];
        now_text(time, sizeof time);
        size = logs_json(line, time, level, program, logs_for, message);
    } else {
        const int used =
            snprintf(line, sizeof line - 1, "%s: %s%s%s%s%s%s\n", program,
                     level == LOG_LEVEL_INFO ? "" : level_names[level], level == LOG_LEVEL_INFO ? "" : ": ",
                     logs_for ? "request " : "", logs_for ? logs_for : "", logs_for ? ": " : "", message);
        size = used < 0 ? 0 : (size_t)used;
    }
    while (write(logs_fd, line, size) < 0 && errno == EINTR)
        continue;
}

void logs_request(const char *name)
{
    logs_for = name;
    if (name)
        log_to(write_line);
}

int logs_begin(const struct config *config, const char *program)
{
    const bool waits = config->command == CONFIG_RESTORE && config->log && strstr(config->log, "%n");
    log_setup(program, config->log_level, STDERR_FILENO);
    if (logs_fd != STDERR_FILENO)
        fd_close(&logs_fd);
    logs_fd = STDERR_FILENO;
    if (config->log && !waits) {
        const int fd = open(config->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
        if (fd < 0) {
            const int error = -errno;
            log_error("--log %s: cannot open it: %s", config->log, strerror(-error));
            return error;
        }
        log_setup(program, config->log_level, fd);
        logs_fd = fd;
    }
    logs_as_json = config->log_json;
    if (config->log_json)
        log_to(write_line);
    return 0;
}
