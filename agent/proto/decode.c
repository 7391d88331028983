/*
 * The decoder: proto_decode and proto_body_size of proto.h.
 *
 * libcbor's stream decoder gives one item a call; next_item() pulls it and classifies it. decode_map() then
 * walks a shape's rows and the map's keys side by side: both ascend, so a required row that a key has passed
 * is missing, and a key that meets no row is unknown. Nothing is allocated, and nothing is kept of a frame
 * but slices of it. RFC 8949.
 */
#include <errno.h>

#include <cbor.h>

#include "agent/proto/schema.h"
#include "agent/proto/utf8.h"

enum item_kind {
    ITEM_UINT,
    ITEM_BYTES,
    ITEM_TEXT,
    ITEM_ARRAY,
    ITEM_MAP,
    ITEM_BOOL,
    ITEM_INDEFINITE,
    ITEM_OTHER, /* negative, tag, float, null, undefined, break */
};

struct item {
    enum item_kind kind;
    uint64_t value;      /* integer, bool, length in bytes, number of entries */
    const uint8_t *data; /* of text and bytes */
};

struct input {
    const uint8_t *at;
    size_t left;
};

static void set(void *context, enum item_kind kind, uint64_t value, const uint8_t *data)
{
    *(struct item *)context = (struct item){.kind = kind, .value = value, .data = data};
}

static void on_uint8(void *context, uint8_t value)
{
    set(context, ITEM_UINT, value, NULL);
}
static void on_uint16(void *context, uint16_t value)
{
    set(context, ITEM_UINT, value, NULL);
}
static void on_uint32(void *context, uint32_t value)
{
    set(context, ITEM_UINT, value, NULL);
}
static void on_uint64(void *context, uint64_t value)
{
    set(context, ITEM_UINT, value, NULL);
}
static void on_bytes(void *context, cbor_data data, uint64_t size)
{
    set(context, ITEM_BYTES, size, data);
}
static void on_text(void *context, cbor_data data, uint64_t size)
{
    set(context, ITEM_TEXT, size, data);
}
static void on_array(void *context, uint64_t count)
{
    set(context, ITEM_ARRAY, count, NULL);
}
static void on_map(void *context, uint64_t count)
{
    set(context, ITEM_MAP, count, NULL);
}
static void on_bool(void *context, bool value)
{
    set(context, ITEM_BOOL, value, NULL);
}
static void on_indefinite(void *context)
{
    set(context, ITEM_INDEFINITE, 0, NULL);
}
/* The rest: next_item() sets ITEM_OTHER beforehand. */
static void on_other8(void *context, uint8_t value)
{
    (void)context, (void)value;
}
static void on_other16(void *context, uint16_t value)
{
    (void)context, (void)value;
}
static void on_other32(void *context, uint32_t value)
{
    (void)context, (void)value;
}
static void on_other64(void *context, uint64_t value)
{
    (void)context, (void)value;
}
static void on_float(void *context, float value)
{
    (void)context, (void)value;
}
static void on_double(void *context, double value)
{
    (void)context, (void)value;
}
static void on_other(void *context)
{
    (void)context;
}

static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8,
    .uint16 = on_uint16,
    .uint32 = on_uint32,
    .uint64 = on_uint64,
    .negint8 = on_other8,
    .negint16 = on_other16,
    .negint32 = on_other32,
    .negint64 = on_other64,
    .byte_string_start = on_indefinite,
    .byte_string = on_bytes,
    .string = on_text,
    .string_start = on_indefinite,
    .indef_array_start = on_indefinite,
    .array_start = on_array,
    .indef_map_start = on_indefinite,
    .map_start = on_map,
    .tag = on_other64,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_other,
    .null = on_other,
    .boolean = on_bool,
    .indef_break = on_other,
};

/* Bytes of an item's head in its shortest form. */
static size_t shortest_head(uint64_t value)
{
    return value < 24 ? 1 : value <= UINT8_MAX ? 2 : value <= UINT16_MAX ? 3 : value <= UINT32_MAX ? 5 : 9;
}

