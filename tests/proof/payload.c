/*
 * Payloads of several fragments, agent/proto/frame.c: payload_add, from every state of an assembly under way,
 * copies no byte outside the room for the total and has never more than the total; payload_begin ends its id.
 *
 * Bounds: totals of 0 to 4 bytes and every place in them; a fragment's own total, offset and size are free,
 * up to 6 bytes of body, each size a case of its own.
 *
 * options: -eva-slevel 200 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "agent/proto/decode.c"
#include "agent/proto/frame.c"

#define TOTAL_MOST 4u
#define BODY_MOST  6u

static uint8_t room[TOTAL_MOST], body[BODY_MOST], id[PROTO_ID_MAX_BYTES + 8];

struct proto_slice proto_text(const char *text)
{
    return (struct proto_slice){(const uint8_t *)text, 0};
}

/* Whether it is the same id decides nothing here: both are gone through. */
bool proto_slice_equal(struct proto_slice a, struct proto_slice b)
{
    (void)a;
    (void)b;
    return any_bool();
}

static struct proto_message any_fragment(size_t id_size, size_t size)
{
    struct proto_message message = {.type = any_bool() ? PROTO_INVOKE : PROTO_RESPONSE};
    const uint32_t total = any_u32(0, UINT32_MAX), offset = any_u32(0, UINT32_MAX);
    const struct proto_slice name = {id, id_size}, part = {body + (BODY_MOST - size), size};
    if (message.type == PROTO_INVOKE) {
        message.u.invoke.id = name;
        message.u.invoke.total_bytes = total;
        message.u.invoke.offset_bytes = offset;
        message.u.invoke.body = part;
    } else {
        message.u.response.id = name;
        message.u.response.total_bytes = total;
        message.u.response.offset_bytes = offset;
        message.u.response.body = part;
    }
    return message;
}

static void add(uint32_t total, uint32_t have, size_t size)
{
    const char *why;
    struct payload_assembly payload = {.id = "a", .total_bytes = total, .have_bytes = have};
    const struct proto_message fragment = any_fragment(1, size);
    if (have > total)
        return;
    (void)payload_add(&payload, &fragment, room + (TOTAL_MOST - total), &why);
    //@ assert have <= payload.have_bytes <= payload.total_bytes == total;
}

static void begin(size_t id_size)
{
    const char *why;
    struct payload_assembly payload = {.total_bytes = 0};
    const struct proto_message fragment = any_fragment(id_size, 1);
    if (payload_begin(&payload, &fragment, &why) == 0) {
        //@ assert payload.id[PROTO_ID_MAX_BYTES] == 0 && payload.have_bytes == 0;
    }
}

int main(void)
{
    any_bytes(body, sizeof body);
    any_bytes(id, sizeof id);
    //@ loop unroll 100;
    for (size_t size = 0; size <= sizeof id; size++)
        begin(size);
    //@ loop unroll 20;
    for (uint32_t total = 0; total <= TOTAL_MOST; total++)
        //@ loop unroll 20;
        for (uint32_t have = 0; have <= TOTAL_MOST; have++)
            //@ loop unroll 20;
            for (size_t size = 0; size <= BODY_MOST; size++)
                add(total, have, size);
    return 0;
}
