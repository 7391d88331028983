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
/* Take a transport reset as far as the guest lets it. Before serve_rx: it may let connections go on. */
void vsock_guest_serve_event(struct virtio_vsock *vsock);

#endif
