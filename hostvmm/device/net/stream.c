/*
 * The stream back end: see backend.h. Each frame goes behind its length in 4 bytes, big-endian.
 *
 * Sending keeps what the socket did not take of a frame (the peer has seen its length by then), and sends it
 * before anything else. Receiving asks in one call for the rest of the frame and the next one's length, so
 * that a peer that keeps up costs one call a frame, and no copy. A frame that has not come whole is kept
 * here, and the rest of it is read here: where it was to go may be gone when the rest comes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/net/backend.h"

#define LENGTH_BYTES 4u
#define PARTS_MAX    514u

struct stream {
    uint8_t length[LENGTH_BYTES]; /* of the frame that comes next, or is coming */
    size_t length_bytes;          /* that came of it */
    size_t frame_bytes;           /* that came of the frame; in `in` when not 0 */
    size_t out_at, out_end;       /* what is to be sent of `out` */
    uint8_t in[VIRTIO_NET_FRAME_MAX];
    uint8_t out[LENGTH_BYTES + VIRTIO_NET_FRAME_MAX];
};

static void put_be32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static size_t sum(const struct iovec *parts, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

/* Copy between a list and a buffer: the list from `skip` on. */
static void gather(const struct iovec *parts, unsigned count, size_t skip, uint8_t *to)
{
    for (unsigned i = 0; i < count; i++) {
        if (skip >= parts[i].iov_len) {
            skip -= parts[i].iov_len;
            continue;
        }
        memcpy(to, (const uint8_t *)parts[i].iov_base + skip, parts[i].iov_len - skip);
        to += parts[i].iov_len - skip;
        skip = 0;
    }
}

static void scatter(const struct iovec *parts, unsigned count, const uint8_t *from, size_t size)
{
    for (unsigned i = 0; i < count && size > 0; i++) {
        const size_t here = parts[i].iov_len < size ? parts[i].iov_len : size;
        memcpy(parts[i].iov_base, from, here);
        from += here;
        size -= here;
    }
}

typedef __typeof__(((struct msghdr *)0)->msg_iovlen) parts_count; /* libcs do not agree on it */

/* One sendmsg. The bytes taken, or -errno. */
static ssize_t send_parts(int fd, struct iovec *parts, unsigned count)
{
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = (parts_count)count};
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* One recvmsg. The bytes that came, or -errno; the end of the stream is an error. */
static ssize_t receive_parts(int fd, struct iovec *parts, unsigned count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (parts_count)count};
    ssize_t came;
    do
        came = recvmsg(fd, &message, MSG_DONTWAIT);
    while (came < 0 && errno == EINTR);
    if (came == 0)
        return -ECONNRESET;
    return came < 0 ? -errno : came;
}

static int stream_flush(struct net_backend *backend)
{
    struct stream *stream = backend->state;
    while (stream->out_at < stream->out_end) {
        struct iovec rest = {.iov_base = stream->out + stream->out_at,
                             .iov_len = stream->out_end - stream->out_at};
        const ssize_t sent = send_parts(backend->fd, &rest, 1);
        if (sent < 0)
            return (int)sent;
        stream->out_at += (size_t)sent;
    }
    backend->holding = false;
    return 0;
}

static int stream_send(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    struct stream *stream = backend->state;
    uint8_t length[LENGTH_BYTES];
    struct iovec list[PARTS_MAX];
    const size_t size = sum(parts + 1, count - 1);
    if (count > PARTS_MAX || size == 0 || size > VIRTIO_NET_FRAME_MAX)
        return 1;
    const int error = backend->holding ? stream_flush(backend) : 0;
    if (error)
        return error;
    put_be32(length, (uint32_t)size);
    list[0] = (struct iovec){.iov_base = length, .iov_len = LENGTH_BYTES}; /* for the offload header */
    memcpy(list + 1, parts + 1, (count - 1) * sizeof *parts);
    const ssize_t sent = send_parts(backend->fd, list, count);
    if (sent < 0)
        return (int)sent;
    if ((size_t)sent < LENGTH_BYTES + size) {
        gather(list, count, (size_t)sent, stream->out);
        stream->out_at = 0;
        stream->out_end = LENGTH_BYTES + size - (size_t)sent;
        backend->holding = true;
    }
    return 0;
}

