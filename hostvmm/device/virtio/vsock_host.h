/*
 * The host's side of the socket device: Unix sockets. With the transport's lock held, on the loop's thread.
 * Nothing here destroys a connection but where it says so.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_VSOCK_HOST_H
#define HOSTVMM_DEVICE_VIRTIO_VSOCK_HOST_H

#include "hostvmm/device/virtio/vsock_connection.h"

/* Bind and listen on the path; see virtio_vsock_init. */
int vsock_host_listen(struct virtio_vsock *vsock, const char *path);
void vsock_host_unlisten(struct virtio_vsock *vsock);
/* Accept or do not, as gate, driver and descriptors have it. */
void vsock_host_listener_update(struct virtio_vsock *vsock);

/* Connect to who listens for the guest's `port`. A descriptor or -errno. */
int vsock_host_dial(const struct virtio_vsock *vsock, uint32_t port);

/* Give the connection its descriptor, owned by it from now on also on failure. 0 or -errno. */
int vsock_host_attach(struct vsock_connection *connection, int fd);
/* Ask the loop for the events the connection's state calls for. */
void vsock_host_interest(struct vsock_connection *connection);

/* Pass `size` bytes from the guest on, or keep what the socket does not take. 0 or -ENOMEM. */
int vsock_host_deliver(struct vsock_connection *connection, struct iovec *list, unsigned count,
                       uint32_t size);
/* Read up to `size` bytes for the guest. The count; 0: nothing for now, or the end (in ->shut). */
uint32_t vsock_host_read(struct vsock_connection *connection, const struct iovec *list, unsigned count,
                         uint32_t size);
/* The guest accepted: tell the client, if it is one that waits for that. */
void vsock_host_say_ok(struct vsock_connection *connection);
/* The guest will not send (or receive) any more: pass it on as far as it is due. */
void vsock_host_guest_shut(struct vsock_connection *connection);
/* The guest ended the connection. Bytes it sent before still go to the host; else it is destroyed. */
void vsock_host_end(struct vsock_connection *connection);

#endif
