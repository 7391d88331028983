/* Snapshots as files: what is saved is what a restore maps, and what is damaged is refused by its name. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostvmm/snapshot/saver.h"

#define RAM_BYTES (16ull << 20)
#define PAGES     (RAM_BYTES / GUEST_PAGE_BYTES)

static char directory[64];
static char why[SNAPSHOT_WHY_BYTES];
static struct guest_memory ram;
static struct snapshot snapshots[2]; /* large */

static const char *at(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static uint8_t *page(uint64_t index)
{
    return ram.regions[0].host + index * GUEST_PAGE_BYTES;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/snapshot-test.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    static uint8_t buffer[RAM_BYTES + GUEST_PAGE_BYTES];
    memset(buffer, 0, sizeof buffer);
    uint8_t *aligned = buffer + (-(uintptr_t)buffer & (GUEST_PAGE_BYTES - 1));
    guest_memory_over(&ram, aligned, RAM_BYTES);
    for (unsigned i = 0; i < 2; i++)
        snapshot_close(&snapshots[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    for (unsigned i = 0; i < 2; i++)
        snapshot_close(&snapshots[i]);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static const struct snapshot_machine machine = {
    .memory_bytes = RAM_BYTES,
    .vcpu_count = 1,
    .drives = {{.id = "rootfs", .path = "/images/root", .read_only = true, .root = true}},
    .drive_count = 1,
    .vsock_cid = 3,
    .rng = true,
    .network = {.at = {{.mac = {2, 0, 0, 0, 0, 7},
                        .has_mac = true,
                        .mtu = 1400,
                        .addresses = {{.family = 4, .prefix = 24, .bytes = {192, 0, 2, 7}}},
                        .address_count = 1}},
                .count = 1},
    .agent = true,
};

static void a_copy_of_a_machine_is_all_of_it(void **state)
{
    static struct snapshot_machine all;
    static struct snapshot_machine copy;
    (void)state;
    all = machine;
    all.drives[all.drive_count++] = (struct snapshot_drive){.id = "data", .path = "/images/data"};
    all.network.at[all.network.count++] = (struct network_interface){.mtu = 1500};
    all.balloon.on = all.balloon.free_page_reporting = true;
    snapshot_machine_copy(&copy, &all);
    assert_memory_equal(&copy, &all, sizeof copy);
}

/* The four parts behind the manifest, which are not looked at here. */
static void put_parts(struct state_writer *parts)
{
    static const char *const names[] = {"cpu", "vcpus", "vm", "devices"};
    state_writer_init(parts);
    for (unsigned i = 0; i < 4; i++)
        state_put_uint(parts, names[i], i);
}

static int save(const char *name, uint64_t *changed, const struct snapshot *parent)
{
    struct saver saver;
    struct state_writer parts;
    put_parts(&parts);
    int error = saver_begin(&saver, at(name), why);
    saver.made.machine = machine;
    saver.made.consented = true;
    if (error == 0)
        error = saver_memory(&saver, &ram, NULL, changed, parent, why);
    else
        free(changed);
    if (error == 0)
        error = saver_finish(&saver, &parts, why);
    saver_fini(&saver);
    state_writer_fini(&parts);
    return error;
}

static uint64_t *changed_none(void)
{
    uint64_t *changed = calloc(PAGES / 64, sizeof *changed);
    assert_non_null(changed);
    return changed;
}

static void change(uint64_t *changed, uint64_t index, int value)
{
    memset(page(index), value, GUEST_PAGE_BYTES);
    changed[index / 64] |= UINT64_C(1) << index % 64;
}

/* What a restore would see is what RAM is. */
static void assert_same(const struct snapshot *snapshot)
{
    static struct guest_run runs[SNAPSHOT_RUNS_MAX];
    static uint8_t seen[RAM_BYTES];
    const unsigned count = snapshot_runs(snapshot, runs);
    uint64_t offset = 0;
    for (unsigned i = 0; i < count; i++) {
        const size_t bytes = runs[i].page_count * GUEST_PAGE_BYTES;
        assert_int_equal(pread(runs[i].fd, seen + offset, bytes, (off_t)offset), bytes);
        offset += bytes;
    }
    assert_int_equal(offset, RAM_BYTES);
    assert_memory_equal(seen, ram.regions[0].host, RAM_BYTES);
}

static void assert_only(const char *wanted)
{
    char command[256];
    (void)snprintf(command, sizeof command, "[ \"$(ls -A %s | tr '\\n' ' ')\" = '%s' ]", directory, wanted);
    assert_int_equal(system(command), 0);
}

static void a_full_snapshot_holds_what_ram_holds(void **state)
{
    (void)state;
    struct stat status;
    memset(page(3), 0x33, GUEST_PAGE_BYTES);
    memset(page(PAGES - 1), 0x44, GUEST_PAGE_BYTES);
    assert_int_equal(save("full", NULL, NULL), 0);
    assert_only("full ");
    assert_int_equal(snapshot_open(&snapshots[0], at("full"), why), 0);
    assert_true(snapshots[0].consented);
    assert_false(snapshots[0].has_parent);
    assert_int_equal(snapshots[0].machine.vsock_cid, 3);
    assert_string_equal(snapshots[0].machine.drives[0].path, "/images/root");
    assert_memory_equal(&snapshots[0].machine.network, &machine.network, sizeof machine.network);
    assert_int_equal(state_get_uint(&snapshots[0].state, "cpu", 0, 9), 0);
    assert_same(&snapshots[0]);
    assert_int_equal(snapshot_verify(&snapshots[0], why), 0);
    /* Two pages, and the block of the trailer: zeros take no space. */
    assert_int_equal(stat(at("full/memory"), &status), 0);
    assert_in_range(status.st_blocks * 512, 2 * GUEST_PAGE_BYTES, 6 * GUEST_PAGE_BYTES);
}

static void a_diff_is_complete_in_itself(void **state)
{
    (void)state;
    memset(page(1), 0x11, GUEST_PAGE_BYTES);
    memset(page(7), 0x77, GUEST_PAGE_BYTES);
    assert_int_equal(save("base", NULL, NULL), 0);
    assert_int_equal(snapshot_open(&snapshots[0], at("base"), why), 0);
    uint64_t *changed = changed_none();
    change(changed, 7, 0); /* given back: zeros are a change as well */
    change(changed, 9, 0x99);
    change(changed, 200, 0x20);
    assert_int_equal(save("diff", changed, &snapshots[0]), 0);
    snapshot_close(&snapshots[0]);
    assert_int_equal(snapshot_open(&snapshots[1], at("diff"), why), 0);
    assert_true(snapshots[1].has_parent);
    assert_int_equal(snapshots[1].layer_count, 2);
    assert_same(&snapshots[1]);
    assert_int_equal(snapshot_verify(&snapshots[1], why), 0);
    snapshot_close(&snapshots[1]);

    /* Both may move together: they name each other by where they are to each other. */
    char moved[80];
    (void)snprintf(moved, sizeof moved, "%s.moved", directory);
    assert_int_equal(rename(directory, moved), 0);
    memcpy(directory, moved, strlen(moved) + 1 < sizeof directory ? strlen(moved) + 1 : sizeof directory);
    assert_int_equal(snapshot_open(&snapshots[1], at("diff"), why), 0);
    assert_same(&snapshots[1]);
    snapshot_close(&snapshots[1]);

    assert_int_equal(rename(at("base"), at("elsewhere")), 0);
    assert_int_equal(snapshot_open(&snapshots[1], at("diff"), why), -ENOENT);
    assert_non_null(strstr(why, "../base/memory"));
    assert_non_null(strstr(why, "is needed too"));
    assert_int_equal(save("base", NULL, NULL), 0); /* another one of the same name */
    assert_int_equal(snapshot_open(&snapshots[1], at("diff"), why), -EBADMSG);
    assert_non_null(strstr(why, "the memory of another snapshot"));
}

static void a_long_chain_costs_what_a_short_one_costs(void **state)
{
    (void)state;
    char name[16];
    unsigned current = 0;
    memset(page(0), 1, GUEST_PAGE_BYTES);
    assert_int_equal(save("s0", NULL, NULL), 0);
    assert_int_equal(snapshot_open(&snapshots[0], at("s0"), why), 0);
    for (int i = 1; i <= 40; i++) {
        uint64_t *changed = changed_none();
        change(changed, (uint64_t)i * 3, i);
        change(changed, 500 + (uint64_t)(i * 7919) % 400, 100 + i);
        (void)snprintf(name, sizeof name, "s%d", i);
        assert_int_equal(save(name, changed, &snapshots[current]), 0);
        snapshot_close(&snapshots[current]);
        current = !current;
        assert_int_equal(snapshot_open(&snapshots[current], at(name), why), 0);
        assert_in_range(snapshots[current].layer_count, 2, SNAPSHOT_LAYERS_MAX);
        assert_same(&snapshots[current]);
    }
    assert_int_equal(snapshot_verify(&snapshots[current], why), 0);
}

/* RAM of 16 MiB, of which every other page changed: more runs than a restore should map. */
static void runs_are_bounded(void **state)
{
    (void)state;
    static struct snapshot parent;
    static struct snapshot made;
    const uint64_t pages = 4096;
    uint64_t *changed = calloc(pages / 64, sizeof *changed);
    assert_non_null(changed);
    for (uint64_t i = 0; i < pages; i += 2)
        changed[i / 64] |= UINT64_C(1) << i % 64;
    assert_int_equal(save("base", NULL, NULL), 0);
    assert_int_equal(snapshot_open(&parent, at("base"), why), 0);
    parent.machine.memory_bytes = made.machine.memory_bytes = pages * GUEST_PAGE_BYTES;
    parent.runs[0].page_count = pages;
    assert_int_equal(layers_of_diff(&made, &parent, changed, directory), 0);
    assert_in_range(made.run_count, 1, SNAPSHOT_RUNS_MAX);
    uint64_t covered = 0;
    for (unsigned i = 0; i < made.run_count; i++)
        covered += made.runs[i].page_count;
    assert_int_equal(covered, pages);
    for (uint64_t i = 0; i < pages; i += 2)
        assert_true(changed[i / 64] >> i % 64 & 1);
    free(changed);
    snapshot_close(&parent);
}

static void a_snapshot_is_never_written_over(void **state)
{
    (void)state;
    assert_int_equal(save("one", NULL, NULL), 0);
    assert_int_equal(save("one", NULL, NULL), -EEXIST);
    assert_non_null(strstr(why, "never written over"));
    assert_int_equal(save("one/", NULL, NULL), -EEXIST);
    assert_int_equal(save("no/such/place", NULL, NULL), -ENOENT);
    assert_int_equal(save(".hidden", NULL, NULL), -EINVAL);
    assert_only("one ");
}

static void one_process_writes_a_name_at_a_time(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at(".name.partial"), 0700), 0);
    const int other = open(at(".name.partial"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(other >= 0);
    assert_int_equal(flock(other, LOCK_EX), 0);
    assert_int_equal(save("name", NULL, NULL), -EBUSY);
    assert_int_equal(close(other), 0); /* its process died: what it left is taken over */
    const int left = open(at(".name.partial/memory"), O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
    assert_true(left >= 0);
    assert_int_equal(write(left, "rubbish", 7), 7);
    assert_int_equal(close(left), 0);
    assert_int_equal(save("name", NULL, NULL), 0);
    assert_only("name ");
    assert_int_equal(snapshot_open(&snapshots[0], at("name"), why), 0);
    assert_same(&snapshots[0]);
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit before;
    memset(page(600), 6, GUEST_PAGE_BYTES);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit <= 600 * GUEST_PAGE_BYTES; limit += 200 * GUEST_PAGE_BYTES) {
        const struct rlimit small = {.rlim_cur = limit, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const int error = save("full", NULL, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(error, -EFBIG);
        assert_non_null(strstr(why, "memory: "));
        assert_only("");
    }
    (void)signal(SIGXFSZ, SIG_DFL);
}

/* ---- damage
 * ---------------------------------------------------------------------------------------------------- */

static size_t read_all(const char *path, uint8_t *data, size_t capacity)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const ssize_t size = read(fd, data, capacity);
    assert_int_equal(close(fd), 0);
    assert_true(size > 0);
    return (size_t)size;
}

static void write_all(const char *path, const void *data, size_t size)
{
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    assert_int_equal(close(fd), 0);
}

static void every_flipped_byte_of_the_state_is_refused(void **state)
{
    (void)state;
    uint8_t data[4096];
    assert_int_equal(save("s", NULL, NULL), 0);
    const size_t size = read_all(at("s/state"), data, sizeof data);
    for (size_t i = 0; i < size; i++) {
        data[i] ^= 0x10;
        write_all(at("s/state"), data, size);
        const int error = snapshot_open(&snapshots[0], at("s"), why);
        assert_true(error == -EBADMSG || error == -EPROTONOSUPPORT);
        assert_memory_equal(why, "state: ", 7);
        data[i] ^= 0x10;
    }
    for (size_t shorter = 0; shorter < size; shorter++) {
        write_all(at("s/state"), data, shorter);
        assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -EBADMSG);
    }
    write_all(at("s/state"), data, size);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), 0);
}

/* A state with a good digest whose fields are not: the parser's turn. */
static void every_truncated_manifest_names_a_field(void **state)
{
    (void)state;
    uint8_t data[4096];
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    assert_int_equal(save("s", NULL, NULL), 0);
    const size_t size = read_all(at("s/state"), data, sizeof data) - SNAPSHOT_HEADER_BYTES;
    uint8_t *body = data + SNAPSHOT_HEADER_BYTES;
    size_t parts = size;
    while (memcmp(body + parts,
                  "\x63"
                  "cpu",
                  4) != 0)
        parts--;
    for (size_t shorter = 0; shorter < parts; shorter++) {
        snapshot_header_make(header, body, shorter);
        memcpy(data, header, sizeof header);
        write_all(at("s/state"), data, SNAPSHOT_HEADER_BYTES + shorter);
        assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -EBADMSG);
        assert_non_null(strstr(why, "the state ends here"));
    }
    memcpy(strstr((char *)body + 1, "x86_64"), "x86_65", 6);
    snapshot_header_make(header, body, size);
    memcpy(data, header, sizeof header);
    write_all(at("s/state"), data, SNAPSHOT_HEADER_BYTES + size);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -EBADMSG);
    assert_string_equal(why, "state: architecture: x86_65, this machine is x86_64");
}

