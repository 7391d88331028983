/*
 * Plans of network changes: what each says, and, for many pairs of networks, that a kernel which follows it
 * ends with what is wanted. The kernel is a model with Linux's habits: the secondary addresses of an IPv4
 * network go with its primary one, IPv4 routes with the last address, and a gateway must be reachable when it
 * is set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/plan.h"

#define MAC_A "mac=02:00:00:00:00:0a"
#define MAC_B "mac=02:00:00:00:00:0b"

static struct net_plan plan;

static struct network parsed(const char *text)
{
    struct network network;
    char why[NETWORK_WHY_BYTES];
    if (network_parse(&network, text, strlen(text), why) != 0)
        fail_msg("%s: %s", text, why);
    return network;
}

/* The plan in words, one operation a line. */
static const char *planned(const char *set, const char *wanted, unsigned how)
{
    static char text[NET_PLAN_OPS * (NET_OP_TEXT_BYTES + 8)];
    const struct network from = parsed(set), to = parsed(wanted);
    size_t at = 0;
    text[0] = '\0';
    net_plan(&plan, &from, &to, how);
    for (unsigned i = 0; i < plan.count; i++) {
        char op[NET_OP_TEXT_BYTES];
        net_op_text(&plan.at[i], op);
        at += (size_t)snprintf(text + at, sizeof text - at, "eth%u: %s\n", plan.at[i].interface, op);
    }
    return text;
}

/* ---- what a plan says ---- */

static void nothing_new_needs_nothing(void **state)
{
    (void)state;
    static const char all[] = MAC_A ",mtu=1400,address=10.0.0.2/24,address=2001:db8::2/64,gateway=10.0.0.1,"
                                    "gateway=fe80::1,dns=10.0.0.1;" MAC_B;
    assert_string_equal(planned(all, all, 0), "");
    assert_string_equal(planned("", "", 0), "");
    assert_string_equal(planned("", "", NET_PLAN_MOVED | NET_PLAN_AFRESH), "");
    /* Elsewhere the neighbours are others: to set a MAC makes the kernel forget them. */
    assert_string_equal(planned(all, all, NET_PLAN_MOVED), "eth0: set MAC 02:00:00:00:00:0a, MTU 0\n"
                                                           "eth1: set MAC 02:00:00:00:00:0b, MTU 0\n");
}

static void a_first_network_is_set_in_order(void **state)
{
    (void)state;
    assert_string_equal(planned("",
                                MAC_A ",mtu=1400,address=10.0.0.2/24,address=2001:db8::2/64,"
                                      "gateway=10.0.0.1,gateway=fe80::1;" MAC_B,
                                0),
                        "eth0: set MAC 02:00:00:00:00:0a, MTU 1400\n"
                        "eth0: bring up\n"
                        "eth1: set MAC 02:00:00:00:00:0b, MTU 0\n"
                        "eth1: bring up\n"
                        "eth0: add address fe80::ff:fe00:a/64\n"
                        "eth0: add address 10.0.0.2/24\n"
                        "eth0: add address 2001:db8::2/64\n"
                        "eth0: add gateway 10.0.0.1\n"
                        "eth0: add gateway fe80::1\n");
    assert_true(plan.at[0].quiet && plan.at[2].quiet);
}

static void a_clones_network_replaces_the_originals(void **state)
{
    (void)state;
    assert_string_equal(planned(MAC_A ",address=10.0.0.2/24,gateway=10.0.0.1",
                                MAC_B ",address=10.0.0.3/24,gateway=10.0.0.1", NET_PLAN_MOVED),
                        "eth0: remove gateway 10.0.0.1\n"
                        "eth0: remove address 10.0.0.2/24\n"
                        "eth0: set MAC 02:00:00:00:00:0b, MTU 0\n"
                        "eth0: add address 10.0.0.3/24\n"
                        "eth0: add gateway 10.0.0.1\n");
    assert_false(plan.at[2].quiet);
}

static void a_link_local_address_follows_its_mac(void **state)
{
    (void)state;
    assert_string_equal(planned(MAC_A ",address=2001:db8::2/64", MAC_B ",address=2001:db8::2/64", 0),
                        "eth0: remove address fe80::ff:fe00:a/64\n"
                        "eth0: set MAC 02:00:00:00:00:0b, MTU 0\n"
                        "eth0: add address fe80::ff:fe00:b/64\n");
    /* One that is given stands for it; an interface without IPv6 has none. */
    assert_string_equal(planned(MAC_A ",address=fe80::2/64", MAC_B ",address=fe80::2/64", 0),
                        "eth0: set MAC 02:00:00:00:00:0b, MTU 0\n");
    assert_string_equal(planned(MAC_A ",address=10.0.0.2/24", MAC_B ",address=10.0.0.2/24", 0),
                        "eth0: set MAC 02:00:00:00:00:0b, MTU 0\n");
}

