/*
 * The guest's network interfaces, set through rtnetlink: at the agent's start with what init hands on, and in
 * each clone by the step "network" of its resume (PROTOCOL.md), with the function frozen and the original's
 * connections destroyed.
 *
 * What is set: MAC, MTU, addresses, routes, link up; /etc/resolv.conf; nothing is left to the kernel's own
 * autoconfiguration (no router advertisements are taken, a link-local address is made from the MAC and set
 * as the others are, none is probed for duplicates first: the host gives out addresses). Then each
 * interface announces its addresses: a gratuitous ARP, an unsolicited neighbour advertisement. In a clone
 * these are the first frames that the host lets through (hostvmm/device/virtio/net.h).
 *
 * A change is the difference between two networks, sent in one batch and each message's answer checked.
 * What is set now is kept in NET_STATE_PATH too: an agent that is started again in a clone must not go
 * back to what the original booted with.
 */
#ifndef AGENT_NET_NET_H
#define AGENT_NET_NET_H

#include <stdbool.h>

#include "agent/proto/network.h"
#include "agent/resume.h"

#define NET_STATE_PATH  "/run/network"
#define NET_RESOLV_PATH "/run/resolv.conf" /* mounted over /etc/resolv.conf where the image has one */

/* At the agent's start, in a guest. `text` is init's (NULL: none). An interface that is told nothing is left
 * alone. 0, or -errno with `why` (RESUME_WHY_BYTES): logged by the caller, who goes on. */
int net_begin(const char *text, char *why);

/* In a clone, or the original that goes on: `text` (`size` bytes) is what the host says now; empty: announce
 * again what there is. All or an error: the clone is given up. */
int net_renew(const char *text, size_t size, char *why);

/* What is set now; of count 0 before net_begin. Read by the resolver. */
const struct network *net_current(void);

#endif
