/* The two forms of the counters, for a machine that is only numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostvmm/metrics.h"

static struct machine machine;
static struct timeline timeline;
static struct snapshots snapshots;
static const struct virtio_kind two_queues = {.name = "two", .queue_count = 2};
static const struct virtio_kind one_queue = {.name = "one", .queue_count = 1};

void virtio_balloon_look(const struct virtio_balloon *balloon, struct virtio_balloon_view *view)
{
    (void)balloon;
    *view = (struct virtio_balloon_view){.target_pages = 7, .reported_pages = 9};
}

static int setup(void **state)
{
    (void)state;
    memset(&machine, 0, sizeof machine);
    timeline = (struct timeline){.start_ns = 1, .running_ns = 1000001};
    snapshots.counts = (struct snapshots_counts){.taken = 3, .last_pause_ns = 1500000000};
    machine.vm.vcpu_count = 2;
    machine.vm.vcpus[1].exits[VCPU_EXIT_MMIO] = 42;
    machine.drive_count = 1;
    (void)snprintf(machine.made.drives[0].id, sizeof machine.made.drives[0].id, "data");
    machine.drives[0].device.kind = &one_queue;
    machine.drives[0].device.queues[0].deepest = 5;
    machine.drives[0].counts.bytes_written = UINT64_MAX;
    machine.net_count = 2;
    machine.nets[0].device.kind = machine.nets[1].device.kind = &two_queues;
    machine.nets[1].counts.tx_dropped = 8;
    machine.nets[1].device.broken_count = 2;
    machine.has_vsock = machine.has_balloon = true;
    machine.vsock.device.kind = &two_queues;
    machine.balloon.device.kind = &one_queue;
    return 0;
}

static char *text_of(void (*how)(struct metrics *metrics, FILE *out))
{
    struct metrics metrics = {.phase_count = 0};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    metrics_look(&metrics, &machine, &timeline, &snapshots);
    how(&metrics, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in %s", part, text);
}

static void test_json(void **state)
{
    (void)state;
    timeline_resume_step(&timeline, "a\"}step", 12);
    char *text = text_of(metrics_json);
    expect(text, "\"vcpu_1\":{\"exits_io\":0,\"exits_mmio\":42,");
    expect(text, "\"drive_data\":{\"bytes_read\":0,\"bytes_written\":18446744073709551615,");
    expect(text, "\"net_1\":{");
    expect(text, "\"phase_vmm\":{\"duration_ns\":1000000}");
    expect(text, "\"resume_step_a??step\":{\"duration_us\":12}");
    expect(text, "\"snapshots\":{\"taken\":3,");
    expect(text, "\"balloon\":{\"target_pages\":7,");
    expect(text, "\"device_net_1\":{\"broken\":2}");
    expect(text, "\"queue_drive_data_0\":{\"deepest\":5}");
    expect(text, "\"queue_vsock_1\":{");
    expect(text, "\"queue_balloon_0\":{");
    assert_null(strstr(text, "entropy")); /* it has none */
    int depth = 0;
    for (const char *at = text; *at; at++) {
        depth += *at == '{' ? 1 : *at == '}' ? -1 : 0;
        assert_true(depth > 0 || at[1] == '\0');
        assert_true(*at != '\n');
    }
    assert_int_equal(depth, 0);
    free(text);
}

/* Each family is declared once, and its samples follow that. */
static void test_prometheus(void **state)
{
    (void)state;
    char family[80] = "";
    char *seen[200];
    unsigned seen_count = 0;
    char *text = text_of(metrics_prometheus);
    expect(text, "rekindle_vcpu_exits_total{vcpu=\"1\",kind=\"mmio\"} 42\n");
    expect(text, "rekindle_drive_bytes_total{drive=\"data\",direction=\"write\"} 18446744073709551615\n");
    expect(text, "rekindle_snapshot_last_pause_seconds 1.500000000\n");
    expect(text, "rekindle_phase_seconds{phase=\"vmm\"} 0.001000000\n");
    expect(text, "rekindle_net_dropped_total{net=\"1\",direction=\"tx\"} 8\n");
    expect(text, "rekindle_queue_depth_max{device=\"drive_data\",queue=\"0\"} 5\n");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(sscanf(line, "# TYPE %79s ", family), 1);
            for (unsigned i = 0; i < seen_count; i++)
                assert_string_not_equal(seen[i], family);
            assert_true(seen_count < 200);
            seen[seen_count++] = strdup(family);
        } else if (line[0] != '#') {
            assert_memory_equal(line, family, strlen(family));
            assert_true(line[strlen(family)] == '{' || line[strlen(family)] == ' ');
        } else {
            assert_true(strlen(line) > strlen("# HELP ") + 20); /* it says something */
        }
    }
    assert_true(seen_count > 30);
    while (seen_count > 0)
        free(seen[--seen_count]);
    free(text);
}

static void test_file(void **state)
{
    (void)state;
    struct metrics metrics = {.phase_count = 0};
    char directory[] = "/tmp/metrics-test.XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(directory));
    metrics_look(&metrics, &machine, &timeline, &snapshots);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/m.%s", directory, i ? "prom" : "json");
        assert_int_equal(metrics_write(&metrics, path), 0);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fgetc(file), i ? '#' : '{');
        (void)fclose(file);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(directory), 0);
    assert_true(metrics_write(&metrics, "/nowhere/at/all") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_json, setup),
        cmocka_unit_test_setup(test_prometheus, setup),
        cmocka_unit_test_setup(test_file, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
