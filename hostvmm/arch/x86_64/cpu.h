/* Between cpu.c and state.c. */
#ifndef HOSTVMM_ARCH_X86_64_CPU_H
#define HOSTVMM_ARCH_X86_64_CPU_H

struct kvm_cpuid2;
struct vm;

/*
 * The CPUID that KVM supports here, with room for CPUID_ENTRIES_MAX; the caller frees it. NULL, and logged,
 * when it cannot be had. Where this machine is itself a guest it takes as long as half of a restore: each
 * leaf traps.
 */
struct kvm_cpuid2 *cpu_supported(const struct vm *vm);

#endif
