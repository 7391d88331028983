/*
 * See cpu_features.h. Leaves and bits: Intel SDM volume 2 (CPUID), AMD APM volume 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst. Names: /proc/cpuinfo's; a bit without one is named by its place.
 *
 * Not compared are bits that KVM or cpuid_edit make what they are, whatever the processor has, and those that
 * only tell of a peculiarity which programs do not rely on.
 */
#include "hostvmm/arch/x86_64/cpu_features.h"

#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/arch/x86_64/cpuid.h"

#define LEAF_VENDOR    0x0u
#define LEAF_XSAVE     0xdu
#define LEAF_ADDRESSES 0x80000008u

#define BIT(n)         (1u << (n))

/* ---- names ----------------------------------------------------------------------------------------------
 */

static const char *const leaf_1_edx[32] = {
    [0] = "fpu",      [1] = "vme",  [2] = "de",    [3] = "pse",  [4] = "tsc",    [5] = "msr",
    [6] = "pae",      [7] = "mce",  [8] = "cx8",   [9] = "apic", [11] = "sep",   [12] = "mtrr",
    [13] = "pge",     [14] = "mca", [15] = "cmov", [16] = "pat", [17] = "pse36", [18] = "pn",
    [19] = "clflush", [21] = "dts", [22] = "acpi", [23] = "mmx", [24] = "fxsr",  [25] = "sse",
    [26] = "sse2",    [27] = "ss",  [28] = "ht",   [29] = "tm",  [30] = "ia64",  [31] = "pbe"};

static const char *const leaf_1_ecx[32] = {
    [0] = "pni",     [1] = "pclmulqdq", [2] = "dtes64",     [3] = "monitor",
    [4] = "ds_cpl",  [5] = "vmx",       [6] = "smx",        [7] = "est",
    [8] = "tm2",     [9] = "ssse3",     [10] = "cid",       [11] = "sdbg",
    [12] = "fma",    [13] = "cx16",     [14] = "xtpr",      [15] = "pdcm",
    [17] = "pcid",   [18] = "dca",      [19] = "sse4_1",    [20] = "sse4_2",
    [21] = "x2apic", [22] = "movbe",    [23] = "popcnt",    [24] = "tsc_deadline_timer",
    [25] = "aes",    [26] = "xsave",    [27] = "osxsave",   [28] = "avx",
    [29] = "f16c",   [30] = "rdrand",   [31] = "hypervisor"};

static const char *const leaf_7_ebx[32] = {[0] = "fsgsbase",
                                           [1] = "tsc_adjust",
                                           [2] = "sgx",
                                           [3] = "bmi1",
                                           [4] = "hle",
                                           [5] = "avx2",
                                           [6] = "fdp_excptn_only",
                                           [7] = "smep",
                                           [8] = "bmi2",
                                           [9] = "erms",
                                           [10] = "invpcid",
                                           [11] = "rtm",
                                           [12] = "cqm",
                                           [13] = "zero_fcs_fds",
                                           [14] = "mpx",
                                           [15] = "rdt_a",
                                           [16] = "avx512f",
                                           [17] = "avx512dq",
                                           [18] = "rdseed",
                                           [19] = "adx",
                                           [20] = "smap",
                                           [21] = "avx512ifma",
                                           [23] = "clflushopt",
                                           [24] = "clwb",
                                           [25] = "intel_pt",
                                           [26] = "avx512pf",
                                           [27] = "avx512er",
                                           [28] = "avx512cd",
                                           [29] = "sha_ni",
                                           [30] = "avx512bw",
                                           [31] = "avx512vl"};

static const char *const leaf_7_ecx[32] = {[1] = "avx512vbmi",
                                           [2] = "umip",
                                           [3] = "pku",
                                           [4] = "ospke",
                                           [5] = "waitpkg",
                                           [6] = "avx512_vbmi2",
                                           [7] = "shstk",
                                           [8] = "gfni",
                                           [9] = "vaes",
                                           [10] = "vpclmulqdq",
                                           [11] = "avx512_vnni",
                                           [12] = "avx512_bitalg",
                                           [13] = "tme",
                                           [14] = "avx512_vpopcntdq",
                                           [16] = "la57",
                                           [22] = "rdpid",
                                           [24] = "bus_lock_detect",
                                           [25] = "cldemote",
                                           [27] = "movdiri",
                                           [28] = "movdir64b",
                                           [29] = "enqcmd",
                                           [30] = "sgx_lc"};

