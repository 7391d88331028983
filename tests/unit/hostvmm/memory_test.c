/* Guest memory: layout around the hole, bounds, copies across regions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/memory.h"

#define GIB (1024ull * 1024 * 1024)

static void layout_has_a_hole_below_4_gib(void **state)
{
    (void)state;
    struct guest_region regions[GUEST_REGIONS_MAX];
    assert_int_equal(arch_memory_layout(128ull << 20, regions), 1);
    assert_int_equal(regions[0].base, 0);
    assert_int_equal(regions[0].size_bytes, 128ull << 20);
    assert_int_equal(arch_memory_layout(3 * GIB, regions), 1);
    assert_int_equal(arch_memory_layout(5 * GIB, regions), 2);
    assert_int_equal(regions[0].size_bytes, 3 * GIB);
    assert_int_equal(regions[1].base, 4 * GIB);
    assert_int_equal(regions[1].size_bytes, 2 * GIB);
    for (unsigned i = 0; i < ARCH_VIRTIO_SLOTS_MAX; i++) {
        assert_true(arch_virtio_slot(i).base >= 3 * GIB);
        assert_true(arch_virtio_slot(i).base + ARCH_VIRTIO_SLOT_BYTES <= 0xfec00000);
        assert_true(arch_virtio_slot(i).gsi < 23);
    }
}

static void layout_refuses_odd_sizes(void **state)
{
    (void)state;
    struct guest_region regions[GUEST_REGIONS_MAX];
    assert_int_equal(arch_memory_layout(0, regions), 0);
    assert_int_equal(arch_memory_layout((128ull << 20) + 1, regions), 0);
    assert_int_equal(arch_memory_layout(4096, regions), 0);
    assert_int_equal(arch_memory_layout(1ull << 50, regions), 0);
}

static void ram_is_one_descriptor(void **state)
{
    (void)state;
    struct guest_memory memory;
    struct stat status;
    assert_int_equal(guest_memory_init(&memory, 4 * GIB), 0);
    assert_int_equal(memory.region_count, 2);
    assert_int_equal(fstat(memory.fd, &status), 0);
    assert_int_equal(status.st_size, 4 * GIB);
    assert_int_equal(memory.regions[1].file_offset_bytes, 3 * GIB);
    uint8_t *high = guest_memory_at(&memory, gpa_of(4 * GIB), 4096);
    assert_non_null(high);
    high[0] = 0x5a;
    uint8_t seen = 0;
    assert_int_equal(guest_memory_read(&memory, gpa_of(4 * GIB), &seen, 1), 0);
    assert_int_equal(seen, 0x5a);
    guest_memory_fini(&memory);
    assert_int_equal(memory.fd, -1);
}

static void sizes_out_of_range_are_refused(void **state)
{
    (void)state;
    struct guest_memory memory;
    assert_int_equal(guest_memory_init(&memory, 12345), -EINVAL);
}

static void huge_pages_keep_the_contents(void **state)
{
    (void)state;
    struct guest_memory memory;
    const uint64_t huge = GUEST_HUGE_PAGE_BYTES;
    assert_int_equal(guest_memory_init(&memory, 32ull << 20), 0);
    assert_int_equal((uintptr_t)memory.regions[0].host % huge, 0);
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(huge), 3 * huge);
    bytes[0] = 1;
    bytes[5000] = 2;
    bytes[3 * huge - 1] = 3;
    guest_memory_use_huge(&memory, gpa_of(huge), 3 * huge);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(bytes[1], 0);
    assert_int_equal(bytes[5000], 2);
    assert_int_equal(bytes[3 * huge - 1], 3);
    /* Ranges that make no sense are no advice. */
    guest_memory_use_huge(&memory, gpa_of(4096), huge);
    guest_memory_use_huge(&memory, gpa_of(0), 4096);
    guest_memory_use_huge(&memory, gpa_of(0), 64ull << 20);
    guest_memory_fini(&memory);
    guest_memory_over(&memory, bytes, 0);
    guest_memory_use_huge(&memory, gpa_of(0), huge);
}

/* Two regions of 64 bytes, the second right after the first, or with a gap. */
static void two_regions(struct guest_memory *memory, uint8_t *low, uint8_t *high, uint64_t second_base)
{
    memset(memory, 0, sizeof *memory);
    memory->fd = -1;
    memory->region_count = 2;
    memory->regions[0] = (struct guest_region){.base = 0x1000, .size_bytes = 64, .host = low};
    memory->regions[1] = (struct guest_region){.base = second_base, .size_bytes = 64, .host = high};
}

static void host_addresses_stay_in_one_region(void **state)
{
    (void)state;
    uint8_t low[64] = {0};
    uint8_t high[64] = {0};
    struct guest_memory memory;
    two_regions(&memory, low, high, 0x1040);
    assert_ptr_equal(guest_memory_at(&memory, gpa_of(0x1000), 64), low);
    assert_ptr_equal(guest_memory_at(&memory, gpa_of(0x103f), 1), low + 63);
    assert_ptr_equal(guest_memory_at(&memory, gpa_of(0x1040), 64), high);
    assert_null(guest_memory_at(&memory, gpa_of(0x103f), 2)); /* across the two */
    assert_null(guest_memory_at(&memory, gpa_of(0x0fff), 1));
    assert_null(guest_memory_at(&memory, gpa_of(0x1080), 1));
    assert_null(guest_memory_at(&memory, gpa_of(0x1000), 0));
    assert_null(guest_memory_at(&memory, gpa_of(0x1000), UINT64_MAX));
    assert_null(guest_memory_at(&memory, gpa_of(UINT64_MAX), 2));
}

static void copies_cross_adjacent_regions(void **state)
{
    (void)state;
    uint8_t low[64] = {0};
    uint8_t high[64] = {0};
    uint8_t text[100];
    uint8_t back[100];
    struct guest_memory memory;
    memset(text, 7, sizeof text);
    two_regions(&memory, low, high, 0x1040);
    assert_int_equal(guest_memory_write(&memory, gpa_of(0x1010), text, sizeof text), 0);
    assert_int_equal(low[15], 0);
    assert_int_equal(low[16], 7);
    assert_int_equal(high[51], 7);
    assert_int_equal(high[52], 0);
    assert_int_equal(guest_memory_read(&memory, gpa_of(0x1010), back, sizeof back), 0);
    assert_memory_equal(text, back, sizeof text);
}

static void a_copy_that_leaves_ram_copies_nothing(void **state)
{
    (void)state;
    uint8_t low[64] = {0};
    uint8_t high[64] = {0};
    uint8_t text[100];
    struct guest_memory memory;
    memset(text, 7, sizeof text);
    two_regions(&memory, low, high, 0x2000);
    assert_int_equal(guest_memory_write(&memory, gpa_of(0x1010), text, sizeof text), -EFAULT);
    assert_int_equal(low[16], 0);
    assert_int_equal(guest_memory_read(&memory, gpa_of(0x1fff), text, 1), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, gpa_of(UINT64_MAX), text, 16), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, gpa_of(0x9999), text, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_has_a_hole_below_4_gib),
        cmocka_unit_test(layout_refuses_odd_sizes),
        cmocka_unit_test(ram_is_one_descriptor),
        cmocka_unit_test(huge_pages_keep_the_contents),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(host_addresses_stay_in_one_region),
        cmocka_unit_test(copies_cross_adjacent_regions),
        cmocka_unit_test(a_copy_that_leaves_ram_copies_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
