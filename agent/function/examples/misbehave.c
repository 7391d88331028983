/*
 * misbehave: does on request what a function must not do, to show that the agent survives it and says what
 * happened. The event is one line, "WHAT [NUMBER or PATH]"; the rows of `deeds` say what there is.
 * Those against the guest, and not the agent's protocol, are in misbehave_guest.c.
 *
 * A file "init-mode" next to the program holds one of "exit N", "crash", "abort", "hang", "fail", "silent" to
 * misbehave before the first event instead. Deeds on the channel itself go around the library, with the codec
 * or raw bytes, on a duplicate of the socket taken before function_run() claims it.
 */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/examples/misbehave.h"
#include "agent/function/function.h"
#include "agent/proto/frame.h"

static int channel_fd = -1;
static char init_mode[64];

static void hang(void)
{
    for (;;)
        pause();
}

static void crash(void)
{
    /* A page that may not be written: a true fault, and nothing for a compiler to reason away. */
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = 1;
}

static int do_ok(struct call *call)
{
    return function_reply_write(call->reply, "ok", 2);
}

static int do_crash(struct call *call)
{
    (void)call;
    crash();
    return 0;
}

static int do_abort(struct call *call)
{
    (void)call;
    abort();
}

static int do_exit(struct call *call)
{
    exit((int)call->number);
}

static int do_hang(struct call *call)
{
    (void)call;
    puts("hanging"); /* for whoever waits until it does */
    fflush(stdout);
    hang();
    return 0;
}

/* Fork until it fails, or NUMBER times (100,000 when not said). The children stay until the answer is out. */
static int do_fork(struct call *call)
{
    const unsigned long most = call->number ? call->number : 100000;
    int hold[2];
    if (pipe(hold) < 0)
        return -errno;
    unsigned long made = 0;
    int error = 0;
    for (; made < most; made++) {
        const pid_t child = fork();
        if (child == 0) {
            char byte;
            close(hold[1]);
            (void)!read(hold[0], &byte, 1); /* until the parent lets go, or is gone */
            _exit(0);
        }
        if (child < 0) {
            error = errno;
            break;
        }
    }
    close(hold[0]);
    close(hold[1]);
    for (unsigned long i = 0; i < made; i++)
        (void)wait(NULL);
    return function_reply_printf(call->reply, "forked %lu: %s", made,
                                 error ? strerror(error) : "no limit met");
}

/* A child that outlives the answer, holding the channel and both outputs open. */
static int do_orphan(struct call *call)
{
    const pid_t child = fork();
    if (child == 0)
        hang();
    return child < 0 ? -errno : function_reply_printf(call->reply, "orphan %d", (int)child);
}

/* One RESPONSE in one frame, past the library. Its size, or -errno. */
static int64_t make_response(const char *id, const char *text, uint8_t *frame, size_t capacity)
{
    const struct proto_slice body = proto_text(text);
    const struct proto_message message = {
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(id), .total_bytes = (uint32_t)body.size, .body = body},
    };
    return proto_encode(&message, frame, capacity);
}

/* Both answers in one write, so that they arrive together and not during a later event. */
static int do_twice(struct call *call)
{
    uint8_t frames[512];
    const int64_t first = make_response(call->event->request_id, "first", frames, sizeof frames);
    if (first < 0)
        return (int)first;
    const int64_t second =
        make_response(call->event->request_id, "second", frames + first, sizeof frames - (size_t)first);
    const int error = second < 0 ? (int)second : fd_write_all(channel_fd, frames, (size_t)(first + second));
    return error ? error : do_hang(call);
}

static int do_other(struct call *call)
{
    uint8_t frame[512];
    const int64_t size = make_response("some-other-request", "not yours", frame, sizeof frame);
    const int error = size < 0 ? (int)size : fd_write_all(channel_fd, frame, (size_t)size);
    return error ? error : function_reply_write(call->reply, "yours", 5);
}

