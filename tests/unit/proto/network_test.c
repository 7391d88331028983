/* The network's text: what is taken, how it is written again, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/proto/network.h"

static void assert_writes(const char *given, const char *wanted)
{
    struct network network;
    struct network again;
    char why[NETWORK_WHY_BYTES];
    char text[PROTO_NETWORK_MAX_BYTES + 1];
    if (network_parse(&network, given, strlen(given), why))
        fail_msg("%s: %s", given, why);
    assert_int_equal(network_format(&network, text, sizeof text), (int)strlen(wanted));
    assert_string_equal(text, wanted);
    assert_int_equal(network_parse(&again, text, strlen(text), why), 0);
    assert_memory_equal(&network, &again, sizeof network);
}

static void assert_refused(const char *given, const char *part)
{
    static const struct network none;
    struct network network;
    char why[NETWORK_WHY_BYTES] = "";
    memset(&network, 0xff, sizeof network);
    if (network_parse(&network, given, strlen(given), why) != -EINVAL)
        fail_msg("%s: was taken", given);
    assert_memory_equal(&network, &none, sizeof network);
    if (!strstr(why, part))
        fail_msg("%s: '%s' does not say '%s'", given, why, part);
}

static void every_item_is_read(void **state)
{
    static const char given[] = "mac=02:00:00:aB:cD:01,mtu=9000,address=192.0.2.2/24,address=2001:db8::2/64,"
                                "gateway=192.0.2.1,gateway=fe80::1,dns=192.0.2.53,dns=2001:db8::53";
    static const uint8_t mac[] = {2, 0, 0, 0xab, 0xcd, 1};
    struct network network;
    char why[NETWORK_WHY_BYTES];
    (void)state;
    assert_int_equal(network_parse(&network, given, strlen(given), why), 0);
    assert_int_equal(network.count, 1);
    const struct network_interface *interface = &network.at[0];
    assert_true(interface->has_mac);
    assert_memory_equal(interface->mac, mac, sizeof mac);
    assert_int_equal(interface->mtu, 9000);
    assert_int_equal(interface->address_count, 2);
    assert_int_equal(interface->addresses[0].family, 4);
    assert_int_equal(interface->addresses[0].prefix, 24);
    assert_int_equal(interface->addresses[0].bytes[3], 2);
    assert_int_equal(interface->addresses[1].family, 6);
    assert_int_equal(interface->addresses[1].prefix, 64);
    assert_int_equal(interface->addresses[1].bytes[15], 2);
    assert_int_equal(interface->gateway4.bytes[3], 1);
    assert_int_equal(interface->gateway6.bytes[0], 0xfe);
    assert_int_equal(interface->dns_count, 2);
    assert_int_equal(interface->dns[1].bytes[15], 0x53);
}

static void items_are_written_in_one_order(void **state)
{
    (void)state;
    assert_writes("", "");
    assert_writes("mtu=1280", "mtu=1280");
    assert_writes(
        "dns=192.0.2.53,gateway=fe80::1,gateway=192.0.2.1,address=2001:DB8::2/64,address=10.0.0.2/8,"
        "mtu=1500,mac=02:00:00:00:00:0A",
        "mac=02:00:00:00:00:0a,mtu=1500,address=2001:db8::2/64,address=10.0.0.2/8,gateway=192.0.2.1,"
        "gateway=fe80::1,dns=192.0.2.53");
    assert_writes("mtu=1500;address=10.0.0.2/8;dns=127.0.0.1;mac=02:00:00:00:00:01",
                  "mtu=1500;address=10.0.0.2/8;dns=127.0.0.1;mac=02:00:00:00:00:01");
}

/* RFC 5952, section 4. */
static void addresses_are_written_in_one_way(void **state)
{
    static const char *const pairs[][2] = {
        {"2001:0db8:0000:0000:0000:0000:0002:0001", "2001:db8::2:1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:DB8::ABCD:EF01", "2001:db8::abcd:ef01"},
        {"0:0:1:2:3:4:5:6", "::1:2:3:4:5:6"},
        {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
        {"1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0"},
        {"0:2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        {"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
        {"1::", "1::"},
        {"::2", "::2"},
        {"255.255.255.254", NULL},
        {"10.0.0.1", "10.0.0.1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char given[80];
        char wanted[80];
        snprintf(given, sizeof given, "dns=%s", pairs[i][0]);
        if (!pairs[i][1]) {
            assert_refused(given, "want the IPv4 or IPv6 address of a DNS server");
            continue;
        }
        snprintf(wanted, sizeof wanted, "dns=%s", pairs[i][1]);
        assert_writes(given, wanted);
    }
}

static void what_is_wrong_is_named(void **state)
{
    static const char *const bad[][2] = {
        {"colour=red", "colour=red: want mac="},
        {"mtu", "mtu: want mac="},
        {",", ": want mac="},
        {"mtu=1500,", ": want mac="},
        {"mtu=1500;", ": want mac="},
        {";mtu=1500", ": want mac="},
        {"mac=", "six hexadecimal bytes"},
        {"mac=02:00:00:00:00", "six hexadecimal bytes"},
        {"mac=02:00:00:00:00:0g", "six hexadecimal bytes"},
        {"mac=02-00-00-00-00-00", "six hexadecimal bytes"},
        {"mac=01:00:00:00:00:00", "unicast"},
        {"mac=00:00:00:00:00:00", "not all zero"},
        {"mac=02:00:00:00:00:01,mac=02:00:00:00:00:02", "mac=02:00:00:00:00:02: want"},
        {"mtu=1279", "1280 to 65535"},
        {"mtu=65536", "1280 to 65535"},
        {"mtu=01500", "1280 to 65535"},
        {"mtu=1500x", "1280 to 65535"},
        {"mtu=", "1280 to 65535"},
        {"mtu=1500,mtu=1500", "once"},
        {"address=10.0.0.1", "with its prefix"},
        {"address=10.0.0.1/", "with its prefix"},
        {"address=10.0.0.1/33", "with its prefix"},
        {"address=10.0.0.1/024", "with its prefix"},
        {"address=2001:db8::1/129", "with its prefix"},
        {"address=10.0.0/24", "with its prefix"},
        {"address=127.0.0.1/8", "of one station"},
        {"address=::1/128", "of one station"},
        {"address=0.0.0.0/0", "of one station"},
        {"address=224.0.0.1/4", "of one station"},
        {"address=ff02::1/64", "of one station"},
        {"address=::/64", "of one station"},
        {"address=::ffff:10.0.0.1/96", "of one station"},
        {"address=10.0.0.1/8,address=10.0.0.1/16", "none twice"},
        {"gateway=10.0.0.1/8", "without a prefix"},
        {"gateway=10.0.0.1,gateway=10.0.0.2", "one of each family"},
        {"gateway=fe80::1,gateway=fe80::2", "one of each family"},
        {"gateway=127.0.0.1", "of a router"},
        {"dns=name.example", "DNS server"},
        {"dns=fe80::1%eth0", "DNS server"},
        {"dns=10.0.0.1,dns=10.0.0.2,dns=10.0.0.3,dns=10.0.0.4,dns=10.0.0.5", "at most 4"},
        {"mtu=1500;mtu=1500;mtu=1500;mtu=1500;mtu=1501", "mtu=1501: want at most 4 interfaces"},
        {"dns=\x1b[2J", "dns=?[2J: want"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(bad[i][0], bad[i][1]);
    struct network network;
    char why[NETWORK_WHY_BYTES];
    assert_int_equal(network_parse(&network, "dns=1.2.3.4\0", 12, why), -EINVAL);
    assert_int_equal(network_parse(&network, "dns=1.2.3.4 ", 12, why), -EINVAL);
}

static void eight_addresses_and_no_more(void **state)
{
    struct network_interface interface = {.mtu = 0};
    char why[NETWORK_WHY_BYTES];
    char item[40];
    (void)state;
    for (int i = 1; i <= NETWORK_ADDRESSES_MAX + 1; i++) {
        const int size = snprintf(item, sizeof item, "address=10.0.0.%d/24", i);
        assert_int_equal(network_parse_item(&interface, item, (size_t)size, why),
                         i <= NETWORK_ADDRESSES_MAX ? 0 : -EINVAL);
    }
    assert_non_null(strstr(why, "at most 8"));
}

/* Four interfaces with all they may have do not fit the line: that is said, and not cut. */
static void the_whole_is_bounded(void **state)
{
    static struct network network;
    char text[2 * PROTO_NETWORK_MAX_BYTES] = "";
    char why[NETWORK_WHY_BYTES];
    size_t size = 0;
    (void)state;
    for (int i = 0; size < PROTO_NETWORK_MAX_BYTES - 100; i++)
        size +=
            (size_t)snprintf(text + size, sizeof text - size, "%saddress=2001:db8::1111:1111:1111:%x:%x/64",
                             i == 0       ? ""
                             : i % 8 == 0 ? ";"
                                          : ",",
                             i + 1, i + 1);
    assert_int_equal(network_parse(&network, text, size, why), 0);
    char out[PROTO_NETWORK_MAX_BYTES + 1];
    assert_int_equal(network_format(&network, out, sizeof out), (int)size + (int)network.at[0].address_count +
                                                                    (int)network.at[1].address_count +
                                                                    (int)network.at[2].address_count);
    assert_int_equal(network_format(&network, out, 100), -ENOSPC);
    assert_int_equal(network_format(&network, out, 0), -ENOSPC);
    memset(text + size, ',', 200);
    assert_int_equal(network_parse(&network, text, PROTO_NETWORK_MAX_BYTES + 1, why), -EINVAL);
    assert_non_null(strstr(why, "1024 bytes"));
}

/* Its canonical form is a byte longer than what was given. */
static void a_line_that_would_grow_past_its_bound_is_refused(void **state)
{
    char text[PROTO_NETWORK_MAX_BYTES + 1] = "";
    static struct network network;
    char why[NETWORK_WHY_BYTES];
    size_t size = 0;
    int n = 0;
    (void)state;
    while (size + 45 < PROTO_NETWORK_MAX_BYTES) {
        size +=
            (size_t)snprintf(text + size, sizeof text - size, "%saddress=2001:db8::1111:1111:1111:1:%x/64",
                             n == 0       ? ""
                             : n % 8 == 0 ? ";"
                                          : ",",
                             n + 1);
        n++;
    }
    assert_int_equal(network_parse(&network, text, size, why), -EINVAL);
    assert_non_null(strstr(why, "1024 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_read),
        cmocka_unit_test(items_are_written_in_one_order),
        cmocka_unit_test(addresses_are_written_in_one_way),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(eight_addresses_and_no_more),
        cmocka_unit_test(the_whole_is_bounded),
        cmocka_unit_test(a_line_that_would_grow_past_its_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
