/*
 * Fuzz target: bytes as a stream from a peer, through frame reader, decoder and payload assembly.
 *
 * Invariants beside the sanitizers': a refusal always says why; what decodes encodes to the very same bytes
 * (but for a hello of another version, of which only the version is kept), in one part and in two; a body
 * ends its frame; an assembly never goes past its total. The seeds in corpus/proto are the samples of
 * tests/unit/proto, written by proto-seeds.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void check_message(struct proto_slice body, struct payload_assembly *assembly)
{
    struct proto_message message;
    const char *why = NULL;
    if (proto_decode(body.data, body.size, &message, &why) < 0) {
        CHECK(why && strlen(why) > 0);
        return;
    }
    CHECK(!why);
    if (message.type == PROTO_HELLO && message.u.hello.version != PROTO_VERSION)
        return;
    static uint8_t again[PROTO_FRAME_MAX_BYTES];
    CHECK(proto_encode(&message, again, sizeof again) == (int64_t)(PROTO_HEADER_BYTES + body.size));
    CHECK(proto_body_size(again) == (int64_t)body.size);
    CHECK(memcmp(again + PROTO_HEADER_BYTES, body.data, body.size) == 0);
    const struct proto_slice part = proto_body(&message);
    CHECK(part.size == 0 || part.data + part.size == body.data + body.size); /* a body ends its frame */
    const size_t head_size = PROTO_HEADER_BYTES + body.size - part.size;
    CHECK(proto_encode_head(&message, again, sizeof again) == (int64_t)head_size);
    CHECK(memcmp(again + PROTO_HEADER_BYTES, body.data, body.size - part.size) == 0);
    if (message.type != PROTO_INVOKE && message.type != PROTO_RESPONSE)
        return;
    if (assembly->id[0] == '\0' && payload_begin(assembly, &message, &why) < 0)
        return;
    static uint8_t payload[PROTO_PAYLOAD_MAX_BYTES];
    const int step = payload_add(assembly, &message, payload, &why);
    CHECK(assembly->have_bytes <= assembly->total_bytes);
    if (step == PAYLOAD_COMPLETE)
        payload_reset(assembly);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frame_reader reader;
    struct payload_assembly assembly;
    frame_reader_init(&reader);
    payload_reset(&assembly);
    /* Pieces of differing sizes, so that frames straddle them. */
    for (size_t at = 0, piece = 1; at < size; piece = piece * 3 % 1021 + 1) {
        size_t room;
        uint8_t *space = frame_reader_space(&reader, &room);
        CHECK(room > 0 || reader.failed);
        size_t n = piece < room ? piece : room;
        n = n < size - at ? n : size - at;
        if (n == 0)
            break;
        memcpy(space, data + at, n);
        frame_reader_fill(&reader, n);
        at += n;
        struct proto_slice body;
        while (frame_reader_next(&reader, &body) == 1)
            check_message(body, &assembly);
    }
    return 0;
}
