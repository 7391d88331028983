/*
 * A network interface (virtio 1.2, section 5.1): one pair of queues, no control queue.
 *
 * Frames move on a thread of the device's own, which sleeps in poll() on the notify descriptors and the back
 * end, and is started and joined as virtio-blk's is. The back end is a TAP device, which takes the guest's
 * offload header as it is, or a Unix stream (passt's framing), which takes whole plain frames: then no
 * offloads are on offer. Data moves between the back end and guest memory without a copy in between, but for
 * the tail of a received frame that is longer than those before it.
 *
 * Back-pressure. What the host cannot take now waits in the guest's ring. While the guest has no buffers the
 * back end is not read: frames wait there, and its own bound decides (a TAP's queue drops, a stream's sender
 * waits). One frame that turned out longer than the buffers at hand waits in `buffer`. A save leaves it out,
 * as it leaves out what waits in the back end: a network loses frames, and a clone must not get the
 * original's.
 *
 * What is dropped, and counted: frames too short or too long to be any, with an offload header that is not
 * sane or not negotiated; received ones that fit no buffers the guest can give. Descriptors in the wrong
 * direction and buffers too small for a header break the device until its reset. A back end that is gone
 * takes the link down and is not polled again.
 *
 * Limits (rate.h), for each direction its own. A frame to send costs its size, and stays in the guest's ring
 * until its bucket allows it. The size of one to receive is known when it was read, so it is read as soon as
 * there is a token, and the rest becomes debt; until then it waits in the back end. What is dropped while the
 * gate is shut or the link down costs nothing; the announcement that opens it waits for nothing.
 *
 * The gate. A clone wakes with the addresses of the original, and its kernel may have frames of the
 * original's connections to send. So the interface of a clone starts shut: what the guest sends is dropped,
 * what arrives is dropped. It opens, for good, at the first frame by which the guest announces itself under
 * this clone's MAC address: a gratuitous ARP (RFC 5227) or an unsolicited neighbour advertisement (RFC 4861,
 * 7.2.6). The agent sends these, in one queue with all that follows, once the old connections are destroyed
 * and the new addresses set. What waits in the back end at that moment came for whoever was there before, and
 * is dropped first. No twin is ever seen on the wire, whatever the guest did before that.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_NET_H
#define HOSTVMM_DEVICE_VIRTIO_NET_H

#include <linux/virtio_net.h>
#include <pthread.h>

#include "hostvmm/device/rate.h"
#include "hostvmm/device/virtio/mmio.h"

#define VIRTIO_NET_MAC_BYTES    6
#define VIRTIO_NET_HEADER_BYTES 12u            /* struct virtio_net_hdr_v1 */
#define VIRTIO_NET_FRAME_MAX    (65535u + 14u) /* with its Ethernet header, without the offload header */

/*
 * Where frames go. All calls come on the device's thread, or while it does not run; the descriptor is
 * nonblocking. In both directions parts[0] is the offload header, whole and alone (12 bytes), and the frame
 * is behind it. Neither function keeps the list or changes it.
 */
struct net_backend;
struct net_backend_ops {
    const char *name;
    uint64_t features; /* VIRTIO_NET_F_* bits it can take, beyond those of the device itself */
    /* The driver chose these features: set the offloads. 0 or -errno. May be NULL. */
    int (*configure)(struct net_backend *backend, uint64_t driver_features);
    /*
     * Send one frame. 0 sent; 1 dropped: the host does not take it; -EAGAIN: not now, poll for POLLOUT and
     * offer the same again; another -errno: the back end is gone.
     */
    int (*send)(struct net_backend *backend, const struct iovec *parts, unsigned count);
    /* Go on with what a send kept back. 0 nothing is left, -EAGAIN, -errno as above. NULL: keeps nothing. */
    int (*flush)(struct net_backend *backend);
    /* The next frame into parts with room for VIRTIO_NET_FRAME_MAX. Its size with the header, -EAGAIN, or
     * -errno as above. */
    int64_t (*receive)(struct net_backend *backend, const struct iovec *parts, unsigned count);
    void (*close)(struct net_backend *backend);
};
struct net_backend {
    const struct net_backend_ops *ops;
    int fd;       /* to poll */
    bool holding; /* send kept a part of the last frame back: poll for POLLOUT and flush */
    void *state;  /* the back end's own, allocated; NULL: none */
};

struct virtio_net_counts { /* atomic: read by others for metrics */
    uint64_t tx_frames, tx_bytes, tx_dropped;
    uint64_t rx_frames, rx_bytes, rx_dropped;
};

struct virtio_net_plan {
    uint8_t mac[VIRTIO_NET_MAC_BYTES];
    uint16_t mtu; /* 0: 1500, and the guest is not told */
    bool shut;    /* a clone's: the gate above */
};

struct virtio_net {
    struct virtio_device device; /* first */
    struct net_backend backend;
    struct virtio_net_config config;
    struct virtio_net_counts counts;
    struct rate rx_rate;
    struct rate tx_rate;
    uint64_t rx_wait_ns; /* the device's thread: until the next frame may pass; 0: none waits for that */
    uint64_t tx_wait_ns;
    bool open;          /* the gate; atomic */
    bool link_up;       /* atomic */
    bool gone;          /* the back end failed for good; the device thread's, as are those below */
    bool tx_blocked;    /* the back end took no more: wait until it does */
    bool rx_starved;    /* a frame or the back end waits for the guest's buffers */
    bool serve_by_hand; /* set before DRIVER_OK: no thread, the owner calls virtio_net_serve (tests) */
    bool thread_running;
    int stopping; /* atomic */
    pthread_t thread;
    uint8_t *buffer;       /* allocated: one received frame on its way into the guest's ring */
    size_t buffered_bytes; /* waiting in it, header included */
    unsigned rx_window;    /* chains that the next frame is read into */
};

/* The back end is owned by the device from now on, also when this fails. 0 or -errno. */
int virtio_net_init(struct virtio_net *net, const struct guest_memory *memory,
                    const struct net_backend *backend, const struct virtio_net_plan *plan);
void virtio_net_fini(struct virtio_net *net);

/* Link state as the guest sees it (VIRTIO_NET_F_STATUS); nothing passes while it is down. Any thread. */
void virtio_net_set_link(struct virtio_net *net, bool up);

/* Any thread; the limits are valid, and count from the next frame on. NULL: they stay as they are. */
void virtio_net_set_rate(struct virtio_net *net, const struct rate_limits *rx, const struct rate_limits *tx);

/*
 * Save and load. Features, MTU and what the driver negotiated are the snapshot's; a load is refused when the
 * back end given now cannot take the offloads that the guest negotiated then. MAC address and gate are those
 * of the plan, not the snapshot's: a clone is another station.
 */
void virtio_net_save(struct virtio_net *net, struct state_writer *out, const char *key);
void virtio_net_load(struct virtio_net *net, struct state_reader *in, const char *key);

/* Serve whatever waits in both directions, on the thread that owns the queues. */
void virtio_net_serve(struct virtio_net *net);

#endif
