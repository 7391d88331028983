/* Snapshots through the API: where they may appear, what they replace, whose a memory file is, and how they are
 * loaded again. The guest's process makes files that have the first and last bytes of real ones. */
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

#include "agent/base/fd.h"
#include "hostvmm/control/api/snapshot_files.h"
#include "tests/unit/control/api_server.h"

#define CREATE "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}"

static struct stage stage;

static int begin(void **state)
{
    (void)state;
    api_stage_begin(&stage);
    return 0;
}

static int end(void **state)
{
    (void)state;
    api_stage_end(&stage);
    return 0;
}

static void put(const char *path, const char *text)
{
    api_stage_expect(&stage, "PUT", path, text, 204, NULL);
}

static void refused(const char *path, const char *text, const char *fault)
{
    api_stage_expect(&stage, "PUT", path, text, 400, fault);
}

static void paused_guest(void)
{
    api_stage_write("data", "d");
    put("/drives/data",
        "{\"drive_id\":\"data\",\"path_on_host\":\"data\",\"is_root_device\":false,\"is_read_only\":false}");
    put("/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\"}");
    put("/vsock", "{\"guest_cid\":3,\"uds_path\":\"./v.sock\"}");
    api_stage_configure(&stage, true);
    put("/actions", "{\"action_type\":\"InstanceStart\"}");
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Paused\"}", 204, NULL);
}

/* The server and its guest end, a new server begins in the same directory. */
static void next_server(void)
{
    char here[sizeof stage.directory];
    memcpy(here, stage.directory, sizeof here);
    (void)snprintf(stage.directory, sizeof stage.directory, "/tmp/api_stage.none");
    api_stage_end(&stage);
    api_stage_begin(&stage);
    assert_int_equal(rmdir(stage.directory), 0);
    memcpy(stage.directory, here, sizeof here);
    assert_int_equal(chdir(here), 0);
    (void)unlink("words");
    (void)unlink("lines");
}

static uint64_t inode_of(const char *path)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    return about.st_ino;
}

/* What is in the directory besides what a test put there: nothing half made. */
static void nothing_is_left(void)
{
    assert_int_equal(system("ls | grep -q 'new-\\|clone-'") != 0, 1); /* NOLINT: a fixed command */
}

static void has_words(const char *wanted, bool there)
{
    char *words = api_stage_words();
    if ((strstr(words, wanted) != NULL) != there)
        fail_msg("'%s' is%s in: %s", wanted, there ? " not" : "", words);
    free(words);
}

/* ---- create ---- */

static void test_a_snapshot_appears_whole_with_its_memory_file_and_note(void **state)
{
    struct stat about;
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    assert_int_equal(inode_of("mem"), inode_of("snap/memory"));
    assert_int_equal(stat("snap/" SNAPSHOT_FILES_API, &about), 0);
    char *lines = api_stage_lines();
    assert_non_null(strstr(lines, "\tcheckpoint=no\tthen=pause\trequest="));
    free(lines);
    nothing_is_left();
}

static void test_a_running_guest_is_saved_with_its_consent_alone(void **state)
{
    (void)state;
    paused_guest();
    refused("/snapshot/create", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\",\"checkpoint\":true}",
            "consent");
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Resumed\"}", 204, NULL);
    refused("/snapshot/create", CREATE, "save/restore unavailable while running");
    put("/snapshot/create", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\",\"checkpoint\":true}");
    char *lines = api_stage_lines();
    assert_non_null(strstr(lines, "\tcheckpoint=yes\tthen=run\trequest="));
    free(lines);
}

static void test_one_of_ours_is_replaced_at_once(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    const uint64_t first = inode_of("snap/memory");
    put("/snapshot/create", CREATE);
    assert_int_not_equal(inode_of("snap/memory"), first);
    assert_int_equal(inode_of("mem"), inode_of("snap/memory"));
    nothing_is_left();
}

static void test_anything_else_is_not_replaced(void **state)
{
    (void)state;
    paused_guest();
    assert_int_equal(mkdir("snap", 0700), 0);
    refused("/snapshot/create", CREATE, "is not a snapshot of Rekindle's");
    assert_int_equal(rmdir("snap"), 0);
    api_stage_write("snap", "precious");
    refused("/snapshot/create", CREATE, "is not a snapshot of Rekindle's");
    assert_int_equal(unlink("snap"), 0);
    put("/snapshot/create", CREATE);
    api_stage_write("snap/precious", "mine");
    refused("/snapshot/create", CREATE, "is not a snapshot of Rekindle's");
    assert_int_equal(access("snap/precious", F_OK), 0);
    assert_int_equal(mkdir("taken", 0700), 0);
    refused("/snapshot/create", "{\"snapshot_path\":\"other\",\"mem_file_path\":\"taken\"}", "mem_file_path");
    refused("/snapshot/create", "{\"snapshot_path\":\"other\",\"mem_file_path\":\"no/where\"}",
            "mem_file_path");
    refused("/snapshot/create", "{\"snapshot_path\":\"other\",\"mem_file_path\":\"./other\"}",
            "the same place");
    assert_int_equal(access("other", F_OK), -1);
    nothing_is_left();
}