static void a_router_outside_gets_a_route(void **state)
{
    (void)state;
    assert_string_equal(planned(MAC_A, MAC_A ",address=192.0.2.9/32,gateway=10.0.0.1", 0),
                        "eth0: add address 192.0.2.9/32\n"
                        "eth0: add the route to gateway 10.0.0.1\n"
                        "eth0: add gateway 10.0.0.1\n");
    assert_string_equal(planned(MAC_A ",address=192.0.2.9/32,gateway=10.0.0.1", MAC_A, 0),
                        "eth0: remove gateway 10.0.0.1\n"
                        "eth0: remove the route to gateway 10.0.0.1\n"
                        "eth0: remove address 192.0.2.9/32\n");
    assert_string_equal(
        planned(MAC_A ",address=10.0.0.9/25", MAC_A ",address=10.0.0.9/25,gateway=10.0.0.128", 0),
        "eth0: add the route to gateway 10.0.0.128\n"
        "eth0: add gateway 10.0.0.128\n");
    assert_string_equal(
        planned(MAC_A ",address=10.0.0.9/25", MAC_A ",address=10.0.0.9/25,gateway=10.0.0.127", 0),
        "eth0: add gateway 10.0.0.127\n");
    assert_string_equal(
        planned(MAC_A ",address=2001:db8::2/64", MAC_A ",address=2001:db8::2/64,gateway=2001:db9::1", 0),
        "eth0: add the route to gateway 2001:db9::1\n"
        "eth0: add gateway 2001:db9::1\n");
}

static void an_interface_that_is_not_named_any_more_goes_down(void **state)
{
    (void)state;
    assert_string_equal(planned(MAC_A ";" MAC_B ",address=10.0.0.2/24", MAC_A, 0),
                        "eth1: remove address 10.0.0.2/24\n"
                        "eth1: take down\n");
}

static void afresh_takes_all_away_and_sets_all(void **state)
{
    (void)state;
    static const char all[] = MAC_A ",address=10.0.0.2/24,gateway=10.0.0.1";
    assert_string_equal(planned(all, all, NET_PLAN_AFRESH), "eth0: remove gateway 10.0.0.1\n"
                                                            "eth0: remove address 10.0.0.2/24\n"
                                                            "eth0: set MAC 02:00:00:00:00:0a, MTU 0\n"
                                                            "eth0: bring up\n"
                                                            "eth0: add address 10.0.0.2/24\n"
                                                            "eth0: add gateway 10.0.0.1\n");
}

/* ---- what a kernel makes of it ---- */

enum { MODEL_ADDRESSES = NETWORK_ADDRESSES_MAX + 1 };

static struct model {
    struct network_address addresses[MODEL_ADDRESSES];
    unsigned count;
    struct network_address gateways[2], hosts[2]; /* IPv4, IPv6; family 0: none */
    uint8_t mac[NETWORK_MAC_BYTES];
    uint16_t mtu;
    bool up, quiet;
} model[NETWORK_INTERFACES_MAX];

