/*
 * What a guest is told of its network, in one line of text: the host says it at boot (bootargs: net=) and to
 * each clone (RESUME, key 19), the agent applies it. The command line's --net takes the same items.
 *
 *   network    = interface *( ";" interface )          in the order of the devices: eth0, eth1, ...
 *   interface  = item *( "," item )
 *   item       = "mac=" 6 hexadecimal bytes with ":"   unicast, not zero; at most one
 *              | "mtu=" 1280..65535                    at most one
 *              | "address=" IPv4 or IPv6 "/" prefix    up to NETWORK_ADDRESSES_MAX
 *              | "gateway=" IPv4 or IPv6               at most one of each family
 *              | "dns=" IPv4 or IPv6                   up to NETWORK_DNS_MAX
 *
 * Only [A-Za-z0-9._:/,;=-] appear, so the line needs no quoting on a kernel's command line. Encoding is
 * canonical: items in the order above, addresses as RFC 5952 writes them, hexadecimal in lower case.
 *
 * Pure: bytes in, struct out. Fuzzed by tests/fuzz/network.c.
 */
#ifndef AGENT_PROTO_NETWORK_H
#define AGENT_PROTO_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto/limits.h" /* PROTO_NETWORK_MAX_BYTES: of the text */

#define NETWORK_INTERFACES_MAX 4
#define NETWORK_ADDRESSES_MAX  8 /* of one interface */
#define NETWORK_DNS_MAX        4 /* of one interface */
#define NETWORK_MAC_BYTES      6
#define NETWORK_MTU_MIN        1280u /* what IPv6 wants (RFC 8200, section 5) */
#define NETWORK_MTU_MAX        65535u
#define NETWORK_WHY_BYTES      160

struct network_address {
    uint8_t family;    /* 4 or 6; 0: none */
    uint8_t prefix;    /* 0..32 or 0..128; of a gateway or DNS server 0 */
    uint8_t bytes[16]; /* network order; the first 4 of IPv4, the rest zero */
};

struct network_interface {
    uint8_t mac[NETWORK_MAC_BYTES];
    bool has_mac;
    uint16_t mtu; /* 0: not said */
    struct network_address addresses[NETWORK_ADDRESSES_MAX];
    unsigned address_count;
    struct network_address gateway4; /* family 0: none */
    struct network_address gateway6;
    struct network_address dns[NETWORK_DNS_MAX];
    unsigned dns_count;
};

struct network {
    struct network_interface at[NETWORK_INTERFACES_MAX];
    unsigned count;
};

/* Parse a whole line; an empty one is no interface. 0, or -EINVAL with `why` naming the item and what it
 * should be. Unused parts of the struct are zero, so equal networks are equal in every byte. */
int network_parse(struct network *network, const char *text, size_t size, char why[NETWORK_WHY_BYTES]);

/* Parse one item ("mac=...") into an interface. As above. */
int network_parse_item(struct network_interface *interface, const char *item, size_t size,
                       char why[NETWORK_WHY_BYTES]);

/* The canonical text, NUL-terminated. Its length, or -ENOSPC; PROTO_NETWORK_MAX_BYTES + 1 is always
 * enough for what network_parse gave. */
int network_format(const struct network *network, char *text, size_t capacity);

/* "02:00:00:00:00:01"; "192.0.2.1" or "2001:db8::1", without its prefix. */
void network_mac_text(const uint8_t mac[NETWORK_MAC_BYTES], char text[18]);
void network_address_text(const struct network_address *address, char text[46]);

#endif
