/*
 * Where things are in an x86-64 guest's physical address space and among its ports.
 *
 *   0x0000_1000            boot structures: GDT, zero page or PVH start info, command line, page tables
 *   0x000e_0000            ACPI tables, then the VM generation id (reserved in the memory map)
 *   0x0010_0000            RAM, up to 0xc000_0000 at most
 *   0xd000_0000            virtio-mmio windows, 4 KiB each
 *   0xfec0_0000            I/O APIC (in KVM)
 *   0xfee0_0000            local APICs (in KVM)
 *   0xfffb_c000            what KVM on Intel needs of the guest's address space: identity map, TSS
 *   0x1_0000_0000          the rest of RAM
 */
#ifndef HOSTVMM_ARCH_X86_64_LAYOUT_H
#define HOSTVMM_ARCH_X86_64_LAYOUT_H

#define X86_GDT            0x1000u
#define X86_BOOT_PARAMS    0x2000u /* zero page, or PVH start info */
#define X86_COMMAND_LINE   0x3000u
#define X86_PAGE_TABLES    0x4000u /* 6 pages: PML4, PDPT, 4 page directories */
#define X86_LOW_RAM_END    0x9fc00u
#define X86_ACPI           0xe0000u
#define X86_ACPI_BYTES     0x4000u
#define X86_VMGENID        0xe4000u /* in a page of its own: written at every restore */
#define X86_HIGH_RAM       0x100000u
#define X86_HOLE           0xc0000000u
#define X86_HOLE_END       0x100000000u
#define X86_VIRTIO         0xd0000000u
#define X86_IOAPIC         0xfec00000u
#define X86_LAPIC          0xfee00000u
#define X86_IDENTITY_MAP   0xfffbc000u
#define X86_TSS            0xfffbd000u /* 3 pages */

#define X86_SERIAL_PORT    0x3f8u
#define X86_LIFECYCLE_PORT 0x5f0u
#define X86_KEYBOARD_PORT  0x64u

/* I/O APIC inputs */
#define X86_GSI_SERIAL 4u
#define X86_GSI_VIRTIO 5u
#define X86_GSI_EVENTS 23u /* the generic event device */

#endif
