/* Guest memory given back: what was there is gone, nothing else is, and no guest makes mappings without end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/memory.h"

#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)

static uint64_t stored_bytes(const struct guest_memory *memory)
{
    struct stat status;
    assert_int_equal(fstat(memory->fd, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

static bool all(const uint8_t *bytes, uint64_t size, uint8_t value)
{
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static unsigned mapping_count(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned lines = 0;
    assert_non_null(maps);
    for (int c = getc(maps); c != EOF; c = getc(maps))
        lines += c == '\n';
    (void)fclose(maps);
    return lines;
}

static bool is_dirty(const struct guest_memory *memory, uint64_t page)
{
    return memory->dirty[page / 64] >> page % 64 & 1;
}

static void fresh_memory_goes_back(void **state)
{
    (void)state;
    struct guest_memory memory;
    assert_int_equal(guest_memory_init(&memory, 32 * MIB), 0);
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 32 * MIB);
    memset(bytes + MIB, 7, 4 * MIB);
    const uint64_t before = stored_bytes(&memory);
    assert_int_equal(guest_memory_track(&memory), 0);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(2 * MIB), MIB), 0);
    assert_true(before - stored_bytes(&memory) == MIB);
    assert_true(all(bytes + MIB, MIB, 7));
    assert_true(all(bytes + 3 * MIB, 2 * MIB, 7));
    assert_true(is_dirty(&memory, 2 * MIB / PAGE));
    assert_true(is_dirty(&memory, 3 * MIB / PAGE - 1));
    assert_false(is_dirty(&memory, 3 * MIB / PAGE));
    assert_false(is_dirty(&memory, 2 * MIB / PAGE - 1));
    assert_true(all(bytes + 2 * MIB, MIB, 0));
    guest_memory_fini(&memory);
}

static void the_second_region_is_its_own_part_of_the_file(void **state)
{
    (void)state;
    struct guest_memory memory;
    assert_int_equal(guest_memory_init(&memory, 4 * GIB), 0);
    uint8_t *low = guest_memory_at(&memory, gpa_of(3 * GIB - 2 * PAGE), 2 * PAGE);
    uint8_t *high = guest_memory_at(&memory, gpa_of(4 * GIB), 2 * PAGE);
    memset(low, 1, 2 * PAGE);
    memset(high, 2, 2 * PAGE);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(4 * GIB), PAGE), 0);
    assert_true(all(low, 2 * PAGE, 1));
    assert_true(all(high, PAGE, 0));
    assert_true(all(high + PAGE, PAGE, 2));
    assert_int_equal(guest_memory_where(&memory, high + 5).value, 4 * GIB + 5);
    assert_int_equal(guest_memory_where(&memory, low).value, 3 * GIB - 2 * PAGE);
    guest_memory_fini(&memory);
}

static void what_is_no_ram_or_no_page_is_refused(void **state)
{
    (void)state;
    struct guest_memory memory;
    assert_int_equal(guest_memory_init(&memory, 16 * MIB), 0);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(1), PAGE), -EINVAL);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(0), PAGE + 1), -EINVAL);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(0), 0), -EFAULT);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(16 * MIB), PAGE), -EFAULT);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(16 * MIB - PAGE), 2 * PAGE), -EFAULT);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(UINT64_MAX & ~(PAGE - 1)), PAGE), -EFAULT);
    assert_int_equal(guest_memory_discard_zeros(&memory, gpa_of(1), PAGE), -EINVAL);
    assert_int_equal(guest_memory_discard_zeros(&memory, gpa_of(16 * MIB), PAGE), -EFAULT);
    guest_memory_fini(&memory);
}

/* ---- a snapshot's memory ---- */

/* RAM that a file full of `value` backs. */
static void init_private(struct guest_memory *memory, uint64_t size, uint8_t value)
{
    const int fd = memfd_create("file", MFD_CLOEXEC);
    const struct guest_run run = {.page_count = size / PAGE, .fd = fd};
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    uint8_t *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(file, MAP_FAILED);
    if (value)
        memset(file, value, size);
    assert_int_equal(munmap(file, size), 0);
    assert_int_equal(guest_memory_init_from(memory, size, &run, 1), 0);
    close(fd);
}