static void another_version_is_named(void **state)
{
    (void)state;
    uint8_t data[4096];
    assert_int_equal(save("s", NULL, NULL), 0);
    const size_t size = read_all(at("s/state"), data, sizeof data);
    data[8] = 99;
    write_all(at("s/state"), data, size);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -EPROTONOSUPPORT);
    assert_non_null(strstr(why, "version 99"));
}

static void a_damaged_memory_file_is_named(void **state)
{
    (void)state;
    memset(page(130), 0x5a, GUEST_PAGE_BYTES); /* in the second chunk */
    assert_int_equal(save("s", NULL, NULL), 0);
    const char *path = at("s/memory");
    assert_int_equal(chmod(path, 0600), 0);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\x5b", 1, 130 * GUEST_PAGE_BYTES + 17), 1);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), 0);
    assert_int_equal(snapshot_verify(&snapshots[0], why), -EBADMSG);
    assert_non_null(strstr(why, "memory: chunk 1 (512 KiB from offset 0x80000)"));
    snapshot_close(&snapshots[0]);
    assert_int_equal(ftruncate(fd, RAM_BYTES), 0);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -EBADMSG);
    assert_non_null(strstr(why, "memory: 16777216 bytes, 16777248 wanted"));
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), -ENOENT);
    assert_non_null(strstr(why, "memory: "));
}

