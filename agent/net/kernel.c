/*
 * The interfaces: found by name, set through rtnetlink, heard through a packet socket. parts.h.
 *
 * The kernel answers a batch within the call that sends it, so one sendto and, when all went well, one recv
 * do everything. What is read is from the kernel, and checked all the same.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/net/announce.h"
#include "agent/net/message.h"
#include "agent/net/parts.h"

enum { ANSWER_BYTES = 8192 };

int net_why(char *why, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, RESUME_WHY_BYTES, format, arguments);
    va_end(arguments);
    const size_t size = strlen(why);
    (void)snprintf(why + size, RESUME_WHY_BYTES - size, ": %s", strerror(-error));
    return error;
}

int net_kernel_open(struct net_kernel *kernel, char *why)
{
    static const int one = 1;
    static const struct timeval limit = {.tv_sec = 2};
    if (kernel->route_fd >= 0 && kernel->packet_fd >= 0)
        return 0;
    fd_close(&kernel->route_fd);
    fd_close(&kernel->packet_fd);
    kernel->route_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (kernel->route_fd < 0)
        return net_why(why, -errno, "socket(NETLINK_ROUTE)");
    if (setsockopt(kernel->route_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(kernel->route_fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one) < 0)
        return net_why(why, -errno, "setsockopt on NETLINK_ROUTE");
    kernel->packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: nothing is received */
    return kernel->packet_fd < 0 ? net_why(why, -errno, "socket(AF_PACKET)") : 0;
}

/* ---- finding ---- */

/* Addresses come from the host alone; none is probed for first. Without IPv6 there is nothing to stop. */
static int stop_autoconfiguration(const char *name, char *why)
{
    static const char *const settings[] = {"accept_ra", "autoconf", "accept_dad"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char path[96];
        (void)snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", name, settings[i]);
        const int error = fd_write_file(path, "0");
        if (error && error != -ENOENT)
            return net_why(why, error, "write %s", path);
    }
    return 0;
}

int net_kernel_find(struct net_kernel *kernel, unsigned count, char *why)
{
    for (; kernel->count < count; kernel->count++) {
        const unsigned number = kernel->count;
        struct ifreq request = {.ifr_name = ""};
        (void)snprintf(request.ifr_name, sizeof request.ifr_name, "eth%u", number);
        if (ioctl(kernel->packet_fd, SIOCGIFINDEX, &request) < 0)
            return net_why(why, -errno, "interface %u of the network: %s", number, request.ifr_name);
        kernel->index[number] = request.ifr_ifindex;
        if (ioctl(kernel->packet_fd, SIOCGIFHWADDR, &request) < 0)
            return net_why(why, -errno, "MAC of %s", request.ifr_name);
        memcpy(kernel->mac[number], request.ifr_hwaddr.sa_data, NETWORK_MAC_BYTES);
        const int error = stop_autoconfiguration(request.ifr_name, why);
        if (error)
            return error;
    }
    return 0;
}

/* ---- setting ---- */

static ssize_t receive(const struct net_kernel *kernel, uint8_t answer[ANSWER_BYTES])
{
    struct sockaddr_nl from;
    struct iovec part = {answer, ANSWER_BYTES};
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    for (;;) {
        const ssize_t count = recvmsg(kernel->route_fd, &message, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (message.msg_flags & MSG_TRUNC)
            return -EBADMSG;
        if (count > 0 && from.nl_pid == 0) /* from the kernel */
            return count;
    }
}

/* Until the last request is answered: the first that failed counts, the others are done all the same. */
static int take_answers(const struct net_kernel *kernel, const struct net_plan *plan, uint32_t sequence,
                        char *why)
{
    int first = 0;
    for (;;) {
        uint8_t data[ANSWER_BYTES];
        struct net_answer answer;
        size_t at = 0;
        int more;
        const ssize_t size = receive(kernel, data);
        if (size < 0)
            return net_why(why, (int)size, "answer of NETLINK_ROUTE");
        while ((more = net_message_answer(&answer, data, (size_t)size, &at)) == 1) {
            const uint32_t number = answer.sequence - sequence;
            if (number >= plan->count)
                continue; /* to an earlier batch */
            const struct net_op *op = &plan->at[number];
            if (first == 0 && !net_message_is_done(op, answer.error)) {
                char text[NET_OP_TEXT_BYTES];
                net_op_text(op, text);
                first = net_why(why, answer.error, "eth%u: %s", op->interface, text);
            }
            if (number + 1 == plan->count)
                return first;
        }
        if (more < 0)
            return net_why(why, more, "answer of NETLINK_ROUTE");
    }
}

int net_kernel_apply(struct net_kernel *kernel, const struct net_plan *plan, char *why)
{
    static uint8_t batch[NET_BATCH_BYTES];
    const struct sockaddr_nl to = {.nl_family = AF_NETLINK};
    const uint32_t sequence = kernel->sequence;
    const int size = net_message_batch(batch, sizeof batch, plan, kernel->index, sequence);
    if (size == 0)
        return 0;
    if (size < 0)
        return net_why(why, size, "requests for NETLINK_ROUTE");
    kernel->sequence += plan->count;
    const ssize_t sent =
        sendto(kernel->route_fd, batch, (size_t)size, 0, (const struct sockaddr *)&to, sizeof to);
    if (sent != size)
        return net_why(why, sent < 0 ? -errno : -EIO, "send to NETLINK_ROUTE");
    return take_answers(kernel, plan, sequence, why);
}

/* ---- being heard ---- */

static int announce_one(const struct net_kernel *kernel, unsigned number,
                        const struct network_interface *interface, char *why)
{
    struct net_frame frames[NET_FRAMES_MAX];
    struct mmsghdr messages[NET_FRAMES_MAX];
    struct iovec parts[NET_FRAMES_MAX];
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = kernel->index[number]};
    const unsigned count = net_announce(interface, frames);
    for (unsigned i = 0; i < count; i++) {
        parts[i] = (struct iovec){frames[i].bytes, frames[i].size};
        messages[i].msg_hdr =
            (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (unsigned at = 0; at < count;) {
        const int sent = sendmmsg(kernel->packet_fd, messages + at, count - at, 0);
        if (sent < 0 && errno != EINTR)
            return net_why(why, -errno, "eth%u: announcement", number);
        at += sent > 0 ? (unsigned)sent : 0;
    }
    return 0;
}

int net_kernel_announce(const struct net_kernel *kernel, const struct network *network, char *why)
{
    int error = 0;
    for (unsigned i = 0; i < network->count && error == 0; i++)
        error = announce_one(kernel, i, &network->at[i], why);
    return error;
}
