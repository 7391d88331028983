/*
 * What clients sent over TCP, from a file of tcpdump's: the classic format (pcap-savefile(5)) with Ethernet
 * or "cooked" frames, IPv4 or IPv6 without extension headers.
 */
#ifndef TESTS_PEERS_CAPTURE_H
#define TESTS_PEERS_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAPTURE_STREAM_MAX (1u << 20) /* of each stream, what is kept */

struct capture_flow {
    uint8_t addresses[32]; /* source, destination; of IPv4 four bytes each, and zeros */
    uint16_t source_port, port;
    bool synchronised; /* its SYN was seen: the stream is whole from its first byte */
    bool gap;          /* it is not, from here on: a segment is missing */
    uint32_t next;     /* sequence number */
    uint8_t *stream;
    size_t size;
};

struct capture {
    struct capture_flow *flows;
    size_t count;
    uint64_t frames;
};

/* The streams to `port`. 0 or -errno, -EINVAL for a file of another kind. */
int capture_read(struct capture *capture, const char *path, uint16_t port);

#endif
