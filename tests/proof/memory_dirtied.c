/*
 * Marks of written pages, hostvmm/memory.c: guest_memory_dirtied marks no bit outside the map of RAM's pages,
 * for every place in RAM and every size of 64 bits, beyond the end of RAM as well.
 *
 * Bounds: a region of 3 pages; places at every 512 bytes, and one byte beside them.
 *
 * options: -eva-slevel 200
 */
#include "tests/proof/bounds.h"

#include "hostvmm/memory.c"

#define RAM_PAGES  3u
#define RAM_BYTES  (RAM_PAGES * GUEST_PAGE_BYTES)
#define STEP_BYTES 512u

static uint8_t ram[RAM_BYTES];
static uint64_t dirty[2];

unsigned arch_memory_layout(uint64_t size_bytes, struct guest_region regions[GUEST_REGIONS_MAX])
{
    (void)size_bytes;
    (void)regions;
    return 0;
}

/* RAM's last page is the map's last bit. */
static struct guest_memory memory = {
    .regions = {{.size_bytes = RAM_BYTES,
                 .host = ram,
                 .file_offset_bytes = (128 - RAM_PAGES) * GUEST_PAGE_BYTES}},
    .region_count = 1,
    .size_bytes = RAM_BYTES,
    .dirty = dirty,
    .fd = -1,
};

static void each(uint64_t offset)
{
    if (offset < RAM_BYTES)
        guest_memory_dirtied(&memory, ram + offset, any_u64(0, UINT64_MAX));
}

int main(void)
{
    //@ loop unroll 100;
    for (uint64_t at = 0; at < RAM_BYTES; at += STEP_BYTES)
        //@ loop unroll 3;
        for (uint64_t beside = 0; beside < 3; beside++)
            each(at + beside - 1);
    return 0;
}
