/* What the files of agent/net/ that act offer to net.c. Texts of errors go to `why` (RESUME_WHY_BYTES). */
#ifndef AGENT_NET_PARTS_H
#define AGENT_NET_PARTS_H

#include "agent/net/net.h"
#include "agent/net/plan.h"

/* Write the text and ": strerror(error)", and give the error back. */
int net_why(char *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- kernel.c: the interfaces themselves */

/*
 * Both sockets stay open, in a snapshot too: to close a packet socket takes an RCU grace period, which a
 * clone would wait for.
 */
struct net_kernel {
    int route_fd;  /* -1: not open. rtnetlink */
    int packet_fd; /* frames out, none in */
    uint32_t sequence;
    unsigned count; /* interfaces that were found */
    int index[NETWORK_INTERFACES_MAX];
    uint8_t mac[NETWORK_INTERFACES_MAX][NETWORK_MAC_BYTES]; /* as it was when found */
};

int net_kernel_open(struct net_kernel *kernel, char *why);
/* Look for eth0 ... until there are `count`, and stop the kernel's own configuration of each. */
int net_kernel_find(struct net_kernel *kernel, unsigned count, char *why);
/* All requests in one go, all answers checked; the first that failed is told. */
int net_kernel_apply(struct net_kernel *kernel, const struct net_plan *plan, char *why);
/* Every interface of the network says who it is. MACs are known. */
int net_kernel_announce(const struct net_kernel *kernel, const struct network *network, char *why);

/* ---- files.c */

/* NET_STATE_PATH's text, into PROTO_NETWORK_MAX_BYTES: its size, -ENOENT, -errno with why. */
int net_state_load(char *text, char *why);
int net_state_save(const struct network *network, char *why);

/* NET_RESOLV_PATH with the network's DNS servers, mounted over /etc/resolv.conf when there are any. */
int net_resolv_write(const struct network *network, char *why);
/* The text of it. Its size; `capacity` NET_RESOLV_BYTES is always enough. */
#define NET_RESOLV_BYTES (NETWORK_INTERFACES_MAX * NETWORK_DNS_MAX * 64u + 1u)
size_t net_resolv_text(const struct network *network, char *text, size_t capacity);

#endif
