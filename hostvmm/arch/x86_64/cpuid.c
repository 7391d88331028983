/*
 * See cpuid.h. Intel SDM volume 2 (CPUID), AMD APM volume 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst.
 *
 * The guest sees one package of vcpu_count cores with one thread each, whatever the host looks like: KVM's
 * list carries the numbers of the host CPU that answered, which would make Linux build wrong domains.
 * Hidden is what a snapshot could not hold. Features are never added beyond KVM's list, but for two it leaves
 * to us: the hypervisor bit and the TSC deadline timer.
 */
#include "hostvmm/arch/x86_64/cpuid.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define VENDOR_INTEL_EBX         0x756e6547u /* "Genu" */

#define LEAF_BASIC_MAX           0x0u
#define LEAF_FEATURES            0x1u
#define LEAF_CACHES_INTEL        0x4u
#define LEAF_EXTENDED            0x7u
#define LEAF_PERFMON             0xau
#define LEAF_TOPOLOGY            0xbu
#define LEAF_XSAVE               0xdu
#define LEAF_SGX                 0x12u
#define LEAF_TRACE               0x14u
#define LEAF_TSC                 0x15u
#define LEAF_BRANCH_RECORDS      0x1cu
#define LEAF_TILE                0x1du
#define LEAF_TMUL                0x1eu
#define LEAF_TOPOLOGY_2          0x1fu
#define LEAF_PERFMON_EXT         0x23u
#define LEAF_HYPERVISOR          0x40000000u
#define LEAF_HYPERVISOR_TSC      0x40000010u
#define LEAF_FEATURES_AMD        0x80000001u
#define LEAF_SIZES_AMD           0x80000008u
#define LEAF_SVM                 0x8000000au
#define LEAF_IBS_AMD             0x8000001bu
#define LEAF_CACHES_AMD          0x8000001du
#define LEAF_TOPOLOGY_AMD        0x8000001eu
#define LEAF_ENCRYPTION_AMD      0x8000001fu
#define LEAF_PERFMON_AMD         0x80000022u

#define FEATURE_ECX_TSC_DEADLINE (1u << 24)
#define FEATURE_ECX_HYPERVISOR   (1u << 31)
#define FEATURE_EDX_HTT          (1u << 28)
#define XCR0_TILES               (3u << 17)
#define EXTENDED_EDX_AMX         (1u << 22 | 1u << 24 | 1u << 25)
#define APIC_BUS_KHZ             1000000u /* KVM's local APIC timer counts nanoseconds */

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *table, uint32_t function, uint32_t leaf)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &table->entries[i];
        const bool indexed = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if (entry->function == function && (!indexed || entry->index == leaf))
            return entry;
    }
    return NULL;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *table, uint32_t function, uint32_t leaf)
{
    return (struct kvm_cpuid_entry2 *)cpuid_find(table, function, leaf);
}

/* The entry of an indexed leaf, made if it is not there. NULL when the table is full. */
static struct kvm_cpuid_entry2 *find_or_add(struct kvm_cpuid2 *table, uint32_t function, uint32_t leaf,
                                            bool indexed)
{
    struct kvm_cpuid_entry2 *entry = find(table, function, leaf);
    if (entry || table->nent == CPUID_ENTRIES_MAX)
        return entry;
    entry = &table->entries[table->nent++];
    *entry = (struct kvm_cpuid_entry2){
        .function = function,
        .index = leaf,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
    };
    return entry;
}

static void remove_leaf(struct kvm_cpuid2 *table, uint32_t function)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->nent; i++)
        if (table->entries[i].function != function)
            table->entries[kept++] = table->entries[i];
    table->nent = kept;
}

/* Bits that hold the ids 0 .. count - 1. */
static unsigned id_bits(unsigned count)
{
    unsigned bits = 0;
    while (1u << bits < count)
        bits++;
    return bits;
}

