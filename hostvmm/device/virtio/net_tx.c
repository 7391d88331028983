/*
 * From the guest to the back end (virtio 1.2, section 5.1.6.2). A frame is written from guest memory where it
 * lies; only its offload header is copied, judged, and sent from the copy.
 */
#include <errno.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/net_parts.h"

enum tx_end {
    TX_DONE,    /* sent or dropped: the chain is used */
    TX_BLOCKED, /* the back end takes no more now */
    TX_LIMITED, /* its limit lets it not pass yet */
    TX_BROKEN,
};

/* Whether the offload header asks for no more than was negotiated and stays within the frame. Bits of its
 * flags that a driver does not send are cleared, as the specification wants them ignored. */
static bool header_sane(const struct virtio_net *net, struct virtio_net_hdr_v1 *header, uint64_t frame_bytes)
{
    header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header->num_buffers = 0;
    const bool checksum = header->flags != 0;
    if (checksum && (!net_negotiated(net, VIRTIO_NET_F_CSUM) ||
                     (uint64_t)header->csum_start + header->csum_offset + 2 > frame_bytes))
        return false;
    switch (header->gso_type) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return true;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        if (!net_negotiated(net, VIRTIO_NET_F_HOST_TSO4))
            return false;
        break;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        if (!net_negotiated(net, VIRTIO_NET_F_HOST_TSO6))
            return false;
        break;
    default:
        return false;
    }
    return checksum && header->gso_size > 0;
}

/* A frame while the gate is shut or the link down. Whether it opens the gate; it is in `copy` then, whole. */
static bool announces(struct virtio_net *net, struct virtq_chain *chain, uint8_t *copy, size_t *copied)
{
    if (!__atomic_load_n(&net->link_up, __ATOMIC_RELAXED) || chain->readable_bytes > NET_ANNOUNCE_BYTES)
        return false; /* nobody would hear it */
    *copied = virtq_chain_read(chain, copy, NET_ANNOUNCE_BYTES);
    if (!net_gate_announces(net->config.mac, copy, *copied))
        return false;
    net_rx_drain(net); /* what came for whoever was here before */
    __atomic_store_n(&net->open, true, __ATOMIC_RELEASE);
    return net_passing(net);
}

static enum tx_end offer(struct virtio_net *net, const struct iovec *parts, unsigned count,
                         uint64_t frame_bytes)
{
    const int answer = net->backend.ops->send(&net->backend, parts, count);
    if (answer == -EAGAIN)
        return TX_BLOCKED;
    if (answer == 0) {
        net_count(&net->counts.tx_frames, 1);
        net_count(&net->counts.tx_bytes, frame_bytes);
        rate_charge(&net->tx_rate, frame_bytes);
        return TX_DONE;
    }
    net_count(&net->counts.tx_dropped, 1);
    if (answer < 0)
        net_gone(net, answer);
    return TX_DONE;
}

static enum tx_end send_chain(struct virtio_net *net, struct virtq_chain *chain)
{
    struct virtio_net_hdr_v1 header;
    struct iovec parts[1 + VIRTQ_SIZE_MAX];
    uint8_t copy[NET_ANNOUNCE_BYTES];
    size_t copied = 0;
    unsigned count = 1;
    if (chain->writable_count > 0) {
        virtio_device_broken(&net->device, "a frame to send in writable buffers");
        return TX_BROKEN;
    }
    if (virtq_chain_read(chain, &header, sizeof header) < sizeof header) {
        virtio_device_broken(&net->device, "a frame to send without a whole header");
        return TX_BROKEN;
    }
    const uint64_t frame_bytes = chain->readable_bytes;
    if (frame_bytes < NET_FRAME_MIN || frame_bytes > VIRTIO_NET_FRAME_MAX ||
        !header_sane(net, &header, frame_bytes) ||
        (!net_passing(net) && !announces(net, chain, copy, &copied))) {
        net_count(&net->counts.tx_dropped, 1);
        return TX_DONE;
    }
    if (copied == 0)
        net->tx_wait_ns = rate_ask(&net->tx_rate, frame_bytes);
    if (net->tx_wait_ns > 0)
        return TX_LIMITED;
    parts[0] = (struct iovec){.iov_base = &header, .iov_len = sizeof header};
    if (copied > 0) /* what was judged is what goes out */
        parts[count++] = (struct iovec){.iov_base = copy, .iov_len = copied};
    else
        count += virtq_chain_readable(chain, 0, frame_bytes, parts + 1);
    return offer(net, parts, count, frame_bytes);
}

/* Take chains until none is left, the back end is full or the turn is over. Whether more may wait. */
static bool send_some(struct virtio_net *net, struct virtq *queue)
{
    const struct guest_memory *memory = net->device.memory;
    struct virtq_chain chain;
    for (unsigned i = 0; i < NET_BATCH_FRAMES; i++) {
        const int taken = net_stopping(net) ? 0 : virtq_pop(queue, memory, &chain);
        if (taken < 0)
            virtio_device_broken(&net->device, virtq_error_text(taken));
        if (taken <= 0)
            return false;
        const enum tx_end end = send_chain(net, &chain);
        if (end == TX_BLOCKED || end == TX_LIMITED)
            virtq_unpop(queue);
        net->tx_blocked = end == TX_BLOCKED;
        if (end != TX_DONE)
            return false;
        (void)virtq_push(queue, memory, chain.head, 0);
    }
    return true;
}

bool net_tx_turn(struct virtio_net *net)
{
    struct virtio_device *device = &net->device;
    struct virtq *queue = &device->queues[NET_TX_QUEUE];
    net->tx_wait_ns = 0;
    if (!virtio_device_serving(device))
        return false;
    if (net->backend.holding && !net->gone) {
        const int left = net->backend.ops->flush(&net->backend);
        if (left < 0 && left != -EAGAIN)
            net_gone(net, left);
        else if (left < 0)
            return false; /* holding still: POLLOUT comes */
    }
    net->tx_blocked = false;
    virtq_notify_disable(queue, device->memory);
    const bool more = send_some(net, queue);
    virtio_device_signal(device, queue);
    if (more || net->tx_blocked || net->tx_wait_ns > 0 || net_stopping(net) || !virtio_device_serving(device))
        return more;
    return virtq_notify_enable(queue, device->memory);
}
