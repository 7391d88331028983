/* See wire.h. */
#include "agent/function/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"

_Static_assert(PROTO_ID_MAX_BYTES + PROTO_ERROR_TYPE_MAX_BYTES + PROTO_ERROR_TEXT_MAX_BYTES +
                       PROTO_STACK_MAX * (PROTO_STACK_ENTRY_MAX_BYTES + 3) + 72 <=
                   sizeof((struct wire *)NULL)->head,
               "the largest error does not fit the buffer for heads");

int wire_open(struct wire *wire)
{
    const char *text = getenv(FUNCTION_ENV_FD);
    if (!text)
        return -ENOENT;
    char *end;
    errno = 0;
    const long fd = strtol(text, &end, 10);
    int type = 0;
    socklen_t size = sizeof type;
    if (errno || end == text || *end != '\0' || fd < 0 || fd > INT_MAX ||
        getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
        return -EINVAL;
    const int flags = fcntl((int)fd, F_GETFL);
    if (flags < 0 || fcntl((int)fd, F_SETFL, flags & ~O_NONBLOCK) < 0 || fd_set_cloexec((int)fd, 1) < 0)
        return -EINVAL;
    (void)unsetenv(FUNCTION_ENV_FD); /* fails only for a name with '=' in it */
    wire->fd = (int)fd;
    frame_reader_init(&wire->reader);
    return 0;
}

int wire_send(struct wire *wire, const struct proto_message *message)
{
    const int64_t head = proto_encode_head(message, wire->head, sizeof wire->head);
    if (head < 0)
        return (int)head;
    const struct proto_slice body = proto_body(message);
    struct iovec parts[] = {{wire->head, (size_t)head}, {(void *)(uintptr_t)body.data, body.size}};
    struct msghdr out = {.msg_iov = parts, .msg_iovlen = 2};
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        const ssize_t n = sendmsg(wire->fd, &out, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        size_t sent = (size_t)n;
        for (size_t i = 0; i < 2; i++) {
            const size_t step = sent < parts[i].iov_len ? sent : parts[i].iov_len;
            if (step == 0) /* a message without a body has no place for one either */
                continue;
            parts[i].iov_base = (uint8_t *)parts[i].iov_base + step;
            parts[i].iov_len -= step;
            sent -= step;
        }
    }
    return 0;
}

int wire_receive(struct wire *wire, struct proto_message *message, const char **why)
{
    for (;;) {
        struct proto_slice body;
        const int got = frame_reader_next(&wire->reader, &body);
        if (got > 0)
            return proto_decode(body.data, body.size, message, why) < 0 ? -EBADMSG : 1;
        *why = "a frame announces an impossible length";
        if (got < 0)
            return got;
        size_t room;
        uint8_t *space = frame_reader_space(&wire->reader, &room);
        const ssize_t n = read(wire->fd, space, room);
        if (n > 0) {
            frame_reader_fill(&wire->reader, (size_t)n);
        } else if (n == 0) {
            *why = "closed in the middle of a frame";
            return frame_reader_idle(&wire->reader) ? 0 : -EPIPE;
        } else if (errno != EINTR) {
            *why = "reading failed";
            return -errno;
        }
    }
}
