/* See plan.h. */
#include "agent/net/plan.h"

#include <stdio.h>
#include <string.h>

/* What becomes of one interface. A missing one is an interface with nothing. */
struct change {
    const struct network_interface *set, *wanted;
    unsigned kept; /* addresses at the front of both lists */
    bool is_new;   /* or to be treated as such */
    bool is_gone;
    bool local; /* the link-local address changes */
    bool routes4, routes6;
};

static bool same_address(const struct network_address *a, const struct network_address *b)
{
    return a->family == b->family && a->prefix == b->prefix &&
           memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static bool is_link_local(const struct network_address *address)
{
    return address->family == 6 && address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

void net_eui64(const uint8_t mac[NETWORK_MAC_BYTES], struct network_address *address)
{
    *address = (struct network_address){
        .family = 6,
        .prefix = 64,
        .bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4],
                  mac[5]},
    };
}

bool net_link_local(const struct network_interface *interface, struct network_address *address)
{
    bool speaks = interface->gateway6.family == 6;
    for (unsigned i = 0; i < interface->address_count; i++) {
        if (is_link_local(&interface->addresses[i]))
            return false;
        speaks = speaks || interface->addresses[i].family == 6;
    }
    if (!speaks || !interface->has_mac)
        return false;
    net_eui64(interface->mac, address);
    return true;
}

static bool is_within(const struct network_address *address, const struct network_address *net)
{
    const unsigned whole = net->prefix / 8, rest = net->prefix % 8;
    if (address->family != net->family || memcmp(address->bytes, net->bytes, whole) != 0)
        return false;
    return rest == 0 || ((address->bytes[whole] ^ net->bytes[whole]) >> (8 - rest)) == 0;
}

/* A router beyond every network of the link: it answers there all the same, and gets a route of its own. */
static bool is_outside(const struct network_interface *interface, const struct network_address *gateway)
{
    if (is_link_local(gateway))
        return false;
    for (unsigned i = 0; i < interface->address_count; i++)
        if (is_within(gateway, &interface->addresses[i]))
            return false;
    return true;
}

static bool family_changes(const struct network_interface *interface, unsigned from, uint8_t family)
{
    for (unsigned i = from; i < interface->address_count; i++)
        if (interface->addresses[i].family == family)
            return true;
    return false;
}

static struct change compare(const struct network *set, const struct network *wanted, unsigned number,
                             unsigned how)
{
    static const struct network_interface nothing;
    struct network_address before = {.family = 0}, after = {.family = 0};
    struct change change = {
        .set = number < set->count ? &set->at[number] : &nothing,
        .wanted = number < wanted->count ? &wanted->at[number] : &nothing,
        .is_new = number >= set->count || how & NET_PLAN_AFRESH,
        .is_gone = number >= wanted->count,
    };
    const struct network_interface *a = change.set, *b = change.wanted;
    while (!change.is_new && change.kept < a->address_count && change.kept < b->address_count &&
           same_address(&a->addresses[change.kept], &b->addresses[change.kept]))
        change.kept++;
    (void)net_link_local(a, &before);
    (void)net_link_local(b, &after);
    change.local = change.is_new || !same_address(&before, &after);
    change.routes4 = change.is_new || !same_address(&a->gateway4, &b->gateway4) ||
                     family_changes(a, change.kept, 4) || family_changes(b, change.kept, 4);
    change.routes6 = change.is_new || change.local || !same_address(&a->gateway6, &b->gateway6) ||
                     family_changes(a, change.kept, 6) || family_changes(b, change.kept, 6);
    return change;
}

/* The plan holds whatever the two networks may need: NET_PLAN_OPS. */
static struct net_op *add(struct net_plan *plan, enum net_op_kind kind, unsigned number)
{
    struct net_op *op = &plan->at[plan->count++];
    *op = (struct net_op){.kind = kind, .interface = number};
    return op;
}

static void add_at(struct net_plan *plan, enum net_op_kind kind, unsigned number,
                   const struct network_address *address)
{
    add(plan, kind, number)->address = *address;
}

static void leave_gateway(struct net_plan *plan, unsigned number, const struct network_interface *interface,
                          const struct network_address *gateway)
{
    if (!gateway->family)
        return;
    add_at(plan, NET_DEFAULT_REMOVE, number, gateway);
    if (is_outside(interface, gateway))
        add_at(plan, NET_HOST_REMOVE, number, gateway);
}

