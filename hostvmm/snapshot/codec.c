/* See codec.h. libcbor's encoder and streaming decoder do the CBOR; here are names, bounds and reasons. */
#include "hostvmm/snapshot/codec.h"

#include <cbor.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/snapshot/item.h"

#define HEAD_MAX_BYTES     9u
#define WRITER_FIRST_BYTES 16384u
#define SPARSE_GAP_BYTES   10u

/* ---- writing ------------------------------------------------------------------------------------------- */

void state_writer_init(struct state_writer *out)
{
    *out = (struct state_writer){.data = NULL};
}

void state_writer_fini(struct state_writer *out)
{
    free(out->data);
    state_writer_init(out);
}

/* Room for `size` more bytes; NULL, and failed, without. */
static uint8_t *room(struct state_writer *out, size_t size)
{
    if (out->failed || size > STATE_MAX_BYTES - out->size_bytes) {
        out->failed = true;
        return NULL;
    }
    if (size > out->capacity_bytes - out->size_bytes) {
        size_t capacity = out->capacity_bytes ? out->capacity_bytes * 2 : WRITER_FIRST_BYTES;
        while (capacity - out->size_bytes < size)
            capacity *= 2;
        uint8_t *data = realloc(out->data, capacity);
        if (!data) {
            out->failed = true;
            return NULL;
        }
        out->data = data;
        out->capacity_bytes = capacity;
    }
    return out->data + out->size_bytes;
}

typedef size_t head_encoder(size_t value, unsigned char *to, size_t size);

static void put_head(struct state_writer *out, head_encoder *encode, size_t value)
{
    uint8_t *to = room(out, HEAD_MAX_BYTES);
    if (to)
        out->size_bytes += encode(value, to, HEAD_MAX_BYTES);
}

static void put_content(struct state_writer *out, head_encoder *encode, const void *data, size_t size)
{
    put_head(out, encode, size);
    uint8_t *to = room(out, size);
    if (!to)
        return;
    if (size > 0)
        memcpy(to, data, size);
    out->size_bytes += size;
}

static void put_key(struct state_writer *out, const char *key)
{
    if (key)
        put_content(out, cbor_encode_string_start, key, strlen(key));
}

void state_put_map(struct state_writer *out, const char *key, unsigned fields)
{
    put_key(out, key);
    put_head(out, cbor_encode_map_start, fields);
}

void state_put_array(struct state_writer *out, const char *key, unsigned elements)
{
    put_key(out, key);
    put_head(out, cbor_encode_array_start, elements);
}

void state_put_uint(struct state_writer *out, const char *key, uint64_t value)
{
    put_key(out, key);
    uint8_t *to = room(out, HEAD_MAX_BYTES);
    if (to)
        out->size_bytes += cbor_encode_uint(value, to, HEAD_MAX_BYTES);
}

void state_put_bool(struct state_writer *out, const char *key, bool value)
{
    put_key(out, key);
    uint8_t *to = room(out, HEAD_MAX_BYTES);
    if (to)
        out->size_bytes += cbor_encode_bool(value, to, HEAD_MAX_BYTES);
}

void state_put_bytes(struct state_writer *out, const char *key, const void *data, size_t size)
{
    put_key(out, key);
    put_content(out, cbor_encode_bytestring_start, data, size);
}

void state_put_text(struct state_writer *out, const char *key, const char *text)
{
    put_key(out, key);
    put_content(out, cbor_encode_string_start, text, strlen(text));
}

/* The next stretch of `data` from `at` on that is not zeros, and how long it is up to the next run of zeros
 * that is worth a pair. False: there is none. */
static bool next_piece(const uint8_t *data, size_t size, size_t *at, size_t *bytes)
{
    size_t zeros = 0;
    while (*at < size && data[*at] == 0)
        (*at)++;
    size_t end = *at;
    for (size_t i = *at; i < size && zeros < SPARSE_GAP_BYTES; i++) {
        zeros = data[i] ? 0 : zeros + 1;
        if (data[i])
            end = i + 1;
    }
    *bytes = end - *at;
    return *at < size;
}

void state_put_sparse(struct state_writer *out, const char *key, const void *data, size_t size)
{
    unsigned pieces = 0;
    size_t bytes;
    for (size_t at = 0; next_piece(data, size, &at, &bytes); at += bytes)
        pieces++;
    state_put_array(out, key, 1 + 2 * pieces);
    state_put_uint(out, NULL, size);
    size_t done = 0;
    for (size_t at = 0; next_piece(data, size, &at, &bytes); at += bytes) {
        state_put_uint(out, NULL, at - done);
        state_put_bytes(out, NULL, (const uint8_t *)data + at, bytes);
        done = at + bytes;
    }
}

