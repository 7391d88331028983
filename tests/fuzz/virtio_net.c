/*
 * libFuzzer target: the network device under a driver that writes what it likes where it likes, over a back
 * end that sends, blocks and fails as it likes. The input is a script of small steps; the device is served on
 * this thread.
 *
 * What is checked beside memory safety: what is sent has an offload header within its frame and no more than
 * was negotiated; between two turns no chain is in the device's hands; nothing passes a gate that is shut but
 * an announcement; and a device that is not broken and not blocked has taken all there was to send.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/net_parts.h"

#define RAM_BYTES   0x20000u
#define QUEUE_BYTES 0x2000u /* each queue's place: descriptors, then avail and used ring */
#define AVAIL_AT    0x1000u
#define USED_AT     0x1800u
#define DATA_AT     0x4000u
#define COMING_MAX  4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct guest_memory memory;
static struct virtio_net net;
static uint16_t queue_size;
static const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}, .mtu = 1500, .shut = true};

/* The back end's script. */
static size_t coming[COMING_MAX]; /* sizes of frames that wait */
static unsigned coming_count;
static unsigned sends_left;
static int send_error;

static int fuzz_send(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    struct virtio_net_hdr_v1 header;
    uint8_t front[NET_ANNOUNCE_BYTES], sum = 0;
    size_t size = 0, copied = 0;
    (void)backend;
    if (parts[0].iov_len != sizeof header)
        abort();
    memcpy(&header, parts[0].iov_base, sizeof header);
    for (unsigned i = 1; i < count; i++) {
        const uint8_t *from = parts[i].iov_base;
        for (size_t j = 0; j < parts[i].iov_len; j++) {
            sum = (uint8_t)(sum + from[j]); /* all of it can be read */
            if (copied < sizeof front)
                front[copied++] = from[j];
        }
        size += parts[i].iov_len;
    }
    if (size < NET_FRAME_MIN || size > VIRTIO_NET_FRAME_MAX || (header.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM))
        abort();
    if (header.flags && (size_t)header.csum_start + header.csum_offset + 2 > size)
        abort();
    if (header.gso_type != 0 && (header.gso_size == 0 || !header.flags))
        abort();
    if (!net.open)
        abort();
    if (sends_left == 0)
        return -EAGAIN;
    sends_left--;
    return send_error + (sum & 0); /* `sum` is used */
}

static int64_t fuzz_receive(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    size_t room = 0;
    (void)backend;
    if (coming_count == 0)
        return send_error < 0 ? send_error : -EAGAIN;
    const size_t size = coming[--coming_count];
    for (unsigned i = 0; i < count && room < size; i++) {
        const size_t here = parts[i].iov_len < size - room ? parts[i].iov_len : size - room;
        memset(parts[i].iov_base, 0x5a, here);
        room += here;
    }
    if (room < size)
        abort(); /* the device promises room for any frame */
    return (int64_t)size;
}

static int fuzz_configure(struct net_backend *backend, uint64_t features)
{
    (void)backend;
    (void)features;
    return 0;
}

static void fuzz_close(struct net_backend *backend)
{
    close(backend->fd);
}

static const struct net_backend_ops ops = {
    .name = "fuzz",
    .features = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 |
                1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_TSO4 |
                1ull << VIRTIO_NET_F_GUEST_TSO6,
    .configure = fuzz_configure,
    .send = fuzz_send,
    .receive = fuzz_receive,
    .close = fuzz_close,
};

static void write32(uint32_t offset, uint32_t value)
{
    virtio_mmio_bus_ops.write(&net.device, offset, &value, sizeof value);
}

