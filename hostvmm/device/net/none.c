/*
 * A back end that leads nowhere: what is sent is swallowed, nothing ever comes. It takes every offload, so
 * that any guest can be restored over it: rehearsals and audits need a network as little as they need its
 * privileges.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/device/net/backend.h"

#define BIT(feature) (1ull << (feature))

static int swallow(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    (void)backend;
    (void)parts;
    (void)count;
    return 0;
}

static int64_t nothing(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    (void)backend;
    (void)parts;
    (void)count;
    return -EAGAIN;
}

static void close_none(struct net_backend *backend)
{
    fd_close(&backend->fd);
}

static const struct net_backend_ops ops = {
    .name = "none",
    .features = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
                BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_UFO) |
                BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
                BIT(VIRTIO_NET_F_HOST_UFO),
    .send = swallow,
    .receive = nothing,
    .close = close_none,
};

int net_none_open(struct net_backend *backend)
{
    *backend = (struct net_backend){.ops = &ops, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return backend->fd < 0 ? -errno : 0;
}
