/*
 * function_connect(): asks the agent for a connection (channel.h has the line protocol). No state of its own:
 * each call has its socket and its buffer, so any thread may call.
 *
 * The answer is read no further than its newline, since what follows is the server's: looked at first
 * (MSG_PEEK), then taken.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/function.h"

#define ERRNO_MAX    4095
#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789-"

/* What the caller is told of a failure. */
struct reason {
    const char *name; /* of the connection; NULL: not one that can be printed */
    char *text;       /* NULL: not wanted */
    size_t size;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct reason *reason, int error,
                                                      const char *format, ...)
{
    char text[FUNCTION_CONNECT_LINE_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (reason->text && reason->size > 0)
        (void)snprintf(reason->text, reason->size, "%s%s%s", reason->name ? reason->name : "",
                       reason->name ? ": " : "", text);
    return error;
}

/* The next bytes of the answer, up to and with its newline, at `line + *have`. 1: the newline came; 0: more
 * is needed; -errno, -EPIPE for the end. */
static int take_some(int fd, char *line, size_t *have)
{
    char *at = line + *have;
    ssize_t n = recv(fd, at, FUNCTION_CONNECT_LINE_BYTES - *have, MSG_PEEK);
    if (n == 0)
        return -EPIPE;
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    const char *end = memchr(at, '\n', (size_t)n);
    const size_t wanted = end ? (size_t)(end + 1 - at) : (size_t)n;
    do
        n = recv(fd, at, wanted, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *have += (size_t)n;
    return end && (size_t)n == wanted;
}

/* The answer without its newline, NUL-terminated. */
static int read_line(int fd, char line[FUNCTION_CONNECT_LINE_BYTES + 1], const struct reason *reason)
{
    size_t have = 0;
    int step = 0;
    while (step == 0 && have < FUNCTION_CONNECT_LINE_BYTES)
        step = take_some(fd, line, &have);
    if (step == -EPIPE)
        return fail(reason, -ECONNABORTED, "the agent ended the connection before it had answered");
    if (step < 0)
        return fail(reason, step, "the agent's answer could not be read: %s", strerror(-step));
    if (step == 0)
        return fail(reason, -EPROTO, "the agent's answer is longer than %d bytes",
                    FUNCTION_CONNECT_LINE_BYTES);
    line[have - 1] = '\0';
    if (strlen(line) != have - 1)
        return fail(reason, -EPROTO, "the agent's answer is no text");
    return 0;
}

/* "ok", or "error ERRNO TEXT". */
static int take_answer(const char *line, const struct reason *reason)
{
    static const char word[] = "error ";
    if (strcmp(line, "ok") == 0)
        return 0;
    if (strncmp(line, word, sizeof word - 1) == 0) {
        const char *number = line + sizeof word - 1;
        char *end;
        errno = 0;
        const long error = strtol(number, &end, 10);
        if (number[0] >= '1' && number[0] <= '9' && errno == 0 && error <= ERRNO_MAX && end[0] == ' ' &&
            end[1])
            return fail(reason, (int)-error, "%s", end + 1);
    }
    return fail(reason, -EPROTO, "the agent's answer \"%.40s\" is none", line);
}

static int open_socket(const char *directory, const struct reason *reason)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const int length = snprintf(to.sun_path, sizeof to.sun_path, "%s/" FUNCTION_CONNECT_SOCKET, directory);
    if (length < 0 || (size_t)length >= sizeof to.sun_path)
        return fail(reason, -ENAMETOOLONG, "%s is too long for a socket's path", FUNCTION_ENV_CONNECTIONS);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(reason, -errno, "no socket: %s", strerror(errno));
    int error;
    do /* on a Unix socket a connect that a signal ends has not begun */
        error = connect(fd, (const struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0;
    while (error == -EINTR);
    if (error == 0)
        return fd;
    fd_close(&fd);
    return fail(reason, error, "no agent answers at %s: %s", to.sun_path, strerror(-error));
}

static int ask(int fd, const char *name, const struct reason *reason)
{
    char line[FUNCTION_CONNECT_LINE_BYTES + 1];
    const int size = snprintf(line, sizeof line, "%s\n", name);
    const int error = fd_write_all(fd, line, (size_t)size);
    /* An agent that does not listen to all of it may still have said why. */
    if (error && error != -EPIPE && error != -ECONNRESET)
        return fail(reason, error, "the agent could not be asked: %s", strerror(-error));
    const int read = read_line(fd, line, reason);
    return read ? read : take_answer(line, reason);
}

int function_connect(const char *name, char *why, size_t why_bytes)
{
    struct reason reason = {.text = why, .size = why_bytes};
    if (why && why_bytes > 0)
        why[0] = '\0';
    const size_t length = name ? strspn(name, NAME_LETTERS) : 0;
    if (length == 0 || length > FUNCTION_CONNECTION_NAME_BYTES || name[length] != '\0')
        return fail(&reason, -EINVAL, "a connection's name is 1 to %d of a-z, 0-9 and -",
                    FUNCTION_CONNECTION_NAME_BYTES);
    reason.name = name;
    const char *directory = getenv(FUNCTION_ENV_CONNECTIONS);
    if (!directory || !directory[0])
        return fail(
            &reason, -ENOTSUP,
            "%s is not set: there is no manifest (a file \"connections\" beside the function's program), "
            "or no agent",
            FUNCTION_ENV_CONNECTIONS);
    int fd = open_socket(directory, &reason);
    if (fd < 0)
        return fd;
    const int error = ask(fd, name, &reason);
    if (error == 0)
        return fd;
    fd_close(&fd);
    return error;
}
