/* See dns_answers.h. */
#include "tests/unit/tls/dns_answers.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static void put(struct answer *answer, const void *data, size_t size)
{
    if (size > sizeof answer->data - answer->size)
        abort();
    if (size > 0)
        memcpy(answer->data + answer->size, data, size);
    answer->size += size;
}

static void put16(struct answer *answer, unsigned value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};
    put(answer, bytes, sizeof bytes);
}

static size_t wire_name(uint8_t out[256], const char *name)
{
    size_t size = 0;
    while (*name) {
        const size_t length = strcspn(name, ".");
        if (length == 0 || length > 63 || size + length + 2 > 255)
            abort();
        out[size++] = (uint8_t)length;
        memcpy(out + size, name, length);
        size += length;
        name += length + (name[length] == '.');
    }
    out[size++] = 0;
    return size;
}

static void put_name(struct answer *answer, const char *name)
{
    uint8_t wire[256];
    put(answer, wire, wire_name(wire, name));
}

void answer_begin(struct answer *answer, uint16_t id, uint16_t flags, const char *name, uint16_t type)
{
    answer->size = 0;
    put16(answer, id);
    put16(answer, flags);
    put16(answer, 1);
    for (int i = 0; i < 3; i++)
        put16(answer, 0);
    put_name(answer, name);
    put16(answer, type);
    put16(answer, 1);
}

void answer_record(struct answer *answer, const char *owner, uint16_t type, const void *data, size_t size)
{
    if (++answer->data[7] == 0)
        answer->data[6]++;
    if (owner)
        put_name(answer, owner);
    else
        put16(answer, 0xc00c);
    put16(answer, type);
    put16(answer, 1);
    put16(answer, 0);
    put16(answer, 60);
    put16(answer, (unsigned)size);
    put(answer, data, size);
}

void answer_address(struct answer *answer, const char *owner, const char *address)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, address, bytes) == 1)
        answer_record(answer, owner, 1, bytes, 4);
    else if (inet_pton(AF_INET6, address, bytes) == 1)
        answer_record(answer, owner, 28, bytes, 16);
    else
        abort();
}

void answer_cname(struct answer *answer, const char *owner, const char *other)
{
    uint8_t wire[256];
    answer_record(answer, owner, ANSWER_CNAME, wire, wire_name(wire, other));
}

int answer_question(const uint8_t *query, size_t size, char name[256], uint16_t *id, uint16_t *type)
{
    size_t at = 12, out = 0;
    if (size < 12 || size > 512)
        return 0;
    while (at < size && query[at] > 0 && at + 1 + query[at] < size) {
        if (out > 0)
            name[out++] = '.';
        memcpy(name + out, query + at + 1, query[at]);
        out += query[at];
        at += 1u + query[at];
    }
    name[out] = '\0';
    if (at + 16 != size) /* zero, type, class, OPT */
        return 0;
    *id = (uint16_t)(query[0] << 8 | query[1]);
    *type = (uint16_t)(query[at + 1] << 8 | query[at + 2]);
    return 1;
}
