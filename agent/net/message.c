/*
 * See message.h. Every part is padded to 4 bytes (NLMSG_ALIGN, NLA_ALIGN); a message's length is written when
 * its last attribute is.
 */
#include "agent/net/message.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "agent/base/cursor.h"

static void put_attribute(struct cursor *out, uint16_t type, const void *data, size_t size)
{
    static const uint8_t zero[4];
    const struct rtattr head = {.rta_len = (uint16_t)(sizeof head + size), .rta_type = type};
    cursor_put(out, &head, sizeof head);
    cursor_put(out, data, size);
    cursor_put(out, zero, -size & 3);
}

static void put_number(struct cursor *out, uint16_t type, uint32_t value)
{
    put_attribute(out, type, &value, sizeof value);
}

static uint8_t family_of(const struct network_address *address)
{
    return address->family == 4 ? AF_INET : AF_INET6;
}

static size_t size_of(const struct network_address *address)
{
    return address->family == 4 ? 4 : 16;
}

static void put_address(struct cursor *out, uint16_t type, const struct network_address *address)
{
    put_attribute(out, type, address->bytes, size_of(address));
}

/*
 * IFLA_AF_SPEC is the last thing that the kernel does with a message, after it has brought the link up and
 * made itself an address: NET_UP comes as a message of its own.
 */
static void put_link(struct cursor *out, const struct net_op *op, int index)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    if (op->kind != NET_LINK) {
        info.ifi_change = IFF_UP;
        info.ifi_flags = op->kind == NET_UP ? IFF_UP : 0;
    }
    cursor_put(out, &info, sizeof info);
    if (op->has_mac)
        put_attribute(out, IFLA_ADDRESS, op->mac, sizeof op->mac);
    if (op->mtu)
        put_number(out, IFLA_MTU, op->mtu);
    if (op->quiet) {
        const struct {
            struct rtattr family;
            struct rtattr mode_head;
            uint8_t mode, pad[3];
        } spec = {.family = {.rta_len = sizeof spec, .rta_type = AF_INET6},
                  .mode_head = {.rta_len = sizeof(struct rtattr) + 1, .rta_type = IFLA_INET6_ADDR_GEN_MODE},
                  .mode = IN6_ADDR_GEN_MODE_NONE};
        put_attribute(out, IFLA_AF_SPEC, &spec, sizeof spec);
    }
}