static void edit_features(struct kvm_cpuid_entry2 *entry, const struct cpuid_machine *machine, unsigned index)
{
    const unsigned ids = 1u << id_bits(machine->vcpu_count);
    entry->ebx = (entry->ebx & 0xffffu) | ids << 16 | index << 24;
    entry->ecx |= FEATURE_ECX_HYPERVISOR;
    entry->ecx &= ~FEATURE_ECX_TSC_DEADLINE;
    if (machine->tsc_deadline_timer)
        entry->ecx |= FEATURE_ECX_TSC_DEADLINE;
    entry->edx &= ~FEATURE_EDX_HTT;
    if (machine->vcpu_count > 1)
        entry->edx |= FEATURE_EDX_HTT;
}

/* Leaves 0xb and 0x1f, the same for both vendors: threads, then cores, then the end. */
static int edit_topology(struct kvm_cpuid2 *table, uint32_t function, const struct cpuid_machine *machine,
                         unsigned index)
{
    const uint32_t eax[] = {0, id_bits(machine->vcpu_count), 0};
    const uint32_t ebx[] = {1, machine->vcpu_count, 0};
    const uint32_t type[] = {1, 2, 0};
    remove_leaf(table, function);
    for (uint32_t level = 0; level < 3; level++) {
        struct kvm_cpuid_entry2 *entry = find_or_add(table, function, level, true);
        if (!entry)
            return -ENOSPC;
        entry->eax = eax[level];
        entry->ebx = ebx[level];
        entry->ecx = type[level] << 8 | level;
        entry->edx = index;
    }
    return 0;
}

/* Caches below the last level are a core's own, the last one is everybody's. */
static void edit_caches(struct kvm_cpuid_entry2 *entry, const struct cpuid_machine *machine)
{
    const unsigned level = entry->eax >> 5 & 7;
    const unsigned others = level >= 3 ? machine->vcpu_count - 1 : 0;
    if ((entry->eax & 0x1f) == 0)
        return;
    entry->eax = (entry->eax & ~(0xfffu << 14)) | others << 14;
    if (entry->function == LEAF_CACHES_INTEL) {
        const unsigned core_ids = (1u << id_bits(machine->vcpu_count)) - 1;
        entry->eax = (entry->eax & ~(0x3fu << 26)) | core_ids << 26;
    }
}

/* AMX needs the kernel's permission for its tile state; without it KVM may still name the instructions. */
static void drop_tiles_without_state(struct kvm_cpuid2 *table)
{
    const struct kvm_cpuid_entry2 *xsave = find(table, LEAF_XSAVE, 0);
    if (xsave && (xsave->eax & XCR0_TILES) == XCR0_TILES)
        return;
    struct kvm_cpuid_entry2 *extended = find(table, LEAF_EXTENDED, 0);
    if (extended)
        extended->edx &= ~EXTENDED_EDX_AMX;
    extended = find(table, LEAF_EXTENDED, 1);
    if (extended) {
        extended->eax &= ~(1u << 21); /* AMX-FP16 */
        extended->edx &= ~(1u << 8);  /* AMX-COMPLEX */
    }
    remove_leaf(table, LEAF_TILE);
    remove_leaf(table, LEAF_TMUL);
}

/*
 * The TSC's frequency, for guests without kvm-clock: the hypervisor leaf that VMware defined, and Intel's own
 * leaf. There the "crystal" is the TSC itself, ratio 1: exact, where a crystal and a ratio would be rounded.
 */
static int edit_frequencies(struct kvm_cpuid2 *table, const struct cpuid_machine *machine)
{
    struct kvm_cpuid_entry2 *basic = find(table, LEAF_BASIC_MAX, 0);
    struct kvm_cpuid_entry2 *hypervisor = find(table, LEAF_HYPERVISOR, 0);
    if (machine->tsc_khz == 0)
        return 0;
    if (hypervisor) {
        if (hypervisor->eax < LEAF_HYPERVISOR_TSC)
            hypervisor->eax = LEAF_HYPERVISOR_TSC;
        struct kvm_cpuid_entry2 *entry = find_or_add(table, LEAF_HYPERVISOR_TSC, 0, false);
        if (!entry)
            return -ENOSPC;
        entry->eax = machine->tsc_khz;
        entry->ebx = APIC_BUS_KHZ;
    }
    if (basic && basic->ebx == VENDOR_INTEL_EBX && machine->tsc_deadline_timer &&
        machine->tsc_khz <= UINT32_MAX / 1000) {
        if (basic->eax < LEAF_TSC)
            basic->eax = LEAF_TSC;
        struct kvm_cpuid_entry2 *entry = find_or_add(table, LEAF_TSC, 0, false);
        if (!entry)
            return -ENOSPC;
        entry->eax = 1;
        entry->ebx = 1;
        entry->ecx = machine->tsc_khz * 1000;
    }
    return 0;
}