static const char *const leaf_7_edx[32] = {[2] = "avx512_4vnniw",
                                           [3] = "avx512_4fmaps",
                                           [4] = "fsrm",
                                           [8] = "avx512_vp2intersect",
                                           [9] = "srbds_ctrl",
                                           [10] = "md_clear",
                                           [11] = "rtm_always_abort",
                                           [13] = "tsx_force_abort",
                                           [14] = "serialize",
                                           [15] = "hybrid_cpu",
                                           [16] = "tsxldtrk",
                                           [18] = "pconfig",
                                           [19] = "arch_lbr",
                                           [20] = "ibt",
                                           [22] = "amx_bf16",
                                           [23] = "avx512_fp16",
                                           [24] = "amx_tile",
                                           [25] = "amx_int8",
                                           [26] = "spec_ctrl",
                                           [27] = "intel_stibp",
                                           [28] = "flush_l1d",
                                           [29] = "arch_capabilities",
                                           [30] = "core_capabilities",
                                           [31] = "spec_ctrl_ssbd"};

static const char *const leaf_7_1_eax[32] = {
    [4] = "avx_vnni", [5] = "avx512_bf16", [7] = "cmpccxadd", [8] = "arch_perfmon_ext",
    [10] = "fzrm",    [11] = "fsrs",       [12] = "fsrc",     [17] = "fred",
    [18] = "lkgs",    [19] = "wrmsrns",    [21] = "amx_fp16", [23] = "avx_ifma",
    [26] = "lam"};

