/* See loopback.h. One question about one socket, found by its addresses: no table is walked. */
#include "agent/loopback.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "agent/base/fd.h"

struct question {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

struct answer {
    struct nlmsghdr header;
    union {
        struct nlmsgerr error;
        struct inet_diag_msg socket;
        uint8_t room[512]; /* attributes, not looked at */
    } u;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Port and address as sock_diag wants them, in network order. */
static void fill_address(const union address *from, uint16_t *port, uint32_t address[4])
{
    if (from->any.sa_family == AF_INET) {
        *port = from->v4.sin_port;
        address[0] = from->v4.sin_addr.s_addr;
    } else {
        *port = from->v6.sin6_port;
        memcpy(address, &from->v6.sin6_addr, sizeof from->v6.sin6_addr);
    }
}

/* The other end's socket: its source is our peer. */
static int fill_question(struct question *question, int fd)
{
    union address here = {0}, there = {0};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    if (getsockname(fd, &here.any, &here_size) < 0 || getpeername(fd, &there.any, &there_size) < 0)
        return errno == ENOTCONN ? -ENOENT : -errno;
    if (here.any.sa_family != there.any.sa_family ||
        (here.any.sa_family != AF_INET && here.any.sa_family != AF_INET6))
        return -EAFNOSUPPORT;
    *question = (struct question){
        .header = {.nlmsg_len = sizeof *question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = (uint8_t)here.any.sa_family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = ~0u,
                 .id = {.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
    };
    struct inet_diag_sockid *id = &question->body.id;
    fill_address(&there, &id->idiag_sport, id->idiag_src);
    fill_address(&here, &id->idiag_dport, id->idiag_dst);
    return 0;
}

static int read_answer(const struct answer *answer, size_t size, struct loopback_end *end)
{
    const size_t head = sizeof answer->header;
    if (size >= head + sizeof answer->u.error && answer->header.nlmsg_type == NLMSG_ERROR)
        return answer->u.error.error < 0 ? answer->u.error.error : -EPROTO;
    if (size < head + sizeof answer->u.socket || answer->header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return -EPROTO;
    *end = (struct loopback_end){.closed = answer->u.socket.idiag_inode == 0,
                                 .owner = answer->u.socket.idiag_uid,
                                 .unread_bytes = answer->u.socket.idiag_rqueue};
    return 0;
}

int loopback_ask(int fd, struct loopback_end *end)
{
    struct question question;
    struct answer answer;
    int error = fill_question(&question, fd);
    if (error)
        return error;
    int diag_fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag_fd < 0)
        return -errno;
    /* The kernel answers before send returns. */
    ssize_t size = send(diag_fd, &question, sizeof question, 0);
    if (size >= 0)
        size = recv(diag_fd, &answer, sizeof answer, MSG_DONTWAIT);
    error = size < 0 ? -errno : read_answer(&answer, (size_t)size, end);
    fd_close(&diag_fd);
    return error;
}

int loopback_is_of(int fd, uid_t uid)
{
    struct loopback_end end = {.closed = false};
    const int error = loopback_ask(fd, &end);
    if (error == -ENOENT)
        return 1;
    return error ? error : end.closed || end.owner == uid;
}
