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

int item_next(struct item *item, const uint8_t *data, size_t size)
{
    struct cbor_callbacks callbacks = cbor_empty_callbacks;
    *item = (struct item){.kind = ITEM_OTHER};
    callbacks.uint8 = on_uint8;
    callbacks.uint16 = on_uint16;
    callbacks.uint32 = on_uint32;
    callbacks.uint64 = on_uint64;
    callbacks.byte_string = on_bytes;
    callbacks.string = on_text;
    callbacks.array_start = on_array;
    callbacks.map_start = on_map;
    callbacks.boolean = on_bool;
    const struct cbor_decoder_result result = cbor_stream_decode(data, size, &callbacks, item);
    item->size_bytes = result.read;
    if (result.status == CBOR_DECODER_NEDATA)
        return -ENODATA;
    return result.status == CBOR_DECODER_FINISHED ? 0 : -EBADMSG;
}
