/*
 * CPUID features by name: what a guest was shown that a machine lacks, and a portable set. Pure.
 */
#ifndef HOSTVMM_ARCH_X86_64_CPU_FEATURES_H
#define HOSTVMM_ARCH_X86_64_CPU_FEATURES_H

#include <stddef.h>

struct kvm_cpuid2;

/*
 * What `guest`'s table shows and `host`, KVM_GET_SUPPORTED_CPUID's answer, lacks: features as /proc/cpuinfo
 * spells them, "vendor AuthenticAMD", "xsave area of 2696 bytes", "physical addresses of 46 bits". `names`
 * becomes their list, separated by ", ", with "..." at the end when not all fit. How many there are.
 */
unsigned cpu_features_missing(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *host, char *names,
                              size_t size);

/*
 * Reduce KVM's list to x86-64-v2 and what guests of a VM have anyway (x2apic, tsc_deadline_timer, hypervisor,
 * KVM's own leaf, nx, rdtscp, nonstop_tsc, xsave of x87 and SSE), physical addresses to 39 bits. Nothing is
 * added. Vendor, family and model stay: restores go to machines of the same vendor. Bits that tell of the
 * processor's mitigations are not in it, so a guest takes the conservative ones.
 */
void cpu_features_baseline(struct kvm_cpuid2 *table);

#endif
