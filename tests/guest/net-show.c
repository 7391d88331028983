/* See net-show.h: dumps of rtnetlink (linux/rtnetlink.h), read without the agent's code. */
#include "tests/guest/net-show.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct text {
    char *data;
    size_t size, capacity;
};

struct attributes {
    const struct rtattr *at[64];
};

static void say(struct text *out, const char *line)
{
    const int added = snprintf(out->data + out->size, out->capacity - out->size, "%s\n", line);
    if (added > 0 && (size_t)added < out->capacity - out->size)
        out->size += (size_t)added;
}

static void read_attributes(struct attributes *all, const struct rtattr *attr, size_t size)
{
    memset(all, 0, sizeof *all);
    while (RTA_OK(attr, size)) {
        if (attr->rta_type < 64)
            all->at[attr->rta_type] = attr;
        const size_t step = RTA_ALIGN(attr->rta_len);
        size -= step < size ? step : size;
        attr = (const struct rtattr *)((const char *)attr + step);
    }
}

static uint32_t number(const struct rtattr *attr)
{
    uint32_t value = 0;
    if (attr)
        memcpy(&value, RTA_DATA(attr), sizeof value);
    return value;
}

static const char *address(uint8_t family, const struct rtattr *attr)
{
    static char text[INET6_ADDRSTRLEN];
    return attr ? inet_ntop(family, RTA_DATA(attr), text, sizeof text) : "-";
}

static const char *ethernet(uint32_t index)
{
    static char name[IF_NAMESIZE];
    return if_indextoname(index, name) && strncmp(name, "eth", 3) == 0 ? name : NULL;
}

static void show_link(struct text *out, const struct nlmsghdr *head)
{
    const struct ifinfomsg *info = NLMSG_DATA(head);
    struct attributes all;
    char line[128];
    read_attributes(&all, IFLA_RTA(info), IFLA_PAYLOAD(head));
    const uint8_t *mac = all.at[IFLA_ADDRESS] ? RTA_DATA(all.at[IFLA_ADDRESS]) : NULL;
    const char *name = ethernet((uint32_t)info->ifi_index);
    if (!name || !mac)
        return;
    (void)snprintf(line, sizeof line, "%s %s %02x:%02x:%02x:%02x:%02x:%02x %u", name,
                   info->ifi_flags & IFF_UP ? "up" : "down", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5],
                   number(all.at[IFLA_MTU]));
    say(out, line);
}

static void show_address(struct text *out, const struct nlmsghdr *head)
{
    const struct ifaddrmsg *info = NLMSG_DATA(head);
    struct attributes all;
    char line[128];
    const char *name = ethernet(info->ifa_index);
    read_attributes(&all, IFA_RTA(info), IFA_PAYLOAD(head));
    const struct rtattr *local = all.at[IFA_LOCAL] ? all.at[IFA_LOCAL] : all.at[IFA_ADDRESS];
    const uint32_t flags = all.at[IFA_FLAGS] ? number(all.at[IFA_FLAGS]) : info->ifa_flags;
    if (!name)
        return;
    (void)snprintf(line, sizeof line, "%s %s/%u%s", name, address(info->ifa_family, local),
                   info->ifa_prefixlen, flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) ? " tentative" : "");
    say(out, line);
}

static void show_route(struct text *out, const struct nlmsghdr *head)
{
    const struct rtmsg *info = NLMSG_DATA(head);
    struct attributes all;
    char line[128];
    read_attributes(&all, RTM_RTA(info), RTM_PAYLOAD(head));
    const char *name = ethernet(number(all.at[RTA_OIF]));
    if (!name || info->rtm_protocol == RTPROT_KERNEL)
        return;
    if (info->rtm_dst_len > 0)
        (void)snprintf(line, sizeof line, "%s route %s/%u", name, address(info->rtm_family, all.at[RTA_DST]),
                       info->rtm_dst_len);
    else
        (void)snprintf(line, sizeof line, "%s default %s %u", name,
                       address(info->rtm_family, all.at[RTA_GATEWAY]), number(all.at[RTA_PRIORITY]));
    say(out, line);
}

/* One dump, to its NLMSG_DONE. */
static int show(int fd, struct text *out, uint16_t type, uint8_t family)
{
    static _Alignas(struct nlmsghdr) char buffer[32768];
    struct {
        struct nlmsghdr head;
        struct rtmsg body; /* as long as the longest of the three, which all begin with the family */
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.rtm_family = family}};
    if (send(fd, &request, sizeof request, 0) < 0)
        return -errno;
    for (;;) {
        const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got < 0)
            return -errno;
        size_t left = (size_t)got;
        for (struct nlmsghdr *head = (struct nlmsghdr *)buffer; NLMSG_OK(head, left);
             head = NLMSG_NEXT(head, left)) {
            if (head->nlmsg_type == NLMSG_DONE)
                return 0;
            if (head->nlmsg_type == NLMSG_ERROR)
                return -EIO;
            if (head->nlmsg_type == RTM_NEWLINK)
                show_link(out, head);
            else if (head->nlmsg_type == RTM_NEWADDR)
                show_address(out, head);
            else if (head->nlmsg_type == RTM_NEWROUTE)
                show_route(out, head);
        }
    }
}

int net_show(char *data, size_t capacity)
{
    struct text out = {.data = data, .capacity = capacity};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    data[0] = '\0';
    if (fd < 0)
        return -errno;
    int error = show(fd, &out, RTM_GETLINK, AF_UNSPEC);
    if (error == 0)
        error = show(fd, &out, RTM_GETADDR, AF_INET);
    if (error == 0)
        error = show(fd, &out, RTM_GETADDR, AF_INET6);
    if (error == 0)
        error = show(fd, &out, RTM_GETROUTE, AF_INET);
    if (error == 0)
        error = show(fd, &out, RTM_GETROUTE, AF_INET6);
    close(fd);
    return error;
}
