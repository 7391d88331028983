/*
 * See network.h. Parsing takes the text item by item; writing is the only place that knows the canonical
 * order. A line is refused when its canonical form would not fit where the line has to go.
 *
 * The system's inet_pton reads addresses; they are written here, because C libraries differ in what they
 * make of the corner cases of RFC 5952.
 */
#include "agent/proto/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX_BYTES   60u
#define ADDRESS_MAX_BYTES 45u /* as the longest text of an IPv6 address that inet_pton takes */
#define IPV6_GROUPS       8u

struct value { /* of an item: not terminated */
    const char *data;
    size_t size;
};

/* NULL when the value was taken, else what is wanted instead. */
typedef const char *item_handler(struct network_interface *interface, struct value value);

/* ---- reading --------------------------------------------------------------------------------------------
 */

/* A decimal number without leading zeros, of at most 5 digits. */
static bool parse_number(struct value value, unsigned min, unsigned max, unsigned *number)
{
    unsigned sum = 0;
    if (value.size == 0 || value.size > 5 || (value.size > 1 && value.data[0] == '0'))
        return false;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        sum = sum * 10 + (unsigned)(value.data[i] - '0');
    }
    *number = sum;
    return sum >= min && sum <= max;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *on_mac(struct network_interface *interface, struct value value)
{
    static const char wanted[] = "want six hexadecimal bytes with colons, unicast and not all zero, once";
    uint8_t mac[NETWORK_MAC_BYTES];
    uint8_t any = 0;
    if (interface->has_mac || value.size != sizeof mac * 3 - 1)
        return wanted;
    for (size_t i = 0; i < sizeof mac; i++) {
        const int high = digit_of(value.data[3 * i]);
        const int low = digit_of(value.data[3 * i + 1]);
        if (high < 0 || low < 0 || (i + 1 < sizeof mac && value.data[3 * i + 2] != ':'))
            return wanted;
        mac[i] = (uint8_t)(high << 4 | low);
        any |= mac[i];
    }
    if (mac[0] & 1 || !any)
        return wanted;
    memcpy(interface->mac, mac, sizeof mac);
    interface->has_mac = true;
    return NULL;
}

