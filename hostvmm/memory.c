/*
 * Guest RAM: see memory.h. One memfd holds all of it, so that a later snapshot, or another process, can map
 * the same pages; shared, because a private mapping of a memfd would hold every written page twice.
 *
 * Owner: the VM. Regions are fixed before the first vCPU runs, so lookups take no lock.
 */
#include "hostvmm/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/arch/arch.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/*
 * Map one region at an address that huge pages can be mapped at: reserve more than is needed, cut off what
 * is too much. NULL, and errno, on failure.
 */
static void *map_aligned(int fd, uint64_t size_bytes, uint64_t offset)
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
    if (mmap(host, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
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
        void *host = map_aligned(memory->fd, region->size_bytes, offset);
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

int guest_memory_init(struct guest_memory *memory, uint64_t size_bytes)
{
    *memory = (struct guest_memory){.size_bytes = size_bytes, .fd = -1};
    memory->region_count = arch_memory_layout(size_bytes, memory->regions);
    if (memory->region_count == 0)
        return -EINVAL;
    memory->fd = memfd_create("guest-memory", MFD_CLOEXEC);
    int error = memory->fd < 0 || ftruncate(memory->fd, (off_t)size_bytes) < 0 ? -errno : 0;
    if (error == 0)
        error = map_regions(memory);
    if (error)
        guest_memory_fini(memory);
    return error;
}

void guest_memory_over(struct guest_memory *memory, void *buffer, uint64_t size_bytes)
{
    *memory = (struct guest_memory){.size_bytes = size_bytes, .region_count = 1, .fd = -1};
    memory->regions[0] = (struct guest_region){.size_bytes = size_bytes, .host = buffer};
}

void guest_memory_fini(struct guest_memory *memory)
{
    /* Over a caller's buffer there is no descriptor, and nothing of ours to unmap. */
    for (unsigned i = 0; memory->fd >= 0 && i < memory->region_count; i++)
        if (memory->regions[i].host)
            (void)munmap(memory->regions[i].host, memory->regions[i].size_bytes);
    memory->region_count = 0;
    fd_close(&memory->fd);
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

void guest_memory_use_huge(const struct guest_memory *memory, struct gpa at, uint64_t size)
{
    uint8_t *host = memory->fd >= 0 ? guest_memory_at(memory, at, size) : NULL;
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
        memcpy(host, in, part);
        in += part;
        at.value += part;
        size -= part;
    }
    return 0;
}
