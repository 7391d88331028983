/* CPU features: what is missing, by name; what the baseline leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/x86_64/cpu_features.h"
#include "hostvmm/arch/x86_64/cpuid.h"

struct fixture {
    struct kvm_cpuid2 *guest, *host;
    char names[256];
};

static void add(struct kvm_cpuid2 *table, uint32_t function, uint32_t index, bool indexed, uint32_t eax,
                uint32_t ebx, uint32_t ecx, uint32_t edx)
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

static struct kvm_cpuid2 *intel(void)
{
    struct kvm_cpuid2 *table = calloc(1, sizeof *table + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
    assert_non_null(table);
    add(table, 0, 0, false, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
    add(table, 1, 0, false, 0x806f8, 0x5e800800, 0x76fa3223, 0x1f8bfbff);
    add(table, 7, 0, true, 2, 0xf1bf07ab, 0x1b415f6e, 0xff814410);
    add(table, 7, 1, true, 0x1c30, 0, 0, 0);
    add(table, 0xd, 0, true, 0x2e7, 0x240, 0xa88, 0);
    add(table, 0xd, 1, true, 0xf, 0x240, 0, 0);
    add(table, 0xd, 2, true, 0x100, 0x240, 0, 0);
    add(table, 0x14, 0, true, 1, 0xf, 0x7, 0);
    add(table, 0x40000000, 0, false, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    add(table, 0x40000001, 0, false, 0x1007efb, 0, 0, 0);
    add(table, 0x80000001, 0, false, 0, 0, 0x121, 0x2c100800);
    add(table, 0x80000007, 0, false, 0, 0, 0, 0x100);
    add(table, 0x80000008, 0, false, 0x392e, 0x9000, 0, 0);
    return table;
}

static struct kvm_cpuid_entry2 *at(struct kvm_cpuid2 *table, uint32_t function, uint32_t leaf)
{
    struct kvm_cpuid_entry2 *entry = (struct kvm_cpuid_entry2 *)cpuid_find(table, function, leaf);
    assert_non_null(entry);
    return entry;
}

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.guest = intel(), .host = intel()};
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    free(f->guest);
    free(f->host);
    return 0;
}

static unsigned missing(struct fixture *f)
{
    return cpu_features_missing(f->guest, f->host, f->names, sizeof f->names);
}

static void the_same_machine_lacks_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(missing(f), 0);
    assert_string_equal(f->names, "");
    /* Nor does a larger one, nor one asked about a guest's edited table. */
    f->guest->entries[2].ebx &= ~(1u << 5);
    at(f->guest, 1, 0)->ecx |= 1u << 31 | 1u << 24 | 1u << 27 | 1u << 21;
    at(f->guest, 1, 0)->edx |= 1u << 28;
    at(f->guest, 1, 0)->ebx = 0x03040800;
    assert_int_equal(missing(f), 0);
}

static void what_is_missing_is_named(void **state)
{
    static const struct {
        uint32_t function, leaf;
        size_t offset;
        unsigned bit;
        const char *name;
    } cases[] = {
#define REGISTER(name) offsetof(struct kvm_cpuid_entry2, name)
        {1, 0, REGISTER(ecx), 20, "sse4_2"},
        {1, 0, REGISTER(edx), 25, "sse"},
        {7, 0, REGISTER(ebx), 16, "avx512f"},
        {7, 0, REGISTER(ecx), 8, "gfni"},
        {7, 0, REGISTER(edx), 26, "spec_ctrl"},
        {7, 1, REGISTER(eax), 4, "avx_vnni"},
        {0xd, 0, REGISTER(eax), 2, "xcr0:avx"},
        {0xd, 1, REGISTER(eax), 1, "xsavec"},
        {0x80000001, 0, REGISTER(edx), 27, "rdtscp"},
        {0x80000001, 0, REGISTER(ecx), 5, "abm"},
        {0x80000007, 0, REGISTER(edx), 8, "nonstop_tsc"},
        {0x80000008, 0, REGISTER(ebx), 12, "amd_ibpb"},
        {0x40000001, 0, REGISTER(eax), 5, "kvm:steal_time"},
#undef REGISTER
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *entry = (uint8_t *)at(f->host, cases[i].function, cases[i].leaf);
        uint32_t *value = (uint32_t *)(void *)(entry + cases[i].offset);
        assert_true(*value >> cases[i].bit & 1);
        *value &= ~(1u << cases[i].bit);
        assert_int_equal(missing(f), 1);
        assert_string_equal(f->names, cases[i].name);
        *value |= 1u << cases[i].bit;
    }
    at(f->guest, 7, 1)->eax |= 1u << 31;
    assert_int_equal(missing(f), 1);
    assert_string_equal(f->names, "cpuid.7.1.eax[31]");
}

