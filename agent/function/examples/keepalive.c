/*
 * keepalive: an HTTP/1.1 client that keeps one connection for all its events, and for all its clones: it
 * knows of neither TLS nor snapshots, has no hooks, and its idle descriptor carries on in every clone
 * (CONNECTIONS.md).
 *
 * The event is a path without its first "/": "orders/7" asks the server for GET /orders/7. The connection is
 * the one named "upstream" in the file `connections` beside the program, such as
 *
 *     [upstream]
 *     host = orders.example.com
 *     trust = ca.pem
 *
 * The answer, one "name value" a line, an empty line, and the body of the response, up to 1 MiB:
 *
 *     status 200
 *     requests 7       that this descriptor has carried, with this one
 *     connections 1    descriptors so far, with this one
 *     reconnects 0     requests that were repeated on a fresh connection
 *
 * A request whose connection is lost is repeated once, and only when nothing of its response came: a GET may
 * be repeated, half a response may not be thrown away. The server is not the function's friend: heads, bodies
 * and waiting are bounded, and what is no HTTP is an error that says what.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/function/function.h"

#define CONNECTION   "upstream"
#define PATH_BYTES   1024
#define BUFFER_BYTES 16384 /* and the longest line */
#define FIELDS_MAX   100
#define INTERIM_MAX  8 /* 1xx before the response */
#define BODY_BYTES   1048576
#define MARGIN_NS    UINT64_C(50000000) /* before the deadline, to say what was waited for */

struct keepalive {
    int fd;
    unsigned requests, connections, reconnects;
    uint64_t deadline_ns;
    bool came; /* something of the response in hand */
    bool lost; /* the connection ended or failed: */
    bool ended;
    size_t at, end;
    char buffer[BUFFER_BYTES];
    const char *error_type;
    char error_text[320];
};

struct response {
    unsigned status;
    bool chunked, has_length, closes;
    uint64_t length;
};

__attribute__((format(printf, 3, 4))) static void complain(struct keepalive *self, const char *type,
                                                           const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(self->error_text, sizeof self->error_text, format, arguments);
    va_end(arguments);
    self->error_type = type;
}

/* For `return fail(self, TYPE, FORMAT, ...)`. */
#define fail(...) (complain(__VA_ARGS__), -1)

/* ---- the connection ---- */

static void hang_up(struct keepalive *self)
{
    if (self->fd >= 0)
        (void)close(self->fd);
    self->fd = -1;
}

static int call(struct keepalive *self)
{
    char why[256];
    self->at = self->end = 0;
    self->requests = 0;
    self->fd = function_connect(CONNECTION, why, sizeof why);
    if (self->fd < 0)
        return fail(self, "Upstream.NoConnection", "%s", why);
    self->connections++;
    return 0;
}

static int lose(struct keepalive *self, const char *what)
{
    self->lost = true;
    return fail(self, "Upstream.Lost", "the connection %s %s", what,
                self->came ? "in the middle of the response" : "before the response");
}

static int wait_for_bytes(struct keepalive *self)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return fail(self, "Upstream.TimedOut", "no clock");
    const uint64_t until = self->deadline_ns > MARGIN_NS ? self->deadline_ns - MARGIN_NS : 0;
    const uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    const uint64_t left_ms = until > now_ns ? (until - now_ns) / 1000000 + 1 : 0;
    struct pollfd ready = {.fd = self->fd, .events = POLLIN};
    const int count = poll(&ready, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
    if (count < 0 && errno != EINTR)
        return lose(self, "failed");
    if (count == 0)
        return fail(self, "Upstream.TimedOut", "the server's response did not %s before the deadline",
                    self->came ? "end" : "begin");
    return 0; /* a signal: the caller reads and comes again */
}

/* More bytes into the buffer, which has room. */
static int fill(struct keepalive *self)
{
    if (self->at == self->end)
        self->at = self->end = 0;
    if (self->end == BUFFER_BYTES) {
        memmove(self->buffer, self->buffer + self->at, self->end - self->at);
        self->end -= self->at;
        self->at = 0;
    }
    for (;;) {
        const ssize_t n = recv(self->fd, self->buffer + self->end, BUFFER_BYTES - self->end, MSG_DONTWAIT);
        if (n > 0) {
            self->end += (size_t)n;
            self->came = true;
            return 0;
        }
        self->ended = n == 0;
        if (n == 0)
            return lose(self, "ended");
        if (errno == EAGAIN && wait_for_bytes(self) < 0)
            return -1;
        if (errno != EAGAIN && errno != EINTR)
            return lose(self, errno == ECONNRESET ? "was reset" : "failed");
    }
}

