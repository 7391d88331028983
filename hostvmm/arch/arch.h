/*
 * Everything that generic code asks of an architecture: this page is the whole list. Generic files hold no
 * #ifdef; the Makefile links one directory below arch/.
 *
 * Order of use: arch_memory_layout, arch_vm_init; then to boot arch_vcpu_init for each vCPU and arch_boot
 * once, to restore arch_cpu_load, arch_vcpu_load for each vCPU and arch_vm_load; run.
 */
#ifndef HOSTVMM_ARCH_ARCH_H
#define HOSTVMM_ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostvmm/memory.h"

struct kernel_plan;
struct state_reader;
struct state_writer;
struct kvm_cpuid2;
struct vcpu;
struct vm;

/* The unit of --memory, and what the smallest and largest guest may have. */
#define ARCH_MIB               (1024u * 1024u)
#define ARCH_MEMORY_MIN_MIB    16u
#define ARCH_MEMORY_MAX_MIB    (512u * 1024u)
#define ARCH_VCPUS_MAX         32u
#define ARCH_COMMAND_LINE_MAX  2048u /* NUL included; what Linux takes */
#define ARCH_VIRTIO_SLOTS_MAX  18u
#define ARCH_VIRTIO_SLOT_BYTES 4096u
#define ARCH_BOOT_AREA_END     0x100000u /* kernels are loaded at or above it; boot tables lie below */

/* Where guest RAM of this size appears: base and size of each region are filled in. Their number, 0 when the
 * size is not a multiple of 4 KiB or out of range. Pure. */
unsigned arch_memory_layout(uint64_t size_bytes, struct guest_region regions[GUEST_REGIONS_MAX]);

/* The address window and interrupt line of the virtio-mmio device number `index`, < ARCH_VIRTIO_SLOTS_MAX. */
struct arch_slot {
    uint64_t base;
    uint32_t gsi;
};
struct arch_slot arch_virtio_slot(unsigned index);
/* The console's serial port and the lifecycle registers (device/lifecycle.h) on the port bus. */
struct arch_slot arch_serial_slot(void);
struct arch_slot arch_lifecycle_slot(void);
/* Where kernels that are told to (`reboot=k`) reset through a keyboard controller. */
struct arch_slot arch_keyboard_slot(void);

/* The generic event device's interrupt (no window), and where the VM generation id lies in guest memory. */
struct arch_slot arch_event_slot(void);
struct gpa arch_vmgenid_address(void);

/* What KVM keeps for the whole VM: special addresses, interrupt controllers. After the memory slots are set,
 * before the first vCPU. 0 or -errno, with a message logged. */
int arch_vm_init(struct vm *vm);
/* One vCPU's CPUID and MSRs. 0 or -errno, with a message logged. */
int arch_vcpu_init(struct vm *vm, struct vcpu *vcpu);

/* What the boot processor is given. */
struct arch_boot_info {
    const struct kernel_plan *kernel;
    const char *command_line; /* shorter than ARCH_COMMAND_LINE_MAX */
    struct gpa initrd;
    uint64_t initrd_bytes; /* 0: none */
    unsigned virtio_count;
};
/* Write tables and boot parameters into guest memory and set the boot processor at the kernel's entry. */
int arch_boot(struct vm *vm, const struct arch_boot_info *info);

/* ---- snapshots: the VM is paused, or does not run yet ----------------------------------------------------
 */

#define ARCH_NAME "x86_64" /* as a snapshot names it */

/*
 * Save what the guest was shown of its processor. Load checks that this machine can show the same, refuses
 * by the name of what is missing, and takes it as the VM's.
 */
void arch_cpu_save(const struct vm *vm, struct state_writer *out, const char *key);
void arch_cpu_load(struct vm *vm, struct state_reader *in, const char *key);
/* Optional: what arch_cpu_load asks of others than KVM, asked before there is a VM. */
void arch_restore_prepare(void);
/* One vCPU, and what KVM keeps for all. Save gives 0 or -errno, logged: KVM did not tell. Load fails the
 * reader, also when KVM does not take what was read. */
int arch_vcpu_save(const struct vcpu *vcpu, struct state_writer *out, const char *key);
void arch_vcpu_load(struct vcpu *vcpu, struct state_reader *in, const char *key);
int arch_vm_save(const struct vm *vm, struct state_writer *out, const char *key);
void arch_vm_load(struct vm *vm, struct state_reader *in, const char *key);

/* For people and programs: the saved processor's features by name, in `names`. */
void arch_cpu_describe(struct state_reader *in, const char *key, char *names, size_t size);

#endif
