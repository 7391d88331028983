/*
 * The network device under a test: a back end in memory, that the test fills, blocks and breaks, and a driver
 * with receive buffers of a chosen size.
 */
#ifndef TESTS_UNIT_VIRTIO_NET_FIXTURE_H
#define TESTS_UNIT_VIRTIO_NET_FIXTURE_H

#include "hostvmm/device/virtio/net.h"
#include "tests/unit/virtio/guest.h"

#define NET_RX      0
#define NET_TX      1

#define WIRE_FRAMES 512

struct wire_frame {
    uint8_t *data; /* allocated: header and frame */
    size_t size;
};

/* The back end: what was sent, and what will be received. */
struct wire {
    struct wire_frame sent[WIRE_FRAMES], coming[WIRE_FRAMES];
    unsigned sent_count, coming_count, coming_at;
    unsigned sends_left; /* then EAGAIN */
    int send_error, receive_error, configure_error;
    uint64_t configured; /* the driver's features, as told */
    unsigned receives;   /* how often it was asked */
    bool closed;
    struct net_backend_ops ops;
};

struct net_fixture {
    struct guest guest;
    struct wire wire;
    struct virtio_net net;
    struct guest_queue rx, tx;
    uint64_t tx_at, rx_at; /* guest memory for frames */
    uint64_t features;     /* that the driver takes */
};

extern const uint8_t net_mac[VIRTIO_NET_MAC_BYTES];

#define NET_OFFLOADS                                                                                         \
    (1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 |          \
     1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6)

int net_fixture_setup(void **state);
int net_fixture_teardown(void **state);

/* A device over the wire, served by hand. `features`: the back end's. */
void net_start(struct net_fixture *f, uint64_t features, const struct virtio_net_plan *plan);
/* The same over another back end, served by its thread. */
void net_start_over(struct net_fixture *f, const struct net_backend *backend, bool by_hand);
void net_bring_up(struct net_fixture *f);
void net_stop(struct net_fixture *f);

/* Queue a frame behind `header` (NULL: zeros) for the device to send; of bytes that follow from `seed`. */
uint16_t net_queue_frame(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, size_t size,
                         uint8_t seed);
/* These very bytes. */
uint16_t net_queue_bytes(struct net_fixture *f, const uint8_t *frame, size_t size);
/* Give the device `count` receive buffers of `size` bytes each. */
void net_give_buffers(struct net_fixture *f, unsigned count, uint32_t size);
/* A frame comes over the wire, with a header of these flags. */
void net_coming(struct net_fixture *f, size_t size, uint8_t seed, uint8_t flags);
/* Take one received frame out of the ring and check its bytes; the number of buffers it came in. */
unsigned net_take_frame(struct net_fixture *f, size_t size, uint8_t seed);
/* Whether the device says it needs a reset. */
bool net_broken(struct net_fixture *f);
/* The last frame that was sent is this one. */
void net_assert_sent(struct net_fixture *f, unsigned index, size_t size, uint8_t seed);
uint8_t net_byte(size_t at, uint8_t seed);

#endif