static bool broken(void)
{
    uint32_t status;
    virtio_mmio_bus_ops.read(&net.device, VIRTIO_MMIO_STATUS, &status, sizeof status);
    return (status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static void bring_up(uint8_t how)
{
    uint64_t features = net.device.offered_features;
    features &= ~((uint64_t)(how & 1u) << VIRTIO_RING_F_EVENT_IDX);
    features &= ~((uint64_t)(how >> 1 & 1u) << VIRTIO_NET_F_MRG_RXBUF);
    features &= ~((uint64_t)(how >> 2 & 1u) << VIRTIO_NET_F_CSUM);
    features &= ~((uint64_t)(how >> 3 & 1u) << VIRTIO_NET_F_HOST_TSO4);
    queue_size = (uint16_t)(1u << (how >> 5));
    write32(VIRTIO_MMIO_STATUS, 0);
    write32(VIRTIO_MMIO_STATUS, 3);
    for (uint32_t half = 0; half < 2; half++) {
        write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write32(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
    }
    write32(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
    for (uint32_t i = 0; i < NET_QUEUES; i++) {
        const uint32_t at = i * QUEUE_BYTES;
        write32(VIRTIO_MMIO_QUEUE_SEL, i);
        write32(VIRTIO_MMIO_QUEUE_NUM, queue_size);
        write32(VIRTIO_MMIO_QUEUE_DESC_LOW, at);
        write32(VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + AVAIL_AT);
        write32(VIRTIO_MMIO_QUEUE_USED_LOW, at + USED_AT);
        write32(VIRTIO_MMIO_QUEUE_READY, 1);
        memset(ram + at + AVAIL_AT, 0, 4);
        memset(ram + at + USED_AT, 0, 4);
    }
    write32(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void publish(unsigned queue, uint16_t head)
{
    uint8_t *avail = ram + queue * QUEUE_BYTES + AVAIL_AT;
    uint16_t index;
    memcpy(&index, avail + 2, sizeof index);
    memcpy(avail + 4 + 2 * (index % queue_size), &head, sizeof head);
    index++;
    memcpy(avail + 2, &index, sizeof index);
}

static void put_desc(unsigned queue, uint16_t index, uint64_t at, uint32_t length, uint16_t flags,
                     uint16_t next)
{
    const struct vring_desc desc = {.addr = at, .len = length, .flags = flags, .next = next};
    memcpy(ram + queue * QUEUE_BYTES + sizeof desc * (index % 128u), &desc, sizeof desc);
}

/* A gratuitous ARP, as the agent sends it; but for one byte. */
static void put_announcement(struct cursor *in)
{
    uint8_t frame[NET_FRAME_MIN + 28] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
        1,    0x52, 0x54, 0,    0,    0,    1,    10,   0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9};
    const size_t at = (size_t)cursor_get_le(in, 1);
    if (at < sizeof frame)
        frame[at] ^= 0x40;
    memset(ram + DATA_AT, 0, VIRTIO_NET_HEADER_BYTES);
    memcpy(ram + DATA_AT + VIRTIO_NET_HEADER_BYTES, frame, sizeof frame);
    put_desc(NET_TX_QUEUE, 0, DATA_AT, VIRTIO_NET_HEADER_BYTES + sizeof frame, 0, 0);
    publish(NET_TX_QUEUE, 0);
}

/* A frame as a correct driver queues it, but for its values. */
static void put_frame(struct cursor *in)
{
    const struct virtio_net_hdr_v1 header = {
        .flags = (uint8_t)cursor_get_le(in, 1),
        .gso_type = (uint8_t)cursor_get_le(in, 1),
        .gso_size = (uint16_t)cursor_get_le(in, 1),
        .csum_start = (uint16_t)cursor_get_le(in, 1),
        .csum_offset = (uint16_t)cursor_get_le(in, 1),
    };
    const uint32_t length = (uint32_t)cursor_get_le(in, 1) * 8u;
    memcpy(ram + DATA_AT, &header, sizeof header);
    put_desc(NET_TX_QUEUE, 0, DATA_AT, sizeof header, length ? VRING_DESC_F_NEXT : 0, 1);
    put_desc(NET_TX_QUEUE, 1, DATA_AT + 64, length, 0, 0);
    publish(NET_TX_QUEUE, 0);
}

static void put_buffer(struct cursor *in)
{
    const uint16_t index = (uint16_t)cursor_get_le(in, 1);
    const uint32_t length = (uint32_t)cursor_get_le(in, 2);
    put_desc(NET_RX_QUEUE, index, DATA_AT + 0x8000, length, VRING_DESC_F_WRITE, 0);
    publish(NET_RX_QUEUE, index % 128u);
}

static void serve(void)
{
    const struct virtq *rx = &net.device.queues[NET_RX_QUEUE], *tx = &net.device.queues[NET_TX_QUEUE];
    const uint16_t rx_before = (uint16_t)(rx->last_avail - rx->last_used);
    const uint16_t tx_before = (uint16_t)(tx->last_avail - tx->last_used);
    const struct vring_avail *avail = tx->ready ? guest_memory_at(&memory, tx->avail, sizeof *avail) : NULL;
    const uint16_t offered = avail ? avail->idx : 0;
    virtio_net_serve(&net);
    const bool is_broken = broken();
    if ((uint16_t)(rx->last_avail - rx->last_used) != rx_before && !is_broken)
        abort();
    if ((uint16_t)(tx->last_avail - tx->last_used) != tx_before && !is_broken)
        abort();
    if (net.device.active && avail && !is_broken && !net.tx_blocked && avail->idx == offered &&
        offered != tx->last_avail) /* unless a received frame was written over it */
        abort();
}

static void anything_anywhere(struct cursor *in)
{
    const size_t at = (size_t)cursor_get_le(in, 3) % RAM_BYTES, length = (size_t)cursor_get_le(in, 1);
    const uint8_t *from = cursor_take(in, length);
    if (from && length <= RAM_BYTES - at)
        memcpy(ram + at, from, length);
}

static void wire_step(struct cursor *in)
{
    const uint8_t what = (uint8_t)cursor_get_le(in, 1);
    sends_left = what & 7u;
    if (what & 8u && coming_count < COMING_MAX)
        coming[coming_count++] = VIRTIO_NET_HEADER_BYTES + (size_t)cursor_get_le(in, 2);
    if (what & 16u)
        virtio_net_set_link(&net, (what & 32u) != 0);
    send_error = what >= 0xf0 ? -EPIPE : what & 64u ? 1 : 0;
}

static void step(struct cursor *in)
{
    switch (cursor_get_le(in, 1) % 10) {
    case 0:
        anything_anywhere(in);
        break;
    case 1: {
        const uint16_t index = (uint16_t)cursor_get_le(in, 1);
        const uint64_t at = cursor_get_le(in, 3) * 16;
        const uint32_t length = (uint32_t)cursor_get_le(in, 3);
        const uint16_t flags = (uint16_t)cursor_get_le(in, 1);
        put_desc(index & 1u, index / 2, at, length, flags, (uint16_t)cursor_get_le(in, 1));
        break;
    }
    case 2: {
        const unsigned queue = (unsigned)cursor_get_le(in, 1) & 1u;
        publish(queue, (uint16_t)cursor_get_le(in, 1));
        break;
    }
    case 3:
        serve();
        break;
    case 4: {
        const uint32_t offset = (uint32_t)cursor_get_le(in, 1) * 4u;
        write32(offset, (uint32_t)cursor_get_le(in, 4));
        break;
    }
    case 5:
        put_frame(in);
        break;
    case 6:
        bring_up((uint8_t)cursor_get_le(in, 1));
        break;
    case 7:
        put_buffer(in);
        break;
    case 8:
        put_announcement(in);
        break;
    default:
        wire_step(in);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool logging;
    uint8_t script[4096];
    if (size > sizeof script)
        return -1;
    if (!logging)
        log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    logging = true;
    memcpy(script, data, size);
    memset(ram, 0, sizeof ram);
    guest_memory_over(&memory, ram, sizeof ram);
    coming_count = 0;
    sends_left = 100;
    send_error = 0;
    const struct net_backend backend = {.ops = &ops, .fd = eventfd(0, EFD_CLOEXEC)};
    if (virtio_net_init(&net, &memory, &backend, &plan) < 0)
        abort();
    net.serve_by_hand = true;
    struct cursor in = cursor_over(script, size);
    bring_up((uint8_t)cursor_get_le(&in, 1));
    while (cursor_left(&in) > 0)
        step(&in);
    serve();
    virtio_net_fini(&net);
    return 0;
}