/* Past the limit: the library refuses, and the function learns so. */
static int do_large(struct call *call)
{
    static char block[65536];
    for (size_t size = 0; size <= FUNCTION_PAYLOAD_MAX_BYTES; size += sizeof block) {
        const int error = function_reply_write(call->reply, block, sizeof block);
        if (error)
            return error;
    }
    return 0;
}

/* The same past the library: a frame that announces 6,291,557 bytes, which the codec would not make. */
static int do_large_raw(struct call *call)
{
    static const uint8_t tail[] = {0x05, 0x1a, 0x00, 0x60, 0x00, 0x65, 0x06, 0x00, 0x17, 0x41, 'x'};
    uint8_t frame[128] = {0, 0, 0, 0, 0xa5, 0x00, 0x04, 0x02};
    size_t size = 8;
    const size_t id = strlen(call->event->request_id);
    if (id >= 24)
        frame[size++] = 0x78;
    frame[size++] = (uint8_t)(id >= 24 ? id : 0x60 | id);
    memcpy(frame + size, call->event->request_id, id);
    size += id;
    memcpy(frame + size, tail, sizeof tail);
    size += sizeof tail;
    frame[3] = (uint8_t)(size - PROTO_HEADER_BYTES);
    const int error = fd_write_all(channel_fd, frame, size);
    return error ? error : do_hang(call);
}

/* An answer of exactly NUMBER bytes. */
static int do_answer(struct call *call)
{
    static char block[65536];
    memset(block, 'a', sizeof block);
    for (size_t left = call->number; left > 0;) {
        const size_t step = left < sizeof block ? left : sizeof block;
        const int error = function_reply_write(call->reply, block, step);
        if (error)
            return error;
        left -= step;
    }
    return 0;
}

