/* See log.h. The message is built in place and written once; a failed write is dropped: there is nowhere to
 * report it. */
#include "agent/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *log_program = "rekindle";
static enum log_level log_most = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;
static log_sink *log_other;

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warning",
    [LOG_LEVEL_INFO] = NULL, /* plain information carries no label */
    [LOG_LEVEL_DEBUG] = "debug",
};

void log_setup(const char *program, enum log_level most, int fd)
{
    log_program = program;
    log_most = most;
    log_fd = fd;
}

void log_set_most(enum log_level most)
{
    __atomic_store_n(&log_most, most, __ATOMIC_RELAXED);
}

void log_to(log_sink *sink)
{
    __atomic_store_n(&log_other, sink, __ATOMIC_RELEASE);
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level > __atomic_load_n(&log_most, __ATOMIC_RELAXED))
        return;
    const int saved_errno = errno; /* callers log between a failure and their use of errno */
    log_sink *other = __atomic_load_n(&log_other, __ATOMIC_ACQUIRE);
    char line[LOG_LINE_MAX];
    const char *name = level_names[level];
    int used =
        other ? 0 : snprintf(line, sizeof line, "%s: %s%s", log_program, name ? name : "", name ? ": " : "");
    if (used < 0 || (size_t)used >= sizeof line - 1)
        used = 0;
    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    size_t length = (size_t)used + (body > 0 ? (size_t)body : 0);
    if (length > sizeof line - 1)
        length = sizeof line - 1;
    if (other) {
        line[length] = '\0';
        other(level, log_program, line);
        errno = saved_errno;
        return;
    }
    line[length] = '\n';
    ssize_t written;
    do {
        written = write(log_fd, line, length + 1);
    } while (written < 0 && errno == EINTR);
    errno = saved_errno;
}
