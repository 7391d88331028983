/* The list of pages to prefetch: what is written is read, everything else is refused and costs nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostvmm/snapshot/prefetch.h"

#define PAGES 4096u /* 16 MiB */

static const uint8_t id[PREFETCH_ID_BYTES] = {1, 2, 3};
static struct prefetch given;
static struct prefetch got;
static char directory[64];
static int at = -1;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/prefetch-test.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return at < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlinkat(at, PREFETCH_FILE, 0);
    (void)close(at);
    return rmdir(directory);
}

static void set(uint64_t *bitmap, unsigned first, unsigned count)
{
    for (unsigned page = first; page < first + count; page++)
        bitmap[page / 64] |= UINT64_C(1) << page % 64;
}

/* Read 3..9, of which 5..6 are written; 100 written only; the last page read. */
static void make_sample(void)
{
    uint64_t touched[PAGES / 64] = {0};
    uint64_t written[PAGES / 64] = {0};
    set(touched, 3, 7);
    set(touched, PAGES - 1, 1);
    set(written, 5, 2);
    set(written, 100, 1);
    prefetch_make(&given, touched, written, PAGES);
}

static void write_sample(void)
{
    make_sample();
    assert_int_equal(prefetch_write(&given, at, id), 0);
}

static void assert_run(const struct prefetch *prefetch, unsigned index, uint64_t first, uint64_t count,
                       bool written)
{
    const struct prefetch_run run = prefetch_run_at(prefetch, index);
    assert_int_equal(run.first_page, first);
    assert_int_equal(run.page_count, count);
    assert_int_equal(run.written, written);
}

/* A change of the file, which is read-only: another in its place. */
static void replace(const void *data, size_t size)
{
    assert_int_equal(unlinkat(at, PREFETCH_FILE, 0), 0);
    const int fd = openat(at, PREFETCH_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    assert_int_equal(close(fd), 0);
}

static size_t contents(uint8_t *to, size_t capacity)
{
    const int fd = openat(at, PREFETCH_FILE, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const ssize_t size = read(fd, to, capacity);
    assert_true(size > 0);
    assert_int_equal(close(fd), 0);
    return (size_t)size;
}

static int read_back(void)
{
    char why[PREFETCH_WHY_BYTES] = "";
    const int error = prefetch_read(&got, at, id, PAGES, why);
    assert_int_equal(error != 0, why[0] != '\0');
    if (error)
        assert_int_equal(got.run_count, 0);
    return error;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    write_sample();
    assert_int_equal(read_back(), 0);
    assert_int_equal(got.run_count, 5);
    assert_run(&got, 0, 3, 2, false);
    assert_run(&got, 1, 5, 2, true);
    assert_run(&got, 2, 7, 3, false);
    assert_run(&got, 3, 100, 1, true);
    assert_run(&got, 4, PAGES - 1, 1, false);
    write_sample(); /* over the one that is there */
    assert_int_equal(read_back(), 0);
}

static void none_is_no_damage(void **state)
{
    (void)state;
    assert_int_equal(read_back(), -ENOENT);
}

static void another_snapshots_is_refused(void **state)
{
    (void)state;
    const uint8_t other[PREFETCH_ID_BYTES] = {9};
    char why[PREFETCH_WHY_BYTES];
    write_sample();
    assert_int_equal(prefetch_read(&got, at, other, PAGES, why), -EBADMSG);
    assert_int_equal(got.run_count, 0);
}

static void pages_beyond_memory_are_refused(void **state)
{
    (void)state;
    char why[PREFETCH_WHY_BYTES];
    write_sample();
    assert_int_equal(prefetch_read(&got, at, id, PAGES - 1, why), -EBADMSG);
    assert_int_equal(got.run_count, 0);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    uint8_t file[256];
    write_sample();
    const size_t size = contents(file, sizeof file);
    for (size_t cut = 0; cut < size; cut++) {
        replace(file, cut);
        assert_int_equal(read_back(), -EBADMSG);
    }
    replace(file, size);
    assert_int_equal(read_back(), 0);
}

static void every_flipped_bit_is_refused_or_other_pages_of_memory(void **state)
{
    (void)state;
    uint8_t file[256];
    write_sample();
    const size_t size = contents(file, sizeof file);
    for (size_t bit = 0; bit < size * 8; bit++) {
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        replace(file, size);
        const int error = read_back();
        assert_true(error == 0 || error == -EBADMSG);
        for (unsigned i = 0; i < got.run_count; i++) {
            const struct prefetch_run run = prefetch_run_at(&got, i);
            assert_true(run.page_count > 0 && run.first_page + run.page_count <= PAGES);
        }
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkfifoat(at, PREFETCH_FILE, 0600), 0);
    assert_int_equal(read_back(), -EBADMSG); /* and nobody waits for a writer */
    assert_int_equal(unlinkat(at, PREFETCH_FILE, 0), 0);
    assert_int_equal(symlinkat("/dev/zero", at, PREFETCH_FILE), 0);
    assert_int_equal(read_back(), -ELOOP);
}

static void too_many_runs_are_cut(void **state)
{
    (void)state;
    static uint64_t touched[3 * PREFETCH_RUNS_MAX / 64];
    static const uint64_t written[3 * PREFETCH_RUNS_MAX / 64];
    for (unsigned page = 0; page < 3 * PREFETCH_RUNS_MAX; page += 2)
        set(touched, page, 1);
    prefetch_make(&given, touched, written, UINT64_C(3) * PREFETCH_RUNS_MAX);
    assert_int_equal(given.run_count, PREFETCH_RUNS_MAX);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read),      TEST(none_is_no_damage),
        TEST(another_snapshots_is_refused), TEST(pages_beyond_memory_are_refused),
        TEST(every_truncation_is_refused),  TEST(every_flipped_bit_is_refused_or_other_pages_of_memory),
        TEST(what_is_no_file_is_refused),   TEST(too_many_runs_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
