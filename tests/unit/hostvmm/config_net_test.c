/* --net: back ends, items, and what a clone's number makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/config.h"

static struct config_net net;
static char why[CONFIG_NET_WHY_BYTES];

static const char *address_of(unsigned index)
{
    static char text[46];
    network_address_text(&net.items.addresses[index], text);
    return text;
}

static void each_back_end_is_taken(void **state)
{
    (void)state;
    assert_int_equal(config_net_parse(&net, "tap=tap0,address=192.0.2.2/24,gateway=192.0.2.1", 0, why), 0);
    assert_int_equal(net.backend, CONFIG_BACKEND_TAP);
    assert_string_equal(net.name, "tap0");
    assert_int_equal(net.items.address_count, 1);
    assert_int_equal(net.items.gateway4.bytes[3], 1);
    assert_int_equal(config_net_parse(&net, "mtu=1400,tap-fd=17,mac=02:00:00:00:00:01", 0, why), 0);
    assert_int_equal(net.backend, CONFIG_BACKEND_TAP_FD);
    assert_int_equal(net.fd, 17);
    assert_int_equal(net.items.mtu, 1400);
    assert_true(net.items.has_mac);
    assert_int_equal(config_net_parse(&net, "stream=/run/passt.sock", 0, why), 0);
    assert_int_equal(net.backend, CONFIG_BACKEND_STREAM);
    assert_string_equal(net.name, "/run/passt.sock");
    assert_int_equal(config_net_parse(&net, "none", 0, why), 0);
    assert_int_equal(net.backend, CONFIG_BACKEND_NONE);
}

static void what_is_wrong_is_named(void **state)
{
    static const char *const bad[][2] = {
        {"", "want mac="},
        {"mtu=1400", "want a back end"},
        {"tap=", "name of a TAP device"},
        {"tap=a234567890123456", "at most 15 bytes"},
        {"tap-fd=2", "above 2"},
        {"tap-fd=x", "above 2"},
        {"tap-fd=3x", "above 2"},
        {"tap-fd=-3", "above 2"},
        {"tap-fd=", "number of a descriptor"},
        {"stream=", "path of a Unix socket"},
        {"tap=a,tap=b", "want one back end"},
        {"tap=a,stream=b", "want one back end"},
        {"none,tap=b", "want one back end"},
        {"tap=a,none", "want mac="},
        {"tap=a,", "want mac="},
        {"tap=a,colour=red", "colour=red: want mac="},
        {"tap=a,address=10.0.0.1", "with its prefix"},
        {"tap=a,address=10.0.0.1+5/24", "with its prefix"}, /* no clone */
        {"tap=a,mac=01:00:00:00:00:00", "unicast"},
        {"tap=a,rx-bandwidth=1", "SIZE/REFILL_MS"},
        {"tap=a,tx-operations=/1", "SIZE/REFILL_MS"},
        {"tap=a,bandwidth=1/1", "want mac="}, /* which direction? */
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why[0] = '\0';
        if (config_net_parse(&net, bad[i][0], 0, why) != -EINVAL)
            fail_msg("%s was taken", bad[i][0]);
        if (!strstr(why, bad[i][1]))
            fail_msg("%s: '%s' does not say '%s'", bad[i][0], why, bad[i][1]);
    }
}

static void the_clones_number_is_put_in(void **state)
{
    (void)state;
    assert_int_equal(config_net_parse(&net, "tap=c%n,address=10.7.%n.1/24,address=2001:db8::%n/64", 12, why),
                     0);
    assert_string_equal(net.name, "c12");
    assert_string_equal(address_of(0), "10.7.12.1");
    assert_string_equal(address_of(1), "2001:db8::12");
    assert_int_equal(config_net_parse(&net, "tap-fd=1%n", 7, why), 0);
    assert_int_equal(net.fd, 17);
    assert_int_equal(config_net_parse(&net, "tap=c%n,address=10.7.0.%n/16", 256, why), -EINVAL);
}

