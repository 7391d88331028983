/*
 * Guest RAM: see memory.h. One memfd holds all of a booted guest's; it is mapped shared, because a private
 * mapping of a memfd would hold every written page twice. A restored guest's is mapped private from the
 * snapshot's files: what it does not write, it shares with every other clone.
 *
 * Owner: the VM. Regions are fixed before the first vCPU runs, so lookups take no lock.
 */
#include "hostvmm/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/arch/arch.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26) /* linux/memfd.h; not every C library has it */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/*
 * Addresses for one region, such that huge pages can be mapped there: reserve more than is needed, cut off
 * what is too much. NULL, and errno, on failure.
 */
static uint8_t *reserve_aligned(uint64_t size_bytes)
{
    const size_t reserved_bytes = size_bytes + GUEST_HUGE_PAGE_BYTES;
    uint8_t *reserved =
        mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)reserved & (GUEST_HUGE_PAGE_BYTES - 1);
    uint8_t *host = reserved + before;
    const size_t after = reserved_bytes - before - size_bytes;
    if (before > 0)
        (void)munmap(reserved, before);
    if (after > 0)
        (void)munmap(host + size_bytes, after);
    return host;
}

/* Huge pages are put aside at once: without, a guest would die of the first that the host no longer has. */
static void *map_aligned(const struct guest_memory *memory, uint64_t size_bytes, uint64_t offset)
{
    const int reserve = memory->huge ? 0 : MAP_NORESERVE;
    uint8_t *host = reserve_aligned(size_bytes);
    if (!host || mmap(host, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | reserve, memory->fd,
                      (off_t)offset) != MAP_FAILED)
        return host;
    const int saved_errno = errno;
    (void)munmap(host, size_bytes);
    errno = saved_errno;
    return NULL;
}

static int map_regions(struct guest_memory *memory)
{
    uint64_t offset = 0;
    for (unsigned i = 0; i < memory->region_count; i++) {
        struct guest_region *region = &memory->regions[i];
        void *host = map_aligned(memory, region->size_bytes, offset);
        if (!host)
            return -errno;
        region->host = host;
        region->file_offset_bytes = offset;
        offset += region->size_bytes;
        /* Both are advice: a host that refuses only costs speed, or a larger core file. */
        (void)madvise(host, region->size_bytes, MADV_HUGEPAGE);
        (void)madvise(host, region->size_bytes, MADV_DONTDUMP);
    }
    return 0;
}

static int init_fresh(struct guest_memory *memory, uint64_t size_bytes, unsigned flags)
{
    memory->region_count = arch_memory_layout(size_bytes, memory->regions);
    if (memory->region_count == 0)
        return -EINVAL;
    memory->fd = memfd_create("guest-memory", MFD_CLOEXEC | flags);
    int error = memory->fd < 0 || ftruncate(memory->fd, (off_t)size_bytes) < 0 ? -errno : 0;
    if (error == 0)
        error = map_regions(memory);
    if (error)
        guest_memory_fini(memory);
    return error;
}

int guest_memory_init(struct guest_memory *memory, uint64_t size_bytes)
{
    *memory = (struct guest_memory){.size_bytes = size_bytes, .fd = -1, .pagemap_fd = -1, .mapped = true};
    return init_fresh(memory, size_bytes, 0);
}

int guest_memory_init_huge(struct guest_memory *memory, uint64_t size_bytes)
{
    *memory = (struct guest_memory){
        .size_bytes = size_bytes, .fd = -1, .pagemap_fd = -1, .mapped = true, .huge = true};
    return size_bytes % GUEST_HUGE_PAGE_BYTES ? -EINVAL
                                              : init_fresh(memory, size_bytes, MFD_HUGETLB | MFD_HUGE_2MB);
}

/* One region's part of the runs: each a private mapping over the region's reservation. */
static int map_runs(const struct guest_region *region, const struct guest_run *runs, unsigned run_count)
{
    const uint64_t first = region->file_offset_bytes;
    const uint64_t end = first + region->size_bytes;
    uint64_t offset = 0;
    for (unsigned i = 0; i < run_count; i++) {
        const uint64_t run_end = offset + runs[i].page_count * GUEST_PAGE_BYTES;
        const uint64_t from = offset > first ? offset : first;
        const uint64_t to = run_end < end ? run_end : end;
        if (from < to && mmap(region->host + (from - first), to - from, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, runs[i].fd, (off_t)from) == MAP_FAILED)
            return -errno;
        offset = run_end;
    }
    return 0;
}

static int map_snapshot(struct guest_memory *memory, const struct guest_run *runs, unsigned run_count)
{
    uint64_t offset = 0;
    for (unsigned i = 0; i < memory->region_count; i++) {
        struct guest_region *region = &memory->regions[i];
        uint8_t *host = reserve_aligned(region->size_bytes);
        if (!host)
            return -errno;
        region->host = host;
        region->file_offset_bytes = offset;
        offset += region->size_bytes;
        const int error = map_runs(region, runs, run_count);
        if (error)
            return error;
        (void)madvise(host, region->size_bytes, MADV_DONTDUMP); /* a refusal costs a larger core file */
    }
    return 0;
}