static void sizes_and_vendor_count(void **state)
{
    struct fixture *f = *state;
    at(f->guest, 0xd, 0)->ecx = 11008;
    at(f->guest, 0x80000008, 0)->eax = 0x3934;
    assert_int_equal(missing(f), 2);
    assert_string_equal(f->names, "xsave area of 11008 bytes, physical addresses of 52 bits");
    at(f->guest, 0, 0)->ebx = 0x68747541;
    at(f->guest, 0, 0)->ecx = 0x444d4163;
    at(f->guest, 0, 0)->edx = 0x69746e65;
    assert_int_equal(missing(f), 3);
    assert_int_equal(strncmp(f->names, "vendor AuthenticAMD, xsave", 26), 0);
    at(f->guest, 0, 0)->ebx = 0x0a1b0000; /* nothing of it reaches a terminal */
    (void)missing(f);
    for (const char *c = f->names; *c; c++)
        assert_true(*c >= ' ' && *c <= '~');
}

/* An empty host: everything is missing, and the list ends within any buffer. */
static void a_long_list_is_cut_between_names(void **state)
{
    struct fixture *f = *state;
    static const struct kvm_cpuid2 nothing;
    char all[4096];
    const unsigned count = cpu_features_missing(f->guest, &nothing, all, sizeof all);
    assert_true(count > 50);
    assert_non_null(strstr(all, "vendor GenuineIntel, fpu, vme"));
    assert_null(strstr(all, "..."));
    for (size_t size = 0; size < 200; size++) {
        char *small = malloc(size ? size : 1); /* the sanitizer watches its end */
        assert_non_null(small);
        assert_int_equal(cpu_features_missing(f->guest, &nothing, small, size), count);
        if (size > 0)
            assert_true(strlen(small) < size);
        if (size > 30) {
            const char *end = strstr(small, ", ...");
            assert_non_null(end);
            assert_int_equal(strncmp(small, all, (size_t)(end - small)), 0);
            assert_int_equal(all[end - small], ',');
        }
        free(small);
    }
    assert_int_equal(cpu_features_missing(&nothing, &nothing, all, sizeof all), 1); /* whose it is */
    assert_string_equal(all, "vendor unknown");
}

/* A guest of the baseline goes to a machine that has x86-64-v2 and nothing more. */
static void the_baseline_fits_a_modest_machine(void **state)
{
    struct fixture *f = *state;
    const uint32_t signature = at(f->guest, 1, 0)->eax;
    cpu_features_baseline(f->guest);
    f->host->nent = 0;
    add(f->host, 0, 0, false, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69);
    add(f->host, 1, 0, false, 0x206a7, 0, 0x06982201, 0x078bfbff);
    add(f->host, 0xd, 0, true, 3, 0x240, 0x240, 0);
    add(f->host, 0x40000001, 0, false, 0x1002afb, 0, 0, 0);
    add(f->host, 0x80000001, 0, false, 0, 0, 1, 0x28100800);
    add(f->host, 0x80000007, 0, false, 0, 0, 0, 0x100);
    add(f->host, 0x80000008, 0, false, 0x3027, 0, 0, 0);
    const unsigned count = missing(f);
    if (count > 0)
        fail_msg("missing: %s", f->names);
    assert_int_equal(at(f->guest, 1, 0)->eax, signature);
    /* x86-64-v2 itself is there. */
    const uint32_t v2 = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;
    assert_int_equal(at(f->guest, 1, 0)->ecx & v2, v2);
    assert_int_equal(at(f->guest, 0x80000001, 0)->ecx & 1, 1);
    /* What else a guest lives on, and nothing beyond. */
    assert_true(at(f->guest, 1, 0)->ecx >> 21 & 1);
    assert_int_equal(at(f->guest, 1, 0)->ecx & (1u << 28 | 1u << 25 | 1u << 12), 0);
    assert_int_equal(at(f->guest, 7, 0)->ebx | at(f->guest, 7, 0)->ecx | at(f->guest, 7, 0)->edx, 0);
    assert_int_equal(at(f->guest, 0xd, 0)->eax, 3);
    assert_int_equal(at(f->guest, 0xd, 0)->ecx, 576);
    assert_int_equal(at(f->guest, 0xd, 1)->eax, 0);
    assert_null(cpuid_find(f->guest, 0xd, 2));
    assert_null(cpuid_find(f->guest, 7, 1));
    assert_null(cpuid_find(f->guest, 0x14, 0));
    assert_int_equal(at(f->guest, 0x80000008, 0)->eax, 0x3027);
    assert_non_null(cpuid_find(f->guest, 0x40000001, 0));
}

static void the_baseline_adds_nothing(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 1; i < f->guest->nent; i++)
        f->guest->entries[i].eax = f->guest->entries[i].ebx = f->guest->entries[i].ecx =
            f->guest->entries[i].edx = 0;
    at(f->guest, 0xd, 0)->ecx = 0;
    cpu_features_baseline(f->guest);
    assert_int_equal(at(f->guest, 1, 0)->ecx | at(f->guest, 1, 0)->edx, 0);
    assert_int_equal(at(f->guest, 0x80000001, 0)->edx, 0);
    f->guest->nent = 0;
    cpu_features_baseline(f->guest);
    assert_int_equal(f->guest->nent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_machine_lacks_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_and_vendor_count, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_list_is_cut_between_names, setup, teardown),
        cmocka_unit_test_setup_teardown(the_baseline_fits_a_modest_machine, setup, teardown),
        cmocka_unit_test_setup_teardown(the_baseline_adds_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