static void test_a_memory_file_within_its_snapshot_is_itself(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", "{\"snapshot_path\":\"snap/\",\"mem_file_path\":\"snap/memory\"}");
    assert_int_equal(access("snap/memory", F_OK), 0);
}

static void test_a_diff_builds_on_the_last_one_unless_it_replaces(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", "{\"snapshot_path\":\"a\",\"mem_file_path\":\"am\",\"snapshot_type\":\"Diff\"}");
    put("/snapshot/create", "{\"snapshot_path\":\"b\",\"mem_file_path\":\"bm\",\"snapshot_type\":\"Diff\"}");
    put("/snapshot/create", "{\"snapshot_path\":\"a\",\"mem_file_path\":\"am\",\"snapshot_type\":\"Diff\"}");
    char *lines = api_stage_lines();
    const char *first = strstr(lines, "snapshot\t");
    assert_non_null(first);
    const char *parent = strstr(first, "\tparent=");
    assert_non_null(parent);
    assert_non_null(memchr(first, '\n', (size_t)(parent - first))); /* not the first's */
    assert_int_equal(strncmp(strchr(parent, '\t') + 8 + strlen(stage.directory), "/a\t", 3), 0);
    assert_null(strstr(parent + 1, "\tparent=")); /* nor the third's */
    free(lines);
}

static void test_what_the_guests_process_refuses_leaves_nothing(void **state)
{
    (void)state;
    paused_guest();
    api_stage_write("mode", "refuses");
    refused("/snapshot/create", CREATE, "Create snapshot error: not in this state");
    assert_int_equal(access("snap", F_OK), -1);
    nothing_is_left();
}

/* ---- load ---- */

static void test_a_snapshot_is_loaded_as_it_was_configured(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}");
    has_words("restore --snapshot ", true);
    has_words("/snap --drive data.clone-", true);
    has_words(",id=data --net tap=tap0 --vsock ./v.sock --paused --control-fd 3", true);
    api_stage_expect(&stage, "GET", "/", NULL, 200, NULL);
    assert_string_equal(model_text(stage.answer, "state"), "Paused");
    assert_non_null(api_vsock_path(&stage.api));
    api_stage_expect(&stage, "GET", "/vm/config", NULL, 200, NULL);
    assert_null(json_object_get(stage.answer, "boot-source"));
    assert_int_equal(json_array_size(json_object_get(stage.answer, "drives")), 2);
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Resumed\"}", 204, NULL);
    api_stage_expect(&stage, "PATCH", "/drives/root",
                     "{\"drive_id\":\"root\",\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":1}}}", 204,
                     NULL);
    char *lines = api_stage_lines();
    assert_non_null(strstr(lines, "drive\tid=rootfs\toperations=1/1"));
    free(lines);
}

static void test_the_copy_of_a_drive_goes_with_the_server(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}");
    assert_int_equal(system("cmp -s data data.clone-*"), 0); /* NOLINT: a fixed command */
    next_server();
    nothing_is_left();
    assert_int_equal(access("data", F_OK), 0);
}

static void test_overrides_are_the_clones_own(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    api_stage_write("mine", "m");
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_backend\":{\"backend_type\":\"File\",\"backend_"
                          "path\":\"snap/memory\"},"
                          "\"resume_vm\":true,\"track_dirty_pages\":true,\"network_overrides\":[{\"iface_"
                          "id\":\"eth0\",\"host_dev_name\":"
                          "\"tap7\"}],\"vsock_override\":{\"uds_path\":\"v7.sock\"},\"drive_overrides\":[{"
                          "\"drive_id\":\"data\","
                          "\"path_on_host\":\"mine\"}]}");
    has_words("--drive mine,id=data --net tap=tap7 --vsock v7.sock --control-fd", true);
    has_words("--paused", false);
    nothing_is_left();
}

static void test_overrides_of_what_is_not_there_are_refused(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    refused(
        "/snapshot/load",
        "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\",\"network_overrides\":[{\"iface_id\":\"eth9\","
        "\"host_dev_name\":\"tap7\"}]}",
        "iface_id eth9");
    refused(
        "/snapshot/load",
        "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\",\"drive_overrides\":[{\"drive_id\":\"data\","
        "\"path_on_host\":\"a%n\"}]}",
        "%n");
    has_words("restore", false);
    nothing_is_left();
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}");
}

