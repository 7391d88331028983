/* See frame.h. */
#include "agent/proto/frame.h"

#include <errno.h>
#include <string.h>

void frame_reader_init(struct frame_reader *reader)
{
    reader->start = 0;
    reader->end = 0;
    reader->failed = false; /* `data` needs no clearing: only what was filled in is read */
}

uint8_t *frame_reader_space(struct frame_reader *reader, size_t *room)
{
    /* Move the tail only when there is one and the room behind it is small: a reader that keeps up never
     * moves a byte. A frame always fits once it starts at the front. */
    if (reader->start == reader->end) {
        reader->start = 0;
        reader->end = 0;
    } else if (reader->start > 0 && sizeof reader->data - reader->end < sizeof reader->data / 2) {
        memmove(reader->data, reader->data + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
    }
    *room = sizeof reader->data - reader->end;
    return reader->data + reader->end;
}

void frame_reader_fill(struct frame_reader *reader, size_t count)
{
    if (count > sizeof reader->data - reader->end)
        reader->failed = true; /* a caller that lies about its read; nothing after it can be trusted */
    else
        reader->end += count;
}

int frame_reader_next(struct frame_reader *reader, struct proto_slice *body)
{
    *body = (struct proto_slice){0};
    if (reader->failed)
        return -EMSGSIZE;
    const size_t have = reader->end - reader->start;
    if (have < PROTO_HEADER_BYTES)
        return 0;
    const int64_t size = proto_body_size(reader->data + reader->start);
    if (size < 0) {
        reader->failed = true;
        return -EMSGSIZE;
    }
    if (have - PROTO_HEADER_BYTES < (size_t)size)
        return 0;
    *body = (struct proto_slice){reader->data + reader->start + PROTO_HEADER_BYTES, (size_t)size};
    reader->start += PROTO_HEADER_BYTES + (size_t)size;
    return 1;
}

bool frame_reader_idle(const struct frame_reader *reader)
{
    return !reader->failed && reader->start == reader->end;
}

/* What INVOKE and RESPONSE have in common. */
struct part {
    struct proto_slice id;
    uint32_t total_bytes;
    uint32_t offset_bytes;
    struct proto_slice body;
};

static bool part_of(const struct proto_message *m, struct part *part)
{
    if (m->type == PROTO_INVOKE)
        *part = (struct part){m->u.invoke.id, m->u.invoke.total_bytes, m->u.invoke.offset_bytes,
                              m->u.invoke.body};
    else if (m->type == PROTO_RESPONSE)
        *part = (struct part){m->u.response.id, m->u.response.total_bytes, m->u.response.offset_bytes,
                              m->u.response.body};
    else
        return false;
    return true;
}

static int refuse(const char **why, const char *text)
{
    *why = text;
    return -EPROTO;
}

void payload_reset(struct payload_assembly *payload)
{
    *payload = (struct payload_assembly){0};
}

int payload_begin(struct payload_assembly *payload, const struct proto_message *fragment, const char **why)
{
    struct part part;
    if (!part_of(fragment, &part))
        return refuse(why, "type: not a fragment of a payload");
    if (payload->id[0] != '\0')
        return refuse(why, "id: a fragment of the payload under way is expected, not a new one");
    if (part.id.size < 1 || part.id.size > PROTO_ID_MAX_BYTES)
        return refuse(why, "id: outside its limits");
    if (part.offset_bytes != 0)
        return refuse(why, "offset_bytes: the first fragment starts at 0");
    payload_reset(payload);
    memcpy(payload->id, part.id.data, part.id.size);
    payload->total_bytes = part.total_bytes;
    return 0;
}

int payload_add(struct payload_assembly *payload, const struct proto_message *fragment, void *into,
                const char **why)
{
    struct part part;
    if (!part_of(fragment, &part))
        return refuse(why, "type: not a fragment of a payload");
    if (payload->id[0] == '\0')
        return refuse(why, "id: no payload under way");
    if (!proto_slice_equal(part.id, proto_text(payload->id)))
        return refuse(why, "id: not that of the payload under way");
    if (part.total_bytes != payload->total_bytes)
        return refuse(why, "total_bytes: not the same in every fragment");
    if (part.offset_bytes != payload->have_bytes)
        return refuse(why, "offset_bytes: a fragment is missing, repeated or out of order");
    if (part.body.size > payload->total_bytes - payload->have_bytes)
        return refuse(why, "body: goes past total_bytes");
    if (into && part.body.size > 0)
        memcpy((uint8_t *)into + part.offset_bytes, part.body.data, part.body.size);
    payload->have_bytes += (uint32_t)part.body.size;
    return payload->have_bytes == payload->total_bytes ? PAYLOAD_COMPLETE : PAYLOAD_MORE;
}

uint32_t payload_fragment(struct proto_message *fragment, const void *data, uint32_t size, uint32_t offset)
{
    const uint32_t left = size - offset;
    const uint32_t count = left < PROTO_FRAGMENT_MAX_BYTES ? left : PROTO_FRAGMENT_MAX_BYTES;
    const struct proto_slice body = {(const uint8_t *)data + offset, count};
    if (fragment->type == PROTO_INVOKE) {
        if (offset > 0)
            fragment->u.invoke.trace = (struct proto_slice){0};
        fragment->u.invoke.total_bytes = size;
        fragment->u.invoke.offset_bytes = offset;
        fragment->u.invoke.body = body;
    } else {
        fragment->u.response.total_bytes = size;
        fragment->u.response.offset_bytes = offset;
        fragment->u.response.body = body;
    }
    return count;
}
