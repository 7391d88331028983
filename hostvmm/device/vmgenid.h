/*
 * The virtual machine generation ID: 128 bits in guest memory that differ in every clone, and the
 * notification that they have changed ("Virtual Machine Generation ID", Microsoft, 2012; in Linux
 * drivers/virt/vmgenid.c). The guest finds it through ACPI: a device with _CID "VM_Gen_Counter" whose ADDR
 * names the address, and a generic event device (ACPI 6.5, 5.6.9) whose interrupt notifies it.
 *
 * The id is random, never zero, and never written by us but at boot and at restore.
 */
#ifndef HOSTVMM_DEVICE_VMGENID_H
#define HOSTVMM_DEVICE_VMGENID_H

#include <stdbool.h>
#include <stdint.h>

#include "hostvmm/device/irq.h"
#include "hostvmm/memory.h"

struct state_reader;
struct state_writer;

#define VMGENID_BYTES 16

struct vmgenid {
    const struct guest_memory *memory;
    struct gpa at; /* 16-byte aligned, in reserved memory: arch_vmgenid_address() */
    struct irq_line irq;
    uint8_t id[VMGENID_BYTES];
    bool notify_pending; /* the guest must be told, and cannot be yet */
    bool guest_ready;    /* its driver is bound: PID 1 has run, so every driver of the kernel's own has */
};

/* Set it up and give it a first id, in the guest's memory as well. 0 or -errno (getrandom, -EFAULT). */
int vmgenid_init(struct vmgenid *vmgenid, const struct guest_memory *memory, struct gpa at);

/* Main thread; the vCPUs do not run, or it does not matter: write `id` to the guest's memory and notify the
 * guest, now when its driver is bound, else as soon as vmgenid_guest_ready is called. Notifying a kernel
 * whose driver is about to bind would crash it. 0; -EINVAL all zeros, -EFAULT. */
int vmgenid_change(struct vmgenid *vmgenid, const uint8_t id[VMGENID_BYTES]);

/* PID 1 runs (GUEST_STAGE_PID1): main thread. */
void vmgenid_guest_ready(struct vmgenid *vmgenid);

/* Load takes over the id the guest knew and whether it is to be told; it does not write the guest's memory,
 * which has that id already or gets another by vmgenid_change. */
void vmgenid_save(const struct vmgenid *vmgenid, struct state_writer *out, const char *key);
void vmgenid_load(struct vmgenid *vmgenid, struct state_reader *in, const char *key);

#endif