static const char *on_mtu(struct network_interface *interface, struct value value)
{
    unsigned mtu;
    if (interface->mtu || !parse_number(value, NETWORK_MTU_MIN, NETWORK_MTU_MAX, &mtu))
        return "want a number from 1280 to 65535, once";
    interface->mtu = (uint16_t)mtu;
    return NULL;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

/* No single station has such an address: unspecified, multicast, limited broadcast, IPv4 in IPv6's clothes.
 */
static bool is_nobodys(const struct network_address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *bytes = address->bytes;
    if (address->family == 4)
        return bytes[0] == 0 || bytes[0] >= 0xe0;
    return is_zero(bytes, sizeof address->bytes) || bytes[0] == 0xff ||
           memcmp(bytes, mapped, sizeof mapped) == 0;
}

static bool is_loopback(const struct network_address *address)
{
    if (address->family == 4)
        return address->bytes[0] == 127;
    return is_zero(address->bytes, 15) && address->bytes[15] == 1;
}

static bool parse_address(struct value value, struct network_address *address)
{
    char text[ADDRESS_MAX_BYTES + 1];
    *address = (struct network_address){.family = 0};
    if (value.size == 0 || value.size >= sizeof text || memchr(value.data, '\0', value.size))
        return false;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    if (inet_pton(AF_INET, text, address->bytes) == 1)
        address->family = 4;
    else if (inet_pton(AF_INET6, text, address->bytes) == 1)
        address->family = 6;
    return address->family && !is_nobodys(address);
}

static const char *on_address(struct network_interface *interface, struct value value)
{
    static const char wanted[] = "want an IPv4 or IPv6 address of one station with its prefix, such as "
                                 "192.0.2.2/24, none twice";
    const char *slash = memchr(value.data, '/', value.size);
    struct network_address address;
    unsigned prefix;
    if (interface->address_count == NETWORK_ADDRESSES_MAX)
        return "want at most 8 addresses of an interface";
    if (!slash || !parse_address((struct value){value.data, (size_t)(slash - value.data)}, &address) ||
        is_loopback(&address))
        return wanted;
    const struct value rest = {slash + 1, value.size - (size_t)(slash + 1 - value.data)};
    if (!parse_number(rest, 0, address.family == 4 ? 32 : 128, &prefix))
        return wanted;
    for (unsigned i = 0; i < interface->address_count; i++)
        if (interface->addresses[i].family == address.family &&
            memcmp(interface->addresses[i].bytes, address.bytes, sizeof address.bytes) == 0)
            return wanted;
    address.prefix = (uint8_t)prefix;
    interface->addresses[interface->address_count++] = address;
    return NULL;
}

static const char *on_gateway(struct network_interface *interface, struct value value)
{
    struct network_address address;
    if (!parse_address(value, &address) || is_loopback(&address))
        return "want the IPv4 or IPv6 address of a router, without a prefix";
    struct network_address *to = address.family == 4 ? &interface->gateway4 : &interface->gateway6;
    if (to->family)
        return "want one of each family";
    *to = address;
    return NULL;
}

static const char *on_dns(struct network_interface *interface, struct value value)
{
    struct network_address address;
    if (interface->dns_count == NETWORK_DNS_MAX)
        return "want at most 4 of an interface";
    if (!parse_address(value, &address))
        return "want the IPv4 or IPv6 address of a DNS server, without a prefix";
    interface->dns[interface->dns_count++] = address;
    return NULL;
}

static const struct item {
    const char *key; /* with its = */
    item_handler *handler;
} items[] = {
    {"mac=", on_mac}, {"mtu=", on_mtu}, {"address=", on_address}, {"gateway=", on_gateway}, {"dns=", on_dns},
};

/* What came, as far as it can be shown, and what is wanted. -EINVAL. */
static int refuse(char why[NETWORK_WHY_BYTES], const char *what, size_t size, const char *wanted)
{
    char shown[SHOWN_MAX_BYTES + 1];
    const size_t kept = size < SHOWN_MAX_BYTES ? size : SHOWN_MAX_BYTES;
    for (size_t i = 0; i < kept; i++)
        shown[i] = what[i] > ' ' && what[i] < 0x7f ? what[i] : '?';
    shown[kept] = '\0';
    (void)snprintf(why, NETWORK_WHY_BYTES, "%s%s: %s", shown, kept < size ? "..." : "", wanted);
    return -EINVAL;
}

int network_parse_item(struct network_interface *interface, const char *item, size_t size,
                       char why[NETWORK_WHY_BYTES])
{
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        const size_t key_size = strlen(items[i].key);
        if (size < key_size || memcmp(item, items[i].key, key_size) != 0)
            continue;
        const struct value value = {item + key_size, size - key_size};
        const char *wanted = items[i].handler(interface, value);
        return wanted ? refuse(why, item, size, wanted) : 0;
    }
    return refuse(why, item, size, "want mac=, mtu=, address=, gateway= or dns=");
}

static size_t until(const char *text, size_t size, char separator)
{
    const char *at = memchr(text, separator, size);
    return at ? (size_t)(at - text) : size;
}

/* One interface's items. */
static int parse_interface(struct network_interface *interface, const char *text, size_t size,
                           char why[NETWORK_WHY_BYTES])
{
    for (size_t at = 0; at <= size;) {
        const size_t item = until(text + at, size - at, ',');
        const int error = network_parse_item(interface, text + at, item, why);
        if (error)
            return error;
        at += item + 1;
    }
    return 0;
}

