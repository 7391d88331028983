/*
 * rtnetlink's messages (linux/rtnetlink.h), bytes in, bytes out: operations of a plan as one batch of
 * requests, and the kernel's answers taken apart.
 *
 * The kernel takes the requests of a batch one after the other within the call that sends them. Each that
 * fails is answered; of those that go well only the last, so that a batch costs one answer.
 */
#ifndef AGENT_NET_MESSAGE_H
#define AGENT_NET_MESSAGE_H

#include "agent/net/plan.h"

#define NET_REQUEST_BYTES 72u /* the longest: a new link, 68 */
#define NET_BATCH_BYTES   (NET_PLAN_OPS * NET_REQUEST_BYTES)

/*
 * Write the plan's requests, numbered from `sequence` on; `index[n]` is the kernel's number of interface n.
 * Their size; -ENOSPC. A plan of nothing is 0 bytes.
 */
int net_message_batch(uint8_t *out, size_t capacity, const struct net_plan *plan,
                      const int index[NETWORK_INTERFACES_MAX], uint32_t sequence);

struct net_answer {
    uint32_t sequence;
    int error; /* 0, or -errno */
};

/* The next answer in a datagram, from *at on, which moves past it. 1: there is one; 0: no more; -EBADMSG. */
int net_message_answer(struct net_answer *answer, const uint8_t *data, size_t size, size_t *at);

/* To remove what is gone already is done: what the kernel says then. */
bool net_message_is_done(const struct net_op *op, int error);

#endif
