/*
 * The byte cursor, agent/base/cursor.h: after any two of its calls, with any sizes, it stands within its
 * bytes and touches no other; an error sticks.
 *
 * Bounds: buffers of 0 to 8 bytes, any bytes, every place in them, sizes of all 64 bits, numbers of 0 to 8
 * bytes. Sizes up to 9 are cases of their own, the larger ones one more.
 *
 * options: -eva-slevel 100 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "agent/base/cursor.h"

#define BUFFER_BYTES 8u
#define NUMBER_BYTES 8u

static uint8_t buffer[BUFFER_BYTES];
static const uint8_t from[BUFFER_BYTES + 1];

static void check(const struct cursor *c, bool had_failed)
{
    //@ assert c->at <= c->size_bytes <= BUFFER_BYTES;
    //@ assert had_failed != 0 ==> c->failed != 0;
    const size_t left = cursor_left(c);
    //@ assert left <= c->size_bytes;
}

static void take(struct cursor c, uint64_t size_from, uint64_t size_to)
{
    const bool had_failed = c.failed;
    const size_t size = any_u64(size_from, size_to);
    uint8_t *at = cursor_take(&c, size);
    if (at) {
        //@ assert had_failed == 0;
        //@ assert size == 0 || \valid(at + (0 .. size - 1));
    }
    check(&c, had_failed);
}

static void numbers(const struct cursor c, unsigned bytes)
{
    struct cursor get_le = c, get_be = c, put_le = c, put_be = c;
    (void)cursor_get_le(&get_le, bytes);
    (void)cursor_get_be(&get_be, bytes);
    cursor_put_le(&put_le, any_u64(0, UINT64_MAX), bytes);
    cursor_put_be(&put_be, any_u64(0, UINT64_MAX), bytes);
    check(&get_le, c.failed);
    check(&get_be, c.failed);
    check(&put_le, c.failed);
    check(&put_be, c.failed);
}

static void all(const struct cursor c)
{
    for (size_t size = 0; size <= BUFFER_BYTES + 1; size++) {
        struct cursor put = c, seek = c;
        take(c, size, size);
        cursor_put(&put, from, size);
        check(&put, c.failed);
        cursor_seek(&seek, size);
        check(&seek, c.failed);
    }
    take(c, BUFFER_BYTES + 2, UINT64_MAX);
    struct cursor far = c;
    cursor_seek(&far, any_u64(BUFFER_BYTES + 1, UINT64_MAX));
    check(&far, c.failed);
    for (unsigned bytes = 0; bytes <= NUMBER_BYTES; bytes++)
        numbers(c, bytes);
}

int main(void)
{
    any_bytes(buffer, sizeof buffer);
    for (size_t size = 0; size <= BUFFER_BYTES; size++)
        for (size_t at = 0; at <= size; at++)
            for (unsigned failed = 0; failed <= 1; failed++) {
                struct cursor c = cursor_over(buffer + (BUFFER_BYTES - size), size);
                c.at = at;
                c.failed = failed;
                all(c);
            }
    return 0;
}
