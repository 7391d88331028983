/*
 * keeper: a function that keeps connections of its manifest's open, told what to do with them by its events,
 * for tests and measurements. One command an event; a line of text is the answer, an error is the
 * invocation's with the reason in it.
 *
 *   open NAME COUNT     keep COUNT descriptors of function_connect(); GET /open on each. "opened COUNT"
 *   unix NAME           one more, by /run/connections/NAME
 *   tcp PORT            one more, by 127.0.0.1
 *   get PATH TIMES      TIMES requests on each kept descriptor: "N answered, M failed", and why the first
 *   write TEXT          these bytes, on the first one: a part of a request
 *   begin PATH          a request on the first one, of whose answer only the first byte is read
 *   read                what the first one gives now: "N bytes", "end" or "error TEXT"
 *   close               all of them
 *   time NAME PATH      function_connect(), one request, its first byte: "ns NANOSECONDS", and keep it
 *   try NAME            function_connect() and a request: "answered: TEXT", or "failed: REASON" and what
 *                       /run/connections/NAME.error says
 *   probe PATH          from now on after_restore sends a request on each descriptor and waits for the
 *                       first bytes of all answers
 *   report              of that: "ns NANOSECONDS, N answered, M failed"
 *   send HOST PORT N    N MiB over TCP to there, until the peer has closed: "ns NANOSECONDS"
 *   take HOST PORT N    N MiB from there
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/function/function.h"

#define KEPT_MAX      64
#define ANSWER_BYTES  4096
#define WHY_BYTES     256
#define LIMIT_SECONDS 30 /* for each wait on a socket */
#define MIB           (1u << 20)

struct keeper {
    int kept[KEPT_MAX];
    unsigned count;
    char probe[128];
    char report[WHY_BYTES + 128];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void limit_waits(int fd)
{
    const struct timeval limit = {.tv_sec = LIMIT_SECONDS};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* ---- HTTP ---- */

static int send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        const ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0)
            return -errno;
        bytes += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static int request(int fd, const char *path)
{
    char text[256];
    const int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: peer\r\n\r\n", path);
    return send_all(fd, text, (size_t)size);
}

/* A whole answer: its body, cut to `room`, NUL-terminated. 0 or -errno; -ENODATA: the stream ended. */
static int response(int fd, char *body, size_t room)
{
    char text[ANSWER_BYTES + 1];
    size_t have = 0, wanted = 0;
    for (;;) {
        const ssize_t got = recv(fd, text + have, ANSWER_BYTES - have, 0);
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        have += (size_t)got;
        text[have] = '\0';
        const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\nContent-Length:");
        if (end && (!length || length > end || strncmp(text, "HTTP/1.1 200 ", 13) != 0))
            return -EBADMSG;
        if (end)
            wanted = (size_t)(end + 4 - text) + strtoul(length + 17, NULL, 10);
        if (end && have >= wanted) {
            if (body)
                (void)snprintf(body, room, "%s", end + 4);
            return have == wanted ? 0 : -EBADMSG;
        }
        if (have == ANSWER_BYTES)
            return -EMSGSIZE;
    }
}

static int exchange(int fd, const char *path, char *body, size_t room)
{
    const int error = request(fd, path);
    return error ? error : response(fd, body, room);
}

/* ---- opening ---- */

static int keep(struct keeper *self, int fd)
{
    if (fd < 0)
        return fd;
    if (self->count == KEPT_MAX) {
        close(fd);
        return -ENFILE;
    }
    limit_waits(fd);
    self->kept[self->count++] = fd;
    return 0;
}

static int open_unix(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/run/connections/%s", name);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        const int error = -errno;
        close(fd);
        return error;
    }
    return fd < 0 ? -errno : fd;
}

static int open_tcp(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, host, &address.sin_addr);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        const int error = -errno;
        close(fd);
        return error;
    }
    if (fd >= 0)
        limit_waits(fd);
    return fd < 0 ? -errno : fd;
}

/* ---- commands ---- */

struct command {
    struct keeper *self;
    const char *words[4]; /* the last one to the event's end */
    struct function_reply *reply;
};

static int failed(const struct command *command, const char *what, int error, const char *why)
{
    function_reply_fail(command->reply, "Keeper.Failed", "%s: %s%s%s", what, strerror(-error),
                        *why ? ": " : "", why);
    return 1;
}

