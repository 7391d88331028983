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
    int fd;         /* the memfd; -1: mapped from a snapshot, or a caller's buffer */
    int pagemap_fd; /* /proc/self/pagemap, ours, for who cannot open it later; -1: opened when it is needed */
    bool mapped;    /* the regions' mappings are ours */
    uint64_t *dirty; /* a bit a page, by file offset: written by us since tracking began; NULL: not tracked */
    bool huge;       /* of the host's reserve of huge pages, none smaller */
    uint64_t
        *discarded; /* the same, of a snapshot's memory: discarded at some time, so nothing of the file is
                          * in it; of huge pages: given, and not taken back. NULL: none yet */
    unsigned discarded_pieces; /* how often that made the mappings more */
};

/* Allocate RAM laid out by arch_memory_layout(). 0 or -errno. Pages are given by the host on first touch. */
int guest_memory_init(struct guest_memory *memory, uint64_t size_bytes);

/* The same in huge pages, from the host's reserve (hugetlbfs): all of them are put aside now. -EINVAL: no
 * multiple of GUEST_HUGE_PAGE_BYTES; -ENOMEM, the host has too few. */
int guest_memory_init_huge(struct guest_memory *memory, uint64_t size_bytes);

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
 * ---- giving memory back to the host (memory_discard.c); the main thread ----
 *
 * Discard: the contents go, the range reads as zeros, and the host has the memory back where it can: of huge
 * pages only whole ones, of a snapshot's mapping not where the process would have too many mappings. Others
 * may read and write the range at the same time: what they write may be lost. It counts as written. 0; -EINVAL
 * not in pages; -EFAULT not in one region; -errno, then nothing happened.
 */
int guest_memory_discard(struct guest_memory *memory, struct gpa at, uint64_t size);
/* The same for those pages of the range that are zero already, and that cost the host something; of huge pages
 * for none. Nobody may write the range meanwhile. The bytes given back, or as above. */
int64_t guest_memory_discard_zeros(struct guest_memory *memory, struct gpa at, uint64_t size);
/* After a discard: the guest will not touch the range before it says so / it does again. Huge pages that are
 * given piece by piece go back when they are complete. */
void guest_memory_given(struct guest_memory *memory, struct gpa at, uint64_t size, bool given);
/* Where a host address that guest_memory_at gave lies in the guest. */
struct gpa guest_memory_where(const struct guest_memory *memory, const void *host);

/*
 * Which pages this process writes for the guest: KVM's dirty log does not know of them. Tracking starts with
 * no page marked; every write through this header marks, and who writes through guest_memory_at says so with
 * guest_memory_dirtied before anybody could look. Marks are atomic: any thread.
 */
int guest_memory_track(
    struct guest_memory *memory); /* 0 or -ENOMEM; starts anew when it is tracked already */
void guest_memory_dirtied(const struct guest_memory *memory, const void *host, uint64_t size);

#endif