static void the_files_contents_do_not_come_back(void **state)
{
    (void)state;
    struct guest_memory memory;
    init_private(&memory, 16 * MIB, 9);
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 16 * MIB);
    bytes[PAGE] = 1; /* a page of the process's own, and one that is the file's */
    assert_int_equal(guest_memory_discard(&memory, gpa_of(PAGE), 2 * PAGE), 0);
    assert_true(all(bytes + PAGE, 2 * PAGE, 0));
    assert_true(all(bytes, PAGE, 9));
    assert_true(all(bytes + 3 * PAGE, MIB, 9));
    /* Used again, and given again; half of it for the first time. */
    memset(bytes + PAGE, 3, 4 * PAGE);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(2 * PAGE), 2 * PAGE), 0);
    assert_true(all(bytes + PAGE, PAGE, 3));
    assert_true(all(bytes + 2 * PAGE, 2 * PAGE, 0));
    assert_true(all(bytes + 4 * PAGE, PAGE, 3));
    assert_true(all(bytes + 5 * PAGE, PAGE, 9));
    for (uint64_t page = 0; page < 6; page++)
        assert_int_equal(memory.discarded[0] >> page & 1, page >= 1 && page <= 3);
    guest_memory_fini(&memory);
}

static void neighbours_become_one_mapping(void **state)
{
    (void)state;
    struct guest_memory memory;
    init_private(&memory, 16 * MIB, 9);
    const unsigned before = mapping_count();
    for (uint64_t page = 0; page < 2000; page++) /* towards each other, touched in between */
        for (uint64_t side = 0; side < 2; side++) {
            const uint64_t at = side ? 4000 - page : 1000 + page / 2;
            assert_int_equal(guest_memory_discard(&memory, gpa_of(at * PAGE), PAGE), 0);
            *(uint8_t *)guest_memory_at(&memory, gpa_of(at * PAGE), 1) = 1;
        }
    assert_true(mapping_count() <= before + 4);
    guest_memory_fini(&memory);
}

/* Every other page, of more than there may be pieces. */
static void mappings_are_bounded(void **state)
{
    (void)state;
    struct guest_memory memory;
    init_private(&memory, 128 * MIB, 9);
    const uint64_t pages = 128 * MIB / PAGE;
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 128 * MIB);
    const unsigned before = mapping_count();
    for (uint64_t page = 0; page < pages; page += 2)
        assert_int_equal(guest_memory_discard(&memory, gpa_of(page * PAGE), PAGE), 0);
    const unsigned after = mapping_count();
    assert_true(after > before + 1000);
    assert_true(after <= before + 2 * 4096 + 2);
    for (uint64_t page = 0; page < pages; page++)
        assert_true(all(bytes + page * PAGE, PAGE, page % 2 ? 9 : 0));
    /* Gaps between pieces can be filled all the same. */
    assert_int_equal(guest_memory_discard(&memory, gpa_of(0), 1000 * PAGE), 0);
    assert_true(mapping_count() < after - 500);
    guest_memory_fini(&memory);
}

/* ---- zeros ---- */

static void zeros_go_and_holes_stay(void **state)
{
    (void)state;
    struct guest_memory memory;
    assert_int_equal(guest_memory_init(&memory, 32 * MIB), 0);
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 32 * MIB);
    memset(bytes + MIB, 0, 10 * PAGE); /* there, and zero */
    bytes[MIB + 4 * PAGE + 17] = 1;
    memset(bytes + 8 * MIB, 0, PAGE);
    const uint64_t before = stored_bytes(&memory);
    assert_true(guest_memory_discard_zeros(&memory, gpa_of(0), 32 * MIB) >= (int64_t)(10 * PAGE));
    const uint64_t after = stored_bytes(&memory);
    assert_true(after <= before);
    assert_true(after >= PAGE);
    assert_true(after <= 2 * MIB); /* all but the huge page, if it was one, that holds the byte */
    assert_int_equal(bytes[MIB + 4 * PAGE + 17], 1);
    const uint64_t stored = stored_bytes(&memory);
    assert_int_equal(guest_memory_discard_zeros(&memory, gpa_of(16 * MIB), 16 * MIB), 0);
    assert_int_equal(stored_bytes(&memory), stored); /* no hole was filled by the look */
    guest_memory_fini(&memory);
}

static void a_few_zeros_of_a_file_are_not_worth_it(void **state)
{
    (void)state;
    struct guest_memory memory;
    init_private(&memory, 16 * MIB, 9);
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 16 * MIB);
    memset(bytes + PAGE, 0, 63 * PAGE);
    memset(bytes + MIB, 0, 100 * PAGE);
    const unsigned before = mapping_count();
    assert_int_equal(guest_memory_discard_zeros(&memory, gpa_of(0), 16 * MIB), 100 * PAGE);
    assert_true(mapping_count() <= before + 2);
    assert_true(all(bytes + PAGE, 63 * PAGE, 0));
    assert_true(all(bytes + MIB, 100 * PAGE, 0));
    assert_true(all(bytes + MIB + 100 * PAGE, MIB, 9));
    guest_memory_fini(&memory);
}

