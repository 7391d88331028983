/* Announcements: their bytes, and that the host's gate, the code itself, opens at each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/announce.h"
#include "hostvmm/device/virtio/net_parts.h"

static struct net_frame frames[NET_FRAMES_MAX];

static unsigned announce(const char *text, struct network *network)
{
    char why[NETWORK_WHY_BYTES];
    assert_int_equal(network_parse(network, text, strlen(text), why), 0);
    return net_announce(&network->at[0], frames);
}

static void an_ipv4_address_is_asked_for_by_its_owner(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,   0, 0, 0, 0, 7, 8, 6, /* Ethernet */
        0,    1,    8,    0,    6,    4,    0,   1,                   /* Ethernet, IPv4, request */
        2,    0,    0,    0,    0,    7,    192, 0, 2, 9,             /* sender */
        0,    0,    0,    0,    0,    0,    192, 0, 2, 9,             /* target */
    };
    struct network network;
    assert_int_equal(announce("mac=02:00:00:00:00:07,address=192.0.2.9/24", &network), 1);
    assert_int_equal(frames[0].size, sizeof wanted);
    assert_memory_equal(frames[0].bytes, wanted, sizeof wanted);
}

static void an_ipv6_address_is_advertised(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {
        0x33, 0x33, 0,   0,    0, 1, 2, 0, 0, 0, 0,   7, 0x86, 0xdd, 0x60, 0, 0,    0, 0,    32, 58,  255,
        0x20, 1,    0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0,   0, 0,    0,    0,    9, 0xff, 2, 0,    0,  0,   0,
        0,    0,    0,   0,    0, 0, 0, 0, 0, 1, 136, 0, 0x1c, 0x05, 0x20, 0, 0,    0, 0x20, 1,  0xd, 0xb8,
        0,    0,    0,   0,    0, 0, 0, 0, 0, 0, 0,   9, 2,    1,    2,    0, 0,    0, 0,    7,
    };
    struct network network;
    assert_int_equal(announce("mac=02:00:00:00:00:07,address=2001:db8::9/64", &network), 1);
    assert_int_equal(frames[0].size, sizeof wanted);
    assert_memory_equal(frames[0].bytes, wanted, 56);
    assert_memory_equal(frames[0].bytes + 58, wanted + 58, sizeof wanted - 58);
}

static void without_an_address_the_macs_own_is_advertised(void **state)
{
    (void)state;
    static const uint8_t local[] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 7};
    struct network network;
    assert_int_equal(announce("mac=02:00:00:00:00:07,dns=192.0.2.1", &network), 1);
    assert_memory_equal(frames[0].bytes + 22, local, sizeof local);
    assert_memory_equal(frames[0].bytes + 62, local, sizeof local);
}

/* RFC 1071: with the checksum in it, the sum of all is all ones. */
static void checksums_are_right(void **state)
{
    (void)state;
    struct network network;
    static char text[] = "mac=02:00:00:00:00:00,address=2001:db8::ffff:ffff:ffff:00/64";
    for (unsigned i = 0; i < 256; i++) {
        text[19] = "0123456789abcdef"[i >> 4];
        text[20] = "0123456789abcdef"[i & 15];
        assert_int_equal(announce(text, &network), 1);
        uint32_t sum = 32 + 58;
        for (size_t at = 22; at < frames[0].size; at += 2)
            sum += (uint32_t)frames[0].bytes[at] << 8 | frames[0].bytes[at + 1];
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        assert_int_equal(sum, 0xffff);
    }
}

static void the_gate_opens_at_each(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "mac=02:00:00:00:00:07",
        "mac=02:00:00:00:00:07,mtu=1280,gateway=fe80::1",
        "mac=02:00:00:00:00:07,address=192.0.2.9/24,address=2001:db8::9/64,address=10.0.0.1/8,"
        "address=fe80::5/64",
        "mac=02:00:00:00:00:07,address=2001:db8::1/64,address=2001:db8::2/64,address=2001:db8::3/64,"
        "address=2001:db8::4/64,address=2001:db8::5/64,address=2001:db8::6/64,address=2001:db8::7/64,"
        "address=2001:db8::8/64",
    };
    static const unsigned counts[] = {1, 1, 4, 8};
    static const uint8_t other[] = {2, 0, 0, 0, 0, 8};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct network network;
        assert_int_equal(announce(texts[i], &network), counts[i]);
        for (unsigned n = 0; n < counts[i]; n++) {
            assert_true(net_gate_announces(network.at[0].mac, frames[n].bytes, frames[n].size));
            assert_false(net_gate_announces(other, frames[n].bytes, frames[n].size));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ipv4_address_is_asked_for_by_its_owner),
        cmocka_unit_test(an_ipv6_address_is_advertised),
        cmocka_unit_test(without_an_address_the_macs_own_is_advertised),
        cmocka_unit_test(checksums_are_right),
        cmocka_unit_test(the_gate_opens_at_each),
    };
    return cmocka_run_group_tests_name("network announcements", tests, NULL, NULL);
}
