/*
 * See load.h. File contents go from the page cache into the guest's pages inside the kernel (sendfile to the
 * memory's descriptor) where that is possible: a page that is written whole is neither cleared first nor
 * faulted into this process. Where it is not (a test's buffer, a file system that cannot), pread does it.
 */
#include "hostvmm/boot/load.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostvmm/arch/arch.h"

#define PAGE_BYTES 4096u
#define HUGE_BYTES ((uint64_t)GUEST_HUGE_PAGE_BYTES)

/* Linux's struct page: 64 bytes for each 4 KiB. */
#define PAGE_STRUCTURES_SHARE 64u
#define LOW_HUGE_PAGES        2u
#define TOP_HUGE_PAGES_MAX    32u

static int read_file(void *context, uint64_t offset, void *to, size_t size)
{
    const int fd = *(const int *)context;
    for (uint8_t *out = to; size > 0;) {
        const ssize_t n = pread(fd, out, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        out += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int kernel_parse_file(int fd, struct kernel_plan *plan, struct kernel_error *error)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return kernel_refuse(error, "not a regular file");
    const struct kernel_source source = {
        .read = read_file,
        .context = &fd,
        .size_bytes = (uint64_t)status.st_size,
    };
    return kernel_parse(&source, plan, error);
}

/* The end of the region that holds the kernel: initrds are put into the same one. */
static uint64_t ram_end(const struct guest_memory *memory)
{
    return memory->regions[0].base + memory->regions[0].size_bytes;
}

int boot_place_initrd(const struct kernel_plan *plan, const struct guest_memory *memory,
                      uint64_t initrd_bytes, struct gpa *at, uint64_t *needed_bytes)
{
    const uint64_t kernel_end = (plan->end + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    const uint64_t rounded = (initrd_bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    const uint64_t needed = kernel_end + rounded;
    *needed_bytes = (needed + ARCH_MIB - 1) & ~(uint64_t)(ARCH_MIB - 1);
    *at = gpa_of(0);
    if (rounded < initrd_bytes || needed < rounded || needed > ram_end(memory))
        return -ENOSPC;
    if (initrd_bytes == 0)
        return 0;
    uint64_t end = ram_end(memory);
    if (end > plan->initrd_end)
        end = plan->initrd_end & ~(uint64_t)(PAGE_BYTES - 1);
    if (end < needed)
        return -ENOSPC;
    *at = gpa_of(end - rounded);
    return 0;
}

/* The offset in the memory's descriptor of a guest address; false when there is no descriptor. */
static bool file_offset_of(const struct guest_memory *memory, struct gpa at, off_t *offset)
{
    for (unsigned i = 0; memory->fd >= 0 && i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        if (at.value - region->base < region->size_bytes) {
            *offset = (off_t)(region->file_offset_bytes + (at.value - region->base));
            return true;
        }
    }
    return false;
}

/* As much as the kernel copies by itself: the bytes done, which may be none. */
static uint64_t load_inside(int fd, uint64_t offset, const struct guest_memory *memory, struct gpa at,
                            uint64_t size)
{
    off_t from = (off_t)offset;
    off_t to;
    uint64_t done = 0;
    if (!file_offset_of(memory, at, &to) || lseek(memory->fd, to, SEEK_SET) < 0)
        return 0;
    while (done < size) {
        const ssize_t n = sendfile(memory->fd, fd, &from, (size_t)(size - done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    return done;
}

static int load_part(int fd, uint64_t offset, const struct guest_memory *memory, struct gpa at, uint64_t size)
{
    void *host = guest_memory_at(memory, at, size);
    if (size == 0)
        return 0;
    if (!host)
        return -EFAULT;
    const uint64_t done = load_inside(fd, offset, memory, at, size);
    return read_file(&fd, offset + done, (uint8_t *)host + done, (size_t)(size - done));
}

int boot_load_kernel(const struct kernel_plan *plan, int fd, const struct guest_memory *memory)
{
    for (unsigned i = 0; i < plan->segment_count; i++) {
        const struct kernel_segment *segment = &plan->segments[i];
        if (!guest_memory_at(memory, segment->at, segment->memory_bytes))
            return -EFAULT;
        const int error = load_part(fd, segment->file_offset, memory, segment->at, segment->file_bytes);
        if (error)
            return error;
    }
    return 0;
}

int boot_load_initrd(const struct initrd *initrd, const struct guest_memory *memory, struct gpa at)
{
    if (initrd->fd >= 0)
        return load_part(initrd->fd, 0, memory, at, initrd->size_bytes);
    return guest_memory_write(memory, at, initrd->data, initrd->size_bytes);
}

/* How much of the huge page at `block` the kernel's segments take. */
static uint64_t kernel_share(const struct kernel_plan *plan, uint64_t block)
{
    uint64_t share = 0;
    for (unsigned i = 0; i < plan->segment_count; i++) {
        const uint64_t start = plan->segments[i].at.value;
        const uint64_t end = start + plan->segments[i].memory_bytes;
        const uint64_t from = start > block ? start : block;
        const uint64_t to = end < block + HUGE_BYTES ? end : block + HUGE_BYTES;
        share += to > from ? to - from : 0;
    }
    return share;
}

/* The image, in runs of huge pages: each run is one call, for each call looks at every processor. */
static void use_huge_for_image(const struct kernel_plan *plan, const struct guest_memory *memory)
{
    uint64_t run = 0;
    for (uint64_t block = 0; block < plan->end + HUGE_BYTES; block += HUGE_BYTES) {
        if (kernel_share(plan, block) >= HUGE_BYTES / 4) {
            run += HUGE_BYTES;
            continue;
        }
        if (run > 0)
            guest_memory_use_huge(memory, gpa_of(block - run), run);
        run = 0;
    }
}

void boot_use_huge_pages(const struct kernel_plan *plan, const struct guest_memory *memory)
{
    const struct guest_region *top = &memory->regions[memory->region_count - 1];
    uint64_t structures = memory->size_bytes / PAGE_STRUCTURES_SHARE / HUGE_BYTES + 1;
    if (structures > TOP_HUGE_PAGES_MAX)
        structures = TOP_HUGE_PAGES_MAX;
    use_huge_for_image(plan, memory);
    guest_memory_use_huge(memory, gpa_of(0), LOW_HUGE_PAGES * HUGE_BYTES);
    /* The very last huge page holds the initrd and little else. */
    const uint64_t end = (top->base + top->size_bytes) / HUGE_BYTES * HUGE_BYTES - HUGE_BYTES;
    const uint64_t size = structures * HUGE_BYTES;
    if (end > top->base + size && (memory->region_count > 1 || end - size >= plan->end))
        guest_memory_use_huge(memory, gpa_of(end - size), size);
}