/* The length of the frame that is coming, or -errno. */
static int64_t coming(struct net_backend *backend)
{
    struct stream *stream = backend->state;
    while (stream->length_bytes < LENGTH_BYTES) {
        struct iovec rest = {.iov_base = stream->length + stream->length_bytes,
                             .iov_len = LENGTH_BYTES - stream->length_bytes};
        const ssize_t came = receive_parts(backend->fd, &rest, 1);
        if (came < 0)
            return came;
        stream->length_bytes += (size_t)came;
    }
    const uint32_t length = get_be32(stream->length);
    if (length > 0 && length <= VIRTIO_NET_FRAME_MAX)
        return length;
    log_error("stream: the peer says a frame of %u bytes comes, where 1 to %u can be: is it passt's framing?",
              length, VIRTIO_NET_FRAME_MAX);
    return -EPROTO;
}

/* The front `size` bytes of a list, then the next frame's length. The entries. */
static unsigned cut(const struct iovec *parts, unsigned count, size_t size, struct iovec *list,
                    uint8_t *next_length)
{
    unsigned entries = 0;
    for (unsigned i = 0; i < count && size > 0; i++) {
        list[entries] = parts[i];
        if (list[entries].iov_len > size)
            list[entries].iov_len = size;
        size -= list[entries++].iov_len;
    }
    list[entries++] = (struct iovec){.iov_base = next_length, .iov_len = LENGTH_BYTES};
    return entries;
}

static int64_t stream_receive(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    struct stream *stream = backend->state;
    uint8_t next_length[LENGTH_BYTES];
    struct iovec list[PARTS_MAX];
    const int64_t length = coming(backend);
    if (length < 0)
        return length;
    const size_t size = (size_t)length, before = stream->frame_bytes;
    if (count >= PARTS_MAX || sum(parts + 1, count - 1) < size)
        return -EMSGSIZE; /* the caller's mistake */
    const struct iovec here = {.iov_base = stream->in + before, .iov_len = size - before};
    const unsigned entries = before > 0 ? cut(&here, 1, size - before, list, next_length)
                                        : cut(parts + 1, count - 1, size, list, next_length);
    const ssize_t came = receive_parts(backend->fd, list, entries);
    if (came < 0)
        return came;
    if (before + (size_t)came < size) {
        if (before == 0) {
            list[entries - 1].iov_len = 0;
            struct iovec *last = list;
            size_t left = (size_t)came;
            for (; left > last->iov_len; last++)
                left -= last->iov_len;
            last->iov_len = left;
            gather(list, (unsigned)(last - list) + 1, 0, stream->in);
        }
        stream->frame_bytes = before + (size_t)came;
        return -EAGAIN;
    }
    if (before > 0)
        scatter(parts + 1, count - 1, stream->in, size);
    memset(parts[0].iov_base, 0, parts[0].iov_len);
    stream->frame_bytes = 0;
    stream->length_bytes = before + (size_t)came - size;
    memcpy(stream->length, next_length, stream->length_bytes);
    return (int64_t)(parts[0].iov_len + size);
}

static void stream_close(struct net_backend *backend)
{
    fd_close(&backend->fd);
    free(backend->state);
    backend->state = NULL;
}

static const struct net_backend_ops ops = {
    .name = "stream",
    .send = stream_send,
    .flush = stream_flush,
    .receive = stream_receive,
    .close = stream_close,
};

int net_stream_take(struct net_backend *backend, int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    struct stream *stream = NULL;
    int error = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ? -errno : 0;
    if (error || type != SOCK_STREAM) {
        log_error("stream: descriptor %d is no stream socket", fd);
        error = error ? error : -EPROTOTYPE;
        goto out;
    }
    if ((error = fd_set_nonblock(fd)) < 0 || (error = fd_set_cloexec(fd, 1)) < 0)
        goto out;
    stream = malloc(sizeof *stream); /* its buffers are touched when a frame is cut, and rarely then */
    if (!stream) {
        error = -ENOMEM;
        goto out;
    }
    stream->length_bytes = stream->frame_bytes = stream->out_at = stream->out_end = 0;
    *backend = (struct net_backend){.ops = &ops, .fd = fd, .state = stream};
out:
    if (error)
        fd_close(&fd);
    return error;
}

int net_stream_open(struct net_backend *backend, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof address.sun_path) {
        log_error("stream %s: the path of a Unix socket has 1 to %zu bytes", path,
                  sizeof address.sun_path - 1);
        return -EINVAL;
    }
    memcpy(address.sun_path, path, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        const int error = -errno;
        log_error("stream %s: cannot connect: %s: start passt first (`passt --socket %s`), one for each VM",
                  path, strerror(-error), path);
        fd_close(&fd);
        return error;
    }
    return net_stream_take(backend, fd);
}
