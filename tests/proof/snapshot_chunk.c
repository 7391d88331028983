/*
 * A chunk of a snapshot, hostvmm/snapshot/chunks.c: read_chunk fills no byte outside the chunk's buffer,
 * takes its pages only from layers that there are and only from within the chunk's own part of a file, and
 * gives the bytes that the chunk has, the shorter last one included.
 *
 * Bounds: the chunk's pages come from one, two or three runs, with borders 0, 1, 16, 127 and 128 pages from
 * the page before the chunk. Chunks 0 and 2^20, of RAM that ends with the chunk or 1 or 127 pages into it. A
 * read gives all that was asked for, an error or the file's end.
 *
 * options: -eva-slevel 100 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "hostvmm/snapshot/chunks.c"

static uint8_t buffer[SNAPSHOT_CHUNK_BYTES];
static struct snapshot snapshot;
static uint64_t chunk_from, chunk_to; /* bytes of RAM */

ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    //@ assert 3 <= fd <= 5;
    //@ assert \valid((uint8_t *)to + (0 .. size - 1));
    //@ assert chunk_from <= offset && offset + size <= chunk_to;
    errno = EIO;
    return any_bool() ? (ssize_t)size : Frama_C_interval(-1, 0);
}

int64_t fd_read_file(const char *path, void *data, size_t limit)
{
    (void)path;
    (void)data;
    (void)limit;
    return -EIO;
}

/* Runs that end `first` and `second` pages from the page before the chunk, and with RAM. */
static void each(uint64_t chunk, uint64_t left_pages, uint64_t first, uint64_t second)
{
    const uint64_t pages = chunk * CHUNK_PAGES + left_pages;
    const uint64_t before = chunk > 0 ? chunk * CHUNK_PAGES - 1 : 0;
    if (first > second || before + second >= pages)
        return;
    snapshot.machine.memory_bytes = pages * GUEST_PAGE_BYTES;
    snapshot.runs[0] = (struct snapshot_run){before + first, 0};
    snapshot.runs[1] = (struct snapshot_run){second - first, 1};
    snapshot.runs[2] = (struct snapshot_run){pages - before - second, 2};
    chunk_from = chunk * SNAPSHOT_CHUNK_BYTES;
    chunk_to = chunk_from + left_pages * GUEST_PAGE_BYTES;
    const int64_t bytes = read_chunk(&snapshot, chunk, buffer);
    //@ assert bytes < 0 || bytes == left_pages * GUEST_PAGE_BYTES;
}

int main(void)
{
    static const uint64_t chunks[] = {0, 1 << 20}, left[] = {1, 127, 128};
    static const uint64_t border[] = {0, 1, 16, 127, 128};
    snapshot.run_count = 3;
    for (unsigned i = 0; i < 3; i++)
        snapshot.layers[i].fd = 3 + (int)i;
    //@ loop unroll 10;
    for (unsigned i = 0; i < 2; i++)
        //@ loop unroll 10;
        for (unsigned j = 0; j < 3; j++)
            //@ loop unroll 20;
            for (unsigned k = 0; k < 5; k++)
                //@ loop unroll 20;
                for (unsigned l = 0; l < 5; l++)
                    each(chunks[i], left[j], border[k], border[l]);
    return 0;
}