static int send_request(struct keepalive *self, const char *path, int length)
{
    char request[PATH_BYTES + 128];
    const int size = snprintf(request, sizeof request,
                              "GET /%.*s HTTP/1.1\r\nHost: " CONNECTION "\r\nConnection: keep-alive\r\n\r\n",
                              length, path);
    for (int at = 0; at < size;) {
        const ssize_t n = send(self->fd, request + at, (size_t)(size - at), MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return lose(self, errno == EPIPE || errno == ECONNRESET ? "was reset" : "failed");
        at += n > 0 ? (int)n : 0;
    }
    self->requests++;
    return 0;
}

/* ---- the response's head (RFC 9112) ---- */

/* The next line without its end, NUL-terminated; valid until the next fill. */
static int take_line(struct keepalive *self, char **line)
{
    const char *end;
    while (!(end = memchr(self->buffer + self->at, '\n', self->end - self->at))) {
        if (self->end - self->at == BUFFER_BYTES)
            return fail(self, "Upstream.BadResponse", "a line of more than %d bytes", BUFFER_BYTES);
        if (fill(self) < 0)
            return -1;
    }
    *line = self->buffer + self->at;
    size_t length = (size_t)(end - *line);
    self->at += length + 1;
    if (length > 0 && (*line)[length - 1] == '\r')
        length--;
    (*line)[length] = '\0';
    return 0;
}

static int take_status(struct keepalive *self, struct response *response)
{
    char *line;
    if (take_line(self, &line) < 0)
        return -1;
    const char *number = line + 9;
    if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || line[8] != ' ' ||
        number[0] < '1' || number[0] > '5' || !isdigit((unsigned char)number[1]) ||
        !isdigit((unsigned char)number[2]) || (number[3] != ' ' && number[3] != '\0'))
        return fail(self, "Upstream.BadResponse", "\"%.40s\" is no status line of HTTP/1", line);
    *response = (struct response){.closes = line[7] == '0'};
    for (int i = 0; i < 3; i++)
        response->status = response->status * 10 + (unsigned)(number[i] - '0');
    return 0;
}

/* Digits of `base`, all of the text up to one of `ends` or its end; false: none, or too large a number. */
static bool take_number(const char *text, unsigned base, const char *ends, uint64_t *number)
{
    const char *at = text;
    *number = 0;
    for (; *at && !strchr(ends, *at); at++) {
        const char c = (char)tolower((unsigned char)*at);
        const unsigned digit = isdigit((unsigned char)c) ? (unsigned)(c - '0')
                               : c >= 'a' && c <= 'f'    ? (unsigned)(c - 'a') + 10
                                                         : 16;
        if (digit >= base || *number > UINT64_MAX / 16 - 1)
            return false;
        *number = *number * base + digit;
    }
    return at > text;
}

static int take_field(struct keepalive *self, char *line, struct response *response)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line)
        return fail(self, "Upstream.BadResponse", "\"%.40s\" is no field", line);
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t end = strlen(value); end > 0 && strchr(" \t", value[end - 1]); end--)
        value[end - 1] = '\0';
    if (strcasecmp(line, "content-length") == 0) {
        uint64_t length;
        if (!take_number(value, 10, "", &length) || (response->has_length && response->length != length))
            return fail(self, "Upstream.BadResponse", "Content-Length %.40s", value);
        response->has_length = true;
        response->length = length;
    } else if (strcasecmp(line, "transfer-encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || response->chunked)
            return fail(self, "Upstream.BadResponse", "Transfer-Encoding %.40s; chunked is what is read here",
                        value);
        response->chunked = true;
    } else if (strcasecmp(line, "connection") == 0) {
        response->closes = strcasecmp(value, "keep-alive") == 0 ? false
                           : strcasecmp(value, "close") == 0    ? true
                                                                : response->closes;
    }
    return 0;
}

static int take_fields(struct keepalive *self, struct response *response)
{
    char *line;
    for (int count = 0; count <= FIELDS_MAX; count++) {
        if (take_line(self, &line) < 0)
            return -1;
        if (!*line)
            return 0;
        if (take_field(self, line, response) < 0)
            return -1;
    }
    return fail(self, "Upstream.BadResponse", "more than %d fields", FIELDS_MAX);
}

