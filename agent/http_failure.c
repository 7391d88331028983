/*
 * http_failure() of http.h: Lambda's error object out of JSON (RFC 8259).
 *
 * The reader goes through the text once. It takes the three members of the outermost object it knows, and
 * skips any other value by counting brackets outside strings, so nesting needs no stack and has no limit but
 * the body's own. A text that turns out not to be JSON where that matters is no object: the body itself
 * becomes the message, because a function that fails should not also lose what it said.
 */
#include <string.h>

#include "agent/http.h"
#include "agent/proto/utf8.h"

struct json {
    const char *at;
    const char *end;
    bool bad; /* sticks */
};

/* Where decoded text goes: as much as fits, the rest is cut. */
struct sink {
    char *data;
    size_t size;
    size_t capacity;
    bool full; /* a character did not fit: nothing after it is kept either */
};

static char peek(struct json *json)
{
    while (json->at < json->end && *json->at && strchr(" \t\r\n", *json->at))
        json->at++;
    return json->at < json->end ? *json->at : '\0';
}

static bool take(struct json *json, char c)
{
    if (json->bad || peek(json) != c || json->at == json->end)
        return false;
    json->at++;
    return true;
}

static void put(struct sink *sink, const char *text, size_t size)
{
    if (sink->full || size > sink->capacity - sink->size) {
        sink->full = true;
        return;
    }
    memcpy(sink->data + sink->size, text, size);
    sink->size += size;
}

static void put_code_point(struct sink *sink, uint32_t c)
{
    char text[4];
    if (c < 0x80) {
        text[0] = (char)c;
        put(sink, text, 1);
    } else if (c < 0x800) {
        text[0] = (char)(0xC0 | c >> 6);
        text[1] = (char)(0x80 | (c & 0x3F));
        put(sink, text, 2);
    } else if (c < 0x10000) {
        text[0] = (char)(0xE0 | c >> 12);
        text[1] = (char)(0x80 | (c >> 6 & 0x3F));
        text[2] = (char)(0x80 | (c & 0x3F));
        put(sink, text, 3);
    } else {
        text[0] = (char)(0xF0 | c >> 18);
        text[1] = (char)(0x80 | (c >> 12 & 0x3F));
        text[2] = (char)(0x80 | (c >> 6 & 0x3F));
        text[3] = (char)(0x80 | (c & 0x3F));
        put(sink, text, 4);
    }
}

/* Four hexadecimal digits. */
static uint32_t take_hex(struct json *json)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const char c = json->at < json->end ? *json->at : '\0';
        const char *digit = c ? strchr("0123456789abcdef", c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (!digit) {
            json->bad = true;
            return 0;
        }
        value = value * 16 + (uint32_t)(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
        json->at++;
    }
    return value;
}

/* After "\u". A surrogate without its other half becomes '?'. */
static void take_unicode(struct json *json, struct sink *sink)
{
    uint32_t c = take_hex(json);
    if (c >= 0xD800 && c < 0xDC00 && json->end - json->at >= 6 && json->at[0] == '\\' && json->at[1] == 'u') {
        struct json ahead = {json->at + 2, json->end, false};
        const uint32_t low = take_hex(&ahead);
        if (!ahead.bad && low >= 0xDC00 && low < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            json->at = ahead.at;
        }
    }
    put_code_point(sink, c >= 0xD800 && c < 0xE000 ? '?' : c);
}

/* A string, decoded. Bytes that are not UTF-8 become '?', one each. */
static void take_string(struct json *json, struct sink *sink)
{
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t"; /* pairs: letter, meaning */
    if (!take(json, '"'))
        json->bad = true;
    while (!json->bad && json->at < json->end && *json->at != '"') {
        if ((unsigned char)*json->at < 0x20) {
            json->bad = true;
        } else if (*json->at != '\\') {
            const size_t left = (size_t)(json->end - json->at);
            size_t size = 1; /* of the one character here; 1 too when it is none */
            while (size < 4 && size < left && utf8_valid_prefix(json->at, size) != size)
                size++;
            const bool valid = utf8_valid_prefix(json->at, size) == size;
            put(sink, valid ? json->at : "?", valid ? size : 1);
            json->at += valid ? size : 1;
        } else if (++json->at < json->end && *json->at == 'u') {
            json->at++;
            take_unicode(json, sink);
        } else {
            const char *pair = escapes;
            while (json->at < json->end && *pair && *pair != *json->at)
                pair += 2;
            json->bad = json->at == json->end || !*pair;
            if (!json->bad) {
                put(sink, pair + 1, 1);
                json->at++;
            }
        }
    }
    if (json->at >= json->end)
        json->bad = true; /* no closing quote */
    else
        json->at++;
}

