/*
 * The other end of a loopback TCP connection of this machine, as the kernel knows it (sock_diag(7)): whose it
 * is, and how much lies there unread. IPv4 and IPv6. So the agent serves the function's user on its ports, and
 * nobody else in the guest.
 */
#ifndef AGENT_LOOPBACK_H
#define AGENT_LOOPBACK_H

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

/* Does the other end belong to `uid`? One that was closed meanwhile belongs to nobody and cannot be asked any
 * more; what it sent before still counts. 1, 0 or -errno. */
int loopback_is_of(int fd, uid_t uid);

#endif