int network_parse(struct network *network, const char *text, size_t size, char why[NETWORK_WHY_BYTES])
{
    char canonical[PROTO_NETWORK_MAX_BYTES + 1];
    int error = 0;
    memset(network, 0, sizeof *network);
    why[0] = '\0';
    if (size == 0)
        return 0;
    if (size > PROTO_NETWORK_MAX_BYTES)
        error = refuse(why, text, size, "longer than the 1024 bytes that a network's text may have");
    for (size_t at = 0; at <= size && error == 0;) {
        const size_t interface = until(text + at, size - at, ';');
        if (network->count == NETWORK_INTERFACES_MAX)
            error = refuse(why, text + at, size - at, "want at most 4 interfaces");
        else
            error = parse_interface(&network->at[network->count++], text + at, interface, why);
        at += interface + 1;
    }
    if (error == 0 && network_format(network, canonical, sizeof canonical) < 0)
        error = refuse(why, text, size, "longer than the 1024 bytes that a network's text may have");
    if (error)
        memset(network, 0, sizeof *network);
    return error;
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

void network_mac_text(const uint8_t mac[NETWORK_MAC_BYTES], char text[18])
{
    (void)snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* The longest run of zero groups, the first of equals; one group alone is no run (RFC 5952, 4.2). */
static unsigned zero_run(const unsigned groups[IPV6_GROUPS], unsigned *length)
{
    unsigned best = IPV6_GROUPS;
    *length = 1;
    for (unsigned at = 0; at < IPV6_GROUPS; at++) {
        unsigned end = at;
        while (end < IPV6_GROUPS && groups[end] == 0)
            end++;
        if (end - at > *length) {
            best = at;
            *length = end - at;
        }
    }
    return best;
}

static void ipv6_text(const uint8_t bytes[16], char text[46])
{
    unsigned groups[IPV6_GROUPS];
    for (unsigned i = 0; i < IPV6_GROUPS; i++)
        groups[i] = (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1];
    unsigned length;
    const unsigned run = zero_run(groups, &length);
    size_t at = 0;
    for (unsigned i = 0; i < IPV6_GROUPS; i++) {
        if (i == run) {
            at += (size_t)snprintf(text + at, 46 - at, "::");
            i += length - 1;
            continue;
        }
        const bool follows = i > 0 && i != run + length;
        at += (size_t)snprintf(text + at, 46 - at, follows || (i > 0 && run == IPV6_GROUPS) ? ":%x" : "%x",
                               groups[i]);
    }
}

void network_address_text(const struct network_address *address, char text[46])
{
    const uint8_t *bytes = address->bytes;
    if (address->family == 4)
        (void)snprintf(text, 46, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
    else
        ipv6_text(bytes, text);
}

struct text { /* being written */
    char *data;
    size_t size;
    size_t capacity;
    bool full;
    bool separated; /* nothing stands before the next item */
};

static void put(struct text *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size =
        out->full ? -1 : vsnprintf(out->data + out->size, out->capacity - out->size, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= out->capacity - out->size)
        out->full = true;
    else
        out->size += (size_t)size;
}

static void put_item(struct text *out, const char *key, const char *value)
{
    put(out, "%s%s=%s", out->separated ? "" : ",", key, value);
    out->separated = false;
}

static void put_address(struct text *out, const char *key, const struct network_address *address)
{
    char text[46];
    if (!address->family)
        return;
    network_address_text(address, text);
    put_item(out, key, text);
}

static void put_interface(struct text *out, const struct network_interface *interface)
{
    char text[46];
    if (interface->has_mac) {
        network_mac_text(interface->mac, text);
        put_item(out, "mac", text);
    }
    if (interface->mtu) {
        (void)snprintf(text, sizeof text, "%u", interface->mtu);
        put_item(out, "mtu", text);
    }
    for (unsigned i = 0; i < interface->address_count; i++) {
        put_address(out, "address", &interface->addresses[i]);
        put(out, "/%u", interface->addresses[i].prefix);
    }
    put_address(out, "gateway", &interface->gateway4);
    put_address(out, "gateway", &interface->gateway6);
    for (unsigned i = 0; i < interface->dns_count; i++)
        put_address(out, "dns", &interface->dns[i]);
}

int network_format(const struct network *network, char *text, size_t capacity)
{
    struct text out = {.data = text, .capacity = capacity, .full = capacity == 0};
    if (capacity > 0)
        text[0] = '\0';
    for (unsigned i = 0; i < network->count; i++) {
        if (i > 0)
            put(&out, ";");
        out.separated = true;
        put_interface(&out, &network->at[i]);
    }
    if (out.full || out.size > PROTO_NETWORK_MAX_BYTES)
        return -ENOSPC;
    return (int)out.size;
}
