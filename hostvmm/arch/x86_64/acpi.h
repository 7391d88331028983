/*
 * The ACPI tables of an x86-64 guest: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT. Pure: what the machine
 * has goes in, bytes come out.
 */
#ifndef HOSTVMM_ARCH_X86_64_ACPI_H
#define HOSTVMM_ARCH_X86_64_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "hostvmm/arch/arch.h"

struct acpi_machine {
    unsigned vcpu_count;                            /* APIC ids 0 .. vcpu_count - 1 */
    struct arch_slot virtio[ARCH_VIRTIO_SLOTS_MAX]; /* one device each */
    unsigned virtio_count;
    struct arch_slot serial; /* a port */
    uint16_t sleep_control_port;
    uint16_t sleep_status_port;
    uint16_t reset_port;
    uint8_t reset_value;
    uint64_t vmgenid; /* guest address of the generation id (device/vmgenid.h); 0: none */
    uint32_t ged_gsi; /* the interrupt that tells of its change; < 256 */
};

/* Write the tables to `to`, which the guest sees at `address` (16-byte aligned); the RSDP is at its start.
 * The bytes used, or -ENOSPC. */
int acpi_build(const struct acpi_machine *machine, uint64_t address, uint8_t *to, size_t capacity);

#endif