static bool equal(const struct network_address *a, const struct network_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static bool covers(const struct network_address *net, const struct network_address *address)
{
    if (net->family != address->family)
        return false;
    for (unsigned bit = 0; bit < net->prefix; bit++)
        if ((net->bytes[bit / 8] ^ address->bytes[bit / 8]) & (0x80 >> bit % 8))
            return false;
    return true;
}

static bool reaches(const struct model *at, const struct network_address *gateway)
{
    bool found = equal(&at->hosts[gateway->family == 6], gateway);
    for (unsigned i = 0; i < at->count; i++)
        found = found || covers(&at->addresses[i], gateway);
    return found || (gateway->family == 6 && gateway->bytes[0] == 0xfe && gateway->bytes[1] >> 6 == 2);
}

static void drop(struct model *at, unsigned number)
{
    memmove(&at->addresses[number], &at->addresses[number + 1],
            (at->count - number - 1) * sizeof at->addresses[0]);
    at->count--;
}

static void remove_address(struct model *at, const struct network_address *address)
{
    unsigned number = 0, left = 0;
    bool primary = true;
    while (number < at->count && !equal(&at->addresses[number], address))
        number++;
    assert_true(number < at->count);
    for (unsigned i = 0; i < number; i++)
        primary =
            primary && !(at->addresses[i].prefix == address->prefix && covers(&at->addresses[i], address));
    drop(at, number);
    for (unsigned i = at->count; primary && address->family == 4 && i > number; i--)
        if (at->addresses[i - 1].prefix == address->prefix && covers(&at->addresses[i - 1], address))
            drop(at, i - 1);
    for (unsigned i = 0; i < at->count; i++)
        left += at->addresses[i].family == 4;
    if (address->family == 4 && left == 0)
        at->gateways[0].family = at->hosts[0].family = 0;
}

static void add_address(struct model *at, const struct network_address *address)
{
    assert_true(at->up && at->quiet);
    assert_true(at->count < MODEL_ADDRESSES);
    for (unsigned i = 0; i < at->count; i++)
        assert_false(equal(&at->addresses[i], address));
    at->addresses[at->count++] = *address;
}

static void follow(const struct net_op *op)
{
    struct model *at = &model[op->interface];
    const bool six = op->address.family == 6;
    switch (op->kind) {
    case NET_LINK:
        if (op->has_mac)
            memcpy(at->mac, op->mac, sizeof at->mac);
        at->mtu = op->mtu ? op->mtu : at->mtu;
        at->quiet = at->quiet || op->quiet;
        break;
    case NET_UP:
    case NET_DOWN:
        assert_true(at->quiet);
        at->up = op->kind == NET_UP;
        break;
    case NET_ADDRESS_ADD:
        add_address(at, &op->address);
        break;
    case NET_ADDRESS_REMOVE:
        remove_address(at, &op->address);
        break;
    case NET_HOST_ADD:
        assert_true(at->hosts[six].family == 0);
        at->hosts[six] = op->address;
        break;
    case NET_DEFAULT_ADD:
        assert_true(at->gateways[six].family == 0 && reaches(at, &op->address));
        at->gateways[six] = op->address;
        break;
    case NET_HOST_REMOVE:
        assert_true(equal(&at->hosts[six], &op->address));
        at->hosts[six].family = 0;
        break;
    case NET_DEFAULT_REMOVE:
        assert_true(equal(&at->gateways[six], &op->address));
        at->gateways[six].family = 0;
        break;
    }
}

static void check_interface(const struct model *at, const struct network_interface *wanted)
{
    struct network_address local;
    unsigned count = wanted->address_count, next = 0;
    assert_true(at->up);
    assert_memory_equal(at->mac, wanted->mac, sizeof at->mac);
    if (wanted->mtu)
        assert_int_equal(at->mtu, wanted->mtu);
    if (net_link_local(wanted, &local)) {
        bool found = false;
        for (unsigned i = 0; i < at->count; i++)
            found = found || equal(&at->addresses[i], &local);
        assert_true(found);
        count++;
    }
    assert_int_equal(at->count, count);
    for (unsigned i = 0; i < at->count && next < wanted->address_count; i++) /* in their order */
        next += equal(&at->addresses[i], &wanted->addresses[next]);
    assert_int_equal(next, wanted->address_count);
    const struct network_address *gateways[2] = {&wanted->gateway4, &wanted->gateway6};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(at->gateways[i].family, gateways[i]->family);
        if (gateways[i]->family)
            assert_true(equal(&at->gateways[i], gateways[i]) && reaches(at, gateways[i]));
        else
            assert_int_equal(at->hosts[i].family, 0);
    }
}

static uint64_t dice;

static unsigned roll(unsigned sides)
{
    dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(dice >> 33) % sides;
}

static struct network_address random_address(void)
{
    static const uint8_t prefixes[] = {24, 24, 25, 32, 64, 64, 128};
    struct network_address address = {.family = roll(2) ? 4 : 6};
    if (address.family == 4) {
        memcpy(address.bytes, (const uint8_t[]){10, 0, (uint8_t)roll(2), (uint8_t)(1 + roll(6))}, 4);
        address.prefix = prefixes[roll(4)];
    } else {
        memcpy(address.bytes, (const uint8_t[]){0x20, 1, 0xd, 0xb8, (uint8_t)roll(2)}, 5);
        if (roll(8) == 0)
            memcpy(address.bytes, (const uint8_t[]){0xfe, 0x80, 0, 0, 0}, 5);
        address.bytes[15] = (uint8_t)(1 + roll(6));
        address.prefix = prefixes[4 + roll(3)];
    }
    return address;
}

