/*
 * From the back end to the guest (virtio 1.2, section 5.1.6.3).
 *
 * A frame is read straight into the guest's buffers: into as many chains as the frame before needed, and one
 * less when that needed fewer. What goes beyond them lands in `buffer`, behind a gap of their size, and is
 * copied into further chains. When the guest has none, what is in its memory is copied back into the gap: the
 * frame is whole in `buffer` then and waits there. Chains that were taken and not used are given back, so
 * that between two frames the queue is always as it would be saved.
 */
#include <errno.h>
#include <string.h>

#include "hostvmm/device/virtio/net_parts.h"

#define HEADER_BYTES VIRTIO_NET_HEADER_BYTES
#define PARTS_MAX    512u
#define DRAIN_FRAMES 4096u /* a TAP's queue holds 1000, unless told otherwise */

/* The chains taken for one frame. */
struct window {
    struct virtq_used chains[NET_QUEUE_SIZE]; /* `written`: what there is room for, until it is delivered */
    unsigned chain_count;
    uint64_t bytes;           /* that the chains take, the header included */
    struct virtq_chain first; /* where the header goes, in the end */
    struct virtio_net_hdr_v1 header;
    struct iovec
        parts[PARTS_MAX]; /* the header, the chains behind their header's place, the rest of `buffer` */
    unsigned part_count;
};

enum rx_end {
    RX_DONE,    /* a frame was delivered or dropped */
    RX_EMPTY,   /* the back end has none, or its limit lets none pass yet */
    RX_STARVED, /* the guest has no buffers; it will notify of the next */
    RX_MISFIT,  /* more than all buffers that there can be for it */
    RX_STOPPED, /* broken, or the back end is gone */
};

static enum rx_end broken(struct virtio_net *net, const char *why)
{
    virtio_device_broken(&net->device, why);
    return RX_STOPPED;
}

static enum rx_end drop(struct virtio_net *net)
{
    net_count(&net->counts.rx_dropped, 1);
    return RX_DONE;
}

static void give_back(struct virtio_net *net, struct window *window, unsigned keep)
{
    for (; window->chain_count > keep; window->chain_count--)
        virtq_unpop(&net->device.queues[NET_RX_QUEUE]);
}

/* No more chains than this can be for one frame. */
static unsigned chains_max(const struct virtio_net *net)
{
    return net_negotiated(net, VIRTIO_NET_F_MRG_RXBUF) ? net->device.queues[NET_RX_QUEUE].size : 1;
}

/* Take one more chain into the window. RX_DONE: taken. */
static enum rx_end take(struct virtio_net *net, struct window *window, struct virtq_chain *chain)
{
    struct virtq *queue = &net->device.queues[NET_RX_QUEUE];
    int taken;
    do
        taken = virtq_pop(queue, net->device.memory, chain);
    while (taken == 0 && virtq_notify_enable(queue, net->device.memory));
    if (taken == 0)
        return RX_STARVED;
    if (taken < 0)
        return broken(net, virtq_error_text(taken));
    if (chain->readable_count > 0)
        return broken(net, "a receive buffer that is not writable");
    if (window->chain_count == 0 && chain->writable_bytes < HEADER_BYTES)
        return broken(net, "a receive buffer smaller than a header");
    window->chains[window->chain_count++] =
        (struct virtq_used){.head = chain->head, .written = (uint32_t)chain->writable_bytes};
    window->bytes += chain->writable_bytes;
    return RX_DONE;
}

/* Take the chains for a frame that is yet to be read, and list the memory to read it into. */
static enum rx_end open_window(struct virtio_net *net, struct window *window)
{
    const unsigned most = chains_max(net);
    struct virtq_chain next;
    const enum rx_end end = take(net, window, &window->first);
    if (end != RX_DONE)
        return end;
    window->parts[0] = (struct iovec){.iov_base = &window->header, .iov_len = HEADER_BYTES};
    window->part_count =
        1 + virtq_chain_writable(&window->first, HEADER_BYTES, UINT32_MAX, window->parts + 1);
    while (window->chain_count < net->rx_window && window->chain_count < most) {
        const enum rx_end more = take(net, window, &next);
        if (more == RX_STOPPED)
            return more;
        if (more != RX_DONE)
            break;
        if (window->part_count + next.writable_count >= PARTS_MAX) {
            window->bytes -= next.writable_bytes;
            give_back(net, window, window->chain_count - 1);
            break;
        }
        window->part_count += virtq_chain_writable(&next, 0, UINT32_MAX, window->parts + window->part_count);
    }
    if (window->bytes < HEADER_BYTES + VIRTIO_NET_FRAME_MAX)
        window->parts[window->part_count++] =
            (struct iovec){.iov_base = net->buffer + window->bytes,
                           .iov_len = HEADER_BYTES + VIRTIO_NET_FRAME_MAX - window->bytes};
    return RX_DONE;
}

/* Make the frame of `size` bytes in `buffer` wait: put what the chains hold of it before its tail. */
static void put_back(struct virtio_net *net, const struct window *window, size_t size)
{
    uint8_t *to = net->buffer + HEADER_BYTES;
    memcpy(net->buffer, &window->header, HEADER_BYTES);
    for (unsigned i = 1; i + 1 < window->part_count; i++) { /* the last is `buffer` itself */
        memcpy(to, window->parts[i].iov_base, window->parts[i].iov_len);
        to += window->parts[i].iov_len;
    }
    net->buffered_bytes = size;
}

