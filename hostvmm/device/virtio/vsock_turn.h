/*
 * The frame of every handler of the socket device on the loop's thread: lock, look whether the driver reset
 * the device meanwhile; work; hand what is left to a later turn, unlock.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_VSOCK_TURN_H
#define HOSTVMM_DEVICE_VIRTIO_VSOCK_TURN_H

#include "hostvmm/device/virtio/vsock.h"

/* Takes the lock. False when connections had to be dropped: the handler's own may be gone. */
bool vsock_turn_begin(struct virtio_vsock *vsock);
/* `more_rx`: vsock_guest_serve_rx has a further turn's work. Releases the lock. */
void vsock_turn_end(struct virtio_vsock *vsock, bool more_rx);

#endif
