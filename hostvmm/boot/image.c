/*
 * See image.h. The three file systems that the guest kernel mounts as root, by their superblocks: erofs
 * (fs/erofs/erofs_fs.h), squashfs 4.0 and ext4 (Documentation/filesystems/ext4/super.rst), all little-endian.
 */
#include "hostvmm/boot/image.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static uint64_t field(const uint8_t *head, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)head[offset + i] << (8 * i);
    return value;
}

/* Each gives the bytes that the file system says it has; 0 when its superblock makes no sense. */
static uint64_t erofs_bytes(const uint8_t *head)
{
    const unsigned block_bits = head[1024 + 12];
    const uint64_t blocks = field(head, 1024 + 36, 4);
    return block_bits >= 9 && block_bits <= 16 ? blocks << block_bits : 0;
}

static uint64_t squashfs_bytes(const uint8_t *head)
{
    const uint64_t bytes = field(head, 40, 8);
    return field(head, 28, 2) == 4 ? bytes : 0;
}

static uint64_t ext4_bytes(const uint8_t *head)
{
    const uint64_t low = field(head, 1024 + 4, 4);
    const bool wide = field(head, 1024 + 0x60, 4) & 0x80; /* INCOMPAT_64BIT */
    const uint64_t high = wide ? field(head, 1024 + 0x150, 4) : 0;
    const uint64_t block_bits = 10 + field(head, 1024 + 0x18, 4);
    return block_bits <= 16 && high < 1u << 16 ? (high << 32 | low) << block_bits : 0;
}

const char *image_check(const uint8_t head[IMAGE_HEAD_BYTES], uint64_t file_bytes, char *why,
                        size_t why_bytes)
{
    static const struct {
        const char *name;
        unsigned magic_offset;
        unsigned magic_bytes;
        uint32_t magic;
        uint64_t (*bytes)(const uint8_t *head);
    } kinds[] = {
        {"erofs", 1024, 4, 0xe0f5e1e2, erofs_bytes},
        {"squashfs", 0, 4, 0x73717368, squashfs_bytes},
        {"ext4", 1024 + 0x38, 2, 0xef53, ext4_bytes},
    };
    if (file_bytes == 0) {
        (void)snprintf(why, why_bytes, "the file is empty");
        return NULL;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (field(head, kinds[i].magic_offset, kinds[i].magic_bytes) != kinds[i].magic)
            continue;
        const uint64_t bytes = kinds[i].bytes(head);
        if (bytes > 0 && bytes <= file_bytes)
            return kinds[i].name;
        if (bytes == 0)
            (void)snprintf(why, why_bytes, "its %s superblock is damaged; build the image again",
                           kinds[i].name);
        else
            (void)snprintf(why, why_bytes,
                           "truncated: its %s file system has %llu bytes, the file %llu; copy it again",
                           kinds[i].name, (unsigned long long)bytes, (unsigned long long)file_bytes);
        return NULL;
    }
    (void)snprintf(why, why_bytes, "holds no file system known here; want erofs, squashfs or ext4");
    return NULL;
}