/* The last address of its network; of two or one there is none (RFC 3021). */
static void put_broadcast(struct cursor *out, const struct network_address *address)
{
    uint8_t bytes[4];
    if (address->family != 4 || address->prefix > 30)
        return;
    memcpy(bytes, address->bytes, sizeof bytes);
    for (unsigned bit = address->prefix; bit < 32; bit++)
        bytes[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
    put_attribute(out, IFA_BROADCAST, bytes, sizeof bytes);
}

static void put_interface_address(struct cursor *out, const struct net_op *op, int index)
{
    const struct ifaddrmsg info = {.ifa_family = family_of(&op->address),
                                   .ifa_prefixlen = op->address.prefix,
                                   .ifa_flags = op->address.family == 6 ? IFA_F_NODAD | IFA_F_PERMANENT
                                                                        : IFA_F_PERMANENT,
                                   .ifa_index = (uint32_t)index};
    cursor_put(out, &info, sizeof info);
    put_address(out, IFA_LOCAL, &op->address);
    put_address(out, IFA_ADDRESS, &op->address);
    if (op->kind == NET_ADDRESS_ADD)
        put_broadcast(out, &op->address);
}

static void put_route(struct cursor *out, const struct net_op *op, int index)
{
    const bool adds = op->kind == NET_HOST_ADD || op->kind == NET_DEFAULT_ADD;
    const bool is_host = op->kind == NET_HOST_ADD || op->kind == NET_HOST_REMOVE;
    struct rtmsg info = {.rtm_family = family_of(&op->address),
                         .rtm_dst_len = is_host ? (uint8_t)(8 * size_of(&op->address)) : 0,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = is_host ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    if (!adds)
        info.rtm_scope = RT_SCOPE_NOWHERE; /* any */
    cursor_put(out, &info, sizeof info);
    put_address(out, is_host ? RTA_DST : RTA_GATEWAY, &op->address);
    put_number(out, RTA_OIF, (uint32_t)index);
    put_number(out, RTA_PRIORITY, NET_METRIC + op->interface);
}

/* Adding replaces: what is there already, as after an agent's end half-way, is no error. */
static uint16_t type_of(const struct net_op *op, uint16_t *flags)
{
    *flags = NLM_F_REQUEST;
    switch (op->kind) {
    case NET_LINK:
    case NET_UP:
    case NET_DOWN:
        return RTM_NEWLINK;
    case NET_ADDRESS_ADD:
        *flags |= NLM_F_CREATE | NLM_F_REPLACE;
        return RTM_NEWADDR;
    case NET_ADDRESS_REMOVE:
        return RTM_DELADDR;
    case NET_HOST_ADD:
    case NET_DEFAULT_ADD:
        *flags |= NLM_F_CREATE | NLM_F_REPLACE;
        return RTM_NEWROUTE;
    case NET_HOST_REMOVE:
    case NET_DEFAULT_REMOVE:
        break;
    }
    return RTM_DELROUTE;
}

static void put_request(struct cursor *out, const struct net_op *op, int index, uint32_t sequence,
                        bool is_last)
{
    struct nlmsghdr head = {.nlmsg_seq = sequence};
    const size_t start = out->at;
    uint8_t *place = cursor_take(out, sizeof head);
    head.nlmsg_type = type_of(op, &head.nlmsg_flags);
    if (is_last)
        head.nlmsg_flags |= NLM_F_ACK;
    if (head.nlmsg_type == RTM_NEWLINK)
        put_link(out, op, index);
    else if (head.nlmsg_type == RTM_NEWADDR || head.nlmsg_type == RTM_DELADDR)
        put_interface_address(out, op, index);
    else
        put_route(out, op, index);
    head.nlmsg_len = (uint32_t)(out->at - start);
    if (place)
        memcpy(place, &head, sizeof head);
}

int net_message_batch(uint8_t *data, size_t capacity, const struct net_plan *plan,
                      const int index[NETWORK_INTERFACES_MAX], uint32_t sequence)
{
    struct cursor out = cursor_over(data, capacity);
    for (unsigned i = 0; i < plan->count; i++)
        put_request(&out, &plan->at[i], index[plan->at[i].interface], sequence + i, i + 1 == plan->count);
    return out.failed ? -ENOSPC : (int)out.at;
}

int net_message_answer(struct net_answer *answer, const uint8_t *data, size_t size, size_t *at)
{
    struct nlmsghdr head;
    int32_t error;
    const size_t left = size - *at;
    if (left == 0)
        return 0;
    if (left < sizeof head + sizeof error)
        return -EBADMSG;
    memcpy(&head, data + *at, sizeof head);
    memcpy(&error, data + *at + sizeof head, sizeof error);
    if (head.nlmsg_type != NLMSG_ERROR || head.nlmsg_len < sizeof head + sizeof error ||
        head.nlmsg_len > left || error > 0 || error <= -4096)
        return -EBADMSG;
    const size_t padded = ((size_t)head.nlmsg_len + 3) & ~(size_t)3;
    *at += padded < left ? padded : left;
    *answer = (struct net_answer){.sequence = head.nlmsg_seq, .error = error};
    return 1;
}

bool net_message_is_done(const struct net_op *op, int error)
{
    const bool removes =
        op->kind == NET_ADDRESS_REMOVE || op->kind == NET_HOST_REMOVE || op->kind == NET_DEFAULT_REMOVE;
    return error == 0 || (removes && (error == -ESRCH || error == -EADDRNOTAVAIL));
}
