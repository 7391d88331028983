/*
 * Bounded byte cursors with sticky errors: a reader over bytes from a peer, a writer into a fixed buffer.
 *
 * After the first access out of bounds `failed` stays set, reads give zero and writes do nothing, so a parser
 * checks once at its end. Pure, no I/O. Little-endian and big-endian as named.
 */
#ifndef AGENT_BASE_CURSOR_H
#define AGENT_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
    uint8_t *data;
    size_t size_bytes;
    size_t at;
    bool failed;
};

static inline struct cursor cursor_over(void *data, size_t size_bytes)
{
    return (struct cursor){.data = data, .size_bytes = size_bytes};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return c->failed ? 0 : c->size_bytes - c->at;
}

/* `size` bytes at the cursor, which moves past them; NULL, and failed, when there are fewer. */
static inline uint8_t *cursor_take(struct cursor *c, size_t size)
{
    if (c->failed || size > c->size_bytes - c->at) {
        c->failed = true;
        return NULL;
    }
    uint8_t *at = c->data + c->at;
    c->at += size;
    return at;
}

static inline void cursor_seek(struct cursor *c, size_t at)
{
    if (at > c->size_bytes)
        c->failed = true;
    else
        c->at = at;
}

static inline void cursor_put(struct cursor *c, const void *data, size_t size)
{
    uint8_t *at = cursor_take(c, size);
    if (at && size > 0)
        memcpy(at, data, size);
}

static inline uint64_t cursor_get_le(struct cursor *c, unsigned bytes)
{
    const uint8_t *at = cursor_take(c, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; at && i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static inline void cursor_put_le(struct cursor *c, uint64_t value, unsigned bytes)
{
    uint8_t *at = cursor_take(c, bytes);
    for (unsigned i = 0; at && i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t cursor_get_be(struct cursor *c, unsigned bytes)
{
    const uint8_t *at = cursor_take(c, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; at && i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static inline void cursor_put_be(struct cursor *c, uint64_t value, unsigned bytes)
{
    uint8_t *at = cursor_take(c, bytes);
    for (unsigned i = 0; at && i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

#endif
