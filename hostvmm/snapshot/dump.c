/* See dump.h. One pass over the items; a stack of what is open, of bounded depth. */
#include "hostvmm/snapshot/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/text.h"
#include "hostvmm/snapshot/codec.h"
#include "hostvmm/snapshot/item.h"

#define BYTES_SHOWN 24u

struct level {
    uint64_t left; /* items: of a map, keys and values */
    uint64_t index;
    bool map;
};

struct dump {
    FILE *out;
    bool json;
    struct level levels[STATE_DEPTH_MAX + 1];
    unsigned depth;
    bool failed;
};

static bool at_key(const struct dump *dump)
{
    const struct level *level = &dump->levels[dump->depth];
    return dump->depth > 0 && level->map && level->left % 2 == 0;
}

static void indent(const struct dump *dump)
{
    for (unsigned i = 1; i < dump->depth; i++)
        (void)fputs("  ", dump->out);
}

/* Before an item: what separates it from the last, and an element's number. */
static void lead_in(struct dump *dump)
{
    const struct level *level = &dump->levels[dump->depth];
    const bool value_of_key = dump->depth > 0 && level->map && !at_key(dump);
    if (dump->json) {
        if (dump->depth > 0 && level->index > 0 && !value_of_key)
            (void)fputc(',', dump->out);
    } else if (dump->depth > 0 && !value_of_key) {
        indent(dump);
        if (!level->map)
            (void)fprintf(dump->out, "[%" PRIu64 "] ", level->index);
    }
}

/* After an item: count it, close what is complete. */
static void lead_out(struct dump *dump)
{
    while (dump->depth > 0) {
        struct level *level = &dump->levels[dump->depth];
        if (level->left > 0) {
            level->left--;
            level->index++;
        }
        if (level->left > 0)
            return;
        if (dump->json)
            (void)fputc(level->map ? '}' : ']', dump->out);
        dump->depth--;
    }
}

static void value_done(struct dump *dump)
{
    if (!dump->json)
        (void)fputc('\n', dump->out);
    lead_out(dump);
}

static void put_number(struct dump *dump, uint64_t value)
{
    lead_in(dump);
    (void)fprintf(dump->out, "%" PRIu64, value);
    value_done(dump);
}

static void put_bool(struct dump *dump, bool value)
{
    lead_in(dump);
    (void)fputs(value ? "true" : "false", dump->out);
    value_done(dump);
}

static void put_bytes(struct dump *dump, const uint8_t *data, size_t size)
{
    const size_t shown = dump->json || size <= BYTES_SHOWN ? size : BYTES_SHOWN;
    lead_in(dump);
    (void)fputs(dump->json ? "\"" : "", dump->out);
    for (size_t i = 0; i < shown; i++)
        (void)fprintf(dump->out, "%02x", data[i]);
    if (dump->json)
        (void)fputc('"', dump->out);
    else
        (void)fprintf(dump->out, "%s (%zu bytes)", shown < size ? "..." : "", size);
    value_done(dump);
}

static void put_text(struct dump *dump, const uint8_t *data, size_t size)
{
    const bool key = at_key(dump);
    char *text = malloc(size + 1);
    if (!text) {
        dump->failed = true;
        return;
    }
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    lead_in(dump);
    if (dump->json || !key)
        text_json(dump->out, text);
    else
        (void)fputs(text, dump->out);
    free(text);
    if (!key) {
        value_done(dump);
        return;
    }
    (void)fputs(dump->json ? ":" : " ", dump->out);
    dump->levels[dump->depth].left--;
    dump->levels[dump->depth].index++;
}

static void open_level(struct dump *dump, uint64_t items, bool map)
{
    lead_in(dump);
    if (dump->depth == STATE_DEPTH_MAX || items > STATE_MAX_BYTES) {
        dump->failed = true;
        return;
    }
    if (dump->json)
        (void)fputc(map ? '{' : '[', dump->out);
    else if (dump->depth > 0)
        (void)fputc('\n', dump->out);
    dump->levels[++dump->depth] = (struct level){.left = items, .map = map};
    if (items > 0)
        return;
    if (dump->json)
        (void)fputc(map ? '}' : ']', dump->out);
    dump->depth--;
    lead_out(dump);
}

static void put(struct dump *dump, const struct item *item)
{
    switch (item->kind) {
    case ITEM_UINT:
        put_number(dump, item->value);
        break;
    case ITEM_BOOL:
        put_bool(dump, item->value);
        break;
    case ITEM_BYTES:
        put_bytes(dump, item->data, (size_t)item->value);
        break;
    case ITEM_TEXT:
        put_text(dump, item->data, (size_t)item->value);
        break;
    case ITEM_ARRAY:
        open_level(dump, item->value, false);
        break;
    case ITEM_MAP:
        open_level(dump, item->value <= STATE_MAX_BYTES ? 2 * item->value : UINT64_MAX, true);
        break;
    case ITEM_OTHER:
    case ITEM_KINDS:
        dump->failed = true;
        break;
    }
}

static int dump(struct dump *dump, const uint8_t *data, size_t size)
{
    struct item item;
    for (size_t at = 0; at < size && !dump->failed; at += item.size_bytes) {
        if (item_next(&item, data + at, size - at))
            dump->failed = true;
        else
            put(dump, &item);
    }
    if (!dump->failed && dump->depth == 0)
        return 0;
    (void)fputs(dump->json ? "" : "(the rest is no state)\n", dump->out);
    return -EBADMSG;
}

int dump_text(FILE *out, const uint8_t *data, size_t size)
{
    struct dump dumping = {.out = out};
    return dump(&dumping, data, size);
}

int dump_json(FILE *out, const uint8_t *data, size_t size)
{
    struct dump dumping = {.out = out, .json = true};
    return dump(&dumping, data, size);
}
