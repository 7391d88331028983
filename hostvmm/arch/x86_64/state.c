/*
 * What KVM knows of an x86-64 VM, out of it and into it again (Linux, Documentation/virt/kvm/api.rst).
 *
 * Order matters. Saving: the MP state first, because asking for it lets KVM finish what INIT and SIPI began.
 * Loading: the system registers set the local APIC's mode, so they come before its registers; the TSC comes
 * first among the MSRs and the TSC deadline after everything that says how it is counted; events last, when
 * nothing disturbs them any more. The clock is set when all vCPUs are there.
 *
 * Nested virtualisation is not shown to guests, so there is no nested state.
 */
#include <asm/kvm.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/arch/x86_64/cpu.h"
#include "hostvmm/arch/x86_64/cpu_features.h"
#include "hostvmm/arch/x86_64/cpuid.h"
#include "hostvmm/kvm.h"
#include "hostvmm/snapshot/codec.h"
#include "hostvmm/vm.h"

#define MSRS_MAX           512u
#define MSR_TSC            0x10u
#define MSR_TSC_DEADLINE   0x6e0u
#define CPU_FIELDS         3u
#define HOST_BYTES         40 /* a kernel's boot_id, a newline */
#define IRQCHIPS           3u /* both PICs, the I/O APIC */
#define FEATURE_ECX_TIMER  (1u << 24)
#define VENDOR_AMD_EBX     0x68747541u
#define VENDOR_HYGON_EBX   0x6f677948u
#define TYPE_BUSY          2u
#define TSC_TOLERANCE_PART 4000u /* 250 ppm: what KVM takes for equal */

struct msr_list {
    struct kvm_msrs head; /* its entries lie behind it */
    struct kvm_msr_entry entries[MSRS_MAX];
};
_Static_assert(offsetof(struct msr_list, entries) == sizeof(struct kvm_msrs),
               "KVM reads entries right after the head");

static int failed(const char *what, int error)
{
    log_error("KVM does not tell %s: %s", what, strerror(-error));
    return error;
}

/* ---- processor -------------------------------------------------------------------------------------------
 */

/* Which boot of which machine this is: on the same one a saved CPUID was supported already. Empty: not known.
 */
static const char *get_host(void)
{
    static char host[HOST_BYTES]; /* does not change while a process lives */
    if (host[0])
        return host;
    const int64_t size = fd_read_file("/proc/sys/kernel/random/boot_id", host, HOST_BYTES - 1);
    host[size > 0 ? size : 0] = '\0';
    host[strcspn(host, "\n")] = '\0';
    return host;
}

void arch_restore_prepare(void)
{
    (void)get_host();
}

/* Leaves without a bit set are left out: a leaf that is not there reads as zeros, and each costs every
 * restore a little, in KVM more than here. */
static uint32_t fill_cpuid(struct kvm_cpuid_entry2 *to, const struct kvm_cpuid2 *table)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &table->entries[i];
        if (entry->eax | entry->ebx | entry->ecx | entry->edx)
            to[count++] = *entry;
    }
    return count;
}

