/*
 * Streams are put together as segments come in order; one that was sent again is cut to what is new, one that
 * is ahead ends the stream (the flag `gap`): a capture beside the receiver sees few of either.
 */
#include "tests/peers/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC_US       0xa1b2c3d4u
#define MAGIC_NS       0xa1b23c4du
#define LINK_ETHERNET  1
#define LINK_COOKED    113
#define LINK_COOKED_V2 276
#define FRAME_MAX      (256u << 10)
#define TCP            6
#define TCP_SYN        2

static uint16_t be16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static uint32_t be32(const uint8_t *bytes)
{
    return (uint32_t)be16(bytes) << 16 | be16(bytes + 2);
}

static struct capture_flow *find_flow(const struct capture *capture, const struct capture_flow *like)
{
    /* The newest first: a pair of ports may come again. */
    for (size_t i = capture->count; i > 0; i--) {
        struct capture_flow *flow = &capture->flows[i - 1];
        if (flow->source_port == like->source_port && flow->port == like->port &&
            memcmp(flow->addresses, like->addresses, sizeof flow->addresses) == 0)
            return flow;
    }
    return NULL;
}

static struct capture_flow *add_flow(struct capture *capture, const struct capture_flow *like)
{
    if ((capture->count & (capture->count - 1)) == 0) {
        struct capture_flow *more =
            realloc(capture->flows, (capture->count ? 2 * capture->count : 1) * sizeof *more);
        if (!more)
            return NULL;
        capture->flows = more;
    }
    capture->flows[capture->count] = *like;
    return &capture->flows[capture->count++];
}

static int append(struct capture_flow *flow, uint32_t sequence, const uint8_t *data, size_t size)
{
    const int32_t behind = (int32_t)(flow->next - sequence);
    if (flow->gap || size == 0)
        return 0;
    if (behind < 0 || !flow->synchronised) {
        flow->gap = true;
        return 0;
    }
    if ((size_t)behind >= size || flow->size == CAPTURE_STREAM_MAX)
        return 0;
    data += behind;
    size -= (size_t)behind;
    flow->next += (uint32_t)size;
    if (size > CAPTURE_STREAM_MAX - flow->size)
        size = CAPTURE_STREAM_MAX - flow->size;
    uint8_t *more = realloc(flow->stream, flow->size + size);
    if (!more)
        return -ENOMEM;
    memcpy(more + flow->size, data, size);
    flow->stream = more;
    flow->size += size;
    return 0;
}

static int take_segment(struct capture *capture, struct capture_flow *like, const uint8_t *tcp, size_t size,
                        uint16_t port)
{
    if (size < 20)
        return 0;
    const size_t header = (size_t)(tcp[12] >> 4) * 4;
    like->source_port = be16(tcp);
    like->port = be16(tcp + 2);
    if (like->port != port || header < 20 || header > size)
        return 0;
    const uint32_t sequence = be32(tcp + 4);
    const bool begins = tcp[13] & TCP_SYN;
    struct capture_flow *flow = find_flow(capture, like);
    if (flow && begins && flow->size == 0 && flow->next == sequence + 1)
        return 0; /* its SYN again */
    if (begins || !flow)
        flow = add_flow(capture, like);
    if (!flow)
        return -ENOMEM;
    if (begins) {
        flow->synchronised = true;
        flow->next = sequence + 1;
    }
    return append(flow, sequence + begins, tcp + header, size - header);
}

static int take_packet(struct capture *capture, const uint8_t *packet, size_t size, uint16_t port)
{
    struct capture_flow like = {0};
    if (size >= 20 && packet[0] >> 4 == 4) {
        const size_t header = (size_t)(packet[0] & 15) * 4, whole = be16(packet + 2);
        if (packet[9] != TCP || header < 20 || whole < header || size < whole)
            return 0;
        memcpy(like.addresses, packet + 12, 8);
        return take_segment(capture, &like, packet + header, whole - header, port);
    }
    if (size >= 40 && packet[0] >> 4 == 6) {
        const size_t payload = be16(packet + 4);
        if (packet[6] != TCP || size < 40 + payload)
            return 0;
        memcpy(like.addresses, packet + 8, 32);
        return take_segment(capture, &like, packet + 40, payload, port);
    }
    return 0;
}

int capture_read(struct capture *capture, const char *path, uint16_t port)
{
    static uint8_t frame[FRAME_MAX];
    struct {
        uint32_t magic;
        uint16_t version[2];
        uint32_t zone, accuracy, length, link;
    } head;
    struct {
        uint32_t seconds, fraction, captured, length;
    } each;
    int error = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    *capture = (struct capture){0};
    if (fread(&head, sizeof head, 1, file) != 1 || (head.magic != MAGIC_US && head.magic != MAGIC_NS))
        error = -EINVAL;
    const size_t skip = head.link == LINK_ETHERNET    ? 14
                        : head.link == LINK_COOKED    ? 16
                        : head.link == LINK_COOKED_V2 ? 20
                                                      : 0;
    if (!error && skip == 0)
        error = -EINVAL;
    while (!error && fread(&each, sizeof each, 1, file) == 1) {
        if (each.captured > sizeof frame || fread(frame, 1, each.captured, file) != each.captured)
            break; /* the last one, cut short when the capture was ended */
        capture->frames++;
        if (each.captured > skip)
            error = take_packet(capture, frame + skip, each.captured - skip, port);
    }
    (void)fclose(file);
    return error;
}