static int do_open(const struct command *command)
{
    const unsigned count = (unsigned)strtoul(command->words[2], NULL, 10);
    char why[WHY_BYTES] = "";
    for (unsigned i = 0; i < count; i++) {
        int error = keep(command->self, function_connect(command->words[1], why, sizeof why));
        if (!error)
            error = exchange(command->self->kept[command->self->count - 1], "/open", NULL, 0);
        if (error)
            return failed(command, "open", error, why);
    }
    return function_reply_printf(command->reply, "opened %u\n", count);
}

static int do_one(const struct command *command)
{
    const bool tcp = strcmp(command->words[0], "tcp") == 0;
    int error =
        keep(command->self, tcp ? open_tcp("127.0.0.1", command->words[1]) : open_unix(command->words[1]));
    if (!error)
        error = exchange(command->self->kept[command->self->count - 1], "/open", NULL, 0);
    return error ? failed(command, command->words[0], error, "")
                 : function_reply_printf(command->reply, "opened 1\n");
}

static int do_get(const struct command *command)
{
    const unsigned times = (unsigned)strtoul(command->words[2], NULL, 10);
    unsigned answered = 0, failures = 0;
    char why[WHY_BYTES] = "";
    for (unsigned time = 0; time < times; time++)
        for (unsigned i = 0; i < command->self->count; i++) {
            const int error = exchange(command->self->kept[i], command->words[1], NULL, 0);
            if (error && !*why)
                (void)snprintf(why, sizeof why, ": request %u on %u: %s", time + 1, i + 1, strerror(-error));
            answered += error == 0;
            failures += error != 0;
        }
    return function_reply_printf(command->reply, "%u answered, %u failed%s\n", answered, failures, why);
}

static int do_write(const struct command *command)
{
    const int error = send_all(command->self->kept[0], command->words[1], strlen(command->words[1]));
    return error ? failed(command, "write", error, "") : function_reply_printf(command->reply, "written\n");
}

static int do_begin(const struct command *command)
{
    char first;
    int error = request(command->self->kept[0], command->words[1]);
    if (!error && recv(command->self->kept[0], &first, 1, 0) != 1)
        error = errno ? -errno : -ENODATA;
    return error ? failed(command, "begin", error, "") : function_reply_printf(command->reply, "begun\n");
}

static int do_read(const struct command *command)
{
    char bytes[ANSWER_BYTES];
    const ssize_t got = recv(command->self->kept[0], bytes, sizeof bytes, 0);
    if (got < 0)
        return function_reply_printf(command->reply, "error %s\n", strerror(errno));
    return got == 0 ? function_reply_printf(command->reply, "end\n")
                    : function_reply_printf(command->reply, "%zd bytes\n", got);
}

static int do_close(const struct command *command)
{
    while (command->self->count > 0)
        close(command->self->kept[--command->self->count]);
    return function_reply_printf(command->reply, "closed\n");
}

static int do_time(const struct command *command)
{
    char why[WHY_BYTES] = "", first;
    const uint64_t start = now_ns();
    int error = keep(command->self, function_connect(command->words[1], why, sizeof why));
    const int fd = error ? -1 : command->self->kept[command->self->count - 1];
    if (!error)
        error = request(fd, command->words[2]);
    if (!error && recv(fd, &first, 1, MSG_PEEK) != 1)
        error = errno ? -errno : -ENODATA;
    const uint64_t took = now_ns() - start;
    if (!error)
        error = response(fd, NULL, 0);
    return error ? failed(command, "time", error, why)
                 : function_reply_printf(command->reply, "ns %" PRIu64 "\n", took);
}

/* What the agent left for those who came by another way than function_connect(). */
static void add_error_file(struct function_reply *reply, const char *name)
{
    char path[128], text[WHY_BYTES];
    (void)snprintf(path, sizeof path, "/run/connections/%s.error", name);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(text, sizeof text, file))
        function_reply_printf(reply, "file: %s\n", text);
    (void)fclose(file);
}

static int do_try(const struct command *command)
{
    char why[WHY_BYTES] = "", body[WHY_BYTES];
    const int fd = function_connect(command->words[1], why, sizeof why);
    int error = fd < 0 ? fd : 0;
    if (!error) {
        limit_waits(fd);
        error = exchange(fd, "/try", body, sizeof body);
        close(fd);
    }
    if (!error)
        return function_reply_printf(command->reply, "answered: %s", body);
    function_reply_printf(command->reply, "failed: %s (%s)\n", *why ? why : "no reason", strerror(-error));
    add_error_file(command->reply, command->words[1]);
    return 0;
}

static int do_probe(const struct command *command)
{
    (void)snprintf(command->self->probe, sizeof command->self->probe, "%s", command->words[1]);
    return function_reply_printf(command->reply, "probing\n");
}