void state_put_fields(struct state_writer *out, const struct state_writer *fields)
{
    uint8_t *to = fields->failed ? NULL : room(out, fields->size_bytes);
    out->failed = out->failed || fields->failed;
    if (!to)
        return;
    if (fields->size_bytes > 0)
        memcpy(to, fields->data, fields->size_bytes);
    out->size_bytes += fields->size_bytes;
}

/* ---- reading: one item -----------------------------------------------------------------------------------
 */

static const char *const kind_names[ITEM_KINDS] = {
    [ITEM_OTHER] = "something else", [ITEM_UINT] = "a number",
    [ITEM_BYTES] = "bytes",          [ITEM_TEXT] = "text",
    [ITEM_ARRAY] = "an array",       [ITEM_MAP] = "a map",
    [ITEM_BOOL] = "true or false",
};

void state_reader_init(struct state_reader *in, const void *data, size_t size)
{
    memset(in, 0, sizeof *in);
    in->data = data;
    in->size_bytes = size;
}

/* "a.b[2].key", as much as fits. */
static size_t put_path(const struct state_reader *in, const char *key, char *to, size_t capacity)
{
    size_t at = 0;
    to[0] = '\0';
    for (unsigned i = 0; i < in->depth && at < capacity; i++) {
        if (in->path[i].key)
            at += (size_t)snprintf(to + at, capacity - at, "%s%s", at ? "." : "", in->path[i].key);
        if (in->path[i].array && at < capacity)
            at += (size_t)snprintf(to + at, capacity - at, "[%u]", in->path[i].index);
    }
    if (key && at < capacity)
        at += (size_t)snprintf(to + at, capacity - at, "%s%s", at ? "." : "", key);
    if (!key && at == 0)
        at += (size_t)snprintf(to + at, capacity - at, "state");
    return at < capacity ? at : capacity - 1;
}

static void refuse(struct state_reader *in, const char *key, const char *format, va_list arguments)
{
    if (in->failed)
        return;
    in->failed = true;
    const size_t at = put_path(in, key, in->why, sizeof in->why - 64);
    const int more = snprintf(in->why + at, sizeof in->why - at, ": ");
    (void)vsnprintf(in->why + at + (size_t)more, sizeof in->why - at - (size_t)more, format, arguments);
}

void state_refuse(struct state_reader *in, const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    refuse(in, key, format, arguments);
    va_end(arguments);
}

/* The next item, which must be of this kind. */
static struct item take(struct state_reader *in, const char *key, enum item_kind wanted)
{
    static const struct item nothing;
    struct item item;
    if (in->failed)
        return nothing;
    const int error = item_next(&item, in->data + in->at, in->size_bytes - in->at);
    if (error == -ENODATA)
        state_refuse(in, key, "the state ends here, in the middle of it");
    else if (error)
        state_refuse(in, key, "not CBOR");
    else if (item.kind != wanted)
        state_refuse(in, key, "%s, %s wanted", kind_names[item.kind], kind_names[wanted]);
    if (in->failed)
        return nothing;
    in->at += item.size_bytes;
    return item;
}

/* ---- reading: fields -------------------------------------------------------------------------------------
 */

/* The field's name, or the next element of the array we are in. */
static void take_key(struct state_reader *in, const char *key)
{
    if (in->failed)
        return;
    if (in->depth > 0 && in->path[in->depth - 1].left-- == 0) {
        state_refuse(in, key, "missing; there are fewer here");
        return;
    }
    if (!key)
        return;
    const struct item item = take(in, key, ITEM_TEXT);
    if (!in->failed && (item.value != strlen(key) || memcmp(item.data, key, item.value) != 0))
        state_refuse(in, key, "missing; '%.*s' is in its place",
                     (int)(item.value < STATE_KEY_MAX_BYTES ? item.value : STATE_KEY_MAX_BYTES), item.data);
}

static struct item field(struct state_reader *in, const char *key, enum item_kind wanted)
{
    take_key(in, key);
    return take(in, key, wanted);
}

/* An element of an array was read. */
static void element_done(struct state_reader *in, const char *key)
{
    if (!key && in->depth > 0 && in->path[in->depth - 1].array)
        in->path[in->depth - 1].index++;
}

static void enter(struct state_reader *in, const char *key, unsigned items, bool array)
{
    if (in->depth == STATE_DEPTH_MAX) {
        state_refuse(in, key, "nested too deep");
        return;
    }
    in->path[in->depth].key = key;
    in->path[in->depth].index = 0;
    in->path[in->depth].left = items;
    in->path[in->depth].array = array;
    in->depth++;
}

