/* See http_peer.h. One question about one socket, found by its addresses: no table is walked. */
#include "agent/http_peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* The other end's socket: its source is our peer. */
static int fill_question(struct question *question, int fd)
{
    struct sockaddr_in here = {0}, there = {0};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    if (getsockname(fd, (struct sockaddr *)&here, &here_size) < 0 ||
        getpeername(fd, (struct sockaddr *)&there, &there_size) < 0)
        return -errno;
    if (here.sin_family != AF_INET || there.sin_family != AF_INET)
        return -EAFNOSUPPORT;
    *question = (struct question){
        .header = {.nlmsg_len = sizeof *question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = AF_INET,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = ~0u,
                 .id = {.idiag_sport = there.sin_port,
                        .idiag_dport = here.sin_port,
                        .idiag_src = {there.sin_addr.s_addr},
                        .idiag_dst = {here.sin_addr.s_addr},
                        .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
    };
    return 0;
}

static int read_answer(const struct answer *answer, size_t size, uid_t uid)
{
    const size_t head = sizeof answer->header;
    if (size >= head + sizeof answer->u.error && answer->header.nlmsg_type == NLMSG_ERROR)
        return answer->u.error.error == -ENOENT ? 1 : answer->u.error.error; /* closed, and forgotten */
    if (size < head + sizeof answer->u.socket || answer->header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
        return -EPROTO;
    const bool closed = answer->u.socket.idiag_inode == 0;
    return closed || answer->u.socket.idiag_uid == uid;
}

int http_peer_is(int fd, uid_t uid)
{
    struct question question;
    struct answer answer;
    int result = fill_question(&question, fd);
    if (result == -ENOTCONN)
        return 1; /* closed already */
    if (result < 0)
        return result;
    int diag_fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag_fd < 0)
        return -errno;
    /* The kernel answers before send returns. */
    ssize_t size = send(diag_fd, &question, sizeof question, 0);
    if (size >= 0)
        size = recv(diag_fd, &answer, sizeof answer, MSG_DONTWAIT);
    result = size < 0 ? -errno : read_answer(&answer, (size_t)size, uid);
    fd_close(&diag_fd);
    return result;
}
