/*
 * Two small state machines that every speaker of the protocol needs, pure like the codec.
 *
 * frame_reader: a byte stream in, whole frame bodies out. The caller reads from its descriptor straight into
 * frame_reader_space() and reports the count; frame_reader_next() then gives bodies, in place, until it
 * reports that more bytes are needed. No copy but the move of an incomplete tail to the front.
 *
 *     ssize_t n = read(fd, frame_reader_space(&r, &room), room);   room is never 0 after next() gave 0
 *     frame_reader_fill(&r, (size_t)n);
 *     while ((got = frame_reader_next(&r, &body)) > 0)
 *         proto_decode(body.data, body.size, &message, &why);
 *
 * payload_assembly: fragments in, one payload out. It checks id, total and order; the bytes land in memory
 * the caller gives once the first fragment has told the total. Errors stick until payload_reset.
 */
#ifndef AGENT_PROTO_FRAME_H
#define AGENT_PROTO_FRAME_H

#include "agent/proto/proto.h"

struct frame_reader {
    size_t start; /* first byte not yet given out */
    size_t end;   /* past the last byte filled in */
    bool failed;
    uint8_t data[PROTO_FRAME_MAX_BYTES];
};

void frame_reader_init(struct frame_reader *reader);

/* Where to put the next bytes, and how many fit. Bodies given out before become invalid. */
uint8_t *frame_reader_space(struct frame_reader *reader, size_t *room);
void frame_reader_fill(struct frame_reader *reader, size_t count);

/* 1 with a body (valid until frame_reader_space), 0 when it needs more bytes, -EMSGSIZE for a header with an
 * impossible length: there is no way to find the next frame, so it sticks. */
int frame_reader_next(struct frame_reader *reader, struct proto_slice *body);

/* True when the stream may end here: no part of a frame is waiting. */
bool frame_reader_idle(const struct frame_reader *reader);

struct payload_assembly {
    char id[PROTO_ID_MAX_BYTES + 1]; /* NUL-terminated; empty: none under way */
    uint32_t total_bytes;
    uint32_t have_bytes;
};

enum payload_step {
    PAYLOAD_MORE = 0,
    PAYLOAD_COMPLETE = 1,
};

void payload_reset(struct payload_assembly *payload);

/* The first fragment of an INVOKE or RESPONSE: sets id and total; offset must be 0. 0 or -EPROTO with *why.
 * Then give the same fragment to payload_add. */
int payload_begin(struct payload_assembly *payload, const struct proto_message *fragment, const char **why);

/* Check a fragment against what came before and, when `into` is not NULL (total_bytes of room), copy its body
 * to its place. enum payload_step, or -EPROTO with *why a static text. */
int payload_add(struct payload_assembly *payload, const struct proto_message *fragment, void *into,
                const char **why);

/* The inverse: fill `fragment` (INVOKE or RESPONSE, id, trace, timeout set by the caller) with the fragment
 * of `data` at `offset`. Bytes of payload in it; offset + that == size ends the payload. */
uint32_t payload_fragment(struct proto_message *fragment, const void *data, uint32_t size, uint32_t offset);

#endif
