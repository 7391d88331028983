/*
 * Giving guest memory back to the host: see memory.h. Three kinds of memory, three ways:
 *
 *   memfd, shared               a hole is punched into it
 *   huge pages, shared          the same for whole ones; the kernel zeroes the rest of the range
 *   a snapshot's file, private  anonymous memory is mapped over it, else the file's contents would come back;
 *                               where that is so already, it is emptied
 *
 * The last costs mappings, of which a process has a bounded number (vm.max_map_count, 65,530), and it is the
 * guest that says which pages. A new piece of anonymous memory is counted unless it lies beside another, with
 * which the kernel joins it; there are at most PIECES_MAX, and so at most twice as many mappings more. Beyond
 * that pages are zeroed where they are, and stay the process's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostvmm/memory.h"

#define PIECES_MAX 4096u
#define HUGE_PAGES (GUEST_HUGE_PAGE_BYTES / GUEST_PAGE_BYTES)
/* Zeros that a snapshot's file may hold as well are worth a mapping only when they are many. */
#define ZEROS_MIN_PAGES 64u

static bool is_set(const uint64_t *bitmap, uint64_t page)
{
    return bitmap[page / 64] >> page % 64 & 1;
}

static void set(uint64_t *bitmap, uint64_t page, bool value)
{
    const uint64_t bit = UINT64_C(1) << page % 64;
    bitmap[page / 64] = value ? bitmap[page / 64] | bit : bitmap[page / 64] & ~bit;
}

static bool is_zero_page(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < GUEST_PAGE_BYTES / sizeof *words; i += 4)
        if (words[i] | words[i + 1] | words[i + 2] | words[i + 3])
            return false;
    return true;
}

/* The bitmap `discarded`. 0 or -ENOMEM. */
static int need_bitmap(struct guest_memory *memory)
{
    if (!memory->discarded)
        memory->discarded = calloc((memory->size_bytes / GUEST_PAGE_BYTES + 63) / 64, sizeof(uint64_t));
    return memory->discarded ? 0 : -ENOMEM;
}

static uint64_t page_of(const struct guest_region *region, const uint8_t *host)
{
    return (region->file_offset_bytes + (uint64_t)(host - region->host)) / GUEST_PAGE_BYTES;
}

