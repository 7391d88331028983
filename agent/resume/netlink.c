/*
 * The sock_diag messages of the sockets step, without a socket: requests built, answers taken apart. The
 * answers come from this guest's kernel; they are checked all the same, as a length that does not fit means
 * that sockets might be left standing.
 *
 * The dump is asked for by the older of the two requests: it alone gives the connections of both families in
 * one walk through the kernel's table, which is most of what the step costs where there are none.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/resume/parts.h"

_Static_assert(sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req) == RESUME_DUMP_BYTES, "request");
_Static_assert(sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req_v2) == RESUME_DESTROY_BYTES, "request");
_Static_assert(sizeof(struct inet_diag_sockid) == sizeof((struct resume_socket *)0)->id, "socket id");

size_t resume_netlink_dump(uint8_t out[RESUME_DUMP_BYTES], uint32_t sequence)
{
    const struct nlmsghdr header = {.nlmsg_len = RESUME_DUMP_BYTES,
                                    .nlmsg_type = TCPDIAG_GETSOCK,
                                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                                    .nlmsg_seq = sequence};
    const struct inet_diag_req request = {.idiag_states = RESUME_SOCKETS_STATE_MASK};
    memcpy(out, &header, sizeof header);
    memcpy(out + sizeof header, &request, sizeof request);
    return RESUME_DUMP_BYTES;
}

size_t resume_netlink_destroy(uint8_t *out, const struct resume_socket *sockets, unsigned count,
                              uint32_t sequence)
{
    for (unsigned i = 0; i < count; i++, out += RESUME_DESTROY_BYTES) {
        struct inet_diag_req_v2 request = {.sdiag_family = sockets[i].family,
                                           .sdiag_protocol = IPPROTO_TCP,
                                           .idiag_states = RESUME_SOCKETS_STATE_MASK};
        memcpy(&request.id, sockets[i].id, sizeof request.id);
        const struct nlmsghdr header = {.nlmsg_len = RESUME_DESTROY_BYTES,
                                        .nlmsg_type = SOCK_DESTROY,
                                        .nlmsg_flags =
                                            (uint16_t)(NLM_F_REQUEST | (i + 1 == count ? NLM_F_ACK : 0)),
                                        .nlmsg_seq = sequence + i};
        memcpy(out, &header, sizeof header);
        memcpy(out + sizeof header, &request, sizeof request);
    }
    return (size_t)count * RESUME_DESTROY_BYTES;
}

static bool is_loopback4(const uint8_t *address)
{
    return address[0] == 127;
}

static bool is_loopback6(const uint8_t *address)
{
    static const uint8_t one[16] = {[15] = 1};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(address, mapped, sizeof mapped) == 0)
        return is_loopback4(address + sizeof mapped);
    return memcmp(address, one, sizeof one) == 0;
}

bool resume_socket_is_loopback(uint8_t family, const uint8_t source[16], const uint8_t destination[16])
{
    if (family == AF_INET)
        return is_loopback4(source) && is_loopback4(destination);
    return is_loopback6(source) && is_loopback6(destination);
}

static int take_socket(struct resume_socket_list *list, const uint8_t *data, size_t size)
{
    struct inet_diag_msg message;
    if (size < sizeof message)
        return -EBADMSG;
    memcpy(&message, data, sizeof message);
    if (message.idiag_family != AF_INET && message.idiag_family != AF_INET6)
        return -EBADMSG;
    if (!(RESUME_SOCKETS_STATE_MASK & UINT32_C(1) << (message.idiag_state & 31)))
        return 0;
    if (resume_socket_is_loopback(message.idiag_family, (const uint8_t *)message.id.idiag_src,
                                  (const uint8_t *)message.id.idiag_dst))
        return 0;
    if (list->count == RESUME_SOCKETS_PASS) {
        list->more = true;
        return 0;
    }
    struct resume_socket *socket = &list->at[list->count++];
    socket->family = message.idiag_family;
    memcpy(socket->id, &message.id, sizeof socket->id);
    return 0;
}

/* One message of a datagram: its header, checked against what is left. Its size with padding; 0: bad. */
static size_t next_message(struct nlmsghdr *header, const uint8_t *data, size_t left)
{
    if (left < sizeof *header)
        return 0;
    memcpy(header, data, sizeof *header);
    if (header->nlmsg_len < sizeof *header || header->nlmsg_len > left)
        return 0;
    const size_t padded = ((size_t)header->nlmsg_len + 3) & ~(size_t)3;
    return padded < left ? padded : left;
}

/* The error in the first bytes of an NLMSG_ERROR or NLMSG_DONE. */
static int error_of(const uint8_t *body, size_t size)
{
    int32_t error;
    if (size < sizeof error)
        return -EBADMSG;
    memcpy(&error, body, sizeof error);
    return error <= 0 && error > -4096 ? error : -EBADMSG;
}

int resume_netlink_take_dump(struct resume_socket_list *list, const uint8_t *data, size_t size,
                             uint32_t sequence)
{
    struct nlmsghdr header;
    for (size_t at = 0; at < size;) {
        const size_t step = next_message(&header, data + at, size - at);
        const uint8_t *body = data + at + sizeof header;
        const size_t body_size = step == 0 ? 0 : header.nlmsg_len - sizeof header;
        if (step == 0)
            return -EBADMSG;
        at += step;
        if (header.nlmsg_seq != sequence)
            continue; /* the rest of a dump that was given up */
        if (header.nlmsg_flags & NLM_F_DUMP_INTR)
            return -EINTR;
        if (header.nlmsg_type == NLMSG_DONE)
            return body_size == 0 ? 0 : error_of(body, body_size);
        int error = -EBADMSG;
        if (header.nlmsg_type == NLMSG_ERROR)
            error = error_of(body, body_size);
        else if (header.nlmsg_type == TCPDIAG_GETSOCK)
            error = take_socket(list, body, body_size);
        if (error)
            return error;
    }
    return 1;
}

int resume_netlink_take_destroyed(const uint8_t *data, size_t size, uint32_t sequence, unsigned count)
{
    struct nlmsghdr header;
    for (size_t at = 0; at < size;) {
        const size_t step = next_message(&header, data + at, size - at);
        if (step == 0 || header.nlmsg_type != NLMSG_ERROR)
            return -EBADMSG;
        const int error = error_of(data + at + sizeof header, header.nlmsg_len - sizeof header);
        at += step;
        if (header.nlmsg_seq - sequence >= count)
            continue;                  /* an answer to an earlier batch */
        if (error && error != -ENOENT) /* ENOENT: the other end of one destroyed before it */
            return error;
        if (header.nlmsg_seq == sequence + count - 1)
            return 0;
    }
    return 1;
}
