/*
 * The check of a root image before anything is booted from it: which file system it holds, and whether all
 * of it is there. Pure; the guest's own driver judges the rest.
 */
#ifndef HOSTVMM_BOOT_IMAGE_H
#define HOSTVMM_BOOT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define IMAGE_HEAD_BYTES 2048

/*
 * `head` holds the first IMAGE_HEAD_BYTES of the file, zeros beyond its end. The file system's name; or NULL,
 * and `why` says what is wrong.
 */
const char *image_check(const uint8_t head[IMAGE_HEAD_BYTES], uint64_t file_bytes, char *why,
                        size_t why_bytes);

#endif
