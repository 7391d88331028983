/* See fake.h. A failed step aborts the test program: a broken fake proves nothing. */
#include "tests/unit/control/fake.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"

static void must(bool held, const char *what)
{
    if (!held) {
        fprintf(stderr, "fake agent: %s\n", what);
        abort();
    }
}

static void *pair_thread(void *context)
{
    struct fake *fake = context;
    fake->script(fake);
    return NULL;
}

static void *vm_thread(void *context)
{
    struct fake *fake = context;
    fake->fd = accept(fake->listen_fd, NULL, NULL);
    must(fake->fd >= 0, "accept");
    char line[64] = {0};
    for (size_t i = 0; i < sizeof line - 1; i++) {
        if (read(fake->fd, line + i, 1) != 1)
            return NULL; /* the client went away: its own test says whether it should */
        if (line[i] == '\n')
            break;
    }
    must(strcmp(line, "CONNECT 1024\n") == 0, "CONNECT");
    fake_send_bytes(fake, "OK 1073741824\n", 14);
    fake->script(fake);
    return NULL;
}

void fake_pair(struct fake *fake, int *client_fd, void (*script)(struct fake *fake))
{
    int fds[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
    memset(fake, 0, sizeof *fake);
    fake->fd = fds[0];
    fake->listen_fd = -1;
    fake->script = script;
    frame_reader_init(&fake->in);
    must(fd_set_nonblock(fds[1]) == 0, "nonblock");
    *client_fd = fds[1];
    must(pthread_create(&fake->thread, NULL, pair_thread, fake) == 0, "thread");
}

void fake_vm(struct fake *fake, const char *path, void (*script)(struct fake *fake))
{
    memset(fake, 0, sizeof *fake);
    fake->fd = -1;
    fake->script = script;
    frame_reader_init(&fake->in);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    (void)unlink(path);
    fake->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    must(fake->listen_fd >= 0, "socket");
    must(bind(fake->listen_fd, (const struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(fake->listen_fd, 4) == 0, "listen");
    must(pthread_create(&fake->thread, NULL, vm_thread, fake) == 0, "thread");
}

void fake_join(struct fake *fake)
{
    must(pthread_join(fake->thread, NULL) == 0, "join");
    fd_close(&fake->fd);
    fd_close(&fake->listen_fd);
}

void fake_send_bytes(struct fake *fake, const void *data, size_t size)
{
    (void)fd_write_all(fake->fd, data, size); /* the client may have had enough: its test says so */
}

void fake_send(struct fake *fake, const struct proto_message *message)
{
    static _Thread_local uint8_t frame[PROTO_FRAME_MAX_BYTES];
    const int64_t size = proto_encode(message, frame, sizeof frame);
    must(size > 0, "encode");
    fake_send_bytes(fake, frame, (size_t)size);
}

bool fake_receive(struct fake *fake, struct proto_message *message)
{
    for (;;) {
        struct proto_slice body;
        const char *why;
        const int got = frame_reader_next(&fake->in, &body);
        must(got >= 0, "frame size");
        if (got > 0) {
            must(proto_decode(body.data, body.size, message, &why) == 0, "decode");
            return true;
        }
        size_t room;
        uint8_t *space = frame_reader_space(&fake->in, &room);
        ssize_t n = read(fake->fd, space, room);
        if (n <= 0)
            return false;
        frame_reader_fill(&fake->in, (size_t)n);
    }
}

void fake_hello(struct fake *fake, enum proto_state state)
{
    struct proto_message message;
    must(fake_receive(fake, &message) && message.type == PROTO_HELLO, "the client's hello first");
    must(message.u.hello.version == PROTO_VERSION, "the client's version");
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("fake 1"), .state = state},
    };
    fake_send(fake, &hello);
}

void fake_log(struct fake *fake, const char *id, const char *text)
{
    const struct proto_message message = {
        .type = PROTO_LOG,
        .u.log = {.id = proto_text(id), .stream = PROTO_STREAM_STDOUT, .body = proto_text(text)},
    };
    fake_send(fake, &message);
}

void fake_error(struct fake *fake, const char *id, const char *type, const char *text)
{
    const struct proto_message message = {
        .type = PROTO_ERROR,
        .u.error = {.id = proto_text(id),
                    .failure = {.type = proto_text(type),
                                .message = proto_text(text),
                                .stack = {proto_text("main.c:1"), proto_text("crt.c:2")},
                                .stack_count = 2}},
    };
    fake_send(fake, &message);
}

void fake_response(struct fake *fake, const char *id, const void *data, uint32_t size)
{
    uint32_t offset = 0;
    do {
        struct proto_message message = {.type = PROTO_RESPONSE, .u.response = {.id = proto_text(id)}};
        offset += payload_fragment(&message, data, size, offset);
        fake_send(fake, &message);
    } while (offset < size);
}

uint32_t fake_take_event(struct fake *fake, void *into, char *id)
{
    struct payload_assembly payload;
    payload_reset(&payload);
    for (;;) {
        struct proto_message message;
        const char *why = "";
        must(fake_receive(fake, &message) && message.type == PROTO_INVOKE, "an event's fragment");
        if (payload.id[0] == '\0')
            must(payload_begin(&payload, &message, &why) == 0, "first fragment");
        const int step = payload_add(&payload, &message, into, &why);
        must(step >= 0, "fragment in order");
        if (step == PAYLOAD_COMPLETE)
            break;
    }
    memcpy(id, payload.id, sizeof payload.id);
    return payload.total_bytes;
}