static int do_report(const struct command *command)
{
    return function_reply_printf(command->reply, "%s\n", command->self->report);
}

static int do_bulk(const struct command *command)
{
    static char bytes[65536];
    const bool sends = strcmp(command->words[0], "send") == 0;
    char host[64];
    unsigned port = 0, mib = 0;
    if (sscanf(command->words[1], "%63s", host) != 1 || sscanf(command->words[3], "%u", &mib) != 1 ||
        sscanf(command->words[2], "%u", &port) != 1)
        return failed(command, "bulk", -EINVAL, "");
    const int fd = open_tcp(host, command->words[2]);
    if (fd < 0)
        return failed(command, host, fd, "");
    const uint64_t start = now_ns();
    uint64_t left = (uint64_t)mib * MIB;
    int error = 0;
    while (!error && left > 0) {
        const ssize_t moved =
            sends ? send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) : recv(fd, bytes, sizeof bytes, 0);
        if (moved <= 0)
            error = moved < 0 ? -errno : -ENODATA;
        else
            left -= (uint64_t)moved < left ? (uint64_t)moved : left;
    }
    /* Sent is what the peer has: it closes when it has seen our end. */
    if (!error && sends && (shutdown(fd, SHUT_WR) < 0 || recv(fd, bytes, 1, 0) != 0))
        error = -errno;
    const uint64_t took = now_ns() - start;
    close(fd);
    return error ? failed(command, "bulk", error, "")
                 : function_reply_printf(command->reply, "ns %" PRIu64 "\n", took);
}

/* ---- the function ---- */

/* All requests first, so that the connections come up side by side. */
static int probe(void *context, uint64_t generation)
{
    struct keeper *self = context;
    const uint64_t start = now_ns();
    unsigned answered = 0;
    char why[WHY_BYTES] = "", first;
    (void)generation;
    if (!self->probe[0])
        return 0;
    for (unsigned i = 0; i < self->count; i++)
        (void)request(self->kept[i], self->probe);
    for (unsigned i = 0; i < self->count; i++)
        if (recv(self->kept[i], &first, 1, MSG_PEEK) == 1)
            answered++;
        else if (!*why)
            (void)snprintf(why, sizeof why, ": %u: %s", i + 1, strerror(errno));
    const uint64_t took = now_ns() - start;
    for (unsigned i = 0; i < self->count; i++)
        if (response(self->kept[i], NULL, 0) && !*why)
            (void)snprintf(why, sizeof why, ": %u: a bad answer", i + 1);
    (void)snprintf(self->report, sizeof self->report, "ns %" PRIu64 ", %u answered, %u failed%s", took,
                   answered, self->count - answered, why);
    return 0;
}

static const struct {
    const char *name;
    unsigned words;
    bool needs_one; /* a kept descriptor */
    int (*act)(const struct command *command);
} commands[] = {
    {"open", 3, false, do_open}, {"unix", 2, false, do_one},    {"tcp", 2, false, do_one},
    {"get", 3, false, do_get},   {"write", 2, true, do_write},  {"begin", 2, true, do_begin},
    {"read", 1, true, do_read},  {"close", 1, false, do_close}, {"time", 3, false, do_time},
    {"try", 2, false, do_try},   {"probe", 2, false, do_probe}, {"report", 1, false, do_report},
    {"send", 4, false, do_bulk}, {"take", 4, false, do_bulk},
};

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    struct command command = {.self = context, .reply = reply};
    char text[512];
    unsigned words = 0;
    if (event->size >= sizeof text)
        return failed(&command, "event", -EMSGSIZE, "");
    memcpy(text, event->data, event->size);
    text[event->size] = '\0';
    for (char *rest = text; rest && words < 4; words++) {
        command.words[words] = rest;
        /* What `write` writes may hold blanks. */
        rest = words == 1 && strcmp(command.words[0], "write") == 0 ? NULL : strchr(rest, ' ');
        if (rest)
            *rest++ = '\0';
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(command.words[0], commands[i].name) != 0)
            continue;
        if (words != commands[i].words || (commands[i].needs_one && command.self->count == 0))
            return failed(&command, text, -EINVAL, "");
        return commands[i].act(&command);
    }
    return failed(&command, text, -ENOSYS, "");
}

int main(void)
{
    static struct keeper self = {.report = "no probe"};
    static const struct function function = {.handle = handle, .after_restore = probe, .context = &self};
    return function_run(&function);
}