static const char *const leaf_d_1_eax[32] = {
    [0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1", [3] = "xsaves", [4] = "xfd"};

static const char *const extended_1_edx[32] = {
    [11] = "syscall", [19] = "mp",     [20] = "nx", [22] = "mmxext",   [25] = "fxsr_opt",
    [26] = "pdpe1gb", [27] = "rdtscp", [29] = "lm", [30] = "3dnowext", [31] = "3dnow"};

static const char *const extended_1_ecx[32] = {
    [0] = "lahf_lm",       [1] = "cmp_legacy",  [2] = "svm",    [3] = "extapic",
    [4] = "cr8_legacy",    [5] = "abm",         [6] = "sse4a",  [7] = "misalignsse",
    [8] = "3dnowprefetch", [9] = "osvw",        [10] = "ibs",   [11] = "xop",
    [12] = "skinit",       [13] = "wdt",        [15] = "lwp",   [16] = "fma4",
    [17] = "tce",          [19] = "nodeid_msr", [21] = "tbm",   [22] = "topoext",
    [23] = "perfctr_core", [24] = "perfctr_nb", [26] = "bpext", [27] = "ptsc",
    [28] = "perfctr_llc",  [29] = "mwaitx"};

static const char *const extended_8_ebx[32] = {
    [0] = "clzero",      [1] = "irperf",        [2] = "xsaveerptr",
    [4] = "rdpru",       [9] = "wbnoinvd",      [12] = "amd_ibpb",
    [14] = "amd_ibrs",   [15] = "amd_stibp",    [17] = "amd_stibp_always_on",
    [23] = "amd_ppin",   [24] = "amd_ssbd",     [25] = "virt_ssbd",
    [26] = "amd_ssb_no", [27] = "cppc",         [28] = "amd_psfd",
    [29] = "btc_no",     [30] = "amd_ibpb_ret", [31] = "brs"};

static const char *const components[32] = {
    [0] = "xcr0:x87",    [1] = "xcr0:sse",       [2] = "xcr0:avx",       [3] = "xcr0:bndregs",
    [4] = "xcr0:bndcsr", [5] = "xcr0:opmask",    [6] = "xcr0:zmm_hi256", [7] = "xcr0:hi16_zmm",
    [9] = "xcr0:pkru",   [17] = "xcr0:xtilecfg", [18] = "xcr0:xtiledata"};

static const char *const extended_7_edx[32] = {[8] = "nonstop_tsc"};

static const char *const kvm_eax[32] = {
    [0] = "kvm:clocksource",        [1] = "kvm:nop_io_delay",       [3] = "kvm:clocksource2",
    [4] = "kvm:async_pf",           [5] = "kvm:steal_time",         [6] = "kvm:pv_eoi",
    [7] = "kvm:pv_unhalt",          [9] = "kvm:pv_tlb_flush",       [10] = "kvm:async_pf_vmexit",
    [11] = "kvm:pv_send_ipi",       [12] = "kvm:poll_control",      [13] = "kvm:pv_sched_yield",
    [14] = "kvm:async_pf_int",      [15] = "kvm:msi_ext_dest_id",   [16] = "kvm:hc_map_gpa_range",
    [17] = "kvm:migration_control", [24] = "kvm:clocksource_stable"};

static const char *const nameless[32];

/* ---- words ----------------------------------------------------------------------------------------------
 */

enum cpu_register { EAX, EBX, ECX, EDX };
static const char *const register_names[] = {[EAX] = "eax", [EBX] = "ebx", [ECX] = "ecx", [EDX] = "edx"};

struct feature_word {
    uint32_t function;
    uint32_t leaf;
    enum cpu_register where;
    const char *const *names;
    uint32_t not_compared;
    uint32_t baseline;
};

/* AMD repeats leaf 1's edx in 0x80000001's: these bits. */
#define REPEATED 0x0183f3ffu

/* What x86-64-v1 and v2 require of leaf 1, and what every virtual machine has. */
#define BASELINE_1_EDX                                                                                       \
    (0x0183fbffu | BIT(19) | BIT(25) | BIT(26) | BIT(28)) /* fpu .. pse36, mmx, fxsr, sse */
#define BASELINE_1_ECX                                                                                       \
    (BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(21) | BIT(23) | BIT(24) | BIT(26) | BIT(27) |       \
     BIT(31))
#define BASELINE_KVM                                                                                         \
    (BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(13) | BIT(24))

static const struct feature_word words[] = {
    /* APIC id and topology: ht */
    {0x1, 0, EDX, leaf_1_edx, BIT(28), BASELINE_1_EDX},
    /* x2apic, tsc_deadline_timer, osxsave, hypervisor */
    {0x1, 0, ECX, leaf_1_ecx, BIT(21) | BIT(24) | BIT(27) | BIT(31), BASELINE_1_ECX},
    /* fdp_excptn_only, zero_fcs_fds: what the x87 unit no longer does */
    {0x7, 0, EBX, leaf_7_ebx, BIT(6) | BIT(13), 0},
    /* ospke; the range of BNDLDX, five bits without MPX */
    {0x7, 0, ECX, leaf_7_ecx, BIT(4) | 0x1fu << 17, 0},
    {0x7, 0, EDX, leaf_7_edx, 0, 0},
    {0x7, 1, EAX, leaf_7_1_eax, 0, 0},
    {0x7, 1, EDX, nameless, 0, 0},
    {0x7, 2, EDX, nameless, 0, 0},
    {0xd, 0, EAX, components, 0, 3},
    {0xd, 0, EDX, nameless, 0, 0},
    {0xd, 1, EAX, leaf_d_1_eax, 0, 0},
    {0x80000001, 0, EDX, extended_1_edx, REPEATED, REPEATED | BIT(11) | BIT(20) | BIT(27) | BIT(29)},
    /* cmp_legacy, topoext: topology again */
    {0x80000001, 0, ECX, extended_1_ecx, BIT(1) | BIT(22), BIT(0) | BIT(1)},
    {0x80000007, 0, EDX, extended_7_edx, 0, BIT(8)},
    {0x80000008, 0, EBX, extended_8_ebx, 0, 0},
    {0x40000001, 0, EAX, kvm_eax, 0, BASELINE_KVM},
};

#define WORDS (sizeof words / sizeof words[0])

static uint32_t *word_in(struct kvm_cpuid_entry2 *entry, enum cpu_register where)
{
    uint32_t *const registers[] = {
        [EAX] = &entry->eax, [EBX] = &entry->ebx, [ECX] = &entry->ecx, [EDX] = &entry->edx};
    return registers[where];
}

static uint32_t value_of(const struct kvm_cpuid2 *table, const struct feature_word *word)
{
    const struct kvm_cpuid_entry2 *entry = cpuid_find(table, word->function, word->leaf);
    if (!entry)
        return 0;
    struct kvm_cpuid_entry2 copy = *entry;
    return *word_in(&copy, word->where);
}

/* ---- what is missing ------------------------------------------------------------------------------------
 */

struct list {
    char *to;
    size_t size;
    size_t at;
    unsigned count;
    bool cut;
};

/* What does not fit whole is left out, and "..." says so. */
__attribute__((format(printf, 2, 3))) static void add(struct list *list, const char *format, ...)
{
    static const char more[] = ", ...";
    char name[64];
    va_list arguments;
    va_start(arguments, format);
    const int formatted = vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    const size_t length = formatted < (int)sizeof name ? (size_t)formatted : sizeof name - 1;
    list->count++;
    if (list->cut)
        return;
    const size_t comma = list->at > 0 ? 2 : 0;
    if (list->at + comma + length + sizeof more > list->size) {
        list->cut = true;
        if (list->at + sizeof more <= list->size)
            memcpy(list->to + list->at, list->at > 0 ? more : more + 2, list->at > 0 ? sizeof more : 4);
        return;
    }
    memcpy(list->to + list->at, ", ", comma);
    memcpy(list->to + list->at + comma, name, length + 1);
    list->at += comma + length;
}

static void compare_vendor(struct list *list, const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host)
{
    char vendor[13] = "";
    const struct kvm_cpuid_entry2 *wanted = cpuid_find(guest, LEAF_VENDOR, 0);
    const struct kvm_cpuid_entry2 *here = cpuid_find(host, LEAF_VENDOR, 0);
    if (wanted && here && wanted->ebx == here->ebx && wanted->edx == here->edx && wanted->ecx == here->ecx)
        return;
    if (wanted) {
        memcpy(vendor, &wanted->ebx, 4);
        memcpy(vendor + 4, &wanted->edx, 4);
        memcpy(vendor + 8, &wanted->ecx, 4);
    }
    for (char *c = vendor; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    add(list, "vendor %s", wanted ? vendor : "unknown");
}

static void compare_sizes(struct list *list, const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host)
{
    const struct kvm_cpuid_entry2 *wanted = cpuid_find(guest, LEAF_XSAVE, 0);
    const struct kvm_cpuid_entry2 *here = cpuid_find(host, LEAF_XSAVE, 0);
    if (wanted && wanted->ecx > (here ? here->ecx : 0))
        add(list, "xsave area of %u bytes", wanted->ecx);
    wanted = cpuid_find(guest, LEAF_ADDRESSES, 0);
    here = cpuid_find(host, LEAF_ADDRESSES, 0);
    if (wanted && (wanted->eax & 0xff) > (here ? here->eax & 0xff : 0))
        add(list, "physical addresses of %u bits", wanted->eax & 0xff);
}

unsigned cpu_features_missing(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host, char *names,
                              size_t size)
{
    struct list list = {.to = names, .size = size};
    if (size > 0)
        names[0] = '\0';
    compare_vendor(&list, guest, host);
    for (size_t i = 0; i < WORDS; i++) {
        const struct feature_word *word = &words[i];
        const uint32_t missing = value_of(guest, word) & ~value_of(host, word) & ~word->not_compared;
        for (unsigned bit = 0; bit < 32; bit++) {
            if (!(missing >> bit & 1))
                continue;
            if (word->names[bit])
                add(&list, "%s", word->names[bit]);
            else
                add(&list, "cpuid.%x.%u.%s[%u]", word->function, word->leaf, register_names[word->where],
                    bit);
        }
    }
    compare_sizes(&list, guest, host);
    return list.count;
}

/* ---- baseline -------------------------------------------------------------------------------------------
 */

#define XSAVE_LEGACY_BYTES 576u /* x87 and SSE: 512 of FXSAVE, 64 of header */
#define ADDRESS_BITS_MAX   39u  /* what client processors have; 512 GiB */
#define LINEAR_BITS        48u

/* Leaves that tell of features beyond the baseline, or of this one machine. */
static bool beyond_baseline(const struct kvm_cpuid_entry2 *entry)
{
    if (entry->function == LEAF_XSAVE)
        return entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX && entry->index > 1;
    if (entry->function == 0x7)
        return entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX && entry->index > 0;
    if (entry->function > LEAF_XSAVE && entry->function < 0x40000000)
        return entry->function != 0x15 && entry->function != 0x1f; /* the TSC's rate, topology */
    return entry->function > 0x80000008 && entry->function != 0x8000001d && entry->function != 0x8000001e;
}

static void limit_sizes(struct kvm_cpuid_entry2 *entry)
{
    if (entry->function == LEAF_XSAVE && entry->index == 0) {
        entry->ebx = XSAVE_LEGACY_BYTES;
        entry->ecx = XSAVE_LEGACY_BYTES;
    } else if (entry->function == LEAF_XSAVE) {
        entry->ebx = entry->ecx = entry->edx = 0;
    } else if (entry->function == LEAF_ADDRESSES) {
        const uint32_t bits = entry->eax & 0xff;
        entry->eax = (bits < ADDRESS_BITS_MAX ? bits : ADDRESS_BITS_MAX) | LINEAR_BITS << 8;
    } else if (entry->function == 0x7) {
        entry->eax = 0; /* the highest sub-leaf */
    }
}

void cpu_features_baseline(struct kvm_cpuid2 *table)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->nent; i++)
        if (!beyond_baseline(&table->entries[i]))
            table->entries[kept++] = table->entries[i];
    table->nent = kept;
    for (uint32_t i = 0; i < kept; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];
        for (size_t w = 0; w < WORDS; w++)
            if (words[w].function == entry->function && words[w].leaf == entry->index)
                *word_in(entry, words[w].where) &= words[w].baseline;
        limit_sizes(entry);
    }
}
