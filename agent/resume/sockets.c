/*
 * The sockets step: TCP connections that lead out of this guest belong to the original. They are destroyed
 * here, without asking the other end (SOCK_DESTROY; its peer hears of it at most by a reset); their owners
 * read ECONNABORTED. Listeners stay, and connections whose both ends are loopback addresses: those are
 * wholly inside the snapshot.
 *
 * Dump, destroy in batches, and dump again until nothing is found: the last dump is the check. The function
 * is frozen meanwhile, so few passes are needed; their number is bounded. Only the network namespace of the
 * agent is looked at: one that a function made for itself has no way out.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/resume/parts.h"

enum {
    PASSES_MAX = 64,
    ANSWER_BYTES =
        8192, /* no less than a datagram of a dump; the kernel allocates as much as was asked for last */
    QUEUE_BYTES = RESUME_SOCKETS_BATCH * 4096 /* an error for each of a batch, with the kernel's overhead */
};

/* Large, and mostly untouched: only touched pages cost a clone anything. */
static struct work {
    struct resume_socket_list list;
    uint32_t sequence;
    uint8_t answer[ANSWER_BYTES];
    uint8_t requests[RESUME_SOCKETS_BATCH * RESUME_DESTROY_BYTES];
} sockets;
static int diag_fd = -1;

/* A kernel that speaks no TCP has no connections; one that speaks it without sock_diag cannot be cleaned. */
static int without_diag(const char *call, int error, char *why)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 && (errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT))
        return 0;
    fd_close(&fd);
    return resume_why(why, error, call);
}

static int open_diag(char *why)
{
    static const int one = 1, queue_bytes = QUEUE_BYTES;
    static const struct timeval limit = {.tv_sec = 2}; /* the kernel answers within the call that asks */
    diag_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag_fd < 0)
        return errno == EPROTONOSUPPORT || errno == EAFNOSUPPORT
                   ? without_diag("socket(NETLINK_SOCK_DIAG)", -errno, why)
                   : resume_why(why, -errno, "socket(NETLINK_SOCK_DIAG)");
    if (setsockopt(diag_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(diag_fd, SOL_SOCKET, SO_RCVBUFFORCE, &queue_bytes, sizeof queue_bytes) < 0 ||
        setsockopt(diag_fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one) < 0)
        return resume_why(why, -errno, "setsockopt on NETLINK_SOCK_DIAG");
    return 0;
}

static int send_all(const uint8_t *requests, size_t size)
{
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    const ssize_t sent = sendto(diag_fd, requests, size, 0, (const struct sockaddr *)&kernel, sizeof kernel);
    return sent == (ssize_t)size ? 0 : sent < 0 ? -errno : -EIO;
}

static ssize_t receive(struct work *work)
{
    struct sockaddr_nl from;
    struct iovec part = {work->answer, sizeof work->answer};
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    for (;;) {
        const ssize_t count = recvmsg(diag_fd, &message, 0);
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

static int dump_once(struct work *work)
{
    uint8_t request[RESUME_DUMP_BYTES];
    const unsigned before = work->list.count;
    const uint32_t sequence = ++work->sequence;
    int result = send_all(request, resume_netlink_dump(request, sequence));
    for (result = result ? result : 1; result == 1;) {
        const ssize_t count = receive(work);
        if (count < 0)
            return (int)count;
        result = resume_netlink_take_dump(&work->list, work->answer, (size_t)count, sequence);
    }
    if (result == -EINTR)
        work->list.count = before;
    return result;
}

static int dump(struct work *work, char *why)
{
    int error = -EINTR;
    for (int tries = 0; error == -EINTR && tries < 8; tries++) {
        /* What is left of a dump given up half-way would block the next one: another socket. */
        if (tries > 0) {
            fd_close(&diag_fd);
            error = open_diag(why);
            if (error || diag_fd < 0)
                return error;
        }
        error = dump_once(work);
    }
    if (error == -ENOENT)
        return without_diag("dump of TCP connections", error, why);
    return error ? resume_why(why, error, "dump of TCP connections") : 0;
}

static int destroy(struct work *work, char *why)
{
    for (unsigned at = 0; at < work->list.count; at += RESUME_SOCKETS_BATCH) {
        const unsigned left = work->list.count - at;
        const unsigned count = left < RESUME_SOCKETS_BATCH ? left : RESUME_SOCKETS_BATCH;
        const uint32_t sequence = work->sequence + 1;
        work->sequence += count;
        int result = send_all(work->requests,
                              resume_netlink_destroy(work->requests, &work->list.at[at], count, sequence));
        for (result = result ? result : 1; result == 1;) {
            const ssize_t size = receive(work);
            result = size < 0 ? (int)size
                              : resume_netlink_take_destroyed(work->answer, (size_t)size, sequence, count);
        }
        if (result)
            return resume_why(why, result, "SOCK_DESTROY");
    }
    return 0;
}

void resume_sockets_prepare(void)
{
    char why[RESUME_WHY_BYTES];
    if (diag_fd < 0 && open_diag(why))
        fd_close(&diag_fd);
    sockets.sequence = 1; /* its page is there, too: a clone would have to ask for one */
}

int resume_sockets_destroy(char *why)
{
    struct work *work = &sockets;
    int error = diag_fd < 0 ? open_diag(why) : 0;
    for (int pass = 0; error == 0 && diag_fd >= 0; pass++) {
        work->list.count = 0;
        work->list.more = false;
        error = dump(work, why);
        if (error || work->list.count == 0)
            break;
        if (pass == PASSES_MAX)
            error = resume_why(why, -EBUSY, "TCP connections come as fast as they are destroyed");
        else
            error = destroy(work, why);
    }
    if (error)
        fd_close(&diag_fd); /* with what it may still hold */
    return error;
}