static int punch(const struct guest_memory *memory, const struct guest_region *region, const uint8_t *host,
                 uint64_t size)
{
    const uint64_t offset = region->file_offset_bytes + (uint64_t)(host - region->host);
    while (fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* ---- a snapshot's memory ---- */

static void zero_pages(uint8_t *host, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++)
        if (!is_zero_page(host + i * GUEST_PAGE_BYTES)) /* a look needs no copy of the file's page */
            memset(host + i * GUEST_PAGE_BYTES, 0, GUEST_PAGE_BYTES);
}

/* Pages none of which is anonymous yet. */
static void map_over(struct guest_memory *memory, uint8_t *host, uint64_t page, uint64_t pages)
{
    const uint64_t end = page + pages;
    const uint64_t all = memory->size_bytes / GUEST_PAGE_BYTES;
    const bool beside =
        (page > 0 && is_set(memory->discarded, page - 1)) || (end < all && is_set(memory->discarded, end));
    const size_t size = pages * GUEST_PAGE_BYTES;
    if ((!beside && memory->discarded_pieces >= PIECES_MAX) ||
        mmap(host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED) {
        zero_pages(host, pages);
        return;
    }
    (void)madvise(host, size, MADV_DONTDUMP); /* a refusal costs a larger core file */
    if (!beside)
        memory->discarded_pieces++;
    for (uint64_t i = page; i < end; i++)
        set(memory->discarded, i, true);
}

static int discard_private(struct guest_memory *memory, uint8_t *host, uint64_t page, uint64_t pages)
{
    const int error = need_bitmap(memory);
    if (error)
        return error;
    for (uint64_t done = 0; done < pages;) {
        const bool anonymous = is_set(memory->discarded, page + done);
        uint64_t run = 1;
        while (done + run < pages && is_set(memory->discarded, page + done + run) == anonymous)
            run++;
        uint8_t *from = host + done * GUEST_PAGE_BYTES;
        if (!anonymous)
            map_over(memory, from, page + done, run);
        else if (madvise(from, run * GUEST_PAGE_BYTES, MADV_DONTNEED) < 0)
            zero_pages(from, run);
        done += run;
    }
    return 0;
}

/* ---- all ---- */

/* The region that holds the range, and where. NULL: none holds all of it. */
static const struct guest_region *region_of(const struct guest_memory *memory, struct gpa at, uint64_t size,
                                            uint8_t **host)
{
    *host = guest_memory_at(memory, at, size);
    for (unsigned i = 0; *host && i < memory->region_count; i++)
        if (at.value - memory->regions[i].base < memory->regions[i].size_bytes)
            return &memory->regions[i];
    return NULL;
}

static int discard(struct guest_memory *memory, const struct guest_region *region, uint8_t *host,
                   uint64_t size)
{
    guest_memory_dirtied(memory, host, size);
    if (memory->fd >= 0)
        return punch(memory, region, host, size);
    if (memory->mapped)
        return discard_private(memory, host, page_of(region, host), size / GUEST_PAGE_BYTES);
    memset(host, 0, size); /* a caller's buffer */
    return 0;
}

int guest_memory_discard(struct guest_memory *memory, struct gpa at, uint64_t size)
{
    uint8_t *host;
    const struct guest_region *region = region_of(memory, at, size, &host);
    if ((at.value | size) % GUEST_PAGE_BYTES)
        return -EINVAL;
    return region ? discard(memory, region, host, size) : -EFAULT;
}

/* ---- what is zero already ---- */

/* Of `left` pages from `host` on: how many come first that cost the host nothing, and how many then that do or,
 * which cannot be told of a snapshot's without a look at the tables of this process, may do so. A hole must not
 * be looked into: that fills it. */
static void next_extent(const struct guest_memory *memory, const struct guest_region *region, uint8_t *host,
                        uint64_t left, uint64_t *skip, uint64_t *length)
{
    const off_t at = (off_t)(page_of(region, host) * GUEST_PAGE_BYTES);
    *skip = 0;
    *length = left;
    if (memory->fd >= 0) {
        const off_t data = lseek(memory->fd, at, SEEK_DATA);
        const off_t hole = data < 0 ? data : lseek(memory->fd, data, SEEK_HOLE);
        const uint64_t before = data < 0 ? left : (uint64_t)(data - at) / GUEST_PAGE_BYTES;
        const uint64_t there = hole < 0 ? 0 : (uint64_t)(hole - data) / GUEST_PAGE_BYTES;
        *skip = before < left ? before : left;
        *length = there < left - *skip ? there : left - *skip;
    }
}

/* From `page` on, at most `left` pages: how many are alike, all zero or none. */
static uint64_t alike(const uint8_t *page, uint64_t left, bool *zero)
{
    *zero = is_zero_page(page);
    uint64_t run = 1;
    while (run < left && is_zero_page(page + run * GUEST_PAGE_BYTES) == *zero)
        run++;
    return run;
}

/* An extent's zeros, where they are `least` pages or more together. The bytes given back, or -errno. */
static int64_t discard_extent(struct guest_memory *memory, const struct guest_region *region, uint8_t *host,
                              uint64_t pages, uint64_t least)
{
    int64_t given = 0;
    for (uint64_t done = 0; done < pages;) {
        bool zero;
        uint8_t *from = host + done * GUEST_PAGE_BYTES;
        const uint64_t run = alike(from, pages - done, &zero);
        const int error = zero && run >= least ? discard(memory, region, from, run * GUEST_PAGE_BYTES) : 0;
        if (error)
            return error;
        given += zero && run >= least ? (int64_t)(run * GUEST_PAGE_BYTES) : 0;
        done += run;
    }
    return given;
}

int64_t guest_memory_discard_zeros(struct guest_memory *memory, struct gpa at, uint64_t size)
{
    uint8_t *host;
    const struct guest_region *region = region_of(memory, at, size, &host);
    if ((at.value | size) % GUEST_PAGE_BYTES)
        return -EINVAL;
    if (!region)
        return -EFAULT;
    if (memory->huge)
        return 0; /* their file does not tell its holes */
    const uint64_t least = memory->fd < 0 && memory->mapped ? ZEROS_MIN_PAGES : 1;
    int64_t given = 0;
    for (uint64_t left = size / GUEST_PAGE_BYTES; left > 0;) {
        uint64_t skip;
        uint64_t length;
        next_extent(memory, region, host, left, &skip, &length);
        host += skip * GUEST_PAGE_BYTES;
        left -= skip;
        const int64_t bytes = discard_extent(memory, region, host, length, least);
        if (bytes < 0)
            return bytes;
        given += bytes;
        host += length * GUEST_PAGE_BYTES;
        left -= length;
        if (skip + length == 0)
            break; /* the file is not what it was: nothing is lost by leaving the rest */
    }
    return given;
}

/* ---- huge pages, piece by piece ---- */

static bool complete(const struct guest_memory *memory, uint64_t block)
{
    for (uint64_t page = block; page < block + HUGE_PAGES; page++)
        if (!is_set(memory->discarded, page))
            return false;
    return true;
}

void guest_memory_given(struct guest_memory *memory, struct gpa at, uint64_t size, bool given)
{
    uint8_t *host;
    const struct guest_region *region = region_of(memory, at, size, &host);
    if (!memory->huge || !region || (at.value | size) % GUEST_PAGE_BYTES || need_bitmap(memory))
        return;
    const uint64_t first = page_of(region, host);
    const uint64_t end = first + size / GUEST_PAGE_BYTES;
    for (uint64_t page = first; page < end; page++)
        set(memory->discarded, page, given);
    for (uint64_t block = first - first % HUGE_PAGES; given && block < end; block += HUGE_PAGES)
        if (complete(memory, block))
            (void)punch(memory, region, region->host + (block * GUEST_PAGE_BYTES - region->file_offset_bytes),
                        GUEST_HUGE_PAGE_BYTES);
}
