/*
 * A function that speaks the channel by hand and breaks it as it is told to: what the library never would do.
 *
 * The event is a word and an optional number. How its init goes is read from the file "mode" in its
 * directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/proto/frame.h"

static int channel;
static struct frame_reader reader;
static struct proto_message incoming;
static char event[PROTO_PAYLOAD_MAX_BYTES + 1];
static char id[PROTO_ID_MAX_BYTES + 1];

static void say(const struct proto_message *message)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    if (size < 0 || fd_write_all(channel, frame, (size_t)size) < 0)
        _exit(90);
}

static bool next(void)
{
    struct proto_slice body;
    int got;
    while ((got = frame_reader_next(&reader, &body)) == 0) {
        size_t room;
        uint8_t *space = frame_reader_space(&reader, &room);
        const ssize_t n = read(channel, space, room);
        if (n <= 0)
            return false;
        frame_reader_fill(&reader, (size_t)n);
    }
    const char *why;
    if (got < 0 || proto_decode(body.data, body.size, &incoming, &why) < 0 || incoming.type != PROTO_INVOKE)
        _exit(91);
    return true;
}

static void respond_to(const char *to, const void *data, uint32_t size)
{
    struct proto_message fragment = {.type = PROTO_RESPONSE, .u.response = {.id = proto_text(to)}};
    uint32_t offset = 0;
    do {
        offset += payload_fragment(&fragment, data, size, offset);
        say(&fragment);
    } while (offset < size);
}

static void respond(const char *text)
{
    respond_to(id, text, (uint32_t)strlen(text));
}

static void raise_default(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

/* An answer that announces more than the protocol allows: the codec would not encode it. */
static void respond_too_large(void)
{
    uint8_t frame[1024];
    struct proto_message fragment = {
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(id), .total_bytes = 0x00410203, .body = {(const uint8_t *)"x", 1}}};
    const int64_t size = proto_encode(&fragment, frame, sizeof frame);
    uint8_t *total = size > 0 ? memmem(frame, (size_t)size, "\x00\x41\x02\x03", 4) : NULL;
    if (!total)
        _exit(92);
    total[1] = 0x7f;
    (void)fd_write_all(channel, frame, (size_t)size);
}

static void respond_with_gap(void)
{
    struct proto_message fragment = {
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(id), .total_bytes = 9, .body = {(const uint8_t *)"abc", 3}}};
    say(&fragment);
    fragment.u.response.offset_bytes = 6;
    say(&fragment);
}

static void fail_event(const char *to)
{
    const struct proto_message error = {
        .type = PROTO_ERROR,
        .u.error = {.id = proto_text(to),
                    .failure = {.type = proto_text("Test.Failed"),
                                .message = proto_text("as told"),
                                .stack = {proto_text("first"), proto_text("second")},
                                .stack_count = 2}},
    };
    say(&error);
}

/* What the process is allowed, for the test to compare. */
static void respond_with_surroundings(void)
{
    char text[4096], directory[256] = "", open_fds[64] = "";
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            (void)snprintf(open_fds + strlen(open_fds), sizeof open_fds - strlen(open_fds), "%d,", fd);
    (void)snprintf(text, sizeof text, "uid=%d gid=%d groups=%d nnp=%d session=%d cwd=%s home=%s fds=%s",
                   (int)geteuid(), (int)getegid(), getgroups(0, NULL), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
                   getsid(0) == getpid(), getcwd(directory, sizeof directory) ? directory : "?",
                   getenv("HOME"), open_fds);
    respond(text);
}

static void fork_sleeper(void)
{
    if (fork() == 0) {
        for (;;)
            pause();
    }
}

