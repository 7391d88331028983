/*
 * What the guest's CPUID instruction says: KVM's list of what it supports, made this vCPU's. Pure.
 */
#ifndef HOSTVMM_ARCH_X86_64_CPUID_H
#define HOSTVMM_ARCH_X86_64_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_cpuid2;

#define CPUID_ENTRIES_MAX 256

struct cpuid_machine {
    unsigned vcpu_count;
    uint32_t tsc_khz; /* 0: not known */
    bool tsc_deadline_timer;
};

/*
 * Edit `table` (capacity CPUID_ENTRIES_MAX entries), which holds KVM_GET_SUPPORTED_CPUID's answer or an
 * earlier vCPU's edit of it, for vCPU `index`, whose APIC id is its index. 0, or -ENOSPC.
 */
int cpuid_edit(struct kvm_cpuid2 *table, const struct cpuid_machine *machine, unsigned index);

/* For tests: the registers of a leaf, or NULL. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *table, uint32_t function, uint32_t leaf);

#endif
