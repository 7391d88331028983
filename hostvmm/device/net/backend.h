/*
 * Back ends of the network device (virtio/net.h has their contract).
 *
 *   tap      a TAP device by name, or by a descriptor that somebody else opened (so that hostvmm needs no
 *            privilege): IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, header of 12 bytes, offloads as negotiated.
 *            A name that does not exist is an error: hostvmm makes no interfaces
 *   stream   a Unix stream socket that speaks the framing of passt and of QEMU's stream netdev: each frame
 *            behind its length in 4 bytes, big-endian. No offloads
 *
 * Opening logs what is wrong and what to do. 0 or -errno; on success the backend is ready and nonblocking.
 */
#ifndef HOSTVMM_DEVICE_NET_BACKEND_H
#define HOSTVMM_DEVICE_NET_BACKEND_H

#include "hostvmm/device/virtio/net.h"

int net_tap_open(struct net_backend *backend, const char *name);
/* `fd` is owned from now on, also when this fails; it is checked to be a TAP device in the mode above. */
int net_tap_take(struct net_backend *backend, int fd);
int net_stream_open(struct net_backend *backend, const char *path);
/* The same over a connected socket, owned from now on (tests). */
int net_stream_take(struct net_backend *backend, int fd);
/* A wire that ends in the air: what is sent is swallowed, with any offloads. */
int net_none_open(struct net_backend *backend);

#endif