static void a_buffer_is_zeroed(void **state)
{
    (void)state;
    struct guest_memory memory;
    static _Alignas(4096) uint8_t buffer[4 * 4096];
    memset(buffer, 5, sizeof buffer);
    guest_memory_over(&memory, buffer, sizeof buffer);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(PAGE), PAGE), 0);
    assert_true(all(buffer, PAGE, 5));
    assert_true(all(buffer + PAGE, PAGE, 0));
    assert_true(all(buffer + 2 * PAGE, 2 * PAGE, 5));
    guest_memory_fini(&memory);
}

/* ---- huge pages: where the host has some, or lets us reserve some ---- */

#define RESERVED "/proc/sys/vm/nr_hugepages"

static unsigned long reserved_before;

static bool reserve(unsigned long pages)
{
    FILE *file = fopen(RESERVED, "w");
    if (!file)
        return false;
    const bool written = fprintf(file, "%lu\n", pages) > 0;
    return fclose(file) == 0 && written;
}

static int reserve_pages(void **state)
{
    (void)state;
    FILE *file = fopen(RESERVED, "r");
    if (file) {
        if (fscanf(file, "%lu", &reserved_before) != 1)
            reserved_before = 0;
        (void)fclose(file);
    }
    if (reserved_before < 8)
        (void)reserve(8); /* what comes of it is seen by who maps them */
    return 0;
}

static int release_pages(void **state)
{
    (void)state;
    if (reserved_before < 8)
        (void)reserve(reserved_before);
    return 0;
}

static void huge_pages_go_back_whole(void **state)
{
    (void)state;
    struct guest_memory memory;
    const uint64_t huge = GUEST_HUGE_PAGE_BYTES;
    assert_int_equal(guest_memory_init_huge(&memory, 17 * MIB), -EINVAL);
    if (guest_memory_init_huge(&memory, 16 * MIB)) {
        print_message("this machine gives no huge pages: only the integration tests hold this\n");
        return;
    }
    uint8_t *bytes = guest_memory_at(&memory, gpa_of(0), 16 * MIB);
    memset(bytes, 4, 8 * MIB);
    assert_int_equal(stored_bytes(&memory), 8 * MIB);
    assert_int_equal(guest_memory_discard(&memory, gpa_of(PAGE), 2 * huge - PAGE), 0);
    assert_int_equal(stored_bytes(&memory), 8 * MIB - huge);
    assert_true(all(bytes, PAGE, 4));
    assert_true(all(bytes + 2 * huge, huge, 4));
    /* Piece by piece, from both ends. */
    for (uint64_t page = 0; page < 256; page++) {
        assert_int_equal(stored_bytes(&memory), 8 * MIB - huge);
        guest_memory_given(&memory, gpa_of(2 * huge + page * PAGE), PAGE, true);
        guest_memory_given(&memory, gpa_of(3 * huge - (page + 1) * PAGE), PAGE, true);
    }
    assert_int_equal(stored_bytes(&memory), 8 * MIB - 2 * huge);
    /* One is taken back and used: another of them that is given again does not take it away. */
    guest_memory_given(&memory, gpa_of(2 * huge), 2 * PAGE, false);
    bytes[2 * huge] = 8;
    guest_memory_given(&memory, gpa_of(2 * huge + PAGE), PAGE, true);
    assert_int_equal(bytes[2 * huge], 8);
    guest_memory_fini(&memory);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_memory_goes_back),
        cmocka_unit_test(the_second_region_is_its_own_part_of_the_file),
        cmocka_unit_test(what_is_no_ram_or_no_page_is_refused),
        cmocka_unit_test(the_files_contents_do_not_come_back),
        cmocka_unit_test(neighbours_become_one_mapping),
        cmocka_unit_test(mappings_are_bounded),
        cmocka_unit_test(zeros_go_and_holes_stay),
        cmocka_unit_test(a_few_zeros_of_a_file_are_not_worth_it),
        cmocka_unit_test(a_buffer_is_zeroed),
        cmocka_unit_test_setup_teardown(huge_pages_go_back_whole, reserve_pages, release_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
