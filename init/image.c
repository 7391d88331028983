/* See image.h. */
#include "init/image.h"

#include <stdbool.h>

#include "agent/base/cursor.h"

#define EROFS_AT       1024
#define EROFS_MAGIC    0xe0f5e1e2u
#define EXT4_AT        1024
#define EXT4_MAGIC     0xef53u
#define SQUASHFS_MAGIC 0x73717368u

static uint64_t field(const uint8_t *head, size_t size, size_t at, unsigned bytes)
{
    struct cursor c = cursor_over((void *)(uintptr_t)head, size);
    cursor_seek(&c, at);
    return cursor_get_le(&c, bytes);
}

/* blocks << shift, and UINT64_MAX where that overflows or the shift makes no sense. */
static uint64_t size_of(uint64_t blocks, uint64_t shift)
{
    return shift > 32 || blocks > UINT64_MAX >> shift ? UINT64_MAX : blocks << shift;
}

static bool is_zero(const uint8_t *head, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (head[i] != 0)
            return false;
    return true;
}

struct image_verdict image_identify(const uint8_t *head, size_t size, uint64_t device_bytes)
{
    struct image_verdict v = {.kind = IMAGE_UNKNOWN};
    if (size < 512)
        return (struct image_verdict){.kind = IMAGE_EMPTY};
    if (field(head, size, EROFS_AT, 4) == EROFS_MAGIC)
        v = (struct image_verdict){
            IMAGE_EROFS, "erofs",
            size_of(field(head, size, EROFS_AT + 36, 4), field(head, size, EROFS_AT + 12, 1))};
    else if (field(head, size, 0, 4) == SQUASHFS_MAGIC)
        v = (struct image_verdict){IMAGE_SQUASHFS, "squashfs", field(head, size, 40, 8)};
    else if (field(head, size, EXT4_AT + 56, 2) == EXT4_MAGIC)
        /* The upper half of the block count is used by file systems above 16 TiB alone. */
        v = (struct image_verdict){
            IMAGE_EXT4, "ext4",
            size_of(field(head, size, EXT4_AT + 4, 4), 10 + field(head, size, EXT4_AT + 24, 4))};
    else if (is_zero(head, size))
        v.kind = IMAGE_BLANK;
    if (v.file_system && (v.wanted_bytes > device_bytes || size < IMAGE_PROBE_BYTES))
        v.kind = IMAGE_TRUNCATED;
    return v;
}