/* An answer NUMBER milliseconds after the deadline. */
static int do_late(struct call *call)
{
    const uint64_t when_ns = call->event->deadline_ns + call->number * UINT64_C(1000000);
    const struct timespec when = {.tv_sec = (time_t)(when_ns / 1000000000u),
                                  .tv_nsec = (long)(when_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
    return function_reply_write(call->reply, "late", 4);
}

/* NUMBER KiB (16 MiB when not said) of lines on stdout, then the answer. */
static int do_flood(struct call *call)
{
    const unsigned long lines = (call->number ? call->number : 16384) * 16;
    for (unsigned long i = 0; i < lines; i++)
        printf("flood %056lu\n", i); /* 63 bytes */
    return function_reply_printf(call->reply, "flooded %lu lines", lines);
}

static int do_print(struct call *call)
{
    printf("to standard output\n");
    fprintf(stderr, "to standard error\n");
    printf("without an end of line");
    return function_reply_write(call->reply, "printed", 7);
}

static int do_garbage(struct call *call)
{
    (void)call;
    static const uint8_t frame[] = {0, 0, 0, 5, 0xff, 0xfe, 0xfd, 0xfc, 0xfb};
    const int error = fd_write_all(channel_fd, frame, sizeof frame);
    return error ? error : do_hang(call);
}

static int do_header(struct call *call)
{
    const int error = fd_write_all(channel_fd, "GET / HTTP/1.1\r\n\r\n", 18);
    return error ? error : do_hang(call);
}

/* The first half of an answer, then nothing (NUMBER 0: waits, 1: exits). */
static int do_half(struct call *call)
{
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    static uint8_t data[100000];
    struct proto_message part = {.type = PROTO_RESPONSE,
                                 .u.response.id = proto_text(call->event->request_id)};
    (void)payload_fragment(&part, data, sizeof data, 0);
    const int64_t size = proto_encode(&part, frame, sizeof frame);
    const int error = size < 0 ? (int)size : fd_write_all(channel_fd, frame, (size_t)size);
    if (!error && call->number)
        exit(0);
    return error ? error : do_hang(call);
}

static int do_close(struct call *call)
{
    (void)call;
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    hang();
    return 0;
}

static int do_fail(struct call *call)
{
    function_reply_write(call->reply, "dropped", 7);
    function_reply_fail(call->reply, "Custom.Failure", "failed on request, number %lu", call->number);
    return 0;
}

static int do_return(struct call *call)
{
    return (int)call->number;
}

static int do_whoami(struct call *call)
{
    gid_t groups[32];
    const int count = getgroups(32, groups);
    char cgroup[256] = "";
    const int64_t size = fd_read_file("/proc/self/cgroup", cgroup, sizeof cgroup - 1);
    if (size > 0)
        cgroup[strcspn(cgroup, "\n")] = '\0';
    return function_reply_printf(call->reply, "uid=%d gid=%d groups=%d pid=%d cgroup=%s", (int)getuid(),
                                 (int)getgid(), count, (int)getpid(), cgroup);
}

static const struct deed {
    const char *name;
    int (*act)(struct call *call);
} deeds[] = {
    {"ok", do_ok},           {"crash", do_crash},         {"abort", do_abort},
    {"exit", do_exit},       {"hang", do_hang},           {"fork", do_fork},
    {"orphan", do_orphan},   {"twice", do_twice},         {"other", do_other},
    {"large", do_large},     {"large-raw", do_large_raw}, {"answer", do_answer},
    {"late", do_late},       {"flood", do_flood},         {"print", do_print},
    {"garbage", do_garbage}, {"header", do_header},       {"half", do_half},
    {"close", do_close},     {"fail", do_fail},           {"return", do_return},
    {"whoami", do_whoami},   {"leak", do_leak},           {"spin", do_spin},
    {"fill", do_fill},       {"files", do_files},         {"descriptors", do_descriptors},
    {"buffers", do_buffers}, {"noise", do_noise},         {"killall", do_killall},
    {"read", do_read},       {"write", do_write},         {"list", do_list},
    {"escape", do_escape},
};

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    char text[128];
    char name[sizeof text], path[sizeof text] = "";
    snprintf(text, sizeof text, "%.*s", (int)(event->size < sizeof text ? event->size : sizeof text - 1),
             (const char *)event->data);
    if (sscanf(text, "%127s %127s", name, path) < 1)
        name[0] = '\0';
    struct call call = {.event = event, .reply = reply, .number = strtoul(path, NULL, 10), .path = path};
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
        if (strcmp(deeds[i].name, name) == 0)
            return deeds[i].act(&call);
    function_reply_fail(reply, "Misbehave.Unknown", "no deed '%s'; see misbehave.c", name);
    return 0;
}

static int init(void *context)
{
    (void)context;
    int code = 0;
    if (sscanf(init_mode, "exit %d", &code) == 1)
        exit(code);
    if (strcmp(init_mode, "crash") == 0)
        crash();
    if (strcmp(init_mode, "abort") == 0)
        abort();
    if (strcmp(init_mode, "hang") == 0)
        hang();
    if (strcmp(init_mode, "fail") == 0)
        return 3;
    return 0;
}

/* "init-mode" in the directory of the program, first line; empty when there is none. */
static void read_init_mode(const char *program)
{
    const char *slash = strrchr(program, '/');
    char path[512];
    snprintf(path, sizeof path, "%.*sinit-mode", slash ? (int)(slash - program) + 1 : 0, program);
    const int64_t size = fd_read_file(path, init_mode, sizeof init_mode - 1);
    if (size < 0)
        init_mode[0] = '\0';
    init_mode[strcspn(init_mode, "\n")] = '\0';
}

int main(int argc, char **argv)
{
    read_init_mode(argc > 0 ? argv[0] : "");
    const char *channel = getenv(FUNCTION_ENV_FD);
    if (channel)
        channel_fd = dup((int)strtol(channel, NULL, 10));
    if (strcmp(init_mode, "silent") == 0)
        hang(); /* not even a hello */
    static const struct function function = {.init = init, .handle = handle};
    return function_run(&function);
}