static int take_head(struct keepalive *self, struct response *response)
{
    for (int count = 0; count <= INTERIM_MAX; count++) {
        if (take_status(self, response) < 0 || take_fields(self, response) < 0)
            return -1;
        if (response->status == 101)
            return fail(self, "Upstream.BadResponse", "status 101 was not asked for");
        if (response->status < 200)
            continue;
        if (response->chunked && response->has_length)
            return fail(self, "Upstream.BadResponse", "both Content-Length and Transfer-Encoding");
        if (response->status == 204 || response->status == 304) { /* neither has a body */
            response->chunked = false;
            response->has_length = true;
            response->length = 0;
        }
        return 0;
    }
    return fail(self, "Upstream.BadResponse", "more than %d interim responses", INTERIM_MAX);
}

/* ---- its body ---- */

static int copy(struct keepalive *self, uint64_t size, uint64_t *total, struct function_reply *reply)
{
    if (size > BODY_BYTES - *total)
        return fail(self, "Upstream.BadResponse", "a body of more than %d bytes", BODY_BYTES);
    *total += size;
    while (size > 0) {
        if (self->at == self->end && fill(self) < 0)
            return -1;
        const size_t there = self->end - self->at;
        const size_t step = there < size ? there : (size_t)size;
        (void)function_reply_write(reply, self->buffer + self->at, step); /* a failure sticks */
        self->at += step;
        size -= step;
    }
    return 0;
}

static int copy_chunks(struct keepalive *self, struct function_reply *reply)
{
    struct response trailer = {0};
    uint64_t size = 1, total = 0;
    char *line;
    while (size > 0) {
        if (take_line(self, &line) < 0)
            return -1;
        if (!take_number(line, 16, " \t;", &size))
            return fail(self, "Upstream.BadResponse", "\"%.40s\" is no size of a chunk", line);
        if (copy(self, size, &total, reply) < 0)
            return -1;
        if (size > 0 && take_line(self, &line) < 0)
            return -1;
        if (size > 0 && *line)
            return fail(self, "Upstream.BadResponse", "a chunk longer than it says");
    }
    return take_fields(self, &trailer);
}

/* A body without a length ends with its connection. */
static int copy_rest(struct keepalive *self, struct function_reply *reply)
{
    uint64_t total = 0;
    int error = 0;
    while (error == 0) {
        error = copy(self, self->end - self->at, &total, reply);
        if (error == 0)
            error = fill(self);
    }
    return self->ended ? 0 : -1;
}

/* ---- an event ---- */

static int exchange(struct keepalive *self, const struct function_event *event, struct function_reply *reply)
{
    struct response response;
    self->came = self->lost = self->ended = false;
    self->error_type = NULL;
    if (self->fd < 0 && call(self) < 0)
        return -1;
    if (send_request(self, event->data, (int)event->size) < 0 || take_head(self, &response) < 0)
        return -1;
    (void)function_reply_printf(reply, "status %u\nrequests %u\nconnections %u\nreconnects %u\n\n",
                                response.status, self->requests, self->connections, self->reconnects);
    uint64_t total = 0;
    const bool has_end = response.chunked || response.has_length;
    const int error = response.chunked      ? copy_chunks(self, reply)
                      : response.has_length ? copy(self, response.length, &total, reply)
                                            : copy_rest(self, reply);
    if (error == 0 && (response.closes || !has_end || self->at != self->end)) /* or more than was asked for */
        hang_up(self);
    return error;
}

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    struct keepalive *self = context;
    const char *path = event->data;
    bool good = event->size <= PATH_BYTES;
    for (size_t i = 0; good && i < event->size; i++)
        good = path[i] > ' ' && path[i] < 0x7f;
    if (!good) {
        function_reply_fail(reply, "Keepalive.BadEvent",
                            "the event is no path: want up to %d printable characters without blanks",
                            PATH_BYTES);
        return 1;
    }
    self->deadline_ns = event->deadline_ns;
    int error = exchange(self, event, reply);
    if (error && self->lost && !self->came) {
        hang_up(self);
        self->reconnects++;
        error = exchange(self, event, reply);
    }
    if (error == 0)
        return 0;
    hang_up(self); /* what more of the response comes is not to be taken for the next one's */
    function_reply_fail(reply, self->error_type, "%s", self->error_text);
    return 1;
}

/* So that the first event of a clone finds a connection. Without one the first event tries again, and tells.
 */
static int prepare(void *context)
{
    struct keepalive *self = context;
    if (call(self) < 0)
        fprintf(stderr, "keepalive: %s\n", self->error_text);
    return 0;
}

int main(void)
{
    static struct keepalive self = {.fd = -1};
    static const struct function function = {.init = prepare, .handle = handle, .context = &self};
    return function_run(&function);
}
