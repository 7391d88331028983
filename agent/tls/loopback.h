/*
 * The other end of a loopback TCP connection of this machine, as the kernel knows it (sock_diag(7)): whose it
 * is, and how much lies there unread. IPv4 and IPv6.
 */
#ifndef AGENT_TLS_LOOPBACK_H
#define AGENT_TLS_LOOPBACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct loopback_end {
    bool closed; /* it belongs to nobody any more */
    uid_t owner;
    uint32_t unread_bytes;
};

/* 0 or -errno; -ENOENT: there is no such socket any more. */
int loopback_ask(int fd, struct loopback_end *end);

#endif
