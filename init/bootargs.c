/*
 * bootargs: encode and decode by one table of fields. See bootargs.h for the contract.
 *
 * Every field is text or a number in a range; its row says where it lies in struct bootargs, what is allowed
 * and what to tell somebody who wrote something else. Of two arguments with the same key the last one counts,
 * as with the kernel's own. Pure: no I/O, no allocation.
 */
#include "init/bootargs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define REPORT_MAX_BYTES 80

/* NULL when the text is allowed, else what is wanted instead. */
typedef const char *text_check(const char *text);

struct field {
    const char *key;
    size_t offset;
    text_check *check;  /* NULL: a number */
    size_t text_max;    /* of a text, in bytes */
    const char *bound;  /* the same in words */
    size_t width_bytes; /* of a number */
    uint32_t max;       /* of a number */
    bool hexadecimal;   /* a number written as hexadecimal, and read as either */
    const char *range;  /* of a number, in words */
};

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *check_label(const char *text)
{
    static const char wanted[] = "want letters, digits and inner hyphens";
    const size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (!is_alnum(text[i]) && (text[i] != '-' || i == 0 || i == length - 1))
            return wanted;
    return length > 0 ? NULL : wanted;
}

static const char *check_device(const char *text)
{
    static const char wanted[] = "want a device name below /dev, such as vda";
    for (const char *c = text; *c; c++)
        if (!is_alnum(*c) && (*c != '-' || c == text))
            return wanted;
    return *text ? NULL : wanted;
}

static const char *check_path(const char *text)
{
    static const char wanted[] = "want an absolute path of letters, digits and the characters . _ : / -";
    const size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (!is_alnum(text[i]) && !strchr("._:/-", text[i]))
            return wanted;
    return length > 1 && text[0] == '/' && text[length - 1] != '/' ? NULL : wanted;
}

/* What the host means is for the agent to judge: here only that it can be handed on. */
static const char *check_net(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!is_alnum(*c) && !strchr("._:/,;=-", *c))
            return "want letters, digits and the characters . _ : / , ; = -";
    return NULL;
}

#define LONG_TEXT(name, function, words)                                                                     \
    {                                                                                                        \
        .key = #name, .offset = offsetof(struct bootargs, name), .check = (function),                        \
        .text_max = sizeof((struct bootargs *)0)->name - 1, .bound = (words)                                 \
    }
#define TEXT(name, function) LONG_TEXT(name, function, "value is longer than 63 bytes")
#define NUMBER(name, most, words, hex)                                                                       \
    {                                                                                                        \
        .key = #name, .offset = offsetof(struct bootargs, name),                                             \
        .width_bytes = sizeof((struct bootargs *)0)->name, .max = (most), .range = (words),                  \
        .hexadecimal = (hex)                                                                                 \
    }

static const struct field fields[] = {
    TEXT(hostname, check_label),
    TEXT(root, check_device),
    TEXT(overlay, check_device), /* "tmpfs" and "none" have the shape of device names */
    TEXT(agent, check_path),
    NUMBER(agent_restarts, 100, "want a number from 0 to 100", false),
    NUMBER(grace_ms, 60000, "want milliseconds from 0 to 60000", false),
    LONG_TEXT(net, check_net, "value is longer than 1024 bytes"),
    /* The contract is a pair of ports, so the last one cannot be the first of a pair. */
    NUMBER(exit_port, 0xfffe, "want a port from 0x0 to 0xfffe", true),
};

#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static uint32_t number_get(const struct field *field, const struct bootargs *args)
{
    const char *at = (const char *)args + field->offset;
    uint16_t narrow;
    uint32_t wide;
    if (field->width_bytes == sizeof narrow) {
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, at, sizeof wide);
    return wide;
}

