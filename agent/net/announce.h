/*
 * The frames by which an interface says who it is now: to its neighbours, whose caches may hold the original,
 * and to the host's gate (hostvmm/device/virtio/net.h). Pure.
 *
 *   IPv4 address   an ARP request for itself, broadcast (RFC 5227, 2.3)
 *   IPv6 address   a neighbour advertisement that nobody asked for, with
 *                  override, to all nodes (RFC 4861, 7.2.6)
 *   no address     an advertisement of the link-local address that the MAC
 *                  would give: a word to the gate alone
 *
 * A link-local address made from the MAC needs none: no cache knows it with another MAC.
 *
 * Each once. RFC 5227 would say it twice, two seconds apart, for links that lose frames.
 */
#ifndef AGENT_NET_ANNOUNCE_H
#define AGENT_NET_ANNOUNCE_H

#include "agent/proto/network.h"

#define NET_FRAME_BYTES 86                    /* of an advertisement; an ARP request's 42 */
#define NET_FRAMES_MAX  NETWORK_ADDRESSES_MAX /* of one interface */

struct net_frame {
    uint8_t bytes[NET_FRAME_BYTES];
    size_t size;
};

/* The frames of an interface, whose MAC is known. Their number, one at least. */
unsigned net_announce(const struct network_interface *interface, struct net_frame frames[NET_FRAMES_MAX]);

#endif