static void the_clones_number_is_added(void **state)
{
    static const struct {
        const char *given;
        unsigned clone;
        const char *wanted; /* NULL: refused */
    } sums[] = {
        {"none,address=10.7.0.0+%n/16", 1, "10.7.0.1"},
        {"none,address=10.7.0.0+%n/16", 255, "10.7.0.255"},
        {"none,address=10.7.0.0+%n/16", 256, "10.7.1.0"},
        {"none,address=10.7.250.250+%n/16", 10, "10.7.251.4"},
        {"none,address=10.7.255.250+%n/16", 4, "10.7.255.254"},
        {"none,address=10.7.255.250+%n/16", 5, NULL}, /* broadcast */
        {"none,address=10.7.255.250+%n/16", 6, NULL}, /* another network */
        {"none,address=10.7.0.6+%n/31", 1, "10.7.0.7"},
        {"none,address=10.7.0.6+%n/31", 2, NULL},
        {"none,address=10.7.0.6+%n/32", 1, NULL},
        {"none,address=223.255.255.255+%n/0", 1, NULL}, /* nobody's */
        {"none,address=2001:db8::ff00+%n/64", 256, "2001:db8::1:0"},
        {"none,address=2001:db8::ffff:ffff:ffff:fff0+%n/64", 15, "2001:db8::ffff:ffff:ffff:ffff"},
        {"none,address=2001:db8::ffff:ffff:ffff:fff0+%n/64", 16, NULL},
        {"none,address=10.7.0.0+1%n/16", 2, "10.7.0.12"},
        {"none,address=10.7.0.0+/16", 2, NULL},
        {"none,address=10.7.0.0+x/16", 2, NULL},
        {"none,address=10.7.0.0+10001/16", 2, NULL},
        {"none,address=10.7.0.0+%n", 2, NULL},
        {"none,address=+%n/16", 2, NULL},
        {"none,gateway=10.7.0.0+%n", 2, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        const int result = config_net_parse(&net, sums[i].given, sums[i].clone, why);
        if ((result == 0) != (sums[i].wanted != NULL))
            fail_msg("%s for clone %u: %s", sums[i].given, sums[i].clone, result ? why : address_of(0));
        if (sums[i].wanted)
            assert_string_equal(address_of(0), sums[i].wanted);
    }
    assert_int_equal(config_net_parse(&net, "none,address=10.7.0.3/16,address=10.7.0.0+%n/16", 3, why),
                     -EINVAL);
    assert_non_null(strstr(why, "none twice"));
}

static enum config_result parse(enum config_command command, const char *clones, const char *text, char *said,
                                size_t said_bytes)
{
    static struct config config;
    char *run[] = {"run", "--kernel", "k", "--net", (char *)(uintptr_t)text, NULL};
    char *restore[] = {
        "restore", "--snapshot", "s", "--net", (char *)(uintptr_t)text, "--clones", (char *)(uintptr_t)clones,
        NULL};
    said[0] = '\0';
    memset(&config, 0, sizeof config);
    return command == CONFIG_RUN ? config_parse(&config, command, 5, run, said, said_bytes)
                                 : config_parse(&config, command, 7, restore, said, said_bytes);
}

static void the_command_line_is_judged_for_every_clone(void **state)
{
    char said[256];
    (void)state;
    assert_int_equal(parse(CONFIG_RUN, "", "tap=tap0,mtu=1400", said, sizeof said), CONFIG_OK);
    assert_int_equal(parse(CONFIG_RUN, "", "tap=tap0,mtu=14", said, sizeof said), CONFIG_BAD);
    assert_string_equal(said, "--net tap=tap0,mtu=14: mtu=14: want a number from 1280 to 65535, once");
    assert_int_equal(parse(CONFIG_RESTORE, "4", "tap=c%n,address=10.7.0.0+%n/29", said, sizeof said),
                     CONFIG_OK);
    assert_int_equal(parse(CONFIG_RESTORE, "9", "tap=c%n,address=10.7.0.0+%n/29", said, sizeof said),
                     CONFIG_BAD);
    assert_non_null(strstr(said, "within its prefix"));
    assert_int_equal(parse(CONFIG_RESTORE, "1", "tap-fd=9", said, sizeof said), CONFIG_OK);
    assert_int_equal(parse(CONFIG_RESTORE, "2", "tap-fd=9", said, sizeof said), CONFIG_BAD);
    assert_non_null(strstr(said, "a descriptor for each clone"));
    assert_int_equal(parse(CONFIG_RESTORE, "2", "tap-fd=9%n", said, sizeof said), CONFIG_OK);
}

static void four_interfaces_and_no_more(void **state)
{
    static struct config config;
    char *argv[] = {"run",        "--kernel",   "k",          "--net=none", "--net=none",
                    "--net=none", "--net=none", "--net=none", NULL};
    char said[256];
    (void)state;
    assert_int_equal(config_parse(&config, CONFIG_RUN, 7, argv, said, sizeof said), CONFIG_OK);
    assert_int_equal(config.net_count, 4);
    memset(&config, 0, sizeof config);
    assert_int_equal(config_parse(&config, CONFIG_RUN, 8, argv, said, sizeof said), CONFIG_BAD);
    assert_non_null(strstr(said, "at most 4"));
}

static void the_network_is_no_bootarg(void **state)
{
    static struct config config;
    char *argv[] = {"run", "--kernel", "k", "--bootarg", "net=mtu=1400", NULL};
    char said[256];
    (void)state;
    assert_int_equal(config_parse(&config, CONFIG_RUN, 5, argv, said, sizeof said), CONFIG_BAD);
    assert_non_null(strstr(said, "want --net instead"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_back_end_is_taken),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(the_clones_number_is_put_in),
        cmocka_unit_test(the_clones_number_is_added),
        cmocka_unit_test(the_command_line_is_judged_for_every_clone),
        cmocka_unit_test(four_interfaces_and_no_more),
        cmocka_unit_test(the_network_is_no_bootarg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
