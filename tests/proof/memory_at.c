/*
 * Guest memory, hostvmm/memory.c: for every address and every size, both of 64 bits, guest_memory_at gives
 * NULL or as many bytes as were asked for; guest_memory_read and _write of 1 and of 20 bytes at every address
 * touch nothing but those bytes.
 *
 * Bounds: two regions, of 32 and 64 bytes, at 0 and at 4 GiB. Each address inside is a case of its own.
 *
 * options: -eva-slevel 400
 */
#include "tests/proof/bounds.h"

#include "hostvmm/memory.c"

#define LOW_BYTES  32u
#define HIGH_BYTES 64u
#define HIGH_BASE  0x100000000u
#define COPY_BYTES 20u

static uint8_t low[LOW_BYTES], high[HIGH_BYTES];
static struct guest_memory memory = {
    .regions = {{.base = 0, .size_bytes = LOW_BYTES, .host = low},
                {.base = HIGH_BASE, .size_bytes = HIGH_BYTES, .host = high, .file_offset_bytes = LOW_BYTES}},
    .region_count = 2,
    .size_bytes = LOW_BYTES + HIGH_BYTES,
    .fd = -1,
};

unsigned arch_memory_layout(uint64_t size_bytes, struct guest_region regions[GUEST_REGIONS_MAX])
{
    (void)size_bytes;
    (void)regions;
    return 0;
}

/* An address of this range: one, where it is inside. */
static void look(uint64_t from, uint64_t to)
{
    const uint64_t at = any_u64(from, to);
    const uint64_t size = any_u64(0, UINT64_MAX);
    uint8_t *host = guest_memory_at(&memory, gpa_of(at), size);
    if (host) {
        //@ assert size > 0 && \valid(host + (0 .. size - 1));
    }
}

static void copy(uint64_t from, uint64_t to, uint64_t size)
{
    uint8_t buffer[COPY_BYTES] = {0};
    const uint64_t at = any_u64(from, to);
    (void)guest_memory_read(&memory, gpa_of(at), buffer, size);
    (void)guest_memory_write(&memory, gpa_of(at), buffer, size);
}

static void both(uint64_t from, uint64_t to)
{
    look(from, to);
    copy(from, to, 1);
    copy(from, to, COPY_BYTES);
}

int main(void)
{
    for (uint64_t i = 0; i < LOW_BYTES; i++)
        both(i, i);
    both(LOW_BYTES, HIGH_BASE - 1);
    for (uint64_t i = 0; i < HIGH_BYTES; i++)
        both(HIGH_BASE + i, HIGH_BASE + i);
    both(HIGH_BASE + HIGH_BYTES, UINT64_MAX);
    return 0;
}
