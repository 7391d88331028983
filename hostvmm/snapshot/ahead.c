/*
 * The work that a prefetch list says, done before the guest runs: see prefetch.h. Copying first: KVM then
 * maps the copies, and maps them for writing.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "hostvmm/kvm.h"
#include "hostvmm/snapshot/prefetch.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Linux 6.11, Documentation/virt/kvm/api.rst: KVM_PRE_FAULT_MEMORY. The headers may be older. */
struct map_range {
    uint64_t gpa;
    uint64_t size;
    uint64_t flags;
    uint64_t padding[5];
};
#define MAP_RANGE _IOWR(KVMIO, 0xd5, struct map_range)

/* Of one region. 0 or -errno. */
typedef int prefetch_work(const struct guest_region *region, uint64_t offset, uint64_t bytes, int vcpu_fd);

static int copy_ahead(const struct guest_region *region, uint64_t offset, uint64_t bytes, int vcpu_fd)
{
    (void)vcpu_fd;
    return madvise(region->host + offset, bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

/* KVM takes off `range` what it has mapped. */
static int map_ahead(const struct guest_region *region, uint64_t offset, uint64_t bytes, int vcpu_fd)
{
    struct map_range range = {.gpa = region->base + offset, .size = bytes};
    int error;
    do {
        error = kvm_call(vcpu_fd, MAP_RANGE, &range);
    } while (error == 0 && range.size > 0);
    return error;
}

/* A run may lie in two regions. */
static int in_regions(prefetch_work *function, const struct guest_memory *memory,
                      const struct prefetch_run *run, int vcpu_fd)
{
    const uint64_t from = run->first_page * GUEST_PAGE_BYTES;
    const uint64_t until = from + run->page_count * GUEST_PAGE_BYTES;
    int error = 0;
    for (unsigned i = 0; i < memory->region_count && error == 0; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t begin = region->file_offset_bytes;
        const uint64_t end = begin + region->size_bytes;
        const uint64_t first = from > begin ? from : begin;
        const uint64_t last = until < end ? until : end;
        if (first < last)
            error = function(region, first - begin, last - first, vcpu_fd);
    }
    return error;
}

/* ---- blocks that are one huge page of the page cache: see rehearsal.c ---- */

#define BLOCK_PAGES (GUEST_HUGE_PAGE_BYTES / GUEST_PAGE_BYTES)

static const volatile uint8_t *host_of(const struct guest_memory *memory, uint64_t page)
{
    const uint64_t offset = page * GUEST_PAGE_BYTES;
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        if (offset >= region->file_offset_bytes && offset - region->file_offset_bytes < region->size_bytes)
            return region->host + (offset - region->file_offset_bytes);
    }
    return NULL;
}

static long fault_count(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) < 0 ? -1 : usage.ru_minflt + usage.ru_majflt;
}

/*
 * Whether the block of `first`, whose runs begin with the one at `index`, is one huge page. The kernel has no
 * cheap way to say so. But one fault maps all of a huge page, and of small ones no more than those around it:
 * where a page far off needs no fault of its own, both are the same huge page.
 */
static bool is_huge(const struct prefetch *prefetch, const struct guest_memory *memory, unsigned index,
                    uint64_t first)
{
    const uint64_t block_end = (first / BLOCK_PAGES + 1) * BLOCK_PAGES;
    uint64_t last = first;
    uint64_t wanted = 0;
    for (; index < prefetch->run_count; index++) {
        const struct prefetch_run run = prefetch_run_at(prefetch, index);
        if (run.first_page >= block_end)
            break;
        if (run.written)
            return false;
        const uint64_t end = run.first_page + run.page_count;
        last = (end < block_end ? end : block_end) - 1;
        wanted += run.page_count;
    }
    const volatile uint8_t *near = host_of(memory, first);
    const volatile uint8_t *far = host_of(memory, last);
    if (wanted < PREFETCH_HUGE_PAGES || last - first < PREFETCH_HUGE_PAGES || !near || !far)
        return false;
    (void)*near;
    const long before = fault_count();
    (void)*far;
    return before >= 0 && fault_count() == before;
}

static int copy_runs(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd)
{
    int error = 0;
    for (unsigned i = 0; i < prefetch->run_count && error == 0; i++) {
        const struct prefetch_run run = prefetch_run_at(prefetch, i);
        if (run.written)
            error = in_regions(copy_ahead, memory, &run, vcpu_fd);
    }
    return error;
}

void prefetch_map(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd)
{
    uint64_t from = 0; /* what comes before is mapped, or not wanted */
    uint64_t judged = UINT64_MAX;
    int error = 0;
    for (unsigned i = 0; i < prefetch->run_count && error == 0;) {
        const unsigned index = i;
        const struct prefetch_run run = prefetch_run_at(prefetch, i++);
        uint64_t end = run.first_page + run.page_count;
        /* Pages that are written and pages that are not: to KVM one range. */
        for (; i < prefetch->run_count && prefetch_run_at(prefetch, i).first_page == end; i++)
            end += prefetch_run_at(prefetch, i).page_count;
        from = run.first_page > from ? run.first_page : from;
        while (from < end && error == 0) {
            const uint64_t block = from / BLOCK_PAGES;
            const uint64_t block_end = (block + 1) * BLOCK_PAGES;
            const bool huge = block != judged && is_huge(prefetch, memory, index, from);
            const uint64_t upto = end < block_end ? end : block_end;
            const struct prefetch_run part = {.first_page = from, .page_count = huge ? 1 : upto - from};
            error = in_regions(map_ahead, memory, &part, vcpu_fd);
            from = huge ? block_end : upto;
            judged = block;
        }
    }
}

/* Both passes end at the first refusal: what one run is refused for, the next would be. */
void prefetch_apply(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd)
{
    (void)copy_runs(prefetch, memory, vcpu_fd);
    prefetch_map(prefetch, memory, vcpu_fd);
}
