/*
 * See audit_tokens.h. One hash table has the first holder of each value; a later clone's value that is found
 * there is a finding. Of bytes, every eighth offset is entered and every offset looked up, so that a shared
 * run of 15 bytes is found wherever it lies; it is then extended as far as both sides agree.
 */
#include "hostvmm/control/audit_tokens.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW      8u
#define TABLE_FIRST 1024u
#define TOKEN_MAX   4096u /* longer ones are compared by their beginning */
#define COLON_PAIRS 8u
#define SEPARATORS  "-_/+="

struct audit_text {
    uint8_t *data;
    uint32_t size;
    uint32_t clone;
    enum audit_place place;
};

struct audit_entry {
    uint64_t hash;
    uint32_t text; /* index + 1; 0: free */
    uint32_t offset;
    uint32_t size;
    uint32_t finding;    /* index + 1 of what was made of it */
    uint32_t last_clone; /* that was counted for it */
};

void audit_tokens_init(struct audit_tokens *tokens, const void *event, size_t event_bytes)
{
    memset(tokens, 0, sizeof *tokens);
    tokens->event = event;
    tokens->event_bytes = event_bytes;
}

void audit_tokens_fini(struct audit_tokens *tokens)
{
    for (size_t i = 0; i < tokens->text_count; i++)
        free(tokens->texts[i].data);
    free(tokens->texts);
    free(tokens->table);
    tokens->texts = NULL;
    tokens->table = NULL;
    tokens->text_count = tokens->table_size = 0;
}

/* ---- the table ---- */

static uint64_t hash_of(const uint8_t *data, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ size;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 29;
}

static int grow(struct audit_tokens *tokens)
{
    const size_t size = tokens->table_size ? tokens->table_size * 2 : TABLE_FIRST;
    struct audit_entry *table = calloc(size, sizeof *table);
    if (!table)
        return -ENOMEM;
    for (size_t i = 0; i < tokens->table_size; i++) {
        if (tokens->table[i].text == 0)
            continue;
        size_t at = tokens->table[i].hash & (size - 1);
        while (table[at].text != 0)
            at = (at + 1) & (size - 1);
        table[at] = tokens->table[i];
    }
    free(tokens->table);
    tokens->table = table;
    tokens->table_size = size;
    return 0;
}

/* The entry of this value, or the free one for it. */
static struct audit_entry *look_up(struct audit_tokens *tokens, const uint8_t *data, size_t size)
{
    const uint64_t hash = hash_of(data, size);
    size_t at = hash & (tokens->table_size - 1);
    for (;; at = (at + 1) & (tokens->table_size - 1)) {
        struct audit_entry *entry = &tokens->table[at];
        if (entry->text == 0) {
            entry->hash = hash;
            return entry;
        }
        if (entry->hash == hash && entry->size == size &&
            memcmp(tokens->texts[entry->text - 1].data + entry->offset, data, size) == 0)
            return entry;
    }
}

static int make_room(struct audit_tokens *tokens)
{
    return tokens->entry_count * 2 >= tokens->table_size ? grow(tokens) : 0;
}

static void enter(struct audit_tokens *tokens, struct audit_entry *entry, const struct audit_text *text,
                  size_t offset, size_t size)
{
    entry->text = (uint32_t)(text - tokens->texts) + 1;
    entry->offset = (uint32_t)offset;
    entry->size = (uint32_t)size;
    entry->last_clone = text->clone;
    tokens->entry_count++;
}

/* ---- findings ---- */

static struct audit_where where(const struct audit_text *text, size_t offset)
{
    struct audit_where found = {text->clone, text->place, (uint32_t)offset};
    if (text->place == AUDIT_OUTPUT) {
        found.at = 1;
        for (size_t i = 0; i < offset; i++)
            found.at += text->data[i] == '\n';
    }
    return found;
}

static bool is_echo(const struct audit_tokens *tokens, const uint8_t *data, size_t size)
{
    return tokens->event_bytes >= size && memmem(tokens->event, tokens->event_bytes, data, size);
}

