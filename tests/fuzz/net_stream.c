/*
 * libFuzzer target: the framed stream of a network back end, from a peer that says anything in pieces of any
 * size. What is received is compared with the frames that a plain walk over the same bytes finds.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/net/backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t frame[VIRTIO_NET_FRAME_MAX];

/* The size of the frame at `at`, 0: it cannot be, SIZE_MAX: not whole within `end`. */
static size_t frame_at(const uint8_t *data, size_t at, size_t end)
{
    if (end - at < 4)
        return SIZE_MAX;
    const uint32_t size =
        (uint32_t)data[at] << 24 | (uint32_t)data[at + 1] << 16 | (uint32_t)data[at + 2] << 8 | data[at + 3];
    if (size == 0 || size > VIRTIO_NET_FRAME_MAX)
        return 0;
    return end - at - 4 < size ? SIZE_MAX : size;
}

/* Receive all there is, of the bytes from *at to `end`. Whether it can go on. */
static int receive_all(struct net_backend *backend, const uint8_t *data, size_t *at, size_t end)
{
    for (;;) {
        uint8_t header[VIRTIO_NET_HEADER_BYTES];
        const size_t first = 1 + *at % 99; /* the guest's buffers have any size */
        const struct iovec parts[] = {
            {header, sizeof header}, {frame, first}, {frame + first, sizeof frame - first}};
        const size_t wanted = frame_at(data, *at, end);
        const int64_t size = backend->ops->receive(backend, parts, 3);
        if (wanted == SIZE_MAX || wanted == 0) {
            if (size != (wanted ? -EAGAIN : -EPROTO))
                abort();
            return wanted != 0;
        }
        if (size != (int64_t)(sizeof header + wanted) || memcmp(frame, data + *at + 4, wanted) != 0)
            abort();
        *at += 4 + wanted;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_backend backend;
    int pair[2];
    log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    if (size < 4 || size > 4096)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        net_stream_take(&backend, pair[0]) < 0)
        abort();
    /* The first bytes say how the others are cut. */
    uint32_t cut = (uint32_t)data[0] << 8 | data[1];
    size_t at = 2, end = 2;
    int more = 1;
    while (more && end < size) {
        cut = cut * 1103515245u + 12345u;
        size_t piece = 1 + (cut >> 16) % (1u + data[0]);
        if (piece > size - end)
            piece = size - end;
        if (send(pair[1], data + end, piece, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)piece)
            abort();
        end += piece;
        more = receive_all(&backend, data, &at, end);
    }
    backend.ops->close(&backend);
    close(pair[1]);
    return 0;
}
