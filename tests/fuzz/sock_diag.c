/*
 * libFuzzer target: the kernel's answers to sock_diag, which tell the sockets step what to destroy. Any bytes,
 * as datagrams of the dump's answer and then as those of the batch's.
 *
 * What is checked beside memory safety: what is understood is one of the three words, or an errno; the list
 * holds no loopback connection and no other family; requests made from it have their sizes and numbers.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/resume/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct resume_socket_list list;

static void check_word(int word)
{
    if (word > 1 || word <= -4096)
        abort();
}

static void check_list(void)
{
    static uint8_t out[RESUME_SOCKETS_BATCH * RESUME_DESTROY_BYTES];
    if (list.count > RESUME_SOCKETS_PASS)
        abort();
    for (unsigned i = 0; i < list.count; i++) {
        struct inet_diag_sockid id;
        memcpy(&id, list.at[i].id, sizeof id);
        if (list.at[i].family != AF_INET && list.at[i].family != AF_INET6)
            abort();
        if (resume_socket_is_loopback(list.at[i].family, (const uint8_t *)id.idiag_src,
                                      (const uint8_t *)id.idiag_dst))
            abort();
    }
    const unsigned batch = list.count < RESUME_SOCKETS_BATCH ? list.count : RESUME_SOCKETS_BATCH;
    if (resume_netlink_destroy(out, list.at, batch, 7) != (size_t)batch * RESUME_DESTROY_BYTES)
        abort();
    for (unsigned i = 0; i < batch; i++) {
        struct nlmsghdr header;
        memcpy(&header, out + (size_t)i * RESUME_DESTROY_BYTES, sizeof header);
        if (header.nlmsg_len != RESUME_DESTROY_BYTES || header.nlmsg_seq != 7 + i ||
            !!(header.nlmsg_flags & NLM_F_ACK) != (i + 1 == batch))
            abort();
    }
}

/* The first byte: the sequence number that is waited for. The second: where the first datagram ends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    const uint32_t sequence = data[0];
    const uint8_t *bytes = data + 2;
    const size_t left = size - 2, first = (size_t)data[1] * 16 < left ? (size_t)data[1] * 16 : left;
    list.count = 0;
    list.more = false;
    int word = resume_netlink_take_dump(&list, bytes, first, sequence);
    check_word(word);
    if (word == 1)
        check_word(resume_netlink_take_dump(&list, bytes + first, left - first, sequence));
    check_list();
    check_word(resume_netlink_take_destroyed(bytes, left, sequence, 1 + data[1]));
    return 0;
}