/* Any value, unlooked at: up to the comma or bracket that ends it at this level. */
static void skip_value(struct json *json)
{
    struct sink nowhere = {.full = true};
    size_t depth = 0;
    (void)peek(json); /* past the blanks before it */
    const char *start = json->at;
    while (!json->bad && json->at < json->end) {
        const char c = peek(json);
        if (c == '"') {
            take_string(json, &nowhere);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (json->at < json->end)
            json->at++;
    }
    if (json->at == start || json->at == json->end)
        json->bad = true;
}

/* A text field, or nothing when the value is no string. */
static struct proto_slice take_text(struct json *json, char *to, size_t limit)
{
    struct sink sink = {.data = to, .capacity = limit};
    if (peek(json) == '"')
        take_string(json, &sink);
    else
        skip_value(json);
    return (struct proto_slice){(const uint8_t *)to, sink.size};
}

/* stackTrace: the strings in it; other entries are left out, and so are those past the limit. */
static void take_stack(struct json *json, struct proto_failure *failure, char *to)
{
    failure->stack_count = 0;
    if (peek(json) != '[') {
        skip_value(json);
        return;
    }
    (void)take(json, '[');
    if (take(json, ']'))
        return;
    do {
        if (peek(json) == '"' && failure->stack_count < PROTO_STACK_MAX) {
            char *entry = to + failure->stack_count * PROTO_STACK_ENTRY_MAX_BYTES;
            failure->stack[failure->stack_count++] = take_text(json, entry, PROTO_STACK_ENTRY_MAX_BYTES);
        } else {
            skip_value(json);
        }
    } while (take(json, ','));
    if (!take(json, ']'))
        json->bad = true;
}

static void take_object(struct json *json, struct proto_failure *failure, char *scratch)
{
    char *message = scratch + PROTO_ERROR_TYPE_MAX_BYTES;
    char *stack = message + PROTO_ERROR_TEXT_MAX_BYTES;
    if (!take(json, '{'))
        json->bad = true;
    if (take(json, '}'))
        return;
    while (!json->bad) {
        char name[16];
        const struct proto_slice key = take_text(json, name, sizeof name);
        if (json->bad || !take(json, ':')) {
            json->bad = true;
        } else if (proto_slice_equal(key, proto_text("errorType"))) {
            failure->type = take_text(json, scratch, PROTO_ERROR_TYPE_MAX_BYTES);
        } else if (proto_slice_equal(key, proto_text("errorMessage"))) {
            failure->message = take_text(json, message, PROTO_ERROR_TEXT_MAX_BYTES);
        } else if (proto_slice_equal(key, proto_text("stackTrace"))) {
            take_stack(json, failure, stack);
        } else {
            skip_value(json);
        }
        if (!json->bad && !take(json, ',')) {
            json->bad = !take(json, '}');
            return;
        }
    }
}

/* The body as it stands, cut at the limit between characters. */
static struct proto_slice plain_text(struct proto_slice body, char *to)
{
    size_t size = body.size < PROTO_ERROR_TEXT_MAX_BYTES ? body.size : PROTO_ERROR_TEXT_MAX_BYTES;
    const size_t valid = utf8_valid_prefix(body.data, size);
    if (size < body.size && size - valid < 4)
        size = valid;
    if (size > 0)
        memcpy(to, body.data, size);
    utf8_clean(to, size);
    return (struct proto_slice){(const uint8_t *)to, size};
}

void http_failure(struct proto_slice body, const char *error_type, struct proto_failure *failure,
                  char scratch[HTTP_FAILURE_SCRATCH_BYTES])
{
    struct json json = {(const char *)body.data, (const char *)body.data + body.size, body.size == 0};
    *failure = (struct proto_failure){0};
    take_object(&json, failure, scratch);
    if (json.bad || peek(&json) != '\0' || json.at < json.end) {
        *failure = (struct proto_failure){0};
        failure->message = plain_text(body, scratch + PROTO_ERROR_TYPE_MAX_BYTES);
    }
    if (failure->type.size == 0) {
        failure->type = proto_text(error_type);
        if (failure->type.size > PROTO_ERROR_TYPE_MAX_BYTES)
            failure->type.size = PROTO_ERROR_TYPE_MAX_BYTES;
    }
}
