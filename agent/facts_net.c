/*
 * What TCP draws in this guest: sequence numbers and source ports of connections made for this, over the
 * loopback, from the agent to itself. TCP_REPAIR shows the number a connection started from.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/facts_parts.h"
#include "agent/resume/parts.h"

/* The number of the SYN: one less than what comes next, as nothing was sent. */
static int initial_sequence(int fd, uint32_t *sequence)
{
    int value = TCP_REPAIR_ON;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &value, sizeof value) < 0)
        return -errno;
    socklen_t size = sizeof *sequence;
    value = TCP_SEND_QUEUE;
    int error = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &value, sizeof value) < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, sequence, &size) < 0)
        error = -errno;
    value = TCP_REPAIR_OFF_NO_WP;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &value, sizeof value) < 0 && error == 0)
        error = -errno;
    (*sequence)--;
    return error;
}

static int connect_once(const struct sockaddr_in *to, struct facts_tcp *facts, size_t at, char *why)
{
    static const struct linger reset = {.l_onoff = 1}; /* leave no TIME_WAIT behind */
    struct sockaddr_in own = {0};
    socklen_t size = sizeof own;
    int error = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0 ||
        connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &size) < 0) {
        error = resume_why(why, -errno, "connect over the loopback");
    } else {
        facts->ports[at] = ntohs(own.sin_port);
        error = initial_sequence(fd, &facts->sequences[at]);
        if (error)
            (void)resume_why(why, error, "TCP_REPAIR");
    }
    fd_close(&fd);
    return error;
}

int facts_tcp_draw(struct facts_tcp *facts, char *why)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int error = 0;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, FACTS_CONNECTIONS) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        error = resume_why(why, -errno, "listen on the loopback");
    for (size_t i = 0; i < FACTS_CONNECTIONS && error == 0; i++)
        error = connect_once(&address, facts, i, why);
    fd_close(&listener);
    return error;
}
