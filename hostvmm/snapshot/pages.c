/* See pages.h. */
#include "hostvmm/snapshot/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE    (UINT64_C(1) << 61) /* a file's page, or shared memory */
#define PAGEMAP_BATCH   512u
#define HUGE_READ_PAGES 4u /* of memory that is a multiple of huge pages */

static uint64_t *new_bitmap(const struct guest_memory *memory)
{
    return calloc((memory->size_bytes / GUEST_PAGE_BYTES + 63) / 64, sizeof(uint64_t));
}

static void mark(uint64_t *bitmap, uint64_t page)
{
    bitmap[page / 64] |= UINT64_C(1) << page % 64;
}

/* The parts of [from, until) of a file that are not holes. */
static int mark_data(int fd, uint64_t from, uint64_t until, uint64_t *bitmap)
{
    while (from < until) {
        const off_t data = lseek(fd, (off_t)from, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno; /* none from here on */
        const off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        const uint64_t end = (uint64_t)hole < until ? (uint64_t)hole : until;
        for (uint64_t at = (uint64_t)data; at < end; at += GUEST_PAGE_BYTES)
            mark(bitmap, at / GUEST_PAGE_BYTES);
        from = (uint64_t)hole;
    }
    return 0;
}

/* A file of huge pages does not tell its holes, and a look at one through its mapping takes it out of the host's
 * reserve; reading does not. So what is marked is not zero. */
static int mark_huge(int fd, uint64_t size, uint64_t *bitmap)
{
    uint64_t words[HUGE_READ_PAGES * GUEST_PAGE_BYTES / sizeof(uint64_t)];
    for (uint64_t at = 0; at < size; at += sizeof words) {
        const ssize_t got = pread(fd, words, sizeof words, (off_t)at);
        if (got != (ssize_t)sizeof words)
            return got < 0 ? -errno : -EIO;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (words[i])
                mark(bitmap, (at + i * sizeof words[0]) / GUEST_PAGE_BYTES);
    }
    return 0;
}

static int mark_private(int fd, const struct guest_region *region, uint64_t *bitmap)
{
    uint64_t entries[PAGEMAP_BATCH];
    const uint64_t pages = region->size_bytes / GUEST_PAGE_BYTES;
    const uint64_t first = region->file_offset_bytes / GUEST_PAGE_BYTES;
    for (uint64_t page = 0; page < pages;) {
        const uint64_t left = pages - page;
        const size_t wanted = (left < PAGEMAP_BATCH ? left : PAGEMAP_BATCH) * sizeof entries[0];
        const uint64_t address = (uintptr_t)region->host / GUEST_PAGE_BYTES + page;
        const ssize_t got = pread(fd, entries, wanted, (off_t)(address * sizeof entries[0]));
        if (got < (ssize_t)sizeof entries[0])
            return got < 0 ? -errno : -EIO;
        for (size_t i = 0; i < (size_t)got / sizeof entries[0]; i++, page++)
            if (entries[i] & PAGEMAP_SWAPPED ||
                (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_FILE)) == PAGEMAP_PRESENT)
                mark(bitmap, first + page);
    }
    return 0;
}

static int add_private(const struct guest_memory *memory, uint64_t *bitmap)
{
    int opened = memory->pagemap_fd >= 0 ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    const int fd = memory->pagemap_fd >= 0 ? memory->pagemap_fd : opened;
    int error = fd < 0 ? -errno : 0;
    for (unsigned i = 0; i < memory->region_count && error == 0; i++)
        error = mark_private(fd, &memory->regions[i], bitmap);
    fd_close(&opened);
    return error;
}

int pages_present(const struct guest_memory *memory, const struct snapshot *origin, uint64_t **bitmap)
{
    int error = 0;
    *bitmap = new_bitmap(memory);
    if (!*bitmap)
        return -ENOMEM;
    if (memory->huge)
        return mark_huge(memory->fd, memory->size_bytes, *bitmap);
    if (memory->fd >= 0)
        return mark_data(memory->fd, 0, memory->size_bytes, *bitmap);
    uint64_t from = 0;
    for (unsigned i = 0; i < origin->run_count && error == 0; i++) {
        const uint64_t until = from + origin->runs[i].page_count * GUEST_PAGE_BYTES;
        error = mark_data(origin->layers[origin->runs[i].layer].fd, from, until, *bitmap);
        from = until;
    }
    return error ? error : add_private(memory, *bitmap);
}

int pages_private(const struct guest_memory *memory, uint64_t **bitmap)
{
    *bitmap = new_bitmap(memory);
    if (!*bitmap)
        return -ENOMEM;
    /* What was discarded and not touched since is in no table; it is not what the file holds all the same. */
    for (uint64_t i = 0; memory->discarded && i < (memory->size_bytes / GUEST_PAGE_BYTES + 63) / 64; i++)
        (*bitmap)[i] |= memory->discarded[i];
    return add_private(memory, *bitmap);
}

int pages_written(struct vm *vm, uint64_t **bitmap)
{
    *bitmap = new_bitmap(&vm->memory);
    return *bitmap ? vm_written_pages(vm, *bitmap) : -ENOMEM;
}
