/*
 * Guest memory: the only way hostvmm reaches it.
 *
 * A guest-physical address is a type of its own, so that it cannot be dereferenced by accident. RAM is one
 * memfd (or file) mapped once; on x86-64 it appears to the guest as at most two regions, below and above the
 * 32-bit MMIO hole. Copy a guest structure once into a local, then validate the copy: the guest may change it
 * at any time.
 */
#ifndef HOSTVMM_MEMORY_H
#define HOSTVMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpa {
    uint64_t value;
};

static inline struct gpa gpa_of(uint64_t value)
{
    return (struct gpa){value};
}

#define GUEST_REGIONS_MAX 2

struct guest_region {
    uint64_t base; /* guest-physical, page-aligned */
    uint64_t size_bytes;
    uint8_t *host; /* where it is mapped here */
    uint64_t file_offset_bytes;
};

struct guest_memory {
    struct guest_region regions[GUEST_REGIONS_MAX];
    unsigned region_count;
    uint64_t size_bytes;
    int fd;
};

/* Allocate RAM laid out by arch_memory_layout(). 0 or -errno. Pages are given by the host on first touch. */
int guest_memory_init(struct guest_memory *memory, uint64_t size_bytes);
/* For unit tests and fuzzing: one region at guest address 0 over a caller's buffer; no descriptor. */
void guest_memory_over(struct guest_memory *memory, void *buffer, uint64_t size_bytes);
void guest_memory_fini(struct guest_memory *memory);

/* Host address of `size` bytes at `at`, all within one region; NULL otherwise. size 0 gives NULL. */
void *guest_memory_at(const struct guest_memory *memory, struct gpa at, uint64_t size);

/* Copy out of or into the guest. 0, or -EFAULT when any byte lies outside RAM (nothing is copied then). */
int guest_memory_read(const struct guest_memory *memory, struct gpa at, void *to, uint64_t size);
int guest_memory_write(const struct guest_memory *memory, struct gpa at, const void *from, uint64_t size);

/*
 * Advice: back a range that is known to be used with huge pages now, where the host can: one fault instead of
 * 512. `at` and `size` are multiples of GUEST_HUGE_PAGE_BYTES, else nothing happens. The contents stay.
 */
#define GUEST_HUGE_PAGE_BYTES (2u * 1024 * 1024)
void guest_memory_use_huge(const struct guest_memory *memory, struct gpa at, uint64_t size);

#endif
