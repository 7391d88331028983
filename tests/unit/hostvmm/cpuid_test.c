/* CPUID: topology for every size of machine, frequencies, tiles; on an Intel-like and an AMD-like list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/x86_64/cpuid.h"

static struct kvm_cpuid2 *table;

static int setup(void **state)
{
    (void)state;
    table = calloc(1, sizeof *table + CPUID_ENTRIES_MAX * sizeof table->entries[0]);
    return table ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    free(table);
    return 0;
}

static void add(uint32_t function, uint32_t index, bool indexed, uint32_t eax, uint32_t ebx, uint32_t ecx,
                uint32_t edx)
{
    table->entries[table->nent++] = (struct kvm_cpuid_entry2){
        .function = function,
        .index = index,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = eax,
        .ebx = ebx,
        .ecx = ecx,
        .edx = edx,
    };
}

/* What KVM says on a large Intel machine, as far as it matters here: ids of another CPU, host topology. */
static void intel(bool tiles)
{
    table->nent = 0;
    add(0, 0, false, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
    add(1, 0, false, 0x806f8, 0x5e800800, 0x76fa3203, 0x1f8bfbff);
    add(4, 0, true, 0xfc004121, 0, 0, 0);
    add(4, 2, true, 0xfc01c143, 0, 0, 0);
    add(4, 3, true, 0xfc1fc163, 0, 0, 0);
    add(4, 4, true, 0, 0, 0, 0);
    add(7, 0, true, 2, 0xf1bf07ab, 0x1b415f6e, 0xff814410 | 1u << 22 | 1u << 24 | 1u << 25);
    add(7, 1, true, 0x1c30 | 1u << 21, 0, 0, 1u << 8);
    add(0xb, 0, true, 1, 2, 0x100, 0x5e);
    add(0xb, 1, true, 7, 0x70, 0x201, 0x5e);
    add(0xd, 0, true, tiles ? 0x602e7 : 0x2e7, 0, 0x2b00, 0);
    add(0x1d, 0, true, 1, 0, 0, 0);
    add(0x1e, 0, true, 0, 0x4010, 0, 0);
    add(0x1f, 0, true, 1, 2, 0x100, 0x5e);
    add(0x40000000, 0, false, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    add(0x40000001, 0, false, 0x1007efb, 0, 0, 0);
    add(0x80000008, 0, false, 0x3934, 0, 0, 0);
}

static void amd(void)
{
    table->nent = 0;
    add(0, 0, false, 0x10, 0x68747541, 0x444d4163, 0x69746e65);
    add(1, 0, false, 0xa20f10, 0x10800, 0xfef83203, 0x1f8bfbff);
    add(7, 0, true, 0, 0x219c97a9, 0x40069c, 0x10);
    add(0xb, 0, true, 1, 2, 0x100, 0x11);
    add(0xd, 0, true, 0x207, 0x340, 0x988, 0);
    add(0x40000000, 0, false, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    add(0x80000008, 0, false, 0x3030, 0x111ed205, 0x703f, 0);
    add(0x8000001d, 0, true, 0x4121, 0, 0, 0);
    add(0x8000001d, 3, true, 0x3c163, 0, 0, 0);
    add(0x8000001e, 0, false, 0x11, 0x108, 0x300, 0);
}

static const struct cpuid_machine one = {.vcpu_count = 1, .tsc_khz = 2596102, .tsc_deadline_timer = true};

static void topology_fits_every_machine(void **state)
{
    (void)state;
    for (int vendor = 0; vendor < 2; vendor++)
        for (unsigned count = 1; count <= 32; count++)
            for (unsigned index = 0; index < count; index++) {
                struct cpuid_machine machine = one;
                machine.vcpu_count = count;
                if (vendor)
                    amd();
                else
                    intel(true);
                assert_int_equal(cpuid_edit(table, &machine, index), 0);
                const struct kvm_cpuid_entry2 *entry = cpuid_find(table, 1, 0);
                assert_int_equal(entry->ebx >> 24, index);
                assert_true((entry->ebx >> 16 & 0xff) >= count);
                assert_int_equal(entry->edx >> 28 & 1, count > 1);
                const struct kvm_cpuid_entry2 *threads = cpuid_find(table, 0xb, 0);
                const struct kvm_cpuid_entry2 *cores = cpuid_find(table, 0xb, 1);
                assert_int_equal(threads->ebx, 1);
                assert_int_equal(threads->eax, 0);
                assert_int_equal(threads->ecx, 0x100);
                assert_int_equal(threads->edx, index);
                assert_int_equal(cores->ebx, count);
                assert_int_equal(cores->ecx, 0x201);
                assert_int_equal(cores->edx, index);
                assert_true(1u << cores->eax >= count); /* ids of one package differ below this bit */
                assert_int_equal(cpuid_find(table, 0xb, 2)->ebx, 0);
            }
}

static void intel_leaves_are_this_machines(void **state)
{
    (void)state;
    struct cpuid_machine machine = one;
    machine.vcpu_count = 6;
    intel(true);
    assert_int_equal(cpuid_edit(table, &machine, 5), 0);
    assert_int_equal(cpuid_find(table, 4, 0)->eax >> 26, 7);         /* core ids: 0..7 */
    assert_int_equal(cpuid_find(table, 4, 0)->eax >> 14 & 0xfff, 0); /* first level: one's own */
    assert_int_equal(cpuid_find(table, 4, 3)->eax >> 14 & 0xfff, 5); /* last level: all six */
    assert_int_equal(cpuid_find(table, 4, 4)->eax, 0);               /* the end of the list */
    assert_int_equal(cpuid_find(table, 0x1f, 1)->ebx, 6);
    assert_int_equal(cpuid_find(table, 0x1f, 1)->edx, 5);
}

static void amd_leaves_are_this_machines(void **state)
{
    (void)state;
    struct cpuid_machine machine = one;
    machine.vcpu_count = 6;
    amd();
    assert_int_equal(cpuid_edit(table, &machine, 5), 0);
    assert_int_equal(cpuid_find(table, 0x80000008, 0)->ecx, 0x3005);
    assert_int_equal(cpuid_find(table, 0x8000001e, 0)->eax, 5);
    assert_int_equal(cpuid_find(table, 0x8000001e, 0)->ebx, 5);
    assert_int_equal(cpuid_find(table, 0x8000001e, 0)->ecx, 0);
    assert_int_equal(cpuid_find(table, 0x8000001d, 3)->eax >> 14, 5);
    assert_int_equal(cpuid_find(table, 0x8000001d, 0)->eax >> 14, 0);
    assert_null(cpuid_find(table, 0x15, 0)); /* Intel's alone */
}

static void frequencies_are_exact(void **state)
{
    (void)state;
    intel(true);
    assert_int_equal(cpuid_edit(table, &one, 0), 0);
    const struct kvm_cpuid_entry2 *entry = cpuid_find(table, 0x15, 0);
    assert_non_null(entry);
    assert_true((uint64_t)entry->ecx * entry->ebx / entry->eax == 2596102000u);
    assert_int_equal(cpuid_find(table, 0x40000000, 0)->eax, 0x40000010);
    assert_int_equal(cpuid_find(table, 0x40000010, 0)->eax, 2596102);

    struct cpuid_machine unknown = one;
    unknown.tsc_khz = 0;
    intel(true);
    assert_int_equal(cpuid_edit(table, &unknown, 0), 0);
    assert_null(cpuid_find(table, 0x15, 0));
    assert_int_equal(cpuid_find(table, 0x40000000, 0)->eax, 0x40000001);

    struct cpuid_machine fast = one;
    fast.tsc_khz = 5000000; /* in Hz beyond 32 bits */
    intel(true);
    assert_int_equal(cpuid_edit(table, &fast, 0), 0);
    assert_null(cpuid_find(table, 0x15, 0));
    assert_int_equal(cpuid_find(table, 0x40000010, 0)->eax, 5000000);
}

static void only_two_features_are_added(void **state)
{
    (void)state;
    struct cpuid_machine machine = one;
    intel(true);
    const uint32_t before = cpuid_find(table, 1, 0)->ecx;
    assert_int_equal(cpuid_edit(table, &machine, 0), 0);
    assert_int_equal(cpuid_find(table, 1, 0)->ecx, before | 1u << 31 | 1u << 24);
    machine.tsc_deadline_timer = false;
    assert_int_equal(cpuid_edit(table, &machine, 0), 0);
    assert_int_equal(cpuid_find(table, 1, 0)->ecx & 1u << 24, 0);
}

static void tiles_go_where_their_state_is_not(void **state)
{
    (void)state;
    const uint32_t amx = 1u << 22 | 1u << 24 | 1u << 25;
    intel(true);
    assert_int_equal(cpuid_edit(table, &one, 0), 0);
    assert_int_equal(cpuid_find(table, 7, 0)->edx & amx, amx);
    assert_non_null(cpuid_find(table, 0x1d, 0));
    intel(false);
    assert_int_equal(cpuid_edit(table, &one, 0), 0);
    assert_int_equal(cpuid_find(table, 7, 0)->edx & amx, 0);
    assert_int_equal(cpuid_find(table, 7, 1)->eax & 1u << 21, 0);
    assert_int_equal(cpuid_find(table, 7, 1)->edx & 1u << 8, 0);
    assert_null(cpuid_find(table, 0x1d, 0));
    assert_null(cpuid_find(table, 0x1e, 0));
}

static void editing_again_changes_only_the_id(void **state)
{
    (void)state;
    struct cpuid_machine machine = one;
    machine.vcpu_count = 4;
    intel(true);
    assert_int_equal(cpuid_edit(table, &machine, 0), 0);
    const uint32_t count = table->nent;
    assert_int_equal(cpuid_edit(table, &machine, 3), 0);
    assert_int_equal(table->nent, count);
    assert_int_equal(cpuid_find(table, 0xb, 0)->edx, 3);
    assert_int_equal(cpuid_find(table, 1, 0)->ebx >> 24, 3);
}

static void a_full_table_is_an_error(void **state)
{
    (void)state;
    intel(true);
    while (table->nent < CPUID_ENTRIES_MAX)
        add(0x18, table->nent, true, 0, 0, 0, 0);
    assert_int_equal(cpuid_edit(table, &one, 0), -ENOSPC);
    assert_true(table->nent <= CPUID_ENTRIES_MAX);
}

/* Whose state no snapshot holds: nested virtualisation, enclaves, traces, counters. */
static void what_cannot_be_saved_is_hidden(void **state)
{
    (void)state;
    const struct cpuid_machine machine = {.vcpu_count = 1};
    intel(false);
    add(0xa, 0, false, 0x7300404, 0, 0, 0x603);
    add(0x12, 0, true, 1, 0, 0, 0);
    add(0x14, 0, true, 1, 0xf, 0x7, 0);
    table->entries[1].ecx |= 1u << 5 | 1u << 15;
    assert_int_equal(cpuid_edit(table, &machine, 0), 0);
    assert_int_equal(cpuid_find(table, 1, 0)->ecx & (1u << 5 | 1u << 15), 0);
    assert_int_equal(cpuid_find(table, 7, 0)->ebx & (1u << 2 | 1u << 25), 0);
    assert_true(cpuid_find(table, 7, 0)->ebx >> 5 & 1);
    assert_null(cpuid_find(table, 0xa, 0));
    assert_null(cpuid_find(table, 0x12, 0));
    assert_null(cpuid_find(table, 0x14, 0));
    amd();
    add(0x80000001, 0, false, 0xa20f10, 0, 0x00c003f7, 0x2fd3fbff);
    add(0x8000000a, 0, false, 1, 0x8000, 0, 0x119b9cff);
    add(0x8000001f, 0, false, 0x1780f, 0, 0, 0);
    assert_int_equal(cpuid_edit(table, &machine, 0), 0);
    assert_int_equal(cpuid_find(table, 0x80000001, 0)->ecx, 0x004003f3);
    assert_null(cpuid_find(table, 0x8000000a, 0));
    assert_null(cpuid_find(table, 0x8000001f, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_saved_is_hidden),
        cmocka_unit_test(topology_fits_every_machine),
        cmocka_unit_test(intel_leaves_are_this_machines),
        cmocka_unit_test(amd_leaves_are_this_machines),
        cmocka_unit_test(frequencies_are_exact),
        cmocka_unit_test(only_two_features_are_added),
        cmocka_unit_test(tiles_go_where_their_state_is_not),
        cmocka_unit_test(editing_again_changes_only_the_id),
        cmocka_unit_test(a_full_table_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
