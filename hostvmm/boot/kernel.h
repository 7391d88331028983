/*
 * Kernel images: from a file's bytes to a plan of what goes where.
 *
 * Parsing is pure: it reads the file through a callback, writes a plan, and says in words what is wrong with
 * a file that cannot be booted. Nothing in the file is trusted; a plan that was made has every segment within
 * the file, at or above ARCH_BOOT_AREA_END, not overlapping another, and below 2^40.
 */
#ifndef HOSTVMM_BOOT_KERNEL_H
#define HOSTVMM_BOOT_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "hostvmm/memory.h"

struct kernel_source {
    /* All of [offset, offset + size), which lies within size_bytes, into `to`. 0 or -errno. */
    int (*read)(void *context, uint64_t offset, void *to, size_t size);
    void *context;
    uint64_t size_bytes;
};

enum kernel_protocol {
    KERNEL_PVH,     /* 32-bit entry named by an ELF note: Xen's PVH start info */
    KERNEL_LINUX64, /* Linux's 64-bit boot protocol: zero page, identity map */
};

struct kernel_segment {
    uint64_t file_offset;
    uint64_t file_bytes;
    uint64_t memory_bytes; /* >= file_bytes; the rest is zero */
    struct gpa at;
};

#define KERNEL_SEGMENTS_MAX     16
#define KERNEL_SETUP_HEADER_MAX 128

struct kernel_plan {
    enum kernel_protocol protocol;
    struct gpa entry;
    struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
    unsigned segment_count;
    uint64_t end;                /* first address that the kernel does not need for itself when it starts */
    uint64_t initrd_end;         /* an initrd must end at or below it */
    uint32_t command_line_max;   /* bytes, NUL not counted */
    uint32_t setup_header_bytes; /* of a bzImage: to be copied into the zero page at 0x1f1 */
    uint8_t setup_header[KERNEL_SETUP_HEADER_MAX];
};

struct kernel_error {
    char text[200];
};

/* 0; -ENOEXEC with `error` filled in: not a kernel that can be booted here; -errno of read, likewise. */
int kernel_parse(const struct kernel_source *source, struct kernel_plan *plan, struct kernel_error *error);

/* The two formats; called by kernel_parse. `head` holds the first KERNEL_HEAD_BYTES (zeros beyond the end).
 */
#define KERNEL_HEAD_BYTES 4096
int kernel_parse_elf(const struct kernel_source *source, const uint8_t *head, struct kernel_plan *plan,
                     struct kernel_error *error);
int kernel_parse_bzimage(const struct kernel_source *source, const uint8_t *head, struct kernel_plan *plan,
                         struct kernel_error *error);

/* For the parsers: fill in the error's text and give -ENOEXEC. */
int kernel_refuse(struct kernel_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