static void flood(long bytes)
{
    char line[1000];
    memset(line, 'f', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (long left = bytes; left > 0; left -= (long)sizeof line)
        (void)!write(STDOUT_FILENO, line, left < (long)sizeof line ? (size_t)left : sizeof line);
}

static void obey(uint32_t size)
{
    char word[32] = "";
    long number = 0;
    (void)sscanf(event, "%31s %ld", word, &number);
    if (strcmp(word, "crash") == 0)
        raise_default(SIGSEGV);
    else if (strcmp(word, "exit") == 0)
        _exit((int)number);
    else if (strcmp(word, "hang") == 0)
        for (;;)
            pause();
    else if (strcmp(word, "twice") == 0)
        respond("once"), respond("twice");
    else if (strcmp(word, "twice-open") == 0) /* the second is only begun */
        respond("once"), (void)fd_write_all(channel, "\0", 1);
    else if (strcmp(word, "other") == 0)
        respond_to("somebody-else", "x", 1);
    else if (strcmp(word, "too-large") == 0)
        respond_too_large();
    else if (strcmp(word, "gap") == 0)
        respond_with_gap();
    else if (strcmp(word, "garbage") == 0)
        (void)fd_write_all(channel, "\xff\xff\xff\xff\xff\xff", 6);
    else if (strcmp(word, "hello") == 0)
        say(&(struct proto_message){
            .type = PROTO_HELLO,
            .u.hello = {.version = 1, .name = proto_text("rude"), .state = PROTO_STATE_STARTING}});
    else if (strcmp(word, "close") == 0) {
        close(channel);
        for (;;)
            pause();
    } else if (strcmp(word, "fork-exit") == 0) {
        fork_sleeper();
        _exit((int)number);
    } else if (strcmp(word, "answer-exit") == 0) {
        respond("last words");
        _exit(0);
    } else if (strcmp(word, "flood") == 0) {
        flood(number);
        respond("flooded");
    } else if (strcmp(word, "print") == 0) {
        (void)!write(STDOUT_FILENO, "to stdout\n", 10);
        (void)!write(STDERR_FILENO, "to stderr\n", 10);
        respond("printed");
    } else if (strcmp(word, "print-crash") == 0) {
        (void)!write(STDERR_FILENO, "last line\n", 10);
        raise_default(SIGABRT);
    } else if (strcmp(word, "error") == 0)
        fail_event(id);
    else if (strcmp(word, "give-up") == 0) {
        fail_event("");
        _exit(FUNCTION_EXIT_CHANNEL);
    } else if (strcmp(word, "surroundings") == 0)
        respond_with_surroundings();
    else if (strcmp(word, "reopen") == 0) {
        FILE *out = fopen("/dev/stdout", "w");
        respond(out && fputs("reopened\n", out) >= 0 && fclose(out) == 0 ? "reopened" : strerror(errno));
    } else
        respond_to(id, event, size);
}

static void read_mode(char *mode, size_t capacity)
{
    FILE *file = fopen("mode", "r");
    if (!file || !fgets(mode, (int)capacity, file))
        mode[0] = '\0';
    if (file)
        fclose(file);
}

static void begin(void)
{
    char mode[32];
    read_mode(mode, sizeof mode);
    if (strcmp(mode, "exit") == 0)
        _exit(7);
    if (strcmp(mode, "crash") == 0)
        raise_default(SIGILL);
    struct proto_message message = {
        .type = PROTO_HELLO,
        .u.hello = {.version = 1, .name = proto_text("rude"), .state = PROTO_STATE_STARTING}};
    if (strcmp(mode, "mute") != 0)
        say(&message);
    if (strcmp(mode, "hang") == 0)
        for (;;)
            pause();
    message = (struct proto_message){.type = PROTO_INIT, .u.init = {.state = PROTO_STATE_READY}};
    if (strcmp(mode, "fail") == 0) {
        message.u.init.state = PROTO_STATE_FAILED;
        message.u.init.failure.type = proto_text("Test.NoInit");
        message.u.init.failure.message = proto_text("no database");
    }
    say(&message);
    if (strcmp(mode, "fail") == 0)
        _exit(FUNCTION_EXIT_INIT);
}

/* One event, whole; "early" in its first bytes answers before the rest is read. False at the end. */
static bool take_event(uint32_t *size)
{
    uint32_t have = 0;
    do {
        if (!next())
            return false;
        memcpy(event + have, incoming.u.invoke.body.data, incoming.u.invoke.body.size);
        have += (uint32_t)incoming.u.invoke.body.size;
        (void)snprintf(id, sizeof id, "%.*s", (int)incoming.u.invoke.id.size,
                       (const char *)incoming.u.invoke.id.data);
        if (have < incoming.u.invoke.total_bytes && strncmp(event, "early", 5) == 0)
            respond("too early");
    } while (have < incoming.u.invoke.total_bytes);
    event[have] = '\0';
    *size = have;
    return true;
}

int main(void)
{
    const char *number = getenv(FUNCTION_ENV_FD);
    if (!number)
        return FUNCTION_EXIT_USAGE;
    channel = atoi(number);
    begin();
    uint32_t size;
    while (take_event(&size))
        obey(size);
    return FUNCTION_EXIT_OK;
}
