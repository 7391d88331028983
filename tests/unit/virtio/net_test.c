/* The network device: its configuration, and what it sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "agent/base/log.h"
#include "tests/unit/virtio/net_fixture.h"

static void test_config(void **state)
{
    struct net_fixture *f = *state;
    struct virtio_net_plan plan = {.mtu = 9000};
    uint8_t bytes[12];
    memcpy(plan.mac, net_mac, sizeof net_mac);
    net_start(f, NET_OFFLOADS, &plan);
    for (unsigned i = 0; i < sizeof bytes; i++)
        virtio_mmio_bus_ops.read(&f->net.device, VIRTIO_MMIO_CONFIG + i, bytes + i, 1);
    assert_memory_equal(bytes, net_mac, 6);
    assert_int_equal(bytes[6] | bytes[7] << 8, VIRTIO_NET_S_LINK_UP);
    assert_int_equal(bytes[10] | bytes[11] << 8, 9000);
    assert_int_equal(f->features & NET_OFFLOADS, NET_OFFLOADS);
    assert_true(f->features >> VIRTIO_NET_F_MTU & 1);
    assert_true(f->features >> VIRTIO_NET_F_MRG_RXBUF & 1);
    assert_false(f->features >> VIRTIO_NET_F_CTRL_VQ & 1);
    net_stop(f);
    assert_true(f->wire.closed);
    net_start(f, 1ull << VIRTIO_NET_F_CTRL_VQ, NULL); /* what the device has no code for is not on offer */
    assert_int_equal(f->features & (NET_OFFLOADS | 1ull << VIRTIO_NET_F_CTRL_VQ), 0);
    assert_false(f->features >> VIRTIO_NET_F_MTU & 1);
    net_stop(f);
}

static void test_plans_refused(void **state)
{
    struct net_fixture *f = *state;
    static const struct virtio_net_plan bad[] = {
        {.mac = {0x53, 0, 0, 0, 0, 1}},            /* a group's */
        {.mac = {0}},                              /* nobody's */
        {.mac = {0x52, 0, 0, 0, 0, 1}, .mtu = 67}, /* less than IPv4 can live with */
    };
    net_start(f, 0, NULL); /* for its ops */
    net_stop(f);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct virtio_net net;
        const struct net_backend backend = {
            .ops = &f->wire.ops, .fd = eventfd(0, EFD_CLOEXEC), .state = &f->wire};
        f->wire.closed = false;
        assert_int_equal(virtio_net_init(&net, &f->guest.memory, &backend, &bad[i]), -EINVAL);
        assert_true(f->wire.closed); /* owned, also by what failed */
    }
}

static void test_configured_with_what_was_negotiated(void **state)
{
    struct net_fixture *f = *state;
    net_start(f, NET_OFFLOADS, NULL);
    f->features &= ~(1ull << VIRTIO_NET_F_GUEST_TSO6);
    net_bring_up(f);
    assert_int_equal(f->wire.configured & NET_OFFLOADS, NET_OFFLOADS & ~(1ull << VIRTIO_NET_F_GUEST_TSO6));
    f->wire.configure_error = -EIO;
    net_bring_up(f);
    assert_true(net_broken(f));
    f->wire.configure_error = 0;
    net_bring_up(f);
    assert_false(net_broken(f));
    net_stop(f);
}

static void test_send(void **state)
{
    struct net_fixture *f = *state;
    static const size_t sizes[] = {14, 15, 60, 1514, 1515, 9014, 65549};
    const unsigned count = sizeof sizes / sizeof sizes[0];
    uint16_t head;
    uint32_t written;
    uint64_t bytes = 0;
    net_start(f, 0, NULL);
    net_bring_up(f);
    for (unsigned i = 0; i < count; i++)
        net_queue_frame(f, NULL, sizes[i], (uint8_t)i);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, count);
    for (unsigned i = 0; i < count; i++) {
        net_assert_sent(f, i, sizes[i], (uint8_t)i);
        assert_true(guest_queue_take_used(&f->tx, &head, &written));
        assert_int_equal(written, 0);
        bytes += sizes[i];
    }
    assert_int_equal(f->net.counts.tx_frames, count);
    assert_int_equal(f->net.counts.tx_bytes, bytes);
    assert_int_equal(f->net.counts.tx_dropped, 0);
    assert_false(net_broken(f));
    net_stop(f);
}

/* More than one turn's worth is sent, in order, with one interrupt asked for at its end. */
static void test_send_many(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head;
    uint32_t written;
    net_start(f, 0, NULL);
    f->features &= ~(1ull << VIRTIO_RING_F_EVENT_IDX);
    net_bring_up(f);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 80; i++)
            net_queue_frame(f, NULL, 60, (uint8_t)(round + i));
        (void)guest_interrupted(&f->net.device);
        virtio_net_serve(&f->net);
        assert_true(guest_interrupted(&f->net.device));
        assert_int_equal(f->wire.sent_count, 80 * (round + 1));
        for (unsigned i = 0; i < 80; i++) {
            net_assert_sent(f, 80 * round + i, 60, (uint8_t)(round + i));
            assert_true(guest_queue_take_used(&f->tx, &head, &written));
        }
    }
    net_stop(f);
}