/* Copy the frame in `buffer` into further chains, from where the chains so far end. */
static enum rx_end copy_rest(struct virtio_net *net, struct window *window, size_t size)
{
    struct virtq_chain next;
    while (window->bytes < size) {
        const uint64_t at = window->bytes;
        if (window->chain_count == chains_max(net))
            return RX_MISFIT;
        const enum rx_end end = take(net, window, at ? &next : &window->first);
        if (end != RX_DONE)
            return end;
        const uint64_t skip = at ? 0 : HEADER_BYTES;
        (void)virtq_chain_write(at ? &next : &window->first, skip, net->buffer + at + skip,
                                size - (size_t)(at + skip));
    }
    return RX_DONE;
}

/* Hand the chains with the frame to the driver, all at once. */
static void deliver(struct virtio_net *net, struct window *window, size_t size)
{
    uint64_t before = 0;
    unsigned count = 0;
    while (before + window->chains[count].written < size)
        before += window->chains[count++].written;
    window->chains[count++].written = (uint32_t)(size - before);
    give_back(net, window, count);
    if (!net_negotiated(net, VIRTIO_NET_F_GUEST_CSUM))
        window->header.flags = 0;
    window->header.num_buffers = (uint16_t)count;
    (void)virtq_chain_write(&window->first, 0, &window->header, HEADER_BYTES);
    (void)virtq_push_all(&net->device.queues[NET_RX_QUEUE], net->device.memory, window->chains, count);
    if (count >= net->rx_window)
        net->rx_window = count;
    else
        net->rx_window--;
    net->buffered_bytes = 0;
    net_count(&net->counts.rx_frames, 1);
    net_count(&net->counts.rx_bytes, size - HEADER_BYTES);
}

/* What the back end answered, when that is no frame. */
static enum rx_end no_frame(struct virtio_net *net, int64_t answer)
{
    if (answer == -EAGAIN)
        return RX_EMPTY;
    net_gone(net, (int)answer);
    return RX_STOPPED;
}

/* The end of a frame in `window`: delivered, dropped, or the chains go back. */
static enum rx_end settle(struct virtio_net *net, struct window *window, enum rx_end end, size_t size)
{
    if (end == RX_DONE) {
        deliver(net, window, size);
        return end;
    }
    give_back(net, window, 0);
    if (end != RX_MISFIT)
        return end;
    net->buffered_bytes = 0;
    return drop(net);
}

static enum rx_end receive_one(struct virtio_net *net, struct window *window)
{
    enum rx_end end = open_window(net, window);
    if (end != RX_DONE) {
        give_back(net, window, 0);
        return end;
    }
    const int64_t size = net->backend.ops->receive(&net->backend, window->parts, window->part_count);
    if (size < (int64_t)(HEADER_BYTES + NET_FRAME_MIN)) {
        give_back(net, window, 0);
        return size < 0 ? no_frame(net, size) : drop(net);
    }
    rate_charge(&net->rx_rate, (uint64_t)size - HEADER_BYTES);
    if ((uint64_t)size <= window->bytes) {
        deliver(net, window, (size_t)size);
        return RX_DONE;
    }
    end = copy_rest(net, window, (size_t)size);
    if (end == RX_STARVED)
        put_back(net, window, (size_t)size);
    return settle(net, window, end, (size_t)size);
}

/* The frame that waits in `buffer`. */
static enum rx_end deliver_waiting(struct virtio_net *net, struct window *window)
{
    memcpy(&window->header, net->buffer, HEADER_BYTES);
    return settle(net, window, copy_rest(net, window, net->buffered_bytes), net->buffered_bytes);
}

static enum rx_end discard_one(struct virtio_net *net)
{
    struct virtio_net_hdr_v1 header;
    const struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = HEADER_BYTES},
        {.iov_base = net->buffer + HEADER_BYTES, .iov_len = VIRTIO_NET_FRAME_MAX},
    };
    net->buffered_bytes = 0;
    const int64_t size = net->backend.ops->receive(&net->backend, parts, 2);
    return size < 0 ? no_frame(net, size) : drop(net);
}

void net_rx_drain(struct virtio_net *net)
{
    for (unsigned i = 0; i < DRAIN_FRAMES && !net->gone; i++)
        if (discard_one(net) != RX_DONE)
            return;
}

static enum rx_end one(struct virtio_net *net)
{
    struct window window;
    window.chain_count = 0;
    window.bytes = 0;
    if (!net_passing(net))
        return net->gone ? RX_EMPTY : discard_one(net);
    if (net->buffered_bytes > 0)
        return deliver_waiting(net, &window);
    net->rx_wait_ns = rate_ask(&net->rx_rate, 1); /* its size is not known yet */
    if (net->rx_wait_ns > 0)
        return RX_EMPTY;
    return receive_one(net, &window);
}

bool net_rx_turn(struct virtio_net *net)
{
    struct virtio_device *device = &net->device;
    struct virtq *queue = &device->queues[NET_RX_QUEUE];
    enum rx_end end = RX_DONE;
    net->rx_wait_ns = 0;
    if (!virtio_device_serving(device))
        return false;
    net->rx_starved = false;
    virtq_notify_disable(queue, device->memory);
    for (unsigned i = 0; i < NET_BATCH_FRAMES && end == RX_DONE && !net_stopping(net); i++)
        end = one(net);
    net->rx_starved = end == RX_STARVED;
    virtio_device_signal(device, queue);
    if (end == RX_STOPPED && net->gone)
        return true; /* what waits to be sent is to be dropped now */
    return end == RX_DONE && !net_stopping(net);
}
