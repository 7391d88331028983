/*
 * What opens the gate of a clone's interface (net.h): a gratuitous ARP (RFC 5227, section 3: a request or
 * reply whose sender and target protocol address are the same) or an unsolicited neighbour advertisement (RFC
 * 4861, section 7.2.6: to all nodes, not solicited, with the target's link-layer address), from this clone's
 * MAC address in every place that names one. A probe for an address (sender 0.0.0.0) announces nothing yet.
 */
#include <string.h>

#include "hostvmm/device/virtio/net_parts.h"

#define ETHERTYPE_ARP  0x0806u
#define ETHERTYPE_IPV6 0x86ddu
#define MAC_BYTES      VIRTIO_NET_MAC_BYTES

enum { ARP_AT = 14, ARP_BYTES = 28 };
enum { IPV6_AT = 14, IPV6_BYTES = 40, ADVERTISEMENT_AT = IPV6_AT + IPV6_BYTES, ADVERTISEMENT_BYTES = 24 };
enum { OPTION_TARGET_ADDRESS = 2, OPTION_UNIT_BYTES = 8 };

static unsigned be16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static bool arp_announces(const uint8_t *mac, const uint8_t *frame, size_t size)
{
    static const uint8_t broadcast[MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t over_ethernet[] = {0, 1, 0x08, 0x00, 6, 4}; /* hardware and protocol, their sizes */
    static const uint8_t nobody[4];
    const uint8_t *arp = frame + ARP_AT;
    if (size < ARP_AT + ARP_BYTES || memcmp(frame, broadcast, MAC_BYTES) != 0 ||
        memcmp(arp, over_ethernet, sizeof over_ethernet) != 0)
        return false;
    const unsigned operation = be16(arp + 6);
    const uint8_t *sender_mac = arp + 8, *sender = arp + 14, *target = arp + 24;
    return (operation == 1 || operation == 2) && memcmp(sender_mac, mac, MAC_BYTES) == 0 &&
           memcmp(sender, target, 4) == 0 && memcmp(sender, nobody, 4) != 0;
}

/* Whether the options, all of them well-formed, hold the target's link-layer address, and it is `mac`. */
static bool has_target_address(const uint8_t *mac, const uint8_t *options, size_t size)
{
    bool found = false;
    while (size >= OPTION_UNIT_BYTES) {
        const size_t bytes = (size_t)options[1] * OPTION_UNIT_BYTES;
        if (bytes == 0 || bytes > size)
            return false;
        if (options[0] == OPTION_TARGET_ADDRESS) {
            if (bytes != OPTION_UNIT_BYTES || memcmp(options + 2, mac, MAC_BYTES) != 0)
                return false;
            found = true;
        }
        options += bytes;
        size -= bytes;
    }
    return found && size == 0;
}

static bool advertisement_announces(const uint8_t *mac, const uint8_t *frame, size_t size)
{
    static const uint8_t all_nodes_mac[MAC_BYTES] = {0x33, 0x33, 0, 0, 0, 1};
    static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};
    const uint8_t *ip = frame + IPV6_AT, *message = frame + ADVERTISEMENT_AT;
    if (size < ADVERTISEMENT_AT + ADVERTISEMENT_BYTES || memcmp(frame, all_nodes_mac, MAC_BYTES) != 0)
        return false;
    const size_t payload = be16(ip + 4);
    if (ip[0] >> 4 != 6 || payload < ADVERTISEMENT_BYTES || payload > size - ADVERTISEMENT_AT)
        return false;
    if (ip[6] != 58 || ip[7] != 255 || memcmp(ip + 24, all_nodes, sizeof all_nodes) != 0)
        return false; /* ICMPv6 that no router has passed on, to all nodes */
    const bool solicited = (message[4] & 0x40) != 0;
    if (message[0] != 136 || message[1] != 0 || solicited || message[8] == 0xff)
        return false; /* the target is never a group */
    return has_target_address(mac, message + ADVERTISEMENT_BYTES, payload - ADVERTISEMENT_BYTES);
}

bool net_gate_announces(const uint8_t *mac, const uint8_t *frame, size_t size)
{
    if (size < ARP_AT || memcmp(frame + MAC_BYTES, mac, MAC_BYTES) != 0)
        return false;
    switch (be16(frame + 12)) {
    case ETHERTYPE_ARP:
        return arp_announces(mac, frame, size);
    case ETHERTYPE_IPV6:
        return advertisement_announces(mac, frame, size);
    default:
        return false;
    }
}