static void test_offload_headers(void **state)
{
    struct net_fixture *f = *state;
    const uint8_t checksum = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    const struct {
        uint64_t without; /* features not negotiated */
        struct virtio_net_hdr_v1 header;
        uint16_t size;
        bool sent;
    } cases[] = {
        {0, {.flags = checksum, .csum_start = 34, .csum_offset = 16}, 100, true},
        {0, {.flags = checksum, .csum_start = 82, .csum_offset = 16}, 100, true},  /* at the very end */
        {0, {.flags = checksum, .csum_start = 83, .csum_offset = 16}, 100, false}, /* a byte beyond it */
        {0, {.flags = checksum, .csum_start = 0xffff, .csum_offset = 0xffff}, 100, false},
        {NET_OFFLOADS, {.flags = checksum, .csum_start = 34, .csum_offset = 16}, 100, false},
        {0, {.csum_start = 0xffff, .csum_offset = 0xffff}, 100, true}, /* not asked for: means nothing */
        {0,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .gso_size = 1460},
         9000,
         true},
        {1ull << VIRTIO_NET_F_HOST_TSO4,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 1, .gso_size = 1460},
         9000,
         false},
        {0,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 4, .gso_size = 1460},
         9000,
         true},
        {1ull << VIRTIO_NET_F_HOST_TSO6,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 4, .gso_size = 1460},
         9000,
         false},
        {0, {.csum_start = 34, .csum_offset = 16, .gso_type = 1, .gso_size = 1460}, 9000, false},
        {0, {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 1}, 9000, false},
        {0,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 3, .gso_size = 9},
         900,
         false},
        {0,
         {.flags = checksum, .csum_start = 34, .csum_offset = 16, .gso_type = 0x81, .gso_size = 9},
         900,
         false}, /* ECN was not on offer */
        {0, {.gso_type = 0xff}, 100, false},
        {NET_OFFLOADS, {.flags = 0xfe}, 100, true}, /* unknown flags are ignored */
    };
    net_start(f, NET_OFFLOADS, NULL);
    const uint64_t all = f->features;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const unsigned sent = f->wire.sent_count;
        const uint64_t dropped = f->net.counts.tx_dropped;
        f->features = all & ~cases[i].without;
        net_bring_up(f);
        net_queue_frame(f, &cases[i].header, cases[i].size, 1);
        virtio_net_serve(&f->net);
        assert_false(net_broken(f));
        if (f->wire.sent_count != sent + cases[i].sent ||
            f->net.counts.tx_dropped != dropped + !cases[i].sent)
            fail_msg("case %u", i);
        if (cases[i].sent)
            assert_int_equal(f->wire.sent[sent].data[0], cases[i].header.flags & checksum);
    }
    net_stop(f);
}

static void test_frames_that_are_none(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head;
    uint32_t written;
    net_start(f, 0, NULL);
    net_bring_up(f);
    net_queue_frame(f, NULL, 13, 0);
    net_queue_frame(f, NULL, 0, 0);
    net_queue_frame(f, NULL, VIRTIO_NET_FRAME_MAX + 1, 0);
    const struct guest_buffer giant = {f->tx_at, 32u << 20, false};
    guest_queue_add(&f->tx, &giant, 1, false);
    net_queue_frame(f, NULL, 60, 7);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    net_assert_sent(f, 0, 60, 7);
    assert_int_equal(f->net.counts.tx_dropped, 4);
    for (unsigned i = 0; i < 5; i++)
        assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_false(net_broken(f));
    net_stop(f);
}

static void test_broken_chains(void **state)
{
    struct net_fixture *f = *state;
    net_start(f, 0, NULL);
    for (unsigned i = 0; i < 3; i++) {
        net_bring_up(f);
        const struct guest_buffer bad[3][2] = {
            {{f->tx_at, 100, true}},
            {{f->tx_at, 100, false}, {f->tx_at + 100, 1, true}},
            {{f->tx_at, 11, false}},
        };
        (void)guest_interrupted(&f->net.device);
        guest_queue_add(&f->tx, bad[i], i == 1 ? 2 : 1, false);
        virtio_net_serve(&f->net);
        assert_true(net_broken(f));
        assert_true(guest_interrupted(&f->net.device));
        net_coming(f, 60, 0, 0); /* nothing is served now, in either direction */
        net_queue_frame(f, NULL, 60, 0);
        virtio_net_serve(&f->net);
        assert_int_equal(f->wire.receives, i);
        assert_int_equal(f->wire.sent_count, i);
        net_bring_up(f); /* until the reset */
        assert_false(net_broken(f));
        net_queue_frame(f, NULL, 60, 0);
        virtio_net_serve(&f->net);
        assert_int_equal(f->wire.sent_count, i + 1);
        f->wire.receives = i + 1;
    }
    net_stop(f);
}

