/*
 * The encoder: proto_encode and its kin of proto.h.
 *
 * Walks a shape's rows in order, leaves out optional fields that are zero or empty, and checks every limit
 * the decoder checks: what this produces, proto_decode accepts. libcbor's low-level encoders write each head.
 */
#include <errno.h>
#include <string.h>

#include <cbor.h>

#include "agent/proto/schema.h"
#include "agent/proto/utf8.h"

struct output {
    uint8_t *data;
    size_t capacity;
    size_t at;
    bool full; /* sticks */
    bool head_only;
    size_t left_out; /* body bytes that are not in `data` */
};

/* Account for the head that libcbor wrote: 0 means that there was no room. */
static void wrote(struct output *out, size_t size)
{
    if (size == 0)
        out->full = true;
    out->at += size;
}

#define PUT(out, encoder, value)                                                                             \
    wrote(out, (out)->full ? 0 : encoder(value, (out)->data + (out)->at, (out)->capacity - (out)->at))

static void put_content(struct output *out, struct proto_slice content)
{
    if (out->full || content.size > out->capacity - out->at) {
        out->full = true;
        return;
    }
    if (content.size > 0)
        memcpy(out->data + out->at, content.data, content.size);
    out->at += content.size;
}

static bool in_limits(uint64_t value, uint64_t min, uint64_t max)
{
    return value >= min && value <= max;
}

static bool put_text(struct output *out, struct proto_slice text, uint64_t min, uint64_t max)
{
    if (!in_limits(text.size, min, max) || utf8_valid_prefix(text.data, text.size) != text.size)
        return false;
    PUT(out, cbor_encode_string_start, text.size);
    put_content(out, text);
    return true;
}

static bool put_stack(struct output *out, const struct field *field, const struct proto_failure *failure)
{
    if (!in_limits(failure->stack_count, field->min, field->max))
        return false;
    PUT(out, cbor_encode_array_start, failure->stack_count);
    for (size_t i = 0; i < failure->stack_count; i++)
        if (!put_text(out, failure->stack[i], 0, PROTO_STACK_ENTRY_MAX_BYTES))
            return false;
    return true;
}

/* Is an optional field left out? */
static bool is_absent(const struct field *field, const void *base)
{
    const void *at = (const uint8_t *)base + field->offset;
    if (!field->optional)
        return false;
    switch ((enum field_kind)field->kind) {
    case FIELD_UINT32:
        return *(const uint32_t *)at == 0;
    case FIELD_UINT64:
        return *(const uint64_t *)at == 0;
    case FIELD_BOOL:
        return !*(const bool *)at;
    case FIELD_TEXT:
    case FIELD_ID:
    case FIELD_NETWORK:
    case FIELD_BYTES:
        return ((const struct proto_slice *)at)->size == 0;
    case FIELD_FAILURE:
        return ((const struct proto_failure *)at)->type.size == 0;
    case FIELD_STACK:
        return ((const struct proto_failure *)base)->stack_count == 0;
    }
    return false;
}

static size_t count_present(const struct shape *shape, const void *base)
{
    size_t count = 0;
    for (size_t i = 0; i < shape->count; i++)
        count += !is_absent(&shape->fields[i], base);
    return count;
}

static bool put_fields(struct output *out, const struct shape *shape, const void *base);

