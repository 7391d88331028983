/* See net_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "tests/unit/virtio/net_fixture.h"

#define RAM_BYTES    (64u << 20)
#define HEADER_BYTES VIRTIO_NET_HEADER_BYTES

const uint8_t net_mac[VIRTIO_NET_MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

uint8_t net_byte(size_t at, uint8_t seed)
{
    return (uint8_t)(at * 31 + at / 256 + seed);
}

static struct wire *wire_of(struct net_backend *backend)
{
    return backend->state;
}

static int wire_configure(struct net_backend *backend, uint64_t driver_features)
{
    wire_of(backend)->configured = driver_features;
    return wire_of(backend)->configure_error;
}

static int wire_send(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    struct wire *wire = wire_of(backend);
    assert_int_equal(parts[0].iov_len, HEADER_BYTES);
    if (wire->send_error)
        return wire->send_error;
    if (wire->sends_left == 0)
        return -EAGAIN;
    wire->sends_left--;
    struct wire_frame frame = {.size = HEADER_BYTES};
    for (unsigned i = 1; i < count; i++)
        frame.size += parts[i].iov_len;
    uint8_t *to = frame.data = malloc(frame.size);
    for (unsigned i = 0; i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    assert_in_range(wire->sent_count, 0, WIRE_FRAMES - 1);
    wire->sent[wire->sent_count++] = frame;
    return 0;
}

static int64_t wire_receive(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    struct wire *wire = wire_of(backend);
    size_t room = 0;
    assert_int_equal(parts[0].iov_len, HEADER_BYTES);
    for (unsigned i = 1; i < count; i++)
        room += parts[i].iov_len;
    assert_in_range(room, VIRTIO_NET_FRAME_MAX, SIZE_MAX);
    wire->receives++;
    if (wire->receive_error)
        return wire->receive_error;
    if (wire->coming_at == wire->coming_count)
        return -EAGAIN;
    const struct wire_frame *frame = &wire->coming[wire->coming_at++];
    size_t at = 0;
    for (unsigned i = 0; at < frame->size; i++) {
        const size_t here = parts[i].iov_len < frame->size - at ? parts[i].iov_len : frame->size - at;
        memcpy(parts[i].iov_base, frame->data + at, here);
        at += here;
    }
    return (int64_t)frame->size;
}

static void wire_close(struct net_backend *backend)
{
    wire_of(backend)->closed = true;
    (void)close(backend->fd);
}

int net_fixture_setup(void **state)
{
    static struct net_fixture f;
    memset(&f, 0, sizeof f);
    guest_init(&f.guest, RAM_BYTES);
    f.wire.sends_left = WIRE_FRAMES;
    *state = &f;
    return 0;
}

int net_fixture_teardown(void **state)
{
    struct net_fixture *f = *state;
    guest_fini(&f->guest);
    for (unsigned i = 0; i < f->wire.sent_count; i++)
        free(f->wire.sent[i].data);
    for (unsigned i = 0; i < f->wire.coming_count; i++)
        free(f->wire.coming[i].data);
    return 0;
}

static void made(struct net_fixture *f, bool by_hand)
{
    f->net.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    f->net.serve_by_hand = by_hand;
    f->features = f->net.device.offered_features;
}

void net_start(struct net_fixture *f, uint64_t features, const struct virtio_net_plan *plan)
{
    struct virtio_net_plan usual = {.mtu = 0};
    memcpy(usual.mac, net_mac, sizeof net_mac);
    f->wire.closed = false;
    f->wire.ops = (struct net_backend_ops){
        .name = "wire",
        .features = features,
        .configure = wire_configure,
        .send = wire_send,
        .receive = wire_receive,
        .close = wire_close,
    };
    const struct net_backend backend = {
        .ops = &f->wire.ops, .fd = eventfd(0, EFD_CLOEXEC), .state = &f->wire};
    assert_int_equal(virtio_net_init(&f->net, &f->guest.memory, &backend, plan ? plan : &usual), 0);
    made(f, true);
}

void net_start_over(struct net_fixture *f, const struct net_backend *backend, bool by_hand)
{
    struct virtio_net_plan plan = {.mtu = 0};
    memcpy(plan.mac, net_mac, sizeof net_mac);
    assert_int_equal(virtio_net_init(&f->net, &f->guest.memory, backend, &plan), 0);
    made(f, by_hand);
}

void net_bring_up(struct net_fixture *f)
{
    f->guest.used_bytes = 0;
    f->tx_at = guest_alloc(&f->guest, 16u << 20, 4096);
    f->rx_at = guest_alloc(&f->guest, 32u << 20, 4096);
    assert_true(guest_negotiate(&f->net.device, f->features) & VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f->rx, &f->guest, &f->net.device, NET_RX, 256);
    guest_queue_init(&f->tx, &f->guest, &f->net.device, NET_TX, 256);
    memset(guest_queue_avail(&f->rx), 0, 6);
    memset(guest_queue_used(&f->rx), 0, 6);
    memset(guest_queue_avail(&f->tx), 0, 6);
    memset(guest_queue_used(&f->tx), 0, 6);
    guest_driver_ok(&f->net.device);
}

void net_stop(struct net_fixture *f)
{
    const int irq = f->net.device.irq.fd;
    virtio_net_fini(&f->net);
    close(irq);
}

/* A header and a frame in three buffers with odd borders; a long one in an indirect table. */
static uint16_t queue_at(struct net_fixture *f, uint64_t at, size_t size)
{
    struct guest_buffer buffers[3];
    unsigned count = 0;
    const size_t whole = HEADER_BYTES + size;
    const uint32_t first = size % 2 ? HEADER_BYTES : HEADER_BYTES - 5;
    buffers[count++] = (struct guest_buffer){at, whole < first ? (uint32_t)whole : first, false};
    if (whole > first)
        buffers[count++] = (struct guest_buffer){at + first, (uint32_t)whole - first, false};
    if (whole > first + 9) {
        buffers[1].size = 9;
        buffers[count++] = (struct guest_buffer){at + first + 9, (uint32_t)whole - first - 9, false};
    }
    return guest_queue_add(&f->tx, buffers, count, size > 1000);
}