static void damaged_digests_are_told_from_damaged_memory(void **state)
{
    (void)state;
    uint8_t data[1024];
    assert_int_equal(save("s", NULL, NULL), 0);
    const size_t size = read_all(at("s/chunks"), data, sizeof data);
    data[40] ^= 1;
    write_all(at("s/chunks"), data, size);
    assert_int_equal(snapshot_open(&snapshots[0], at("s"), why), 0);
    assert_int_equal(snapshot_verify(&snapshots[0], why), -EBADMSG);
    assert_memory_equal(why, "chunks: ", 8);
    write_all(at("s/chunks"), data, size - 1);
    assert_int_equal(snapshot_verify(&snapshots[0], why), -EBADMSG);
    assert_non_null(strstr(why, "not whole"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_of_a_machine_is_all_of_it),
        TEST(a_full_snapshot_holds_what_ram_holds),
        TEST(a_diff_is_complete_in_itself),
        TEST(a_long_chain_costs_what_a_short_one_costs),
        TEST(runs_are_bounded),
        TEST(a_snapshot_is_never_written_over),
        TEST(one_process_writes_a_name_at_a_time),
        TEST(a_full_disk_leaves_nothing),
        TEST(every_flipped_byte_of_the_state_is_refused),
        TEST(every_truncated_manifest_names_a_field),
        TEST(another_version_is_named),
        TEST(a_damaged_memory_file_is_named),
        TEST(damaged_digests_are_told_from_damaged_memory),
    };
    return cmocka_run_group_tests_name("snapshot files", tests, NULL, NULL);
}
