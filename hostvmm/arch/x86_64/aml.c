/*
 * See aml.h. A package's length comes before its contents and has one to four bytes: the contents are
 * written first, then moved up to make room for it.
 */
#include "hostvmm/arch/x86_64/aml.h"

#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_EXTENDED = 0x5b,
    OP_EXTENDED_DEVICE = 0x82,
    OP_ARG0 = 0x68,
    OP_NOTIFY = 0x86,
    OP_EQUAL = 0x93,
    OP_IF = 0xa0,
    METHOD_SERIALIZED = 0x08,
    RESOURCE_IO = 0x47,
    RESOURCE_END = 0x79,
    RESOURCE_MEMORY32 = 0x86,
    RESOURCE_INTERRUPT = 0x89,
};

static void put(struct aml *aml, uint64_t value, unsigned bytes)
{
    cursor_put_le(&aml->out, value, bytes);
}

void aml_init(struct aml *aml, void *to, size_t capacity)
{
    *aml = (struct aml){.out = cursor_over(to, capacity)};
}

static void package_begin(struct aml *aml)
{
    if (aml->depth == AML_DEPTH_MAX)
        aml->out.failed = true;
    else
        aml->starts[aml->depth++] = aml->out.at;
}

void aml_end(struct aml *aml)
{
    if (aml->depth == 0 || aml->out.failed) {
        aml->out.failed = true;
        return;
    }
    const size_t start = aml->starts[--aml->depth];
    const size_t size = aml->out.at - start;
    /* The length counts its own bytes. One byte holds 6 bits; more hold 4 bits and 8 for each further byte.
     */
    unsigned length_bytes = 1;
    if (size + 1 > 0x3f)
        for (length_bytes = 2; size + length_bytes >= (size_t)1 << (4 + 8 * (length_bytes - 1));
             length_bytes++)
            if (length_bytes == 4) {
                aml->out.failed = true;
                return;
            }
    if (!cursor_take(&aml->out, length_bytes))
        return;
    memmove(aml->out.data + start + length_bytes, aml->out.data + start, size);
    const size_t length = size + length_bytes;
    struct cursor at = cursor_over(aml->out.data + start, length_bytes);
    if (length_bytes == 1) {
        cursor_put_le(&at, length, 1);
        return;
    }
    cursor_put_le(&at, (length_bytes - 1) << 6 | (length & 0xf), 1);
    cursor_put_le(&at, length >> 4, length_bytes - 1);
}

static void put_segment(struct aml *aml, const char *name)
{
    if (strlen(name) != 4)
        aml->out.failed = true;
    cursor_put(&aml->out, name, 4);
}

static void put_name(struct aml *aml, const char *name)
{
    put(aml, OP_NAME, 1);
    put_segment(aml, name);
}

static void put_integer(struct aml *aml, uint32_t value)
{
    if (value <= 1) {
        put(aml, value ? OP_ONE : OP_ZERO, 1);
    } else if (value <= UINT8_MAX) {
        put(aml, OP_BYTE, 1);
        put(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        put(aml, OP_WORD, 1);
        put(aml, value, 2);
    } else {
        put(aml, OP_DWORD, 1);
        put(aml, value, 4);
    }
}

void aml_scope(struct aml *aml, const char *path)
{
    put(aml, OP_SCOPE, 1);
    package_begin(aml);
    if (*path == '\\') {
        put(aml, '\\', 1);
        path++;
    }
    put_segment(aml, path);
}

void aml_device(struct aml *aml, const char *name)
{
    put(aml, OP_EXTENDED, 1);
    put(aml, OP_EXTENDED_DEVICE, 1);
    package_begin(aml);
    put_segment(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint32_t value)
{
    put_name(aml, name);
    put_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
    put_name(aml, name);
    put(aml, OP_STRING, 1);
    cursor_put(&aml->out, value, strlen(value) + 1);
}

static unsigned hex_digit(char c)
{
    return c >= 'A' ? (unsigned)(c - 'A') + 10 : (unsigned)(c - '0');
}

void aml_name_eisaid(struct aml *aml, const char *name, const char *id)
{
    if (strlen(id) != 7) {
        aml->out.failed = true;
        return;
    }
    /* Three letters of five bits and four hexadecimal digits, the most significant byte first. */
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | (uint32_t)(id[i] - 'A' + 1);
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    put_name(aml, name);
    put(aml, OP_DWORD, 1);
    cursor_put_be(&aml->out, value, 4);
}

void aml_name_package(struct aml *aml, const char *name, const uint32_t *values, uint8_t count)
{
    put_name(aml, name);
    put(aml, OP_PACKAGE, 1);
    package_begin(aml);
    put(aml, count, 1);
    for (unsigned i = 0; i < count; i++)
        put_integer(aml, values[i]);
    aml_end(aml);
}

void aml_method(struct aml *aml, const char *name, unsigned arguments)
{
    put(aml, OP_METHOD, 1);
    package_begin(aml);
    put_segment(aml, name);
    put(aml, METHOD_SERIALIZED | arguments, 1);
}

void aml_notify_if(struct aml *aml, uint32_t value, const char *device, uint8_t code)
{
    put(aml, OP_IF, 1);
    package_begin(aml);
    put(aml, OP_EQUAL, 1);
    put(aml, OP_ARG0, 1);
    put_integer(aml, value);
    put(aml, OP_NOTIFY, 1);
    put_segment(aml, device);
    put_integer(aml, code);
    aml_end(aml);
}

/* _CRS is a buffer: package length, then its size as an integer, then the descriptors. The size is written
 * as a byte, which bounds the descriptors of one device to 255 bytes. */
void aml_resources(struct aml *aml)
{
    put_name(aml, "_CRS");
    put(aml, OP_BUFFER, 1);
    package_begin(aml);
    put(aml, OP_BYTE, 1);
    put(aml, 0, 1);
}

void aml_resources_end(struct aml *aml)
{
    put(aml, RESOURCE_END, 1);
    put(aml, 0, 1); /* checksum 0: not used */
    if (aml->out.failed || aml->depth == 0) {
        aml->out.failed = true;
        return;
    }
    const size_t start = aml->starts[aml->depth - 1] + 2;
    const size_t size = aml->out.at - start;
    if (size > UINT8_MAX)
        aml->out.failed = true;
    else
        aml->out.data[start - 1] = (uint8_t)size;
    aml_end(aml);
}

void aml_memory32(struct aml *aml, uint32_t base, uint32_t size)
{
    put(aml, RESOURCE_MEMORY32, 1);
    put(aml, 9, 2);
    put(aml, 1, 1); /* read and write */
    put(aml, base, 4);
    put(aml, size, 4);
}

void aml_io(struct aml *aml, uint16_t base, uint8_t size)
{
    put(aml, RESOURCE_IO, 1);
    put(aml, 1, 1); /* 16-bit decoding */
    put(aml, base, 2);
    put(aml, base, 2);
    put(aml, 1, 1); /* alignment */
    put(aml, size, 1);
}

void aml_interrupt_edge(struct aml *aml, uint32_t gsi)
{
    put(aml, RESOURCE_INTERRUPT, 1);
    put(aml, 6, 2);
    put(aml, 3, 1); /* consumer, edge, active high, exclusive */
    put(aml, 1, 1);
    put(aml, gsi, 4);
}
