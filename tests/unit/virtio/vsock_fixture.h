/*
 * A socket device with a guest on one side and Unix sockets on the other, and the steps its tests share. The
 * guest here is passive: it collects packets and sends what a test tells it to.
 */
#ifndef TESTS_UNIT_VIRTIO_VSOCK_FIXTURE_H
#define TESTS_UNIT_VIRTIO_VSOCK_FIXTURE_H

#include <linux/virtio_vsock.h>

#include "hostvmm/device/virtio/vsock.h"
#include "tests/unit/virtio/guest.h"

#define GUEST_CID    42u
#define HEADER_BYTES 44u

struct packet {
    struct virtio_vsock_hdr header;
    const uint8_t *payload; /* in the receive buffer, until the next packet is taken */
};

struct vsock_fixture {
    char directory[32];
    char path[64];
    struct loop loop;
    struct guest guest;
    struct virtio_vsock vsock;
    struct guest_queue rx, tx, event;
    uint32_t rx_bytes; /* size of each receive buffer */
    unsigned rx_count;
    uint64_t rx_buffers; /* 128 places of 64 KiB + header */
    uint64_t tx_buffer;
    bool indirect;
    uint32_t buffer_bytes; /* what the guest says of its credit in what it sends */
    uint32_t forwarded;
};

int vsock_fixture_setup(void **state);
int vsock_fixture_teardown(void **state);

/* Driver up with `rx_count` receive buffers of `rx_bytes`; gate as it is. */
void vsock_bring_up(struct vsock_fixture *f, unsigned rx_count, uint32_t rx_bytes);
/* Run the loop until it is idle. Fails the test when it never is: something spins. */
void vsock_settle(struct vsock_fixture *f);
bool vsock_broken(struct vsock_fixture *f);

/* The next packet to the guest, after settling; its buffer is posted again when the next one is asked for. */
bool vsock_take(struct vsock_fixture *f, struct packet *packet);
/* As that, and it must be there, of this op and for this connection. */
void vsock_expect(struct vsock_fixture *f, struct packet *packet, uint16_t op, uint32_t host_port,
                  uint32_t guest_port);
void vsock_expect_nothing(struct vsock_fixture *f);

/* Send a packet as it stands, `size` bytes after the header, and settle. */
void vsock_send_raw(struct vsock_fixture *f, const struct virtio_vsock_hdr *header, const void *payload,
                    uint32_t size);
void vsock_send(struct vsock_fixture *f, uint16_t op, uint32_t host_port, uint32_t guest_port,
                const void *payload, uint32_t size);
void vsock_send_shutdown(struct vsock_fixture *f, uint32_t host_port, uint32_t guest_port, uint32_t flags);

/* A client of the Unix socket; nonblocking. */
int vsock_client(struct vsock_fixture *f, const char *greeting);
/* A client connected to the guest's `port`, answered, its OK line read. */
int vsock_client_open(struct vsock_fixture *f, uint32_t port, uint32_t *host_port);
/* Listen where a guest's connection to `port` goes. */
int vsock_listen(struct vsock_fixture *f, uint32_t port);

/* Bytes there to be read now (0: none), or -1 at the end or on an error. */
int64_t vsock_read(int fd, void *to, size_t size);

#endif
