/* See announce.h. */
#include "agent/net/announce.h"

#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include "agent/base/cursor.h"
#include "agent/net/plan.h"

enum {
    ADVERTISEMENT_TYPE = 136, /* RFC 4861, 4.4 */
    ADVERTISEMENT_BYTES = 32, /* with its option */
    TARGET_LINK_ADDRESS = 2,  /* RFC 4861, 4.6.1 */
    OVERRIDE = 0x20,
    HOP_LIMIT = 255,
    CHECKSUM_AT = ETH_HLEN + 40 + 2,
};

static void put_ethernet(struct cursor *out, const uint8_t *to, const uint8_t *from, uint16_t protocol)
{
    cursor_put(out, to, ETH_ALEN);
    cursor_put(out, from, ETH_ALEN);
    cursor_put_be(out, protocol, 2);
}

/* RFC 826, "Packet format". */
static void build_arp(struct net_frame *frame, const uint8_t *mac, const uint8_t address[4])
{
    static const uint8_t everyone[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t unknown[ETH_ALEN];
    struct cursor out = cursor_over(frame->bytes, sizeof frame->bytes);
    put_ethernet(&out, everyone, mac, ETH_P_ARP);
    cursor_put_be(&out, ARPHRD_ETHER, 2);
    cursor_put_be(&out, ETH_P_IP, 2);
    cursor_put_be(&out, ETH_ALEN, 1);
    cursor_put_be(&out, 4, 1);
    cursor_put_be(&out, ARPOP_REQUEST, 2);
    cursor_put(&out, mac, ETH_ALEN);
    cursor_put(&out, address, 4);
    cursor_put(&out, unknown, ETH_ALEN);
    cursor_put(&out, address, 4);
    frame->size = out.at;
}

static uint32_t sum_words(uint32_t sum, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2)
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return sum;
}

/* Over the addresses, length and next header (RFC 8200, 8.1), and the message, whose checksum is zero yet. */
static uint16_t checksum(const uint8_t *addresses, const uint8_t *message)
{
    uint32_t sum = sum_words(ADVERTISEMENT_BYTES + IPPROTO_ICMPV6, addresses, 32);
    sum = sum_words(sum, message, ADVERTISEMENT_BYTES);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

static void build_advertisement(struct net_frame *frame, const uint8_t *mac, const uint8_t address[16])
{
    static const uint8_t nodes[16] = {0xff, 0x02, [15] = 1};
    static const uint8_t nodes_mac[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};
    struct cursor out = cursor_over(frame->bytes, sizeof frame->bytes);
    put_ethernet(&out, nodes_mac, mac, ETH_P_IPV6);
    cursor_put_be(&out, 0x60000000, 4); /* version 6 */
    cursor_put_be(&out, ADVERTISEMENT_BYTES, 2);
    cursor_put_be(&out, IPPROTO_ICMPV6, 1);
    cursor_put_be(&out, HOP_LIMIT, 1);
    cursor_put(&out, address, 16);
    cursor_put(&out, nodes, sizeof nodes);
    cursor_put_be(&out, ADVERTISEMENT_TYPE, 1);
    cursor_put_be(&out, 0, 1); /* code */
    cursor_put_be(&out, 0, 2); /* checksum */
    cursor_put_be(&out, (uint32_t)OVERRIDE << 24, 4);
    cursor_put(&out, address, 16);
    cursor_put_be(&out, TARGET_LINK_ADDRESS, 1);
    cursor_put_be(&out, 1, 1); /* length in units of 8 */
    cursor_put(&out, mac, ETH_ALEN);
    frame->size = out.at;
    cursor_seek(&out, CHECKSUM_AT);
    cursor_put_be(&out, checksum(frame->bytes + ETH_HLEN + 8, frame->bytes + ETH_HLEN + 40), 2);
}

unsigned net_announce(const struct network_interface *interface, struct net_frame frames[NET_FRAMES_MAX])
{
    struct network_address local;
    unsigned count = 0;
    for (unsigned i = 0; i < interface->address_count; i++) {
        const struct network_address *address = &interface->addresses[i];
        if (address->family == 4)
            build_arp(&frames[count++], interface->mac, address->bytes);
        else
            build_advertisement(&frames[count++], interface->mac, address->bytes);
    }
    if (count > 0)
        return count;
    net_eui64(interface->mac, &local);
    build_advertisement(&frames[0], interface->mac, local.bytes);
    return 1;
}
