/* Buses: who answers which address, and what happens when nobody does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "hostvmm/bus.h"

struct probe {
    uint64_t offset;
    uint32_t size;
    uint8_t data[8];
    unsigned reads, writes;
};

static void probe_read(void *device, uint64_t offset, void *data, uint32_t size)
{
    struct probe *probe = device;
    probe->offset = offset;
    probe->size = size;
    probe->reads++;
    memcpy(data, probe->data, size);
}

static void probe_write(void *device, uint64_t offset, const void *data, uint32_t size)
{
    struct probe *probe = device;
    probe->offset = offset;
    probe->size = size;
    probe->writes++;
    memcpy(probe->data, data, size);
}

static const struct bus_ops ops = {.read = probe_read, .write = probe_write};

static void the_right_window_answers(void **state)
{
    (void)state;
    struct bus bus = {0};
    struct probe probes[3] = {0};
    uint32_t value = 0x12345678;
    assert_int_equal(bus_add(&bus, 0x2000, 0x1000, &ops, &probes[1], "b"), 0);
    assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &ops, &probes[0], "a"), 0);
    assert_int_equal(bus_add(&bus, 0x9000, 0x10, &ops, &probes[2], "c"), 0);
    assert_true(bus_write(&bus, 0x1ffc, &value, 4));
    assert_int_equal(probes[0].writes, 1);
    assert_int_equal(probes[0].offset, 0xffc);
    assert_int_equal(probes[0].size, 4);
    value = 0;
    assert_true(bus_read(&bus, 0x1ffc, &value, 4));
    assert_int_equal(value, 0x12345678);
    assert_true(bus_read(&bus, 0x2000, &value, 1));
    assert_int_equal(probes[1].reads, 1);
    assert_int_equal(probes[1].offset, 0);
    assert_true(bus_read(&bus, 0x900f, &value, 1));
    assert_int_equal(probes[2].offset, 0xf);
    assert_int_equal(bus.unclaimed, 0);
}

static void unclaimed_reads_give_ones(void **state)
{
    (void)state;
    struct bus bus = {0};
    struct probe probe = {0};
    uint64_t value = 0;
    assert_false(bus_read(&bus, 0x1000, &value, 8));
    assert_true(value == UINT64_MAX);
    assert_int_equal(bus_add(&bus, 0x1000, 0x10, &ops, &probe, "a"), 0);
    value = 0;
    assert_false(bus_read(&bus, 0x0fff, &value, 2)); /* half inside: nobody's */
    assert_int_equal(value, 0xffff);
    assert_false(bus_read(&bus, 0x100e, &value, 4));
    assert_false(bus_write(&bus, 0x1010, &value, 1));
    assert_false(bus_write(&bus, UINT64_MAX, &value, 8));
    assert_false(bus_read(&bus, 0x1000, &value, 3)); /* no such access */
    assert_int_equal(probe.reads + probe.writes, 0);
    assert_int_equal(bus.unclaimed, 6);
}

static void windows_do_not_overlap(void **state)
{
    (void)state;
    struct bus bus = {0};
    struct probe probe = {0};
    assert_int_equal(bus_add(&bus, 0x1000, 0x100, &ops, &probe, "a"), 0);
    assert_int_equal(bus_add(&bus, 0x1000, 1, &ops, &probe, "b"), -EEXIST);
    assert_int_equal(bus_add(&bus, 0x10ff, 2, &ops, &probe, "b"), -EEXIST);
    assert_int_equal(bus_add(&bus, 0x0fff, 2, &ops, &probe, "b"), -EEXIST);
    assert_int_equal(bus_add(&bus, 0x0, 0x100000, &ops, &probe, "b"), -EEXIST);
    assert_int_equal(bus_add(&bus, 0x1100, 1, &ops, &probe, "b"), 0);
    assert_int_equal(bus_add(&bus, 0x0fff, 1, &ops, &probe, "c"), 0);
    assert_int_equal(bus_add(&bus, 0, 0, &ops, &probe, "d"), -EINVAL);
    assert_int_equal(bus_add(&bus, UINT64_MAX, 2, &ops, &probe, "d"), -EINVAL);
    assert_int_equal(bus.count, 3);
}

static void a_full_bus_says_so(void **state)
{
    (void)state;
    struct bus bus = {0};
    struct probe probe = {0};
    for (uint64_t i = 0; i < BUS_WINDOWS_MAX; i++)
        assert_int_equal(bus_add(&bus, i * 16, 16, &ops, &probe, "a"), 0);
    assert_int_equal(bus_add(&bus, 1u << 20, 16, &ops, &probe, "a"), -ENOSPC);
    uint8_t byte;
    for (uint64_t i = 0; i < BUS_WINDOWS_MAX; i++)
        assert_true(bus_read(&bus, i * 16 + 15, &byte, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_window_answers),
        cmocka_unit_test(unclaimed_reads_give_ones),
        cmocka_unit_test(windows_do_not_overlap),
        cmocka_unit_test(a_full_bus_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
