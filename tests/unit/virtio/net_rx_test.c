/* The network device: what it receives, into buffers of all sizes, and when there are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "agent/base/log.h"
#include "tests/unit/virtio/net_fixture.h"

#define PLAIN (1ull << VIRTIO_NET_F_MRG_RXBUF)

static void start(struct net_fixture *f, bool mergeable)
{
    net_start(f, NET_OFFLOADS, NULL);
    if (!mergeable)
        f->features &= ~PLAIN;
    net_bring_up(f);
}

static unsigned used(struct net_fixture *f)
{
    return (uint16_t)(guest_queue_used(&f->rx)->idx - f->rx.used_seen);
}

static void test_one_buffer_a_frame(void **state)
{
    struct net_fixture *f = *state;
    static const size_t sizes[] = {14, 60, 1514, 65549};
    for (unsigned mergeable = 0; mergeable < 2; mergeable++) {
        start(f, mergeable != 0);
        net_give_buffers(f, 4, 65562);
        for (unsigned i = 0; i < 4; i++)
            net_coming(f, sizes[i], (uint8_t)i, 0);
        (void)guest_interrupted(&f->net.device);
        virtio_net_serve(&f->net);
        assert_true(guest_interrupted(&f->net.device));
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(net_take_frame(f, sizes[i], (uint8_t)i), 1);
        assert_int_equal(f->net.counts.rx_frames, 4);
        assert_int_equal(f->net.counts.rx_bytes, 14 + 60 + 1514 + 65549);
        assert_int_equal(f->net.counts.rx_dropped, 0);
        net_stop(f);
    }
}

/* However the sizes follow each other, through memory or through the copy. */
static void test_merged(void **state)
{
    struct net_fixture *f = *state;
    static const size_t sizes[] = {60,   20000, 20000, 20000, 60,    1514, 1525, 1524, 1523, 3048,
                                   3061, 65549, 65549, 60,    65549, 14,   14,   14,   9014, 3036};
    const unsigned count = sizeof sizes / sizeof sizes[0];
    start(f, true);
    for (unsigned i = 0; i < count; i++)
        net_coming(f, sizes[i], (uint8_t)i, 0);
    net_give_buffers(f, 160, 1536);
    for (unsigned i = 0; i < count; i++) {
        virtio_net_serve(&f->net);
        while (used(f) == 0) { /* it waits for more */
            assert_true(f->net.rx_starved);
            assert_in_range(f->rx.free_count, 2, 256);
            const uint16_t before = f->rx.avail_index;
            net_give_buffers(f, 1, 1536);
            assert_true(guest_queue_must_kick(&f->rx, before));
            virtio_net_serve(&f->net);
        }
        assert_int_equal(net_take_frame(f, sizes[i], (uint8_t)i), (12 + sizes[i] + 1535) / 1536);
    }
    assert_int_equal(f->net.counts.rx_frames, count);
    assert_int_equal(f->net.counts.rx_dropped, 0);
    net_stop(f);
}

/* The driver never sees a part of a frame. */
static void test_a_frame_longer_than_the_buffers_waits_whole(void **state)
{
    struct net_fixture *f = *state;
    start(f, true);
    net_coming(f, 60, 0, 0);
    net_coming(f, 10000, 1, 0);
    net_coming(f, 61, 2, 0);
    net_give_buffers(f, 4, 2048);
    virtio_net_serve(&f->net);
    assert_int_equal(used(f), 1);
    assert_int_equal(net_take_frame(f, 60, 0), 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(f->net.rx_starved);
        assert_int_equal(used(f), 0);
        assert_int_equal(f->net.buffered_bytes, 10012);
        assert_int_equal(f->net.device.queues[NET_RX].last_avail, 1); /* nothing is in our hands */
        const uint16_t before = f->rx.avail_index;
        memset(guest_at(&f->guest, f->rx_at), i ? 0xaa : 0x55, 1u << 20); /* theirs to scribble on */
        net_give_buffers(f, 1 + i, 2048);
        assert_true(guest_queue_must_kick(&f->rx, before));
        assert_int_equal(f->wire.receives, 2); /* and nothing more is read meanwhile */
        virtio_net_serve(&f->net);
    }
    assert_int_equal(net_take_frame(f, 10000, 1), 5);
    assert_int_equal(net_take_frame(f, 61, 2), 1);
    assert_int_equal(f->net.counts.rx_dropped, 0);
    net_stop(f);
}

static void test_without_buffers_nothing_is_read(void **state)
{
    struct net_fixture *f = *state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        net_start(f, 0, NULL);
        if (!event_idx)
            f->features &= ~(1ull << VIRTIO_RING_F_EVENT_IDX);
        net_bring_up(f);
        f->wire.receives = 0;
        net_coming(f, 60, 1, 0);
        virtio_net_serve(&f->net);
        assert_true(f->net.rx_starved);
        assert_int_equal(f->wire.receives, 0);
        const uint16_t before = f->rx.avail_index;
        net_give_buffers(f, 1, 1536);
        assert_true(guest_queue_must_kick(&f->rx, before));
        virtio_net_serve(&f->net);
        assert_int_equal(net_take_frame(f, 60, 1), 1);
        assert_true(f->net.rx_starved); /* the only one is used up */
        net_give_buffers(f, 1, 1536);
        virtio_net_serve(&f->net);
        assert_false(f->net.rx_starved);
        const uint16_t then = f->rx.avail_index;
        net_give_buffers(f, 1, 1536);
        assert_false(guest_queue_must_kick(&f->rx, then)); /* there are enough: no exits for more */
        net_stop(f);
    }
}

