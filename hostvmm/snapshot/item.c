/* See item.h. */
#include "hostvmm/snapshot/item.h"

#include <cbor.h>
#include <errno.h>

static void note(void *context, enum item_kind kind, uint64_t value, const uint8_t *data)
{
    *(struct item *)context = (struct item){.kind = kind, .value = value, .data = data};
}

static void on_uint8(void *context, uint8_t value)
{
    note(context, ITEM_UINT, value, NULL);
}

static void on_uint16(void *context, uint16_t value)
{
    note(context, ITEM_UINT, value, NULL);
}

static void on_uint32(void *context, uint32_t value)
{
    note(context, ITEM_UINT, value, NULL);
}

static void on_uint64(void *context, uint64_t value)
{
    note(context, ITEM_UINT, value, NULL);
}

static void on_bytes(void *context, cbor_data data, size_t size)
{
    note(context, ITEM_BYTES, size, data);
}

static void on_text(void *context, cbor_data data, size_t size)
{
    note(context, ITEM_TEXT, size, data);
}

static void on_array(void *context, size_t count)
{
    note(context, ITEM_ARRAY, count, NULL);
}

static void on_map(void *context, size_t count)
{
    note(context, ITEM_MAP, count, NULL);
}

static void on_bool(void *context, bool value)
{
    note(context, ITEM_BOOL, value, NULL);
}

/* What a state has none of is passed over here, and refused by its kind. */
static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8,
    .uint16 = on_uint16,
    .uint32 = on_uint32,
    .uint64 = on_uint64,
    .negint64 = cbor_null_negint64_callback,
    .negint32 = cbor_null_negint32_callback,
    .negint16 = cbor_null_negint16_callback,
    .negint8 = cbor_null_negint8_callback,
    .byte_string_start = cbor_null_byte_string_start_callback,
    .byte_string = on_bytes,
    .string = on_text,
    .string_start = cbor_null_string_start_callback,
    .indef_array_start = cbor_null_indef_array_start_callback,
    .array_start = on_array,
    .indef_map_start = cbor_null_indef_map_start_callback,
    .map_start = on_map,
    .tag = cbor_null_tag_callback,
    .float2 = cbor_null_float2_callback,
    .float4 = cbor_null_float4_callback,
    .float8 = cbor_null_float8_callback,
    .undefined = cbor_null_undefined_callback,
    .null = cbor_null_null_callback,
    .boolean = on_bool,
    .indef_break = cbor_null_indef_break_callback,
};

int item_next(struct item *item, const uint8_t *data, size_t size)
{
    *item = (struct item){.kind = ITEM_OTHER};
    const struct cbor_decoder_result result = cbor_stream_decode(data, size, &callbacks, item);
    item->size_bytes = result.read;
    if (result.status == CBOR_DECODER_NEDATA)
        return -ENODATA;
    return result.status == CBOR_DECODER_FINISHED ? 0 : -EBADMSG;
}
