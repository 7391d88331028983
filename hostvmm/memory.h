/*
 * Guest memory: the only way hostvmm reaches it.
 *
 * A guest-physical address is a type of its own, so that it cannot be dereferenced by accident. RAM is one
 * memfd, or the files of a snapshot mapped copy-on-write; on x86-64 it appears to the guest as at most two
 * regions, below and above the 32-bit MMIO hole. Copy a guest structure once into a local, then validate the
 * copy: the guest may change it at any time.
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

#define GUEST_PAGE_BYTES 4096u

struct guest_memory {
    struct guest_region regions[GUEST_REGIONS_MAX];
    unsigned region_count;
    uint64_t size_bytes;
    int fd;          /* the memfd; -1: mapped from a snapshot, or a caller's buffer */
    bool mapped;     /* the regions' mappings are ours */
    uint64_t *dirty; /* a bit a page, by file offset: written by us since tracking began; NULL: not tracked */
};

/* Allocate RAM laid out by arch_memory_layout(). 0 or -errno. Pages are given by the host on first touch. */
int guest_memory_init(struct guest_memory *memory, uint64_t size_bytes);

/* `page_count` pages of a file, from the offset that all runs before them have together. */
struct guest_run {
    uint64_t page_count;
    int fd;
};
/* RAM whose contents are these files', copied when written. The runs cover it exactly. The descriptors may be
 * closed afterwards. 0; -EINVAL the runs do not cover it; -errno. */
int guest_memory_init_from(struct guest_memory *memory, uint64_t size_bytes, const struct guest_run *runs,
                           unsigned run_count);
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

/*
 * Which pages this process writes for the guest: KVM's dirty log does not know of them. Tracking starts with
 * no page marked; every write through this header marks, and who writes through guest_memory_at says so with
 * guest_memory_dirtied before anybody could look. Marks are atomic: any thread.
 */
int guest_memory_track(
    struct guest_memory *memory); /* 0 or -ENOMEM; starts anew when it is tracked already */
void guest_memory_dirtied(const struct guest_memory *memory, const void *host, uint64_t size);

#endif
