/*
 * What KVM keeps for an x86-64 VM and its vCPUs before a kernel is loaded.
 *
 * Intel's KVM needs three pages for a TSS and one for an identity map in the guest's address space, named
 * before the first vCPU; AMD's takes the calls and ignores them. The interrupt controllers are KVM's. There
 * is no PIT: the guest has kvm-clock and the TSC deadline timer. No MSR is assumed to exist: those that help
 * are offered, and a refusal is no error.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/arch/x86_64/cpu.h"
#include "hostvmm/arch/x86_64/cpu_features.h"
#include "hostvmm/arch/x86_64/cpuid.h"
#include "hostvmm/arch/x86_64/layout.h"
#include "hostvmm/kvm.h"
#include "hostvmm/vm.h"

#ifndef ARCH_REQ_XCOMP_GUEST_PERM
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#endif
#define XSTATE_TILE_DATA         18

#define XCR0_TILES               (3ull << 17)

#define MSR_MISC_ENABLE          0x1a0u
#define MISC_ENABLE_FAST_STRINGS 1u
#define MSR_MTRR_DEFAULT         0x2ffu
#define MTRR_ENABLED_WRITE_BACK  0x806u
#define VENDOR_INTEL_EBX         0x756e6547u
#define FEATURE_EDX_MTRR         (1u << 12)

/* 0 for a call that worked; its error, logged, for one that did not. */
static int checked(int result, const char *what)
{
    if (result >= 0)
        return 0;
    log_error("KVM: %s: %s", what, strerror(-result));
    return result;
}

struct kvm_cpuid2 *cpu_supported(const struct vm *vm)
{
    struct kvm_cpuid2 *table = calloc(1, sizeof *table + CPUID_ENTRIES_MAX * sizeof table->entries[0]);
    if (!table) {
        log_error("no memory for the CPUID leaves that KVM supports");
        return NULL;
    }
    table->nent = CPUID_ENTRIES_MAX;
    if (checked(kvm_call(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, table),
                "cannot list the CPUID leaves it supports") == 0)
        return table;
    free(table);
    return NULL;
}

int arch_vm_init(struct vm *vm)
{
    const uint64_t identity_map = X86_IDENTITY_MAP;
    int error = checked(kvm_call_number(vm->fd, KVM_SET_TSS_ADDR, X86_TSS), "cannot place the TSS");
    if (error == 0)
        error = checked(kvm_call(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map),
                        "cannot place the identity map");
    if (error == 0)
        error =
            checked(kvm_call_number(vm->fd, KVM_CREATE_IRQCHIP, 0), "cannot create interrupt controllers");
    if (error)
        return error;
    /* KVM opens the boot processor's LINT0 for the old PIC, which our guests neither have nor mask: lines
     * below 16 would raise PIC vectors. A KVM that cannot close it has guests that close it themselves. */
    const struct kvm_enable_cap quirks = {
        .cap = KVM_CAP_DISABLE_QUIRKS,
        .args = {KVM_X86_QUIRK_LINT0_REENABLED},
    };
    if (kvm_call(vm->fd, KVM_ENABLE_CAP, &quirks) < 0)
        log_debug("KVM keeps LINT0 open");
    const int xsave_bytes = kvm_call_number(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    vm->xsave_bytes = xsave_bytes > 0 ? (uint32_t)xsave_bytes : (uint32_t)sizeof(struct kvm_xsave);
    /* AMX state is the guest's only with this permission. Kernels and processors without it say no. */
    (void)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XSTATE_TILE_DATA);
    return 0;
}

/* Offer one MSR. KVM or the processor may not have it. */
static void offer_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } msrs;
    memset(&msrs, 0, sizeof msrs);
    const struct kvm_msr_entry entry = {.index = index, .data = value};
    msrs.list.nmsrs = 1;
    memcpy(msrs.room + offsetof(struct kvm_msrs, entries), &entry, sizeof entry);
    if (kvm_call(vcpu->fd, KVM_SET_MSRS, &msrs) != 1)
        log_debug("vCPU %u: no MSR 0x%x", vcpu->index, index);
}

/*
 * Begin with XCR0 as every kernel sets it: all that CPUID offers (but tiles, which kernels turn on by
 * process). Hardware gains nothing by it. But an emulated SVM (QEMU's) lets the guest's XSETBV pass without
 * telling KVM, which would then enter the guest with the XCR0 it remembers: XSAVE would lose SSE state.
 */
static void offer_xcr0(const struct vm *vm, const struct vcpu *vcpu)
{
    const struct kvm_cpuid_entry2 *xsave = cpuid_find(vm->cpuid, 0xd, 0);
    if (!xsave || kvm_call_number(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) <= 0)
        return;
    const uint64_t offered = (uint64_t)xsave->edx << 32 | xsave->eax;
    const struct kvm_xcrs xcrs = {
        .nr_xcrs = 1,
        .xcrs = {{.xcr = 0, .value = offered & ~XCR0_TILES}},
    };
    if (offered && kvm_call(vcpu->fd, KVM_SET_XCRS, &xcrs) < 0)
        log_debug("vCPU %u: XCR0 stays as KVM made it", vcpu->index);
}

/* What the first vCPU of a VM that boots is shown, all others are too. */
static int choose_cpuid(struct vm *vm)
{
    if (!vm->cpuid)
        vm->cpuid = cpu_supported(vm);
    else
        return 0;
    if (vm->cpuid && vm->cpu_baseline)
        cpu_features_baseline(vm->cpuid);
    return vm->cpuid ? 0 : -EIO;
}

int arch_vcpu_init(struct vm *vm, struct vcpu *vcpu)
{
    const int tsc_khz = kvm_call_number(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    const struct cpuid_machine machine = {
        .vcpu_count = vm->vcpu_limit,
        .tsc_khz = tsc_khz > 0 ? (uint32_t)tsc_khz : 0,
        .tsc_deadline_timer =
            kvm_call_number(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };
    int error = choose_cpuid(vm);
    if (error == 0)
        error = cpuid_edit(vm->cpuid, &machine, vcpu->index);
    if (error == 0)
        error = checked(kvm_call(vcpu->fd, KVM_SET_CPUID2, vm->cpuid),
                        "refuses the CPUID made from its own list");
    if (error)
        return error;
    offer_xcr0(vm, vcpu);
    const struct kvm_cpuid_entry2 *basic = cpuid_find(vm->cpuid, 0, 0);
    const struct kvm_cpuid_entry2 *features = cpuid_find(vm->cpuid, 1, 0);
    /* What firmware would have done: without it Linux turns fast string moves off, or takes RAM for
     * uncacheable. */
    if (basic && basic->ebx == VENDOR_INTEL_EBX)
        offer_msr(vcpu, MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS);
    if (features && features->edx & FEATURE_EDX_MTRR)
        offer_msr(vcpu, MSR_MTRR_DEFAULT, MTRR_ENABLED_WRITE_BACK);
    return 0;
}
