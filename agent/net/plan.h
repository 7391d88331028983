/*
 * From what is set on the interfaces to what is wanted: the operations between, in an order that works. Pure.
 *
 *   1. of every interface: routes, then addresses, that are not wanted any more (the last set goes first: the
 *      kernel takes the secondary addresses of an IPv4 network away with its primary one)
 *   2. per interface: MAC and MTU; if it is new: autoconfiguration off, then up
 *   3. per interface: addresses in the order wanted (the first is what connections come from), then routes
 *
 * Addresses are kept as far as both lists begin alike. Where those of a family change, its routes are set
 * anew: the kernel drops some with the addresses, and which ones is its own affair.
 *
 * An interface that has an IPv6 address or gateway gets a link-local address, fe80:: and the EUI-64 of its
 * MAC (RFC 4291, 2.5.1), unless one is among those given: routers and multicast listening need it. It changes
 * with the MAC.
 */
#ifndef AGENT_NET_PLAN_H
#define AGENT_NET_PLAN_H

#include "agent/proto/network.h"

#define NET_METRIC 100u /* of eth0's routes; eth1's 101, ...: the first interface's gateway is preferred */

enum net_op_kind {
    NET_LINK, /* has_mac: MAC; mtu: MTU; quiet: no addresses of the kernel's own making */
    NET_UP,
    NET_DOWN,
    NET_ADDRESS_ADD, /* address */
    NET_ADDRESS_REMOVE,
    NET_HOST_ADD, /* address is on this link, though in none of its networks */
    NET_HOST_REMOVE,
    NET_DEFAULT_ADD, /* address is the gateway */
    NET_DEFAULT_REMOVE,
};

struct net_op {
    enum net_op_kind kind;
    unsigned interface;
    struct network_address address;
    uint8_t mac[NETWORK_MAC_BYTES];
    bool has_mac;
    bool quiet;
    uint16_t mtu; /* 0: as it is */
};

/* Of one interface: its link, up; each address and the link-local one twice; two routes a family, twice. */
#define NET_PLAN_OPS (NETWORK_INTERFACES_MAX * (2u + 2u * (NETWORK_ADDRESSES_MAX + 1u) + 8u))

struct net_plan {
    struct net_op at[NET_PLAN_OPS];
    unsigned count;
};

enum {
    NET_PLAN_MOVED = 1,  /* the links lead elsewhere now: the neighbours known there are forgotten */
    NET_PLAN_AFRESH = 2, /* what is set is not sure: all of it goes, all that is wanted comes */
};

/* MACs as they are (has_mac) wherever a link-local address is to be made. */
void net_plan(struct net_plan *plan, const struct network *set, const struct network *wanted, unsigned how);

/* fe80:: and the EUI-64 of a MAC. */
void net_eui64(const uint8_t mac[NETWORK_MAC_BYTES], struct network_address *address);

/* The link-local address this interface gets. False: none. */
bool net_link_local(const struct network_interface *interface, struct network_address *address);

/* For messages: "add address 192.0.2.2/24". */
#define NET_OP_TEXT_BYTES 80
void net_op_text(const struct net_op *op, char text[NET_OP_TEXT_BYTES]);

#endif
