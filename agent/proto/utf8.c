/* See utf8.h. */
#include "agent/proto/utf8.h"

#include <stdint.h>

/* Size of the valid character at `at` (at least one byte left), 0 when there is none. The second byte's range
 * depends on the first: that alone excludes overlong forms, surrogates and values past U+10FFFF. */
static size_t character_size(const uint8_t *at, size_t left)
{
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    size_t size;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xC2 && at[0] <= 0xDF)
        size = 2;
    else if (at[0] >= 0xE0 && at[0] <= 0xEF)
        size = 3;
    else if (at[0] >= 0xF0 && at[0] <= 0xF4)
        size = 4;
    else
        return 0;
    if (at[0] == 0xE0)
        low = 0xA0;
    if (at[0] == 0xED)
        high = 0x9F;
    if (at[0] == 0xF0)
        low = 0x90;
    if (at[0] == 0xF4)
        high = 0x8F;
    if (size > left || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    return size;
}

size_t utf8_valid_prefix(const void *text, size_t size)
{
    const uint8_t *at = text;
    size_t done = 0;
    while (done < size) {
        size_t step = character_size(at + done, size - done);
        if (step == 0)
            break;
        done += step;
    }
    return done;
}

void utf8_clean(void *text, size_t size)
{
    uint8_t *at = text;
    size_t done = 0;
    for (;;) {
        done += utf8_valid_prefix(at + done, size - done);
        if (done == size)
            return;
        at[done++] = '?';
    }
}