static void test_misfits_are_dropped(void **state)
{
    struct net_fixture *f = *state;
    start(f, false);
    net_give_buffers(f, 2, 1526);
    net_coming(f, 1515, 0, 0);
    net_coming(f, 1514, 1, 0);
    net_coming(f, 13, 1, 0); /* no frame */
    net_coming(f, 60, 2, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(net_take_frame(f, 1514, 1), 1);
    assert_int_equal(net_take_frame(f, 60, 2), 1);
    assert_int_equal(f->net.counts.rx_dropped, 2);
    net_stop(f);
    start(f, true); /* all 256 buffers are not enough */
    f->net.counts.rx_dropped = 0;
    net_give_buffers(f, 256, 12);
    net_coming(f, 60, 0, 0);
    net_coming(f, 5000, 0, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(net_take_frame(f, 60, 0), 6);
    assert_int_equal(f->net.buffered_bytes, 5012); /* 250 are too few, 6 more would be as well */
    net_give_buffers(f, 6, 12);
    virtio_net_serve(&f->net);
    assert_int_equal(f->net.counts.rx_dropped, 1);
    assert_int_equal(used(f), 0);
    assert_false(net_broken(f));
    net_stop(f);
}

static void test_broken_buffers(void **state)
{
    struct net_fixture *f = *state;
    net_start(f, 0, NULL);
    const struct guest_buffer bad[][2] = {
        {{4096, 2000, false}},
        {{4096, 20, false}, {8192, 2000, true}},
        {{4096, 11, true}},
    };
    for (unsigned i = 0; i < 3; i++) {
        net_bring_up(f);
        guest_queue_add(&f->rx, bad[i], i == 1 ? 2 : 1, false);
        net_coming(f, 60, 0, 0);
        virtio_net_serve(&f->net);
        assert_true(net_broken(f));
        assert_int_equal(f->wire.receives, 0);
    }
    /* A later buffer of a merged frame may be small, but not readable. */
    net_bring_up(f);
    net_give_buffers(f, 1, 1536);
    const struct guest_buffer small = {f->rx_at + 65536, 1, true}, readable = {f->rx_at + 70000, 2000, false};
    guest_queue_add(&f->rx, &small, 1, false);
    guest_queue_add(&f->rx, &readable, 1, false);
    f->wire.coming_at = f->wire.coming_count;
    net_coming(f, 1525, 3, 0);
    net_coming(f, 3000, 3, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(net_take_frame(f, 1525, 3), 2);
    assert_true(net_broken(f));
    net_stop(f);
}

static void test_header_flags(void **state)
{
    struct net_fixture *f = *state;
    for (unsigned guest_csum = 0; guest_csum < 2; guest_csum++) {
        net_start(f, NET_OFFLOADS, NULL);
        if (!guest_csum)
            f->features &= ~(1ull << VIRTIO_NET_F_GUEST_CSUM);
        net_bring_up(f);
        net_give_buffers(f, 1, 1536);
        net_coming(f, 60, 0, VIRTIO_NET_HDR_F_DATA_VALID);
        virtio_net_serve(&f->net);
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->rx_at),
                         guest_csum ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
        assert_int_equal(net_take_frame(f, 60, 0), 1);
        net_stop(f);
    }
}

static void test_gone(void **state)
{
    struct net_fixture *f = *state;
    start(f, true);
    net_give_buffers(f, 1, 1536);
    f->wire.receive_error = -ECONNRESET;
    virtio_net_serve(&f->net);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.receives, 1);
    assert_int_equal(guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG + 4) >> 16, 0);
    assert_int_equal(f->net.device.queues[NET_RX].last_avail, 0); /* the buffer was given back */
    assert_false(net_broken(f));
    net_stop(f);
}

/* A ring whose index runs ahead as it is read must not outrun what a frame is taken into. */
static void test_a_chain_named_again_and_again(void **state)
{
    struct net_fixture *f = *state;
    start(f, true);
    net_give_buffers(f, 1, 12);
    for (unsigned i = 0; i < 255; i++)
        guest_queue_publish(&f->rx, 0);
    net_coming(f, 65549, 0, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(f->net.counts.rx_dropped, 1);
    assert_false(net_broken(f));
    guest_queue_publish(&f->rx, 0); /* 257 in a ring of 256 */
    net_coming(f, 60, 0, 0);
    virtio_net_serve(&f->net);
    assert_true(net_broken(f));
    net_stop(f);
}

int main(void)
{
    log_setup("net_rx_test", LOG_LEVEL_ERROR, 2);
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_fixture_setup, net_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_buffer_a_frame),
        TEST(test_merged),
        TEST(test_a_frame_longer_than_the_buffers_waits_whole),
        TEST(test_without_buffers_nothing_is_read),
        TEST(test_misfits_are_dropped),
        TEST(test_broken_buffers),
        TEST(test_header_flags),
        TEST(test_gone),
        TEST(test_a_chain_named_again_and_again),
    };
    return cmocka_run_group_tests_name("virtio net, receiving", tests, NULL, NULL);
}
