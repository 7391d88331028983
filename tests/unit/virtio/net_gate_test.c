/* The gate of a clone's interface: which frames announce a station, and what passes before and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/net_parts.h"
#include "tests/unit/virtio/net_fixture.h"

#define ARP_BYTES           42u
#define ADVERTISEMENT_BYTES 86u
#define OTHER               0xee /* a byte that is right nowhere */

/* What the agent sends for 192.0.2.9 and for 2001:db8::9, of the station net_mac. */
static const uint8_t arp[ARP_BYTES] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x06, /* Ethernet */
    0x00, 0x01, 0x08, 0x00, 6,    4,    0x00, 0x01,                                     /* request */
    0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 192,  0,    2,    9,                            /* sender */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192,  0,    2,    9,                            /* target */
};
static const uint8_t advertisement[ADVERTISEMENT_BYTES] = {
    0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x86, 0xdd, /* Ethernet */
    0x60, 0x00, 0x00, 0x00, 0x00, 32,   58,   255,                                      /* IPv6 */
    0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
    0,    9,    0xff, 0x02, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
    0,    0,    0,    1,    136,  0,    0x12, 0x34, 0x20, 0,    0,    0, /* neighbour advertisement, override
                                                                          */
    0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
    0,    9,    2,    1,    0x52, 0x54, 0x00, 0x12, 0x34, 0x56, /* the target's link-layer address */
};

static bool announces(const uint8_t *frame, size_t size)
{
    /* Of just this size, so that a byte read beyond it is found. */
    uint8_t *copy = test_malloc(size + 1);
    memcpy(copy + 1, frame, size);
    const bool answer = net_gate_announces(net_mac, copy + 1, size);
    test_free(copy);
    return answer;
}

static bool in(size_t at, size_t from, size_t to)
{
    return at >= from && at < to;
}

/* With any one byte changed it announces nothing, unless the byte means nothing here. */
static void test_arp(void **state)
{
    (void)state;
    assert_true(announces(arp, ARP_BYTES));
    for (size_t i = 0; i < ARP_BYTES; i++) {
        uint8_t frame[ARP_BYTES];
        memcpy(frame, arp, ARP_BYTES);
        frame[i] = OTHER;
        if (announces(frame, ARP_BYTES) != in(i, 32, 38)) /* the target's hardware address is ignored */
            fail_msg("byte %zu", i);
        assert_false(announces(arp, i)); /* cut short */
    }
    uint8_t frame[60] = {0};
    memcpy(frame, arp, ARP_BYTES);
    assert_true(announces(frame, sizeof frame)); /* padded, as on the wire */
    frame[21] = 2;
    assert_true(announces(frame, sizeof frame)); /* a reply: the other form that is in use */
    frame[21] = 3;
    assert_false(announces(frame, sizeof frame));
    memcpy(frame, arp, ARP_BYTES);
    memset(frame + 28, 0, 4); /* a probe */
    assert_false(announces(frame, sizeof frame));
    memset(frame + 38, 0, 4);
    assert_false(announces(frame, sizeof frame));
}

static void test_neighbour_advertisement(void **state)
{
    (void)state;
    assert_true(announces(advertisement, ADVERTISEMENT_BYTES));
    for (size_t i = 0; i < ADVERTISEMENT_BYTES; i++) {
        uint8_t frame[ADVERTISEMENT_BYTES];
        memcpy(frame, advertisement, ADVERTISEMENT_BYTES);
        frame[i] = i == 14 ? 0x40 : i == 58 ? 0x60 : OTHER;
        /* Of no meaning here: traffic class, flow, source address, checksum, reserved, target. */
        const bool any = in(i, 15, 18) || in(i, 22, 38) || in(i, 56, 58) || in(i, 59, 78);
        if (announces(frame, ADVERTISEMENT_BYTES) != any)
            fail_msg("byte %zu", i);
        assert_false(announces(advertisement, i));
    }
}