void state_get_map(struct state_reader *in, const char *key, unsigned fields)
{
    const struct item item = field(in, key, ITEM_MAP);
    if (!in->failed && item.value != fields)
        state_refuse(in, key, "%llu fields, %u wanted", (unsigned long long)item.value, fields);
    if (!in->failed)
        enter(in, key, fields, false);
}

unsigned state_get_array(struct state_reader *in, const char *key, unsigned max)
{
    const struct item item = field(in, key, ITEM_ARRAY);
    if (!in->failed && item.value > max)
        state_refuse(in, key, "%llu elements, at most %u wanted", (unsigned long long)item.value, max);
    if (!in->failed)
        enter(in, key, (unsigned)item.value, true);
    return in->failed ? 0 : (unsigned)item.value;
}

void state_end(struct state_reader *in)
{
    if (in->failed || in->depth == 0)
        return;
    if (in->path[in->depth - 1].left > 0) {
        state_refuse(in, NULL, "%u more in it than are known here", in->path[in->depth - 1].left);
        return;
    }
    in->depth--;
    element_done(in, in->path[in->depth].key);
}

uint64_t state_get_uint(struct state_reader *in, const char *key, uint64_t min, uint64_t max)
{
    const struct item item = field(in, key, ITEM_UINT);
    if (!in->failed && (item.value < min || item.value > max))
        state_refuse(in, key, "%llu, %llu to %llu wanted", (unsigned long long)item.value,
                     (unsigned long long)min, (unsigned long long)max);
    element_done(in, key);
    return in->failed ? 0 : item.value;
}

bool state_get_bool(struct state_reader *in, const char *key)
{
    const struct item item = field(in, key, ITEM_BOOL);
    element_done(in, key);
    return !in->failed && item.value;
}

const uint8_t *state_get_span(struct state_reader *in, const char *key, size_t max, size_t *size)
{
    const struct item item = field(in, key, ITEM_BYTES);
    if (!in->failed && item.value > max)
        state_refuse(in, key, "%llu bytes, at most %zu wanted", (unsigned long long)item.value, max);
    element_done(in, key);
    *size = in->failed ? 0 : (size_t)item.value;
    return *size > 0 ? item.data : NULL;
}

void state_get_bytes(struct state_reader *in, const char *key, void *to, size_t size)
{
    const struct item item = field(in, key, ITEM_BYTES);
    if (!in->failed && item.value != size)
        state_refuse(in, key, "%llu bytes, %zu wanted", (unsigned long long)item.value, size);
    element_done(in, key);
    if (in->failed)
        memset(to, 0, size);
    else if (size > 0)
        memcpy(to, item.data, size);
}

size_t state_get_sparse(struct state_reader *in, const char *key, void *to, size_t min, size_t max)
{
    const unsigned elements = state_get_array(in, key, (unsigned)(max + 3));
    const uint64_t size = elements > 0 ? state_get_uint(in, NULL, 0, UINT64_MAX) : 0;
    if (!in->failed && (elements % 2 == 0 || size < min || size > max)) {
        in->depth--; /* the field is wrong, not an element of it */
        state_refuse(in, key, "%llu bytes, %zu to %zu wanted", (unsigned long long)size, min, max);
    }
    size_t at = 0;
    for (unsigned i = 1; i < elements && !in->failed; i += 2) {
        size_t bytes;
        const size_t zeros = (size_t)state_get_uint(in, NULL, 0, size - at);
        memset((uint8_t *)to + at, 0, zeros);
        at += zeros;
        const uint8_t *piece = state_get_span(in, NULL, (size_t)size - at, &bytes);
        if (bytes > 0)
            memcpy((uint8_t *)to + at, piece, bytes);
        at += bytes;
    }
    state_end(in);
    if (in->failed)
        memset(to, 0, max);
    else
        memset((uint8_t *)to + at, 0, (size_t)size - at);
    return in->failed ? 0 : (size_t)size;
}

void state_get_text(struct state_reader *in, const char *key, char *to, size_t capacity)
{
    const struct item item = field(in, key, ITEM_TEXT);
    if (!in->failed && item.value >= capacity)
        state_refuse(in, key, "%llu bytes of text, at most %zu wanted", (unsigned long long)item.value,
                     capacity - 1);
    if (!in->failed && memchr(item.data, '\0', (size_t)item.value))
        state_refuse(in, key, "text with a NUL in it");
    element_done(in, key);
    const size_t size = in->failed ? 0 : (size_t)item.value;
    if (size > 0)
        memcpy(to, item.data, size);
    to[size] = '\0';
}

int state_reader_finish(struct state_reader *in)
{
    if (!in->failed && in->at != in->size_bytes)
        state_refuse(in, NULL, "%zu bytes more than its fields have", in->size_bytes - in->at);
    return in->failed ? -EBADMSG : 0;
}