static void show(struct audit_finding *finding, const uint8_t *data, size_t size)
{
    if (!finding->is_binary) {
        const size_t shown = size < AUDIT_SHOWN_BYTES ? size : AUDIT_SHOWN_BYTES;
        memcpy(finding->shown, data, shown);
        finding->shown[shown] = '\0';
        return;
    }
    for (size_t i = 0; i < size && i < AUDIT_SHOWN_BYTES / 2; i++)
        (void)snprintf(finding->shown + 2 * i, 3, "%02x", data[i]);
}

/* `text` has at `offset` the `size` bytes that the holder has at `from`. */
static void found(struct audit_tokens *tokens, struct audit_entry *entry, size_t from,
                  const struct audit_text *text, size_t offset, size_t size, uint32_t bits)
{
    const struct audit_text *holder = &tokens->texts[entry->text - 1];
    if (entry->last_clone == text->clone)
        return;
    entry->last_clone = text->clone;
    if (entry->finding > 0) {
        if (entry->finding <= AUDIT_FINDINGS_MAX)
            tokens->findings[entry->finding - 1].clones++;
        return;
    }
    entry->finding = AUDIT_FINDINGS_MAX + 1;
    if (tokens->finding_count++ >= AUDIT_FINDINGS_MAX)
        return;
    entry->finding = (uint32_t)tokens->finding_count;
    struct audit_finding *finding = &tokens->findings[entry->finding - 1];
    *finding = (struct audit_finding){.is_binary = bits == 0,
                                      .bytes = (uint32_t)size,
                                      .bits = bits ? bits : (uint32_t)size * 8,
                                      .clones = 2,
                                      .first = where(holder, from),
                                      .second = where(text, offset)};
    show(finding, text->data + offset, size);
}

/* ---- text ---- */

static int take_token(struct audit_tokens *tokens, const struct audit_text *text, size_t offset, size_t size)
{
    if (size > TOKEN_MAX)
        size = TOKEN_MAX;
    const uint8_t *data = text->data + offset;
    const uint32_t bits = audit_token_bits((const char *)data, size);
    if (bits < AUDIT_TOKEN_BITS || is_echo(tokens, data, size))
        return 0;
    if (make_room(tokens) < 0)
        return -ENOMEM;
    struct audit_entry *entry = look_up(tokens, data, size);
    if (entry->text == 0)
        enter(tokens, entry, text, offset, size);
    else
        found(tokens, entry, entry->offset, text, offset, size, bits);
    return 0;
}

static bool is_token_byte(uint8_t c)
{
    return c < 0x80 && (isalnum(c) || strchr(SEPARATORS, c)) && c != '\0';
}

static bool is_hex_group(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!isxdigit(data[i]) && data[i] != '-')
            return false;
    return size > 0;
}

/* The parts between separators that are random by themselves, as in id=3f2a...; else the whole. */
static int take_run(struct audit_tokens *tokens, const struct audit_text *text, size_t offset, size_t size)
{
    const uint8_t *data = text->data + offset;
    bool has_random_part = false;
    if (is_hex_group(data, size)) /* a UUID */
        return take_token(tokens, text, offset, size);
    for (size_t at = 0; at < size;) {
        size_t end = at;
        while (end < size && (data[end] == '-' || !strchr(SEPARATORS, data[end])))
            end++;
        if (end > at && end - at < size &&
            audit_token_bits((const char *)data + at, end - at) >= AUDIT_TOKEN_BITS) {
            has_random_part = true;
            if (take_token(tokens, text, offset + at, end - at) < 0)
                return -ENOMEM;
        }
        at = end + 1;
    }
    return has_random_part ? 0 : take_token(tokens, text, offset, size);
}

/* aa:bb:cc..., of COLON_PAIRS pairs or more: its size, or 0. */
static size_t colon_pairs(const struct audit_text *text, size_t at)
{
    size_t size = 0;
    while (at + size + 2 <= text->size && isxdigit(text->data[at + size]) &&
           isxdigit(text->data[at + size + 1])) {
        size += 2;
        if (at + size >= text->size || text->data[at + size] != ':')
            break;
        size++;
    }
    return size >= COLON_PAIRS * 3 - 1 ? size : 0;
}

