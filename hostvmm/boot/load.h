/*
 * From files to guest memory: the kernel by its plan, the initrd, and where they fit. Also the check of a
 * root image before anything is booted from it.
 */
#ifndef HOSTVMM_BOOT_LOAD_H
#define HOSTVMM_BOOT_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "hostvmm/boot/kernel.h"
#include "hostvmm/memory.h"

/* A kernel file that is open; `fd` stays the caller's. */
int kernel_parse_file(int fd, struct kernel_plan *plan, struct kernel_error *error);

/* An initrd: a file, or bytes of this program. */
struct initrd {
    int fd;              /* -1: `data` */
    const uint8_t *data; /* when fd is -1 */
    uint64_t size_bytes; /* 0: none */
};

/*
 * Where the initrd goes: as high as the kernel allows, page-aligned. 0; or -ENOSPC when kernel and initrd do
 * not fit into this memory, `needed_bytes` then tells the memory they want (a multiple of 1 MiB).
 */
int boot_place_initrd(const struct kernel_plan *plan, const struct guest_memory *memory,
                      uint64_t initrd_bytes, struct gpa *at, uint64_t *needed_bytes);

/* Copy the kernel's segments, or the initrd, to where they go; memory must be fresh, that is, zero. 0;
 * -EFAULT when a segment lies outside RAM; -EPIPE when a file ends early; -errno. */
int boot_load_kernel(const struct kernel_plan *plan, int fd, const struct guest_memory *memory);
int boot_load_initrd(const struct initrd *initrd, const struct guest_memory *memory, struct gpa at);

/* Back with huge pages what every Linux touches while it boots: its own image, the lowest memory, and its
 * page structures at the top of RAM. After loading. Only ever costs or saves time. */
void boot_use_huge_pages(const struct kernel_plan *plan, const struct guest_memory *memory);

/* The initrd with Rekindle's init that is part of this program (initramfs.S). */
extern const uint8_t boot_initramfs[];
extern const uint8_t boot_initramfs_end[];

#endif