/* The next item. NULL, or from `why` what is wrong with it. */
static const char *next_item(struct input *in, struct item *item, const char *const why[FAULT_COUNT])
{
    *item = (struct item){.kind = ITEM_OTHER};
    if (in->left == 0)
        return why[FAULT_TRUNCATED];
    struct cbor_decoder_result result = cbor_stream_decode(in->at, in->left, &callbacks, item);
    if (result.status == CBOR_DECODER_NEDATA)
        return why[FAULT_TRUNCATED];
    if (result.status != CBOR_DECODER_FINISHED)
        return why[FAULT_MALFORMED];
    in->at += result.read;
    in->left -= result.read;
    if (item->kind == ITEM_INDEFINITE)
        return why[FAULT_INDEFINITE];
    if (item->kind == ITEM_OTHER || item->kind == ITEM_BOOL)
        return NULL;
    size_t content = item->kind == ITEM_TEXT || item->kind == ITEM_BYTES ? (size_t)item->value : 0;
    return result.read - content == shortest_head(item->value) ? NULL : why[FAULT_LONG_FORM];
}

static const char *expect(struct input *in, struct item *item, enum item_kind kind, uint64_t min,
                          uint64_t max, const char *const why[FAULT_COUNT])
{
    const char *fault = next_item(in, item, why);
    if (fault)
        return fault;
    if (item->kind != kind)
        return why[FAULT_KIND];
    return item->value < min || item->value > max ? why[FAULT_LIMITS] : NULL;
}

static const char *decode_text(struct input *in, struct proto_slice *text, uint64_t min, uint64_t max,
                               const char *const why[FAULT_COUNT])
{
    struct item item;
    const char *fault = expect(in, &item, ITEM_TEXT, min, max, why);
    if (fault)
        return fault;
    *text = (struct proto_slice){item.data, (size_t)item.value};
    return utf8_valid_prefix(text->data, text->size) == text->size ? NULL : why[FAULT_TEXT];
}

static const char *decode_stack(struct input *in, const struct field *field, struct proto_failure *failure)
{
    struct item item;
    const char *fault = expect(in, &item, ITEM_ARRAY, field->min, field->max, field->why);
    const size_t count = (size_t)item.value;
    for (size_t i = 0; !fault && i < count; i++)
        fault = decode_text(in, &failure->stack[i], 0, PROTO_STACK_ENTRY_MAX_BYTES, schema_why_stack_entry);
    failure->stack_count = fault ? 0 : count;
    return fault;
}

static const char *decode_fields(struct input *in, uint64_t count, uint64_t lowest_key,
                                 const struct shape *shape, void *base);

/* `base` is the struct that the field's offset counts from. */
static const char *decode_value(struct input *in, const struct field *field, void *base)
{
    void *at = (uint8_t *)base + field->offset;
    struct item item;
    const char *fault = NULL;
    switch ((enum field_kind)field->kind) {
    case FIELD_UINT32:
        fault = expect(in, &item, ITEM_UINT, field->min, field->max, field->why);
        if (!fault)
            *(uint32_t *)at = (uint32_t)item.value;
        return fault;
    case FIELD_UINT64:
        fault = expect(in, &item, ITEM_UINT, field->min, field->max, field->why);
        if (!fault)
            *(uint64_t *)at = item.value;
        return fault;
    case FIELD_BOOL:
        fault = expect(in, &item, ITEM_BOOL, field->min, field->max, field->why);
        if (!fault)
            *(bool *)at = item.value != 0;
        return fault;
    case FIELD_TEXT:
        return decode_text(in, at, field->min, field->max, field->why);
    case FIELD_ID:
        fault = decode_text(in, at, field->min, field->max, field->why);
        if (!fault && !schema_id_valid(*(struct proto_slice *)at))
            fault = field->why[FAULT_TEXT];
        return fault;
    case FIELD_NETWORK:
        fault = decode_text(in, at, field->min, field->max, field->why);
        if (!fault && !schema_network_valid(*(struct proto_slice *)at))
            fault = field->why[FAULT_TEXT];
        return fault;
    case FIELD_BYTES:
        fault = expect(in, &item, ITEM_BYTES, field->min, field->max, field->why);
        if (!fault)
            *(struct proto_slice *)at = (struct proto_slice){item.data, (size_t)item.value};
        return fault;
    case FIELD_FAILURE: /* the one nested map; its rows hold no other, so this goes one deep */
        fault = expect(in, &item, ITEM_MAP, 0, schema_failure.count, field->why);
        return fault ? fault : decode_fields(in, item.value, 0, &schema_failure, at);
    case FIELD_STACK:
        return decode_stack(in, field, base);
    }
    return field->why[FAULT_KIND];
}