int guest_memory_init_from(struct guest_memory *memory, uint64_t size_bytes, const struct guest_run *runs,
                           unsigned run_count)
{
    uint64_t pages = 0;
    *memory = (struct guest_memory){.size_bytes = size_bytes, .fd = -1, .pagemap_fd = -1, .mapped = true};
    for (unsigned i = 0; i < run_count; i++) {
        if (runs[i].page_count > size_bytes / GUEST_PAGE_BYTES - pages)
            return -EINVAL;
        pages += runs[i].page_count;
    }
    if (pages * GUEST_PAGE_BYTES != size_bytes)
        return -EINVAL;
    memory->region_count = arch_memory_layout(size_bytes, memory->regions);
    if (memory->region_count == 0)
        return -EINVAL;
    const int error = map_snapshot(memory, runs, run_count);
    if (error)
        guest_memory_fini(memory);
    return error;
}

void guest_memory_over(struct guest_memory *memory, void *buffer, uint64_t size_bytes)
{
    *memory = (struct guest_memory){.size_bytes = size_bytes, .region_count = 1, .fd = -1, .pagemap_fd = -1};
    memory->regions[0] = (struct guest_region){.size_bytes = size_bytes, .host = buffer};
}

void guest_memory_fini(struct guest_memory *memory)
{
    for (unsigned i = 0; memory->mapped && i < memory->region_count; i++)
        if (memory->regions[i].host)
            (void)munmap(memory->regions[i].host, memory->regions[i].size_bytes);
    memory->region_count = 0;
    free(memory->dirty);
    memory->dirty = NULL;
    free(memory->discarded);
    memory->discarded = NULL;
    fd_close(&memory->fd);
    fd_close(&memory->pagemap_fd);
}

void *guest_memory_at(const struct guest_memory *memory, struct gpa at, uint64_t size)
{
    if (size == 0)
        return NULL;
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t offset = at.value - region->base; /* wraps below the base: then it is too large */
        if (offset < region->size_bytes && size <= region->size_bytes - offset)
            return region->host + offset;
    }
    return NULL;
}

struct gpa guest_memory_where(const struct guest_memory *memory, const void *host)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t offset = (uintptr_t)host - (uintptr_t)region->host;
        if (offset < region->size_bytes)
            return gpa_of(region->base + offset);
    }
    return gpa_of(UINT64_MAX);
}

void guest_memory_use_huge(const struct guest_memory *memory, struct gpa at, uint64_t size)
{
    uint8_t *host = memory->fd >= 0 && !memory->huge ? guest_memory_at(memory, at, size) : NULL;
    const uint64_t mask = GUEST_HUGE_PAGE_BYTES - 1;
    if (!host || ((uintptr_t)host | size) & mask)
        return;
    /* The kernel collapses a range only where something is in it. */
    for (uint64_t block = 0; block < size; block += GUEST_HUGE_PAGE_BYTES) {
        volatile uint8_t *byte = host + block;
        *byte = *byte;
    }
    (void)madvise(host, size, MADV_COLLAPSE);
}

int guest_memory_track(struct guest_memory *memory)
{
    const uint64_t words = (memory->size_bytes / GUEST_PAGE_BYTES + 63) / 64;
    if (!memory->dirty)
        memory->dirty = calloc(words, sizeof *memory->dirty);
    else
        memset(memory->dirty, 0, words * sizeof *memory->dirty);
    return memory->dirty ? 0 : -ENOMEM;
}

void guest_memory_dirtied(const struct guest_memory *memory, const void *host, uint64_t size)
{
    if (!memory->dirty || size == 0)
        return;
    const uint8_t *from = host;
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t offset = (uintptr_t)from - (uintptr_t)region->host;
        if (offset >= region->size_bytes)
            continue;
        const uint64_t left = region->size_bytes - offset;
        const uint64_t first = (region->file_offset_bytes + offset) / GUEST_PAGE_BYTES;
        const uint64_t last =
            (region->file_offset_bytes + offset + (size < left ? size : left) - 1) / GUEST_PAGE_BYTES;
        for (uint64_t page = first; page <= last; page++)
            (void)__atomic_fetch_or(&memory->dirty[page / 64], UINT64_C(1) << page % 64, __ATOMIC_RELAXED);
    }
}

/* The part of [at, at + size) that lies in the region `at` is in: its host address and length. */
static void *part_at(const struct guest_memory *memory, struct gpa at, uint64_t size, uint64_t *part)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t offset = at.value - region->base;
        if (offset < region->size_bytes) {
            const uint64_t left = region->size_bytes - offset;
            *part = size < left ? size : left;
            return region->host + offset;
        }
    }
    return NULL;
}

/* Whether every byte is RAM, possibly across two adjacent regions. */
static bool covered(const struct guest_memory *memory, struct gpa at, uint64_t size)
{
    while (size > 0) {
        uint64_t part;
        if (!part_at(memory, at, size, &part))
            return false;
        at.value += part; /* a region never ends beyond 2^64: at most it wraps to 0 with size 0 left */
        size -= part;
    }
    return true;
}

int guest_memory_read(const struct guest_memory *memory, struct gpa at, void *to, uint64_t size)
{
    if (!covered(memory, at, size))
        return -EFAULT;
    for (uint8_t *out = to; size > 0;) {
        uint64_t part;
        const void *host = part_at(memory, at, size, &part);
        memcpy(out, host, part);
        out += part;
        at.value += part;
        size -= part;
    }
    return 0;
}

int guest_memory_write(const struct guest_memory *memory, struct gpa at, const void *from, uint64_t size)
{
    if (!covered(memory, at, size))
        return -EFAULT;
    for (const uint8_t *in = from; size > 0;) {
        uint64_t part;
        void *host = part_at(memory, at, size, &part);
        guest_memory_dirtied(memory, host, part);
        memcpy(host, in, part);
        in += part;
        at.value += part;
        size -= part;
    }
    return 0;
}