/*
 * What holds state that is not saved, or none that another machine could take over: nested virtualisation,
 * enclaves, processor trace, performance counters, memory encryption.
 */
static void hide_what_cannot_be_saved(struct kvm_cpuid2 *table)
{
    static const uint32_t leaves[] = {LEAF_PERFMON,     LEAF_SGX, LEAF_TRACE,   LEAF_BRANCH_RECORDS,
                                      LEAF_PERFMON_EXT, LEAF_SVM, LEAF_IBS_AMD, LEAF_ENCRYPTION_AMD,
                                      LEAF_PERFMON_AMD};
    static const struct {
        uint32_t function, leaf, eax, ebx, ecx, edx;
    } features[] = {
        {LEAF_FEATURES, 0, 0, 0, 1u << 5 | 1u << 6 | 1u << 15, 0},     /* vmx, smx, pdcm */
        {LEAF_EXTENDED, 0, 0, 1u << 2 | 1u << 25, 1u << 30, 1u << 19}, /* sgx, intel_pt, sgx_lc, arch_lbr */
        {LEAF_EXTENDED, 1, 1u << 8, 0, 0, 0},                          /* arch_perfmon_ext */
        /* svm, ibs, skinit, perfctr_core, perfctr_nb, perfctr_llc */
        {LEAF_FEATURES_AMD, 0, 0, 0, 1u << 2 | 1u << 10 | 1u << 12 | 3u << 23 | 1u << 28, 0},
    };
    for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++)
        remove_leaf(table, leaves[i]);
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        struct kvm_cpuid_entry2 *entry = find(table, features[i].function, features[i].leaf);
        if (!entry)
            continue;
        entry->eax &= ~features[i].eax;
        entry->ebx &= ~features[i].ebx;
        entry->ecx &= ~features[i].ecx;
        entry->edx &= ~features[i].edx;
    }
}

static void edit_entry(struct kvm_cpuid_entry2 *entry, const struct cpuid_machine *machine, unsigned index)
{
    switch (entry->function) {
    case LEAF_FEATURES:
        edit_features(entry, machine, index);
        break;
    case LEAF_CACHES_INTEL:
    case LEAF_CACHES_AMD:
        edit_caches(entry, machine);
        break;
    case LEAF_SIZES_AMD:
        entry->ecx = (entry->ecx & ~0xf0ffu) | id_bits(machine->vcpu_count) << 12 | (machine->vcpu_count - 1);
        break;
    case LEAF_TOPOLOGY_AMD:
        entry->eax = index;
        entry->ebx = index; /* core id; one thread per core */
        entry->ecx = 0;     /* one node */
        break;
    default:
        break;
    }
}

int cpuid_edit(struct kvm_cpuid2 *table, const struct cpuid_machine *machine, unsigned index)
{
    for (uint32_t i = 0; i < table->nent; i++)
        edit_entry(&table->entries[i], machine, index);
    drop_tiles_without_state(table);
    hide_what_cannot_be_saved(table);
    const struct kvm_cpuid_entry2 *basic = find(table, LEAF_BASIC_MAX, 0);
    const uint32_t basic_max = basic ? basic->eax : 0;
    int error = 0;
    if (basic_max >= LEAF_TOPOLOGY)
        error = edit_topology(table, LEAF_TOPOLOGY, machine, index);
    if (error == 0 && basic_max >= LEAF_TOPOLOGY_2)
        error = edit_topology(table, LEAF_TOPOLOGY_2, machine, index);
    return error ? error : edit_frequencies(table, machine);
}