static const char *decode_fields(struct input *in, uint64_t count, uint64_t lowest_key,
                                 const struct shape *shape, void *base)
{
    size_t row = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct item key;
        const char *fault = expect(in, &key, ITEM_UINT, 0, UINT64_MAX, shape->why_key);
        if (fault)
            return fault;
        if (key.value < lowest_key)
            return shape->why_order;
        for (; row < shape->count && shape->fields[row].key < key.value; row++)
            if (!shape->fields[row].optional)
                return shape->fields[row].why[FAULT_MISSING];
        if (row == shape->count || shape->fields[row].key != key.value)
            return shape->why_unknown;
        lowest_key = key.value + 1;
        fault = decode_value(in, &shape->fields[row], base);
        if (fault)
            return fault;
        row++;
    }
    for (; row < shape->count; row++)
        if (!shape->fields[row].optional)
            return shape->fields[row].why[FAULT_MISSING];
    return NULL;
}

/* The version of a hello that is not ours, whose other fields we cannot know; 0 when it is ours or not there,
 * which the ordinary walk then tells. */
static uint32_t foreign_version(struct input ahead)
{
    struct item item;
    const char *const *why = schema_why_type; /* any: the texts are not used */
    if (expect(&ahead, &item, ITEM_UINT, PROTO_KEY_VERSION, PROTO_KEY_VERSION, why) ||
        expect(&ahead, &item, ITEM_UINT, 1, UINT32_MAX, why))
        return 0;
    return item.value == PROTO_VERSION ? 0 : (uint32_t)item.value;
}

static const char *decode_type(struct input *in, unsigned *type)
{
    struct item item;
    const char *fault = expect(in, &item, ITEM_UINT, 0, UINT64_MAX, schema_why_type);
    if (fault)
        return fault;
    if (item.value != PROTO_KEY_TYPE)
        return schema_why_type[FAULT_MISSING];
    fault = expect(in, &item, ITEM_UINT, PROTO_HELLO, PROTO_COLLECTED, schema_why_type);
    if (fault)
        return fault;
    *type = (unsigned)item.value;
    return NULL;
}

static const char *decode_body(struct input *in, struct proto_message *message)
{
    static const char *const why_map[FAULT_COUNT] = {
        [FAULT_KIND] = "frame: not a map",
        [FAULT_LIMITS] = "frame: empty map",
        [FAULT_INDEFINITE] = "frame: map of indefinite length",
        [FAULT_LONG_FORM] = "frame: map's size not in its shortest form",
        [FAULT_TRUNCATED] = "frame: cut short",
        [FAULT_MALFORMED] = "frame: not well-formed CBOR",
    };
    struct item map;
    const char *fault = expect(in, &map, ITEM_MAP, 1, UINT64_MAX, why_map);
    if (fault)
        return fault;
    unsigned type = 0;
    fault = decode_type(in, &type);
    if (fault)
        return fault;
    message->type = (enum proto_type)type;
    if (type == PROTO_HELLO) {
        message->u.hello.version = foreign_version(*in);
        if (message->u.hello.version != 0)
            return NULL;
    }
    fault = decode_fields(in, map.value - 1, PROTO_KEY_TYPE + 1, schema_of(type), message);
    if (fault)
        return fault;
    return in->left > 0 ? "frame: bytes after the message" : schema_broken_rule(message);
}

int proto_decode(const uint8_t *body, size_t size, struct proto_message *message, const char **why)
{
    struct input in = {.at = body, .left = size};
    *message = (struct proto_message){0};
    *why = size > PROTO_FRAME_MAX_BYTES - PROTO_HEADER_BYTES ? "frame: too large" : decode_body(&in, message);
    return *why ? -EBADMSG : 0;
}

int64_t proto_body_size(const uint8_t header[PROTO_HEADER_BYTES])
{
    uint32_t size =
        (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 | header[3];
    return size < 1 || size > PROTO_FRAME_MAX_BYTES - PROTO_HEADER_BYTES ? -EMSGSIZE : (int64_t)size;
}