static void leave(struct net_plan *plan, unsigned number, const struct change *change)
{
    const struct network_interface *set = change->set;
    struct network_address local;
    if (change->routes4)
        leave_gateway(plan, number, set, &set->gateway4);
    if (change->routes6)
        leave_gateway(plan, number, set, &set->gateway6);
    for (unsigned i = set->address_count; i > change->kept; i--)
        add_at(plan, NET_ADDRESS_REMOVE, number, &set->addresses[i - 1]);
    if (change->local && net_link_local(set, &local))
        add_at(plan, NET_ADDRESS_REMOVE, number, &local);
    if (change->is_gone)
        (void)add(plan, NET_DOWN, number);
}

static void set_link(struct net_plan *plan, unsigned number, const struct change *change, unsigned how)
{
    const struct network_interface *set = change->set, *wanted = change->wanted;
    const bool same_mac = set->has_mac && memcmp(set->mac, wanted->mac, sizeof set->mac) == 0;
    const bool mac = wanted->has_mac && (change->is_new || how & NET_PLAN_MOVED || !same_mac);
    const bool mtu = wanted->mtu && (change->is_new || wanted->mtu != set->mtu);
    if (!change->is_new && !mac && !mtu)
        return;
    struct net_op *op = add(plan, NET_LINK, number);
    memcpy(op->mac, wanted->mac, sizeof op->mac);
    op->has_mac = mac;
    op->mtu = mtu ? wanted->mtu : 0;
    op->quiet = change->is_new;
    if (change->is_new)
        (void)add(plan, NET_UP, number);
}

static void arrive_gateway(struct net_plan *plan, unsigned number, const struct network_interface *interface,
                           const struct network_address *gateway)
{
    if (!gateway->family)
        return;
    if (is_outside(interface, gateway))
        add_at(plan, NET_HOST_ADD, number, gateway);
    add_at(plan, NET_DEFAULT_ADD, number, gateway);
}

static void arrive(struct net_plan *plan, unsigned number, const struct change *change)
{
    const struct network_interface *wanted = change->wanted;
    struct network_address local;
    if (change->local && net_link_local(wanted, &local))
        add_at(plan, NET_ADDRESS_ADD, number, &local);
    for (unsigned i = change->kept; i < wanted->address_count; i++)
        add_at(plan, NET_ADDRESS_ADD, number, &wanted->addresses[i]);
    if (change->routes4)
        arrive_gateway(plan, number, wanted, &wanted->gateway4);
    if (change->routes6)
        arrive_gateway(plan, number, wanted, &wanted->gateway6);
}

void net_plan(struct net_plan *plan, const struct network *set, const struct network *wanted, unsigned how)
{
    struct change changes[NETWORK_INTERFACES_MAX];
    const unsigned count = set->count > wanted->count ? set->count : wanted->count;
    plan->count = 0;
    for (unsigned i = 0; i < count; i++) {
        changes[i] = compare(set, wanted, i, how);
        leave(plan, i, &changes[i]);
    }
    for (unsigned i = 0; i < wanted->count; i++)
        set_link(plan, i, &changes[i], how);
    for (unsigned i = 0; i < wanted->count; i++)
        arrive(plan, i, &changes[i]);
}

void net_op_text(const struct net_op *op, char text[NET_OP_TEXT_BYTES])
{
    static const struct {
        const char *what;
        bool has_prefix;
    } words[] = {
        [NET_LINK] = {"set the link", false},
        [NET_UP] = {"bring up", false},
        [NET_DOWN] = {"take down", false},
        [NET_ADDRESS_ADD] = {"add address", true},
        [NET_ADDRESS_REMOVE] = {"remove address", true},
        [NET_HOST_ADD] = {"add the route to gateway", false},
        [NET_HOST_REMOVE] = {"remove the route to gateway", false},
        [NET_DEFAULT_ADD] = {"add gateway", false},
        [NET_DEFAULT_REMOVE] = {"remove gateway", false},
    };
    char address[46];
    if (op->kind == NET_LINK && op->has_mac) {
        network_mac_text(op->mac, address);
        (void)snprintf(text, NET_OP_TEXT_BYTES, "set MAC %s, MTU %u", address, op->mtu);
    } else if (op->kind == NET_LINK) {
        (void)snprintf(text, NET_OP_TEXT_BYTES, "set MTU %u", op->mtu);
    } else if (op->address.family) {
        network_address_text(&op->address, address);
        const bool has_prefix = words[op->kind].has_prefix;
        (void)snprintf(text, NET_OP_TEXT_BYTES, has_prefix ? "%s %s/%u" : "%s %s", words[op->kind].what,
                       address, op->address.prefix);
    } else {
        (void)snprintf(text, NET_OP_TEXT_BYTES, "%s", words[op->kind].what);
    }
}