static void number_set(const struct field *field, struct bootargs *args, uint32_t value)
{
    char *at = (char *)args + field->offset;
    const uint16_t narrow = (uint16_t)value;
    if (field->width_bytes == sizeof narrow)
        memcpy(at, &narrow, sizeof narrow);
    else
        memcpy(at, &value, sizeof value);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

/* All of `text` as a number of at most `max`; false otherwise. */
static bool number_parse(const char *text, bool hexadecimal, uint32_t max, uint32_t *value)
{
    int base = 10;
    if (hexadecimal && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    uint64_t sum = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        const int digit = digit_of(*text);
        if (digit >= base)
            return false;
        sum = sum * (unsigned)base + (unsigned)digit;
        if (sum > max)
            return false;
    }
    *value = (uint32_t)sum;
    return true;
}

static void report_argument(const char *argument, size_t size, const char *why, bootargs_report *report,
                            void *context)
{
    char what[REPORT_MAX_BYTES + 1];
    if (!report)
        return;
    const size_t kept = size < REPORT_MAX_BYTES ? size : REPORT_MAX_BYTES;
    for (size_t i = 0; i < kept; i++)
        what[i] = argument[i] > ' ' && argument[i] < 0x7f ? argument[i] : '?';
    what[kept] = '\0';
    report(context, what, why);
}

/* NULL, or why the value was ignored. */
static const char *decode_value(const struct field *field, struct bootargs *args, const char *data,
                                size_t size)
{
    char value[BOOTARGS_NET_MAX + 1]; /* of the longest */
    uint32_t number;
    if (size > (field->check ? field->text_max : BOOTARGS_VALUE_MAX))
        return field->check ? field->bound : field->range;
    memcpy(value, data, size);
    value[size] = '\0';
    if (strlen(value) != size)
        return "value holds a zero byte";
    if (field->check) {
        const char *wanted = field->check(value);
        if (!wanted)
            memcpy((char *)args + field->offset, value, size + 1);
        return wanted;
    }
    if (!number_parse(value, field->hexadecimal, field->max, &number))
        return field->range;
    number_set(field, args, number);
    return NULL;
}

/* Decode one argument that starts with the prefix. NULL, or why it was ignored. */
static const char *decode_one(struct bootargs *args, const char *argument, size_t size)
{
    const char *key = argument + sizeof BOOTARGS_PREFIX - 1;
    const char *end = argument + size;
    const char *equals = memchr(key, '=', (size_t)(end - key));
    if (!equals)
        return "has no value; want " BOOTARGS_PREFIX "key=value";
    const size_t key_size = (size_t)(equals - key);
    const size_t value_size = (size_t)(end - equals) - 1;

    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const struct field *field = &fields[i];
        if (strlen(field->key) != key_size || memcmp(field->key, key, key_size) != 0)
            continue;
        return decode_value(field, args, equals + 1, value_size);
    }
    return "unknown key";
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\0';
}

void bootargs_defaults(struct bootargs *args)
{
    *args = (struct bootargs){
        .hostname = "rekindle",
        .root = "vda",
        .overlay = "tmpfs",
        .agent = "/sbin/agent",
        .agent_restarts = 3,
        .grace_ms = 2000,
        .exit_port = 0,
    };
}

void bootargs_decode(struct bootargs *args, const char *line, size_t size, bootargs_report *report,
                     void *context)
{
    static const char prefix[] = BOOTARGS_PREFIX;
    size_t at = 0;
    while (at < size) {
        if (is_space(line[at])) {
            at++;
            continue;
        }
        size_t end = at;
        while (end < size && !is_space(line[end]))
            end++;
        if (end - at >= sizeof prefix - 1 && memcmp(line + at, prefix, sizeof prefix - 1) == 0) {
            const char *why = decode_one(args, line + at, end - at);
            if (why)
                report_argument(line + at, end - at, why, report, context);
        }
        at = end;
    }
}

/* " rekindle.key=value" of one field into `out`. The length, or -EINVAL. */
static int encode_one(const struct field *field, const struct bootargs *args, const char *space, char *out,
                      size_t capacity)
{
    if (field->check) {
        const char *value = (const char *)args + field->offset;
        if (!memchr(value, '\0', field->text_max + 1) || field->check(value))
            return -EINVAL;
        return snprintf(out, capacity, "%s%s%s=%s", space, BOOTARGS_PREFIX, field->key, value);
    }
    const uint32_t value = number_get(field, args);
    if (value > field->max)
        return -EINVAL;
    if (field->hexadecimal)
        return snprintf(out, capacity, "%s%s%s=0x%x", space, BOOTARGS_PREFIX, field->key, value);
    return snprintf(out, capacity, "%s%s%s=%u", space, BOOTARGS_PREFIX, field->key, value);
}

static bool is_default(const struct field *field, const struct bootargs *args,
                       const struct bootargs *defaults)
{
    if (field->check)
        return strncmp((const char *)args + field->offset, (const char *)defaults + field->offset,
                       field->text_max + 1) == 0;
    return number_get(field, args) == number_get(field, defaults);
}

int bootargs_encode(const struct bootargs *args, char *line, size_t capacity)
{
    struct bootargs defaults;
    bootargs_defaults(&defaults);
    const size_t start = strnlen(line, capacity);
    if (start == capacity)
        return -ENOSPC;
    size_t used = start;
    int error = 0;
    for (size_t i = 0; i < FIELD_COUNT && error == 0; i++) {
        if (is_default(&fields[i], args, &defaults))
            continue;
        const char *space = used > 0 && !is_space(line[used - 1]) ? " " : "";
        const int length = encode_one(&fields[i], args, space, line + used, capacity - used);
        if (length < 0)
            error = length;
        else if ((size_t)length >= capacity - used)
            error = -ENOSPC;
        else
            used += (size_t)length;
    }
    if (error)
        line[start] = '\0'; /* all of it or none */
    return error;
}