static void test_another_snapshots_memory_is_refused(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    put("/snapshot/create", "{\"snapshot_path\":\"snap2\",\"mem_file_path\":\"mem2\"}");
    assert_int_equal(system("cp mem mem.copy; head -c 100 mem >mem.cut; head -c 9000 /dev/zero >mem.zero"),
                     0); /* NOLINT */
    next_server();
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem2\"}",
            "does not belong to snapshot");
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem.cut\"}",
            "does not belong");
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem.zero\"}",
            "does not belong");
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"nowhere\"}", "No such file");
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"snap\"}", "no memory file");
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem.copy\"}");
}

static void test_a_note_that_is_damaged_is_refused(void **state)
{
    static const char *const notes[] = {
        "",
        "{",
        "[]",
        "{\"version\":2,\"config\":{}}",
        "{\"version\":1,\"rekindle\":false,\"config\":{\"drives\":[],\"network-interfaces\":[]}}",
        "{\"version\":1,\"config\":{\"drives\":[1],\"network-interfaces\":[],\"machine-config\":{}}}",
        "{\"version\":1,\"config\":{\"drives\":[{\"drive_id\":\"a\",\"path_on_host\":\"/"
        "x,ro\",\"is_root_device\":false}],"
        "\"network-interfaces\":[],\"machine-config\":{}}}",
    };
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        api_stage_write("snap/" SNAPSHOT_FILES_API, notes[i]);
        refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}", "api.json");
    }
    assert_int_equal(unlink("snap/" SNAPSHOT_FILES_API), 0);
    put("/snapshot/load",
        "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\",\"vsock_override\":{\"uds_path\":\"v\"}}");
    has_words("/snap --vsock v --paused", true);
}

static void test_a_clone_that_does_not_come_up_leaves_the_server_as_it_was(void **state)
{
    (void)state;
    paused_guest();
    put("/snapshot/create", CREATE);
    next_server();
    api_stage_write("mode", "dies");
    refused("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}",
            "Load snapshot error: Failed to restore from snapshot: no such kernel");
    nothing_is_left();
    api_stage_expect(&stage, "GET", "/", NULL, 200, NULL);
    assert_string_equal(model_text(stage.answer, "state"), "Not started");
    api_stage_write("mode", "");
    put("/snapshot/load", "{\"snapshot_path\":\"snap\",\"mem_file_path\":\"mem\"}");
}

/* ---- copies ---- */

static void test_a_copy_keeps_holes_and_bytes(void **state)
{
    char copy[SNAPSHOT_FILES_PATH + 1];
    char why[SNAPSHOT_FILES_WHY];
    struct stat about;
    (void)state;
    int fd = open("disk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "middle", 6, 8 << 20), 6);
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    fd_close(&fd);
    assert_int_equal(snapshot_files_copy("disk", copy, why), 0);
    assert_int_equal(stat(copy, &about), 0);
    assert_int_equal(about.st_size, 64 << 20);
    assert_true(about.st_blocks < 4096);
    assert_int_equal(system("cmp -s disk disk.clone-*"), 0); /* NOLINT: a fixed command */
    assert_int_equal(snapshot_files_copy("/dev/null", copy, why), -EINVAL);
    assert_int_equal(snapshot_files_copy("nowhere", copy, why), -ENOENT);
}

int main(int argc, char **argv)
{
#define LIVES(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        LIVES(test_a_snapshot_appears_whole_with_its_memory_file_and_note),
        LIVES(test_a_running_guest_is_saved_with_its_consent_alone),
        LIVES(test_one_of_ours_is_replaced_at_once),
        LIVES(test_anything_else_is_not_replaced),
        LIVES(test_a_memory_file_within_its_snapshot_is_itself),
        LIVES(test_a_diff_builds_on_the_last_one_unless_it_replaces),
        LIVES(test_what_the_guests_process_refuses_leaves_nothing),
        LIVES(test_a_snapshot_is_loaded_as_it_was_configured),
        LIVES(test_the_copy_of_a_drive_goes_with_the_server),
        LIVES(test_overrides_are_the_clones_own),
        LIVES(test_overrides_of_what_is_not_there_are_refused),
        LIVES(test_another_snapshots_memory_is_refused),
        LIVES(test_a_note_that_is_damaged_is_refused),
        LIVES(test_a_clone_that_does_not_come_up_leaves_the_server_as_it_was),
        LIVES(test_a_copy_keeps_holes_and_bytes),
    };
    api_stage_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