static void test_back_pressure(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head, first;
    uint32_t written;
    net_start(f, 0, NULL);
    net_bring_up(f);
    f->wire.sends_left = 1;
    net_queue_frame(f, NULL, 60, 1);
    first = net_queue_frame(f, NULL, 61, 2);
    net_queue_frame(f, NULL, 62, 3);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    assert_true(f->net.tx_blocked);
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_false(guest_queue_take_used(&f->tx, &head, &written)); /* waits in the ring */
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    f->wire.sends_left = WIRE_FRAMES;
    virtio_net_serve(&f->net);
    assert_false(f->net.tx_blocked);
    net_assert_sent(f, 1, 61, 2);
    net_assert_sent(f, 2, 62, 3);
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_int_equal(head, first);
    assert_int_equal(f->net.counts.tx_dropped, 0);
    const uint16_t before = f->tx.avail_index;
    net_queue_frame(f, NULL, 60, 4);
    assert_true(guest_queue_must_kick(&f->tx, before)); /* the next one is heard of */
    net_stop(f);
}

static void test_dropped_by_the_back_end(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head;
    uint32_t written;
    net_start(f, 0, NULL);
    net_bring_up(f);
    f->wire.send_error = 1;
    net_queue_frame(f, NULL, 60, 1);
    virtio_net_serve(&f->net);
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_int_equal(f->net.counts.tx_dropped, 1);
    assert_false(f->net.gone);
    net_stop(f);
}

static void test_gone(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head;
    uint32_t written;
    net_start(f, 0, NULL);
    net_bring_up(f);
    const uint32_t generation = guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG_GENERATION);
    f->wire.send_error = -EPIPE;
    net_queue_frame(f, NULL, 60, 1);
    net_queue_frame(f, NULL, 60, 2);
    virtio_net_serve(&f->net);
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_int_equal(f->net.counts.tx_dropped, 2);
    assert_int_equal(guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG + 4) >> 16, 0); /* link down */
    assert_int_not_equal(guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_true(guest_read32(&f->net.device, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    f->wire.receives = 0;
    f->wire.send_error = 0;
    virtio_net_set_link(&f->net, true); /* there is no link to set up */
    assert_int_equal(guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG + 4) >> 16, 0);
    net_queue_frame(f, NULL, 60, 2);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.receives + f->wire.sent_count, 0);
    assert_false(net_broken(f)); /* it is not the guest's fault */
    net_stop(f);
}

/* What waited for the back end is not left in the ring when that is found gone by a read. */
static void test_gone_while_blocked(void **state)
{
    struct net_fixture *f = *state;
    uint16_t head;
    uint32_t written;
    net_start(f, 0, NULL);
    net_bring_up(f);
    f->wire.sends_left = 0;
    f->wire.receive_error = -EPIPE;
    net_give_buffers(f, 1, 1536);
    net_queue_frame(f, NULL, 60, 1);
    virtio_net_serve(&f->net);
    assert_true(f->net.gone);
    assert_true(guest_queue_take_used(&f->tx, &head, &written));
    assert_int_equal(f->net.counts.tx_dropped, 1);
    const uint16_t before = f->tx.avail_index;
    net_queue_frame(f, NULL, 60, 2);
    assert_true(guest_queue_must_kick(&f->tx, before));
    net_stop(f);
}

static void test_link(void **state)
{
    struct net_fixture *f = *state;
    net_start(f, 0, NULL);
    net_bring_up(f);
    virtio_net_set_link(&f->net, false);
    assert_true(guest_interrupted(&f->net.device));
    net_queue_frame(f, NULL, 60, 1);
    net_give_buffers(f, 1, 2000);
    net_coming(f, 60, 1, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 0);
    assert_int_equal(f->net.counts.tx_dropped, 1);
    assert_int_equal(f->net.counts.rx_dropped, 1);
    (void)guest_interrupted(&f->net.device);
    virtio_net_set_link(&f->net, false); /* no news */
    assert_false(guest_interrupted(&f->net.device));
    virtio_net_set_link(&f->net, true);
    assert_true(guest_interrupted(&f->net.device));
    net_queue_frame(f, NULL, 60, 1);
    net_coming(f, 61, 4, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    assert_int_equal(net_take_frame(f, 61, 4), 1);
    net_stop(f);
}

int main(void)
{
    log_setup("net_test", LOG_LEVEL_ERROR, 2);
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_fixture_setup, net_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_config),
        TEST(test_plans_refused),
        TEST(test_configured_with_what_was_negotiated),
        TEST(test_send),
        TEST(test_send_many),
        TEST(test_offload_headers),
        TEST(test_frames_that_are_none),
        TEST(test_broken_chains),
        TEST(test_back_pressure),
        TEST(test_dropped_by_the_back_end),
        TEST(test_gone),
        TEST(test_gone_while_blocked),
        TEST(test_link),
    };
    return cmocka_run_group_tests_name("virtio net", tests, NULL, NULL);
}
