/*
 * The work that a prefetch list says, done before the guest runs: see prefetch.h. Copying first: KVM then
 * maps the copies, and maps them for writing.
 */
#include <errno.h>
#include <sys/mman.h>

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

/* Both passes end at the first refusal: what one run is refused for, the next would be. */
void prefetch_apply(const struct prefetch *prefetch, const struct guest_memory *memory, int vcpu_fd)
{
    int error = 0;
    for (unsigned i = 0; i < prefetch->run_count && error == 0; i++) {
        const struct prefetch_run run = prefetch_run_at(prefetch, i);
        if (run.written)
            error = in_regions(copy_ahead, memory, &run, vcpu_fd);
    }
    error = 0;
    for (unsigned i = 0; i < prefetch->run_count && error == 0;) {
        struct prefetch_run run = prefetch_run_at(prefetch, i++);
        /* Pages that are written and pages that are not: to KVM one range. */
        for (; i < prefetch->run_count; i++) {
            const struct prefetch_run next = prefetch_run_at(prefetch, i);
            if (next.first_page != run.first_page + run.page_count)
                break;
            run.page_count += next.page_count;
        }
        error = in_regions(map_ahead, memory, &run, vcpu_fd);
    }
}