static int take_text(struct audit_tokens *tokens, const struct audit_text *text)
{
    int error = 0;
    for (size_t at = 0; error == 0 && at < text->size;) {
        size_t size = colon_pairs(text, at);
        if (size > 0) {
            error = take_token(tokens, text, at, size);
            at += size;
            continue;
        }
        while (at + size < text->size && is_token_byte(text->data[at + size]))
            size++;
        if (size > 0)
            error = take_run(tokens, text, at, size);
        at += size > 0 ? size : 1;
    }
    return error;
}

/* ---- bytes ---- */

static bool is_text(const uint8_t *data, size_t size, bool is_cut)
{
    for (size_t at = 0; at < size;) {
        const uint8_t c = data[at];
        const size_t length = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 4;
        if (c == 0 || (c >= 0x80 && c < 0xc2) || c > 0xf4)
            return false;
        for (size_t i = 1; i < length; i++) {
            if (at + i >= size)
                return is_cut;
            if ((data[at + i] & 0xc0) != 0x80)
                return false;
        }
        at += length;
    }
    return true;
}

/* Eight bytes as random ones are: next to no repetition, some above 0x7f, and no even steps. */
static bool looks_random(const uint8_t *data)
{
    unsigned distinct = 0;
    unsigned high = 0;
    unsigned same_steps = 0;
    for (unsigned i = 0; i < WINDOW; i++) {
        bool is_new = true;
        for (unsigned j = 0; j < i; j++)
            is_new = is_new && data[j] != data[i];
        distinct += is_new;
        high += data[i] >= 0x80;
        same_steps += i > 1 && (uint8_t)(data[i] - data[i - 1]) == (uint8_t)(data[i - 1] - data[i - 2]);
    }
    return distinct >= WINDOW - 1 && high >= 2 && same_steps < 3;
}

static size_t extend(struct audit_tokens *tokens, struct audit_entry *entry, const struct audit_text *text,
                     size_t at)
{
    const struct audit_text *holder = &tokens->texts[entry->text - 1];
    size_t back = 0;
    size_t size = WINDOW;
    while (back < entry->offset && back < at &&
           holder->data[entry->offset - back - 1] == text->data[at - back - 1])
        back++;
    while (entry->offset + size < holder->size && at + size < text->size &&
           holder->data[entry->offset + size] == text->data[at + size])
        size++;
    if (!is_echo(tokens, text->data + at, WINDOW))
        found(tokens, entry, entry->offset - back, text, at - back, size + back, 0);
    return size;
}

static int take_bytes(struct audit_tokens *tokens, const struct audit_text *text)
{
    for (size_t at = 0; at + WINDOW <= text->size;) {
        size_t size = 1;
        if (looks_random(text->data + at)) {
            if (make_room(tokens) < 0)
                return -ENOMEM;
            struct audit_entry *entry = look_up(tokens, text->data + at, WINDOW);
            if (entry->text != 0 && tokens->texts[entry->text - 1].clone != text->clone)
                size = extend(tokens, entry, text, at);
            else if (entry->text == 0 && at % WINDOW == 0)
                enter(tokens, entry, text, at, WINDOW);
        }
        at += size;
    }
    return 0;
}

int audit_tokens_add(struct audit_tokens *tokens, uint32_t clone, enum audit_place place, const void *data,
                     size_t size)
{
    const bool is_cut = size > AUDIT_TEXT_MAX;
    struct audit_text *texts = realloc(tokens->texts, (tokens->text_count + 1) * sizeof *texts);
    if (!texts)
        return -ENOMEM;
    tokens->texts = texts;
    if (is_cut)
        size = AUDIT_TEXT_MAX;
    struct audit_text *text = &texts[tokens->text_count];
    *text = (struct audit_text){malloc(size > 0 ? size : 1), (uint32_t)size, clone, place};
    if (!text->data)
        return -ENOMEM;
    if (size > 0)
        memcpy(text->data, data, size);
    tokens->text_count++;
    tokens->cut_texts += is_cut;
    int error = take_text(tokens, text);
    if (error == 0 && place == AUDIT_ANSWER && !is_text(text->data, size, is_cut))
        error = take_bytes(tokens, text);
    return error;
}
