/*
 * The parts of the network device behind net.h: the two directions and the gate. All on the device's thread.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_NET_PARTS_H
#define HOSTVMM_DEVICE_VIRTIO_NET_PARTS_H

#include "hostvmm/device/virtio/net.h"

enum { NET_RX_QUEUE, NET_TX_QUEUE, NET_QUEUES };
#define NET_QUEUE_SIZE     VIRTQ_SIZE_MAX
#define NET_FRAME_MIN      14u  /* an Ethernet header */
#define NET_BATCH_FRAMES   64u  /* in one direction, before the other has its turn */
#define NET_ANNOUNCE_BYTES 128u /* no announcement is longer */

/* One turn in a direction: at most NET_BATCH_FRAMES. Whether more waits that could move now. */
bool net_tx_turn(struct virtio_net *net);
bool net_rx_turn(struct virtio_net *net);
/* Read and drop what waits in the back end, up to a bound. */
void net_rx_drain(struct virtio_net *net);

/* Whether a whole frame announces the station `mac`: see the gate in net.h. Pure. */
bool net_gate_announces(const uint8_t *mac, const uint8_t *frame, size_t size);

/* The back end failed with `error` (-errno): link down, for good. */
void net_gone(struct virtio_net *net, int error);

static inline bool net_stopping(const struct virtio_net *net)
{
    return __atomic_load_n(&net->stopping, __ATOMIC_ACQUIRE) != 0;
}

/* Whether frames pass: the gate is open and the link up. */
static inline bool net_passing(const struct virtio_net *net)
{
    return __atomic_load_n(&net->open, __ATOMIC_RELAXED) && __atomic_load_n(&net->link_up, __ATOMIC_RELAXED);
}

static inline bool net_negotiated(const struct virtio_net *net, unsigned feature)
{
    return (net->device.driver_features >> feature & 1) != 0;
}

/* One writer, many readers: no locked instruction is needed. */
static inline void net_count(uint64_t *count, uint64_t more)
{
    __atomic_store_n(count, *count + more, __ATOMIC_RELAXED);
}

#endif
