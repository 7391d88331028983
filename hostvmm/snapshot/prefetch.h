/*
 * The pages that a clone touches before it is ready (FORMAT.md, "prefetch"), recorded once when the snapshot
 * is made. With them a restore does the work of a thousand page faults in a few calls, before the guest runs:
 * pages that will be written are copied, and all are mapped for the guest.
 *
 * Advice and nothing else: without it, or with another snapshot's, a clone does the same, only later.
 */
#ifndef HOSTVMM_SNAPSHOT_PREFETCH_H
#define HOSTVMM_SNAPSHOT_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostvmm/memory.h"

#define PREFETCH_FILE      "prefetch"
#define PREFETCH_VERSION   1u
#define PREFETCH_RUNS_MAX  4096u
#define PREFETCH_ID_BYTES  16 /* of the snapshot it belongs to */
#define PREFETCH_WHY_BYTES 128

/* A block of 2 MiB of which this many pages are wanted, all only read, is worth one huge page. */
#define PREFETCH_HUGE_PAGES 16u

struct prefetch_run {
    uint64_t first_page; /* by offset in RAM */
    uint64_t page_count; /* not 0 */
    bool written;        /* by the guest, or for it */
};

/* Ascending, apart from each other; as they are in the file. */
struct prefetch {
    unsigned run_count;
    uint8_t runs[PREFETCH_RUNS_MAX][8];
};

/* Runs from two bitmaps (a bit a page by offset in RAM). Written pages count as touched. What is beyond the
 * limit is left out. */
void prefetch_make(struct prefetch *prefetch, const uint64_t *touched, const uint64_t *written,
                   uint64_t page_count);
struct prefetch_run prefetch_run_at(const struct prefetch *prefetch, unsigned index);

/* Into the directory of the snapshot, under its name only when it is whole. 0 or -errno. */
int prefetch_write(const struct prefetch *prefetch, int directory, const uint8_t id[PREFETCH_ID_BYTES]);

/* 0; -ENOENT there is none; -EBADMSG with `why` (PREFETCH_WHY_BYTES), -errno. No run after a failure. */
int prefetch_read(struct prefetch *prefetch, int directory, const uint8_t id[PREFETCH_ID_BYTES],
                  uint64_t page_count, char *why);

/*
 * Do the work ahead, on memory that is mapped from a snapshot. `vcpu_fd` is a vCPU that does not run and has
 * its state; the pages are mapped for all of its VM. A host that cannot do a part of it goes on without.
 */
void prefetch_apply(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd);
/* The same without copying: all pages are mapped as the file has them. */
void prefetch_map(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd);

#endif
