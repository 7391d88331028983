/*
 * The guest's side of the socket device: packets taken from and put into the rings. With the transport's
 * lock held, on the loop's thread, while the device is serving.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_VSOCK_GUEST_H
#define HOSTVMM_DEVICE_VIRTIO_VSOCK_GUEST_H

#include "hostvmm/device/virtio/vsock.h"

enum { VSOCK_QUEUE_RX, VSOCK_QUEUE_TX, VSOCK_QUEUE_EVENT, VSOCK_QUEUE_COUNT };

/* A turn's worth of the guest's packets / of packets for the guest. Whether a further turn is needed that no
 * event will start. */
bool vsock_guest_serve_tx(struct virtio_vsock *vsock);
bool vsock_guest_serve_rx(struct virtio_vsock *vsock);
/* Tell a pending transport reset, if the guest has given a buffer for it. */
void vsock_guest_serve_event(struct virtio_vsock *vsock);

#endif