void arch_cpu_save(const struct vm *vm, struct state_writer *out, const char *key)
{
    static struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX]; /* main thread */
    const int tsc_khz = kvm_call_number(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
    state_put_map(out, key, CPU_FIELDS);
    state_put_text(out, "host", get_host());
    state_put_sparse(out, "cpuid", entries, fill_cpuid(entries, vm->cpuid) * sizeof entries[0]);
    state_put_uint(out, "tsc_khz", tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
}

/* The saved CPUID into `table`, which has room for CPUID_ENTRIES_MAX. */
static void get_cpuid(struct state_reader *in, struct kvm_cpuid2 *table)
{
    const size_t entry_bytes = sizeof table->entries[0];
    const size_t size =
        state_get_sparse(in, "cpuid", table->entries, entry_bytes, CPUID_ENTRIES_MAX * entry_bytes);
    if (!in->failed && size % entry_bytes)
        state_refuse(in, "cpuid", "%zu bytes are no table", size);
    table->nent = in->failed ? 0 : (uint32_t)(size / entry_bytes);
}

static struct kvm_cpuid2 *new_table(void)
{
    return calloc(1, sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
}

/* A TSC of another rate would make every clock of the guest wrong, unless KVM scales it. */
static void set_tsc_rate(struct vm *vm, struct state_reader *in, uint32_t khz)
{
    const int host_khz = kvm_call_number(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
    const uint32_t host = host_khz > 0 ? (uint32_t)host_khz : 0;
    const uint32_t apart = host > khz ? host - khz : khz - host;
    if (in->failed || khz == 0 || apart <= khz / TSC_TOLERANCE_PART)
        return;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (kvm_call_number(vm->vcpus[i].fd, KVM_SET_TSC_KHZ, khz) >= 0)
            continue;
        state_refuse(in, "tsc_khz",
                     "the guest's time-stamp counter runs at %u kHz, this machine's at %u, and KVM cannot "
                     "scale it here",
                     khz, host);
        return;
    }
}

/* What this machine lacks, unless the snapshot was made in this very boot of it: then it lacks nothing. */
static void check_cpuid(const struct vm *vm, struct state_reader *in, const char *made_on,
                        const struct kvm_cpuid2 *table)
{
    const char *host = get_host();
    char names[128];
    if (in->failed || (host[0] && strcmp(host, made_on) == 0))
        return;
    struct kvm_cpuid2 *supported = cpu_supported(vm);
    if (!supported)
        state_refuse(in, "cpuid", "KVM does not tell what it supports");
    else if (cpu_features_missing(table, supported, names, sizeof names) > 0)
        state_refuse(in, "cpuid",
                     "this machine lacks what the guest was shown: %s; --cpu baseline makes snapshots that "
                     "more machines can restore",
                     names);
    free(supported);
}

void arch_cpu_load(struct vm *vm, struct state_reader *in, const char *key)
{
    char made_on[HOST_BYTES];
    struct kvm_cpuid2 *table = new_table();
    state_get_map(in, key, CPU_FIELDS);
    if (!table) {
        state_refuse(in, key, "no memory");
        return;
    }
    state_get_text(in, "host", made_on, sizeof made_on);
    get_cpuid(in, table);
    check_cpuid(vm, in, made_on, table);
    set_tsc_rate(vm, in, (uint32_t)state_get_uint(in, "tsc_khz", 0, UINT32_MAX));
    state_end(in);
    free(vm->cpuid);
    vm->cpuid = table;
}

void arch_cpu_describe(struct state_reader *in, const char *key, char *names, size_t size)
{
    struct kvm_cpuid2 *table = new_table();
    static const struct kvm_cpuid2 nothing;
    char made_on[HOST_BYTES];
    names[0] = '\0';
    state_get_map(in, key, CPU_FIELDS);
    if (!table) {
        state_refuse(in, key, "no memory");
        return;
    }
    state_get_text(in, "host", made_on, sizeof made_on);
    get_cpuid(in, table);
    (void)state_get_uint(in, "tsc_khz", 0, UINT32_MAX);
    state_end(in);
    (void)cpu_features_missing(table, &nothing, names, size); /* all that it has is what nothing lacks */
    free(table);
}

static void set_cpuid(struct vcpu *vcpu, struct state_reader *in, uint32_t tsc_khz)
{
    struct vm *vm = vcpu->vm;
    const struct kvm_cpuid_entry2 *features = cpuid_find(vm->cpuid, 1, 0);
    const struct cpuid_machine machine = {
        .vcpu_count = vm->vcpu_limit,
        .tsc_khz = tsc_khz,
        .tsc_deadline_timer = features && features->ecx & FEATURE_ECX_TIMER,
    };
    int error = cpuid_edit(vm->cpuid, &machine, vcpu->index);
    if (error == 0)
        error = kvm_call(vcpu->fd, KVM_SET_CPUID2, vm->cpuid);
    if (error < 0)
        state_refuse(in, "index", "KVM refuses the CPUID: %s", strerror(-error));
}

/* ---- MSRs ---- */

/* Which MSRs KVM says belong to a vCPU's state. Their number, or -errno. */
static int list_msrs(const struct vm *vm, uint32_t indices[MSRS_MAX])
{
    union {
        struct kvm_msr_list list;
        uint8_t room[sizeof(struct kvm_msr_list) + MSRS_MAX * sizeof(uint32_t)];
    } names;
    memset(&names, 0, sizeof names);
    names.list.nmsrs = MSRS_MAX;
    const int error = kvm_call(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &names);
    if (error < 0)
        return error;
    memcpy(indices, names.room + offsetof(struct kvm_msr_list, indices),
           names.list.nmsrs * sizeof indices[0]);
    return (int)names.list.nmsrs;
}

/* TSC before everything, its deadline after everything, the rest as KVM lists it. */
static int order_of(uint32_t index)
{
    return index == MSR_TSC ? 0 : index == MSR_TSC_DEADLINE ? 2 : 1;
}

static int save_msrs(const struct vcpu *vcpu, struct state_writer *out)
{
    static struct msr_list msrs; /* both of the main thread */
    static struct msr_list part;
    uint32_t indices[MSRS_MAX];
    const int listed = list_msrs(vcpu->vm, indices);
    uint32_t count = 0;
    if (listed < 0)
        return failed("its list of MSRs", listed);
    memset(&msrs, 0, sizeof msrs);
    for (int order = 0; order < 3; order++)
        for (int i = 0; i < listed; i++)
            if (order_of(indices[i]) == order)
                msrs.entries[count++].index = indices[i];
    /* KVM stops at one that this vCPU does not have: leave it out and go on behind it. */
    for (uint32_t from = 0; from < count;) {
        memset(&part.head, 0, sizeof part.head);
        part.head.nmsrs = count - from;
        memcpy(part.entries, &msrs.entries[from], (count - from) * sizeof part.entries[0]);
        const int got = kvm_call(vcpu->fd, KVM_GET_MSRS, &part);
        if (got < 0)
            return failed("an MSR", got);
        memcpy(&msrs.entries[from], part.entries, (size_t)got * sizeof part.entries[0]);
        from += (uint32_t)got;
        if (from < count) {
            memmove(&msrs.entries[from], &msrs.entries[from + 1],
                    (count - from - 1) * sizeof msrs.entries[0]);
            count--;
        }
    }
    state_put_sparse(out, "msrs", msrs.entries, count * sizeof msrs.entries[0]);
    return 0;
}

static void load_msrs(const struct vcpu *vcpu, struct state_reader *in)
{
    static struct msr_list msrs; /* main thread */
    const size_t size =
        state_get_sparse(in, "msrs", msrs.entries, sizeof msrs.entries[0], sizeof msrs.entries);
    if (!in->failed && size % sizeof msrs.entries[0])
        state_refuse(in, "msrs", "%zu bytes are no list", size);
    if (in->failed)
        return;
    memset(&msrs.head, 0, sizeof msrs.head);
    msrs.head.nmsrs = (uint32_t)(size / sizeof msrs.entries[0]);
    const int done = kvm_call(vcpu->fd, KVM_SET_MSRS, &msrs);
    if (done < 0)
        state_refuse(in, "msrs", "KVM: %s", strerror(-done));
    else if ((uint32_t)done < msrs.head.nmsrs)
        state_refuse(in, "msrs", "KVM refuses MSR 0x%x = 0x%llx", msrs.entries[done].index,
                     (unsigned long long)msrs.entries[done].data);
}

/* ---- one vCPU ---- */

/* KVM's fixed-size structures, in the order of loading. */
struct part {
    const char *name;
    unsigned long get;
    unsigned long set;
    size_t size;
};

static const struct part parts_first[] = {
    {"sregs", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs)},
    {"xcrs", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs)},
};
static const struct part parts_then[] = {
    {"regs", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs)},
    {"lapic", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state)},
};
static const struct part parts_last[] = {
    {"debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs)},
    {"events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events)},
    {"mp_state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state)},
};
#define PART_MAX_BYTES 1024u
#define VCPU_FIELDS    11u
#define PARTS(list)    (list), (sizeof(list) / sizeof *(list))

static int save_parts(const struct vcpu *vcpu, struct state_writer *out, const struct part *parts,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t data[PART_MAX_BYTES / sizeof(uint64_t)] = {0};
        const int error = kvm_call(vcpu->fd, parts[i].get, data);
        if (error < 0)
            return failed(parts[i].name, error);
        state_put_sparse(out, parts[i].name, data, parts[i].size);
    }
    return 0;
}

/*
 * AMD's processors, and what emulates them, hold the task register's type without its busy bit; KVM adds the
 * bit when it tells, for Intel's sake, whose processors want it. An emulated one that is given it back
 * refuses every port that the task state opens to user space.
 */
static void mend_task_register(const struct vm *vm, struct kvm_sregs *sregs)
{
    const struct kvm_cpuid_entry2 *basic = cpuid_find(vm->cpuid, 0, 0);
    if (basic && (basic->ebx == VENDOR_AMD_EBX || basic->ebx == VENDOR_HYGON_EBX))
        sregs->tr.type &= (uint8_t)~TYPE_BUSY;
}

static void load_parts(const struct vcpu *vcpu, struct state_reader *in, const struct part *parts,
                       size_t count)
{
    for (size_t i = 0; i < count && !in->failed; i++) {
        uint64_t data[PART_MAX_BYTES / sizeof(uint64_t)] = {0};
        (void)state_get_sparse(in, parts[i].name, data, parts[i].size, parts[i].size);
        if (parts[i].set == KVM_SET_SREGS)
            mend_task_register(vcpu->vm, (struct kvm_sregs *)(void *)data);
        const int error = in->failed ? 0 : kvm_call(vcpu->fd, parts[i].set, data);
        if (error < 0)
            state_refuse(in, parts[i].name, "KVM refuses it: %s", strerror(-error));
    }
}

/* Without the zeros at its end: most of it is state of units that the guest does not use. */
static int save_xsave(const struct vcpu *vcpu, struct state_writer *out)
{
    const uint32_t bytes = vcpu->vm->xsave_bytes;
    const bool large = bytes > sizeof(struct kvm_xsave);
    uint8_t *area = calloc(1, bytes);
    if (!area)
        return -ENOMEM;
    const int error = kvm_call(vcpu->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area);
    size_t used = bytes;
    while (used > 0 && area[used - 1] == 0)
        used--;
    if (error >= 0)
        state_put_sparse(out, "xsave", area, used);
    free(area);
    return error < 0 ? failed("the extended registers", error) : 0;
}

static void load_xsave(const struct vcpu *vcpu, struct state_reader *in)
{
    const uint32_t bytes = vcpu->vm->xsave_bytes;
    uint8_t *area = calloc(1, bytes);
    if (!area) {
        state_refuse(in, "xsave", "no memory");
        return;
    }
    (void)state_get_sparse(in, "xsave", area, 0, bytes);
    const int error = in->failed ? 0 : kvm_call(vcpu->fd, KVM_SET_XSAVE, area);
    free(area);
    if (error < 0)
        state_refuse(in, "xsave", "KVM refuses it: %s", strerror(-error));
}

int arch_vcpu_save(const struct vcpu *vcpu, struct state_writer *out, const char *key)
{
    struct kvm_mp_state mp_state;
    const int tsc_khz = kvm_call_number(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    int error = kvm_call(vcpu->fd, KVM_GET_MP_STATE, &mp_state);
    if (error < 0)
        return failed("the MP state", error);
    state_put_map(out, key, VCPU_FIELDS);
    state_put_uint(out, "index", vcpu->index);
    state_put_uint(out, "tsc_khz", tsc_khz > 0 ? (uint32_t)tsc_khz : 0);
    error = save_parts(vcpu, out, PARTS(parts_first));
    if (error == 0)
        error = save_xsave(vcpu, out);
    if (error == 0)
        error = save_parts(vcpu, out, PARTS(parts_then));
    if (error == 0)
        error = save_msrs(vcpu, out);
    if (error == 0)
        error = save_parts(vcpu, out, PARTS(parts_last));
    return error;
}

void arch_vcpu_load(struct vcpu *vcpu, struct state_reader *in, const char *key)
{
    state_get_map(in, key, VCPU_FIELDS);
    (void)state_get_uint(in, "index", vcpu->index, vcpu->index);
    const uint32_t tsc_khz = (uint32_t)state_get_uint(in, "tsc_khz", 0, UINT32_MAX);
    if (in->failed)
        return;
    set_cpuid(vcpu, in, tsc_khz);
    load_parts(vcpu, in, PARTS(parts_first));
    load_xsave(vcpu, in);
    load_parts(vcpu, in, PARTS(parts_then));
    load_msrs(vcpu, in);
    load_parts(vcpu, in, PARTS(parts_last));
    state_end(in);
    /* The guest must not take the time it was away for a vCPU that hung. Without kvm-clock there is nobody
     * to tell. */
    if (!in->failed)
        (void)kvm_call_number(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* ---- the whole VM ---- */

int arch_vm_save(const struct vm *vm, struct state_writer *out, const char *key)
{
    struct kvm_clock_data clock = {0};
    int error = kvm_call(vm->fd, KVM_GET_CLOCK, &clock);
    if (error < 0)
        return failed("its clock", error);
    state_put_map(out, key, 2);
    state_put_array(out, "irqchips", IRQCHIPS);
    for (uint32_t i = 0; i < IRQCHIPS; i++) {
        struct kvm_irqchip chip = {.chip_id = i};
        error = kvm_call(vm->fd, KVM_GET_IRQCHIP, &chip);
        if (error < 0)
            return failed("an interrupt controller", error);
        state_put_sparse(out, NULL, &chip, sizeof chip);
    }
    state_put_uint(out, "clock_ns", clock.clock);
    return 0;
}

void arch_vm_load(struct vm *vm, struct state_reader *in, const char *key)
{
    state_get_map(in, key, 2);
    const unsigned chips = state_get_array(in, "irqchips", IRQCHIPS);
    if (!in->failed && chips != IRQCHIPS)
        state_refuse(in, NULL, "%u controllers, %u wanted", chips, IRQCHIPS);
    for (uint32_t i = 0; i < chips && !in->failed; i++) {
        struct kvm_irqchip chip;
        (void)state_get_sparse(in, NULL, &chip, sizeof chip, sizeof chip);
        if (!in->failed && chip.chip_id != i)
            state_refuse(in, NULL, "controller %u in the place of %u", chip.chip_id, i);
        const int error = in->failed ? 0 : kvm_call(vm->fd, KVM_SET_IRQCHIP, &chip);
        if (error < 0)
            state_refuse(in, NULL, "KVM refuses it: %s", strerror(-error));
    }
    state_end(in);
    const struct kvm_clock_data clock = {.clock = state_get_uint(in, "clock_ns", 0, INT64_MAX)};
    const int error = in->failed ? 0 : kvm_call(vm->fd, KVM_SET_CLOCK, &clock);
    if (error < 0)
        state_refuse(in, "clock_ns", "KVM refuses it: %s", strerror(-error));
    state_end(in);
}