static void test_options(void **state)
{
    (void)state;
    uint8_t frame[ADVERTISEMENT_BYTES + 16];
    memcpy(frame, advertisement, 78);
    static const struct {
        uint8_t options[24];
        uint8_t size;
        bool announces;
    } cases[] = {
        {{0}, 0, false},
        {{14, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 16, true},
        {{14, 2, [16] = 2, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 24, true},
        {{1, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 8, false}, /* the source's */
        {{2, 0, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 8, false}, /* of no length */
        {{2, 2, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 8, false}, /* longer than the frame */
        {{2, 2, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56}, 16, false},
        {{2, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 2, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x57}, 16, false},
        {{2, 1, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 9}, 9, false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        frame[19] = (uint8_t)(24 + cases[i].size);
        memcpy(frame + 78, cases[i].options, cases[i].size);
        if (announces(frame, 78u + cases[i].size) != cases[i].announces)
            fail_msg("case %u", i);
    }
}

static void start_shut(struct net_fixture *f)
{
    struct virtio_net_plan plan = {.shut = true};
    memcpy(plan.mac, net_mac, sizeof net_mac);
    net_start(f, NET_OFFLOADS, &plan);
    net_bring_up(f);
    net_give_buffers(f, 4, 1536);
}

static void test_nothing_passes_before(void **state)
{
    struct net_fixture *f = *state;
    uint8_t frame[ARP_BYTES];
    uint16_t head;
    uint32_t written;
    start_shut(f);
    memcpy(frame, arp, ARP_BYTES);
    frame[11] = frame[27] = 0x57; /* the original announces itself */
    net_queue_bytes(f, frame, ARP_BYTES);
    net_queue_frame(f, NULL, 60, 0);
    net_queue_frame(f, NULL, 1514, 0);
    net_coming(f, 60, 0, 0);
    net_coming(f, 1514, 0, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 0);
    assert_int_equal(f->net.counts.tx_dropped, 3);
    assert_int_equal(f->net.counts.rx_dropped, 2);
    for (unsigned i = 0; i < 3; i++)
        assert_true(guest_queue_take_used(&f->tx, &head, &written)); /* the guest does not wait for it */
    assert_false(guest_queue_take_used(&f->rx, &head, &written));
    assert_false(f->net.open);
    net_stop(f);
}

static void opens_at(struct net_fixture *f, const uint8_t *frame, size_t size)
{
    uint16_t head;
    uint32_t written;
    start_shut(f);
    net_queue_frame(f, NULL, 60, 1);
    net_queue_bytes(f, frame, size);
    net_queue_frame(f, NULL, 61, 2);
    net_coming(f, 60, 0, 0); /* for the original: it waits when the gate opens */
    virtio_net_serve(&f->net);
    assert_true(f->net.open);
    assert_int_equal(f->wire.sent_count, 2);
    assert_int_equal(f->wire.sent[0].size, VIRTIO_NET_HEADER_BYTES + size);
    assert_memory_equal(f->wire.sent[0].data + VIRTIO_NET_HEADER_BYTES, frame, size);
    net_assert_sent(f, 1, 61, 2);
    assert_int_equal(f->net.counts.tx_dropped, 1);
    assert_int_equal(f->net.counts.rx_dropped, 1);
    assert_false(guest_queue_take_used(&f->rx, &head, &written));
    net_coming(f, 62, 3, 0);
    virtio_net_serve(&f->net);
    assert_int_equal(net_take_frame(f, 62, 3), 1);
    net_bring_up(f); /* a reset of the driver does not shut it again */
    net_queue_frame(f, NULL, 63, 4);
    virtio_net_serve(&f->net);
    net_assert_sent(f, 2, 63, 4);
    net_stop(f);
}

static void test_opens_at_an_arp(void **state)
{
    opens_at(*state, arp, ARP_BYTES);
}

static void test_opens_at_an_advertisement(void **state)
{
    opens_at(*state, advertisement, ADVERTISEMENT_BYTES);
}

/* The announcement itself is not lost when the back end is full. */
static void test_opens_and_waits(void **state)
{
    struct net_fixture *f = *state;
    start_shut(f);
    f->wire.sends_left = 0;
    net_queue_bytes(f, arp, ARP_BYTES);
    virtio_net_serve(&f->net);
    assert_true(f->net.open);
    assert_true(f->net.tx_blocked);
    f->wire.sends_left = 1;
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    assert_memory_equal(f->wire.sent[0].data + VIRTIO_NET_HEADER_BYTES, arp, ARP_BYTES);
    net_stop(f);
}

/* With a checksum to be made by us, as Linux hands over what it forwards. */
static void test_a_header_that_is_not_sane_opens_nothing(void **state)
{
    struct net_fixture *f = *state;
    start_shut(f);
    net_queue_bytes(f, arp, ARP_BYTES);
    struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xffff};
    memcpy(guest_at(&f->guest, f->tx_at), &header, sizeof header);
    virtio_net_serve(&f->net);
    assert_false(f->net.open);
    net_stop(f);
}

static void test_a_back_end_that_is_gone_opens_nothing(void **state)
{
    struct net_fixture *f = *state;
    start_shut(f);
    f->wire.receive_error = -EPIPE;
    net_queue_bytes(f, arp, ARP_BYTES);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 0);
    assert_true(f->net.gone);
    assert_false(net_broken(f));
    net_stop(f);
}

int main(void)
{
    log_setup("net_gate_test", LOG_LEVEL_ERROR, 2);
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_fixture_setup, net_fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arp),
        cmocka_unit_test(test_neighbour_advertisement),
        cmocka_unit_test(test_options),
        TEST(test_nothing_passes_before),
        TEST(test_opens_at_an_arp),
        TEST(test_opens_at_an_advertisement),
        TEST(test_opens_and_waits),
        TEST(test_a_header_that_is_not_sane_opens_nothing),
        TEST(test_a_back_end_that_is_gone_opens_nothing),
    };
    return cmocka_run_group_tests_name("virtio net, the gate", tests, NULL, NULL);
}