/* False for a value outside its limits. */
static bool put_value(struct output *out, const struct field *field, const void *base)
{
    const void *at = (const uint8_t *)base + field->offset;
    const struct proto_slice *slice = at; /* for the kinds that are one */
    uint64_t number;
    switch ((enum field_kind)field->kind) {
    case FIELD_UINT32:
        number = *(const uint32_t *)at;
        PUT(out, cbor_encode_uint, number);
        return in_limits(number, field->min, field->max);
    case FIELD_UINT64:
        number = *(const uint64_t *)at;
        PUT(out, cbor_encode_uint, number);
        return in_limits(number, field->min, field->max);
    case FIELD_BOOL:
        PUT(out, cbor_encode_bool, *(const bool *)at);
        return true;
    case FIELD_TEXT:
        return put_text(out, *slice, field->min, field->max);
    case FIELD_ID:
        return put_text(out, *slice, field->min, field->max) && schema_id_valid(*slice);
    case FIELD_NETWORK:
        return put_text(out, *slice, field->min, field->max) && schema_network_valid(*slice);
    case FIELD_BYTES:
        if (!in_limits(slice->size, field->min, field->max))
            return false;
        PUT(out, cbor_encode_bytestring_start, slice->size);
        if (out->head_only && field->key == PROTO_KEY_BODY)
            out->left_out = slice->size;
        else
            put_content(out, *slice);
        return true;
    case FIELD_FAILURE: /* the one nested map; its rows hold no other, so this goes one deep */
        PUT(out, cbor_encode_map_start, count_present(&schema_failure, at));
        return put_fields(out, &schema_failure, at);
    case FIELD_STACK:
        return put_stack(out, field, base);
    }
    return false;
}

static bool put_fields(struct output *out, const struct shape *shape, const void *base)
{
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *field = &shape->fields[i];
        if (is_absent(field, base))
            continue;
        PUT(out, cbor_encode_uint, field->key);
        if (!put_value(out, field, base))
            return false;
    }
    return true;
}

static int64_t encode(const struct proto_message *message, struct output *out)
{
    const struct shape *shape = schema_of((unsigned)message->type);
    if (!shape || schema_broken_rule(message))
        return -EINVAL;
    static const uint8_t no_header[PROTO_HEADER_BYTES];
    put_content(out, (struct proto_slice){no_header, sizeof no_header});
    PUT(out, cbor_encode_map_start, 1 + count_present(shape, message));
    PUT(out, cbor_encode_uint, PROTO_KEY_TYPE);
    PUT(out, cbor_encode_uint, (unsigned)message->type);
    if (!put_fields(out, shape, message))
        return -EINVAL;
    if (out->full)
        return -ENOSPC;
    const size_t size = out->at + out->left_out - PROTO_HEADER_BYTES;
    for (unsigned i = 0; i < PROTO_HEADER_BYTES; i++)
        out->data[i] = (uint8_t)(size >> (8 * (PROTO_HEADER_BYTES - 1 - i)));
    return (int64_t)out->at;
}

int64_t proto_encode(const struct proto_message *message, uint8_t *frame, size_t capacity)
{
    struct output out = {.data = frame, .capacity = capacity};
    return encode(message, &out);
}

int64_t proto_encode_head(const struct proto_message *message, uint8_t *head, size_t capacity)
{
    struct output out = {.data = head, .capacity = capacity, .head_only = true};
    return encode(message, &out);
}

struct proto_slice proto_body(const struct proto_message *message)
{
    switch (message->type) {
    case PROTO_INVOKE:
        return message->u.invoke.body;
    case PROTO_RESPONSE:
        return message->u.response.body;
    case PROTO_LOG:
        return message->u.log.body;
    case PROTO_SECRET:
        return message->u.secret.body;
    case PROTO_FACT:
        return message->u.fact.body;
    case PROTO_HELLO:
    case PROTO_INIT:
    case PROTO_ERROR:
    case PROTO_CHECKPOINT:
    case PROTO_QUIESCED:
    case PROTO_RESUME:
    case PROTO_RESUMED:
    case PROTO_SHUTDOWN:
    case PROTO_STEP:
    case PROTO_COLLECT:
    case PROTO_COLLECTED:
        break;
    }
    return (struct proto_slice){0};
}

struct proto_slice proto_text(const char *text)
{
    return (struct proto_slice){(const uint8_t *)text, strlen(text)};
}

bool proto_slice_equal(struct proto_slice a, struct proto_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
