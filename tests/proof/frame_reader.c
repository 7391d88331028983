/*
 * The frame reader, agent/proto/frame.c, and proto_body_size: from every state that keeps its invariant
 * (start <= end <= the size of its buffer), with any bytes in it and any count reported, frame_reader_space,
 * frame_reader_fill and frame_reader_next keep the invariant, give room and bodies within the buffer, and
 * no body of a size outside 1..65532.
 *
 * Bounds: the header and the count are free. Of the buffer's 65536 places, start and end take those up to 4
 * bytes from either end and up to 2 from its middle.
 *
 * options: -eva-slevel 300 -eva-precision 2
 */
#include "tests/proof/bounds.h"

#include "agent/proto/frame.c"
/* proto_body_size; the decoder behind it needs libcbor and is not gone through. */
#include "agent/proto/decode.c"

#define BUFFER_BYTES PROTO_FRAME_MAX_BYTES
#define NEAR_BYTES   2

static struct frame_reader reader;

static void check(void)
{
    //@ assert reader.start <= reader.end <= BUFFER_BYTES;
}

static void from_state(size_t start, size_t end)
{
    struct proto_slice body;
    size_t room;
    if (start > end)
        return;
    frame_reader_init(&reader);
    reader.start = start;
    reader.end = end;
    if (frame_reader_next(&reader, &body) == 1) {
        //@ assert 1 <= body.size <= BUFFER_BYTES - PROTO_HEADER_BYTES;
        //@ assert body.data + body.size <= &reader.data[0] + end;
        check();
    }

    reader.start = start;
    reader.end = end;
    reader.failed = false;
    uint8_t *space = frame_reader_space(&reader, &room);
    //@ assert room == 0 || \valid(space + (0 .. room - 1));
    check();

    reader.start = start;
    reader.end = end;
    frame_reader_fill(&reader, any_u64(0, UINT64_MAX));
    check();
}

int main(void)
{
    static const size_t about[] = {NEAR_BYTES, BUFFER_BYTES / 2, BUFFER_BYTES - NEAR_BYTES};
    any_bytes(reader.data, sizeof reader.data);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = i; j < 3; j++)
            for (unsigned k = 0; k <= 2 * NEAR_BYTES; k++)
                for (unsigned l = 0; l <= 2 * NEAR_BYTES; l++)
                    from_state(about[i] - NEAR_BYTES + k, about[j] - NEAR_BYTES + l);
    return 0;
}
