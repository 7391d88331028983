/*
 * What a block device holds, told from its first bytes. Pure: bytes in, verdict out.
 *
 * Sources: EROFS on-disk format (superblock at 1024), squashfs 4.0 (superblock at 0), ext4 data structures
 * (superblock at 1024). Only the magic and the size are read: the kernel's own driver checks the rest. The
 * size is checked here because a truncated image mounts well and fails much later, far from the cause.
 */
#ifndef INIT_IMAGE_H
#define INIT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define IMAGE_PROBE_BYTES 2048

enum image_kind {
    IMAGE_EROFS,
    IMAGE_SQUASHFS,
    IMAGE_EXT4,
    IMAGE_BLANK,     /* nothing but zeros */
    IMAGE_EMPTY,     /* too short to hold anything */
    IMAGE_TRUNCATED, /* a file system longer than the device */
    IMAGE_UNKNOWN,
};

struct image_verdict {
    enum image_kind kind;
    const char *file_system; /* as mount(2) wants it; NULL when there is none we know */
    uint64_t wanted_bytes;   /* of the file system, when it is known */
};

/* `head` holds the first `size` bytes (IMAGE_PROBE_BYTES, fewer when the device is shorter). */
struct image_verdict image_identify(const uint8_t *head, size_t size, uint64_t device_bytes);

#endif