/* No address twice, as the parser sees to it. */
static void random_network(struct network *network)
{
    memset(network, 0, sizeof *network);
    network->count = roll(3);
    for (unsigned n = 0; n < network->count; n++) {
        struct network_interface *at = &network->at[n];
        at->has_mac = true;
        memcpy(at->mac, (const uint8_t[]){2, 0, 0, 0, 0, (uint8_t)roll(2)}, sizeof at->mac);
        at->mtu = roll(2) ? (uint16_t)(1400 + roll(2)) : 0;
        for (unsigned want = roll(5); at->address_count < want; want--) {
            const struct network_address address = random_address();
            bool known = false;
            for (unsigned i = 0; i < at->address_count; i++)
                known = known || equal(&at->addresses[i], &address);
            if (!known)
                at->addresses[at->address_count++] = address;
        }
        /* A kernel takes a gateway where it has an address of the family. */
        for (unsigned i = 0; i < at->address_count; i++) {
            struct network_address *gateway = at->addresses[i].family == 4 ? &at->gateway4 : &at->gateway6;
            if (gateway->family || roll(2))
                continue;
            do
                *gateway = random_address();
            while (gateway->family != at->addresses[i].family);
            gateway->prefix = 0;
        }
    }
}

/* Most clones differ little from their original. */
static void vary_network(struct network *network)
{
    for (unsigned n = 0; n < network->count; n++) {
        struct network_interface *at = &network->at[n];
        bool speaks[2] = {false, false};
        at->mac[5] ^= (uint8_t)(roll(4) == 0);
        if (at->address_count > 0 && roll(2))
            at->addresses[--at->address_count] = (struct network_address){.family = 0};
        for (unsigned i = 0; i < at->address_count; i++)
            speaks[at->addresses[i].family == 6] = true;
        if (!speaks[0])
            at->gateway4 = (struct network_address){.family = 0};
        if (!speaks[1])
            at->gateway6 = (struct network_address){.family = 0};
    }
}

static void a_kernel_ends_with_what_is_wanted(void **state)
{
    (void)state;
    unsigned longest = 0;
    for (dice = 1; dice < 200; dice++) {
        const uint64_t seed = dice;
        struct network set = {.count = 0}, wanted;
        memset(model, 0, sizeof model);
        for (unsigned turn = 0; turn < 50; turn++) {
            wanted = set;
            if (roll(2))
                vary_network(&wanted);
            else
                random_network(&wanted);
            net_plan(&plan, &set, &wanted, roll(4));
            longest = plan.count > longest ? plan.count : longest;
            for (unsigned i = 0; i < plan.count; i++)
                follow(&plan.at[i]);
            for (unsigned i = 0; i < wanted.count; i++)
                check_interface(&model[i], &wanted.at[i]);
            for (unsigned i = wanted.count; i < NETWORK_INTERFACES_MAX; i++)
                assert_true(model[i].count == 0 && !model[i].up && model[i].gateways[0].family == 0 &&
                            model[i].gateways[1].family == 0);
            set = wanted;
        }
        dice = seed;
    }
    assert_true(longest > 20); /* the dice are no constants */
}

static void the_longest_plan_fits(void **state)
{
    (void)state;
    struct network networks[2];
    memset(networks, 0, sizeof networks);
    for (unsigned k = 0; k < 2; k++) {
        networks[k].count = NETWORK_INTERFACES_MAX;
        for (unsigned n = 0; n < NETWORK_INTERFACES_MAX; n++) {
            struct network_interface *at = &networks[k].at[n];
            *at = (struct network_interface){
                .mac = {2, (uint8_t)k, (uint8_t)n},
                .has_mac = true,
                .mtu = 1400,
                .address_count = NETWORK_ADDRESSES_MAX,
                .gateway4 = {.family = 4, .bytes = {10, (uint8_t)k}},
                .gateway6 = {.family = 6, .bytes = {0x20, (uint8_t)k}},
            };
            for (unsigned i = 0; i < NETWORK_ADDRESSES_MAX; i++)
                at->addresses[i] = (struct network_address){
                    .family = 6, .prefix = 128, .bytes = {0x30, (uint8_t)k, (uint8_t)n, (uint8_t)i}};
        }
    }
    net_plan(&plan, &networks[0], &networks[1], NET_PLAN_MOVED | NET_PLAN_AFRESH);
    assert_int_equal(plan.count, NET_PLAN_OPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_new_needs_nothing),
        cmocka_unit_test(a_first_network_is_set_in_order),
        cmocka_unit_test(a_clones_network_replaces_the_originals),
        cmocka_unit_test(a_link_local_address_follows_its_mac),
        cmocka_unit_test(a_router_outside_gets_a_route),
        cmocka_unit_test(an_interface_that_is_not_named_any_more_goes_down),
        cmocka_unit_test(afresh_takes_all_away_and_sets_all),
        cmocka_unit_test(a_kernel_ends_with_what_is_wanted),
        cmocka_unit_test(the_longest_plan_fits),
    };
    return cmocka_run_group_tests_name("network plan", tests, NULL, NULL);
}