uint16_t net_queue_bytes(struct net_fixture *f, const uint8_t *frame, size_t size)
{
    const uint64_t at = f->tx_at + 65536u * (f->tx.avail_index % 200u);
    memset(guest_at(&f->guest, at), 0, HEADER_BYTES);
    memcpy(guest_at(&f->guest, at + HEADER_BYTES), frame, size);
    return queue_at(f, at, size);
}

uint16_t net_queue_frame(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, size_t size,
                         uint8_t seed)
{
    const uint64_t at = f->tx_at + 65536u * (f->tx.avail_index % 200u);
    uint8_t *frame = guest_at(&f->guest, at + HEADER_BYTES);
    memset(guest_at(&f->guest, at), 0, HEADER_BYTES);
    if (header)
        memcpy(guest_at(&f->guest, at), header, sizeof *header);
    for (size_t i = 0; i < size; i++)
        frame[i] = net_byte(i, seed);
    return queue_at(f, at, size);
}

void net_give_buffers(struct net_fixture *f, unsigned count, uint32_t size)
{
    for (unsigned i = 0; i < count; i++) {
        const uint64_t at = f->rx_at + 131072u * (f->rx.avail_index % 256u);
        const struct guest_buffer two[2] = {{at, 7, true}, {at + 7, size - 7, true}};
        const struct guest_buffer one = {at, size, true};
        memset(guest_at(&f->guest, at), 0xcc, size);
        if (f->rx.avail_index % 2 && size > 100 && f->rx.free_count > 100)
            guest_queue_add(&f->rx, two, 2, false);
        else
            guest_queue_add(&f->rx, &one, 1, false);
    }
}

void net_coming(struct net_fixture *f, size_t size, uint8_t seed, uint8_t flags)
{
    const struct virtio_net_hdr_v1 header = {.flags = flags, .num_buffers = 0xeeee};
    struct wire_frame frame = {.size = HEADER_BYTES + size, .data = malloc(HEADER_BYTES + size)};
    memcpy(frame.data, &header, HEADER_BYTES);
    for (size_t i = 0; i < size; i++)
        frame.data[HEADER_BYTES + i] = net_byte(i, seed);
    assert_in_range(f->wire.coming_count, 0, WIRE_FRAMES - 1);
    f->wire.coming[f->wire.coming_count++] = frame;
}

/* Append a used chain's bytes. */
static size_t take_chain(struct net_fixture *f, uint8_t *to)
{
    uint16_t head;
    uint32_t written;
    assert_true(guest_queue_take_used(&f->rx, &head, &written));
    size_t done = 0;
    for (uint16_t at = head; done < written; at = guest_queue_desc(&f->rx, at)->next) {
        const struct vring_desc *desc = guest_queue_desc(&f->rx, at);
        const size_t here = desc->len < written - done ? desc->len : written - done;
        memcpy(to + done, guest_at(&f->guest, desc->addr), here);
        done += here;
    }
    return done;
}

unsigned net_take_frame(struct net_fixture *f, size_t size, uint8_t seed)
{
    static uint8_t bytes[256 * 1024];
    struct virtio_net_hdr_v1 header;
    size_t came = take_chain(f, bytes);
    assert_in_range(came, HEADER_BYTES, sizeof bytes);
    memcpy(&header, bytes, sizeof header);
    for (unsigned i = 1; i < header.num_buffers; i++)
        came += take_chain(f, bytes + came);
    assert_int_equal(came, HEADER_BYTES + size);
    for (size_t i = 0; i < size; i++)
        if (bytes[HEADER_BYTES + i] != net_byte(i, seed))
            fail_msg("byte %zu of %zu", i, size);
    return header.num_buffers;
}

bool net_broken(struct net_fixture *f)
{
    return (guest_read32(&f->net.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

void net_assert_sent(struct net_fixture *f, unsigned index, size_t size, uint8_t seed)
{
    assert_in_range(index, 0, f->wire.sent_count - 1);
    const struct wire_frame *frame = &f->wire.sent[index];
    assert_int_equal(frame->size, HEADER_BYTES + size);
    for (size_t i = 0; i < size; i++)
        if (frame->data[HEADER_BYTES + i] != net_byte(i, seed))
            fail_msg("byte %zu of %zu", i, size);
}
