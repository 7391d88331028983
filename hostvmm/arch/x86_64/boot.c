/*
 * The boot processor at the kernel's entry: PVH (xen/include/public/arch-x86/hvm/start_info.h) in 32-bit
 * protected mode, or Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst) in long mode with the
 * first 4 GiB mapped one to one. Both are told of memory, command line, initrd and the ACPI root pointer.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/arch/x86_64/acpi.h"
#include "hostvmm/arch/x86_64/layout.h"
#include "hostvmm/boot/kernel.h"
#include "hostvmm/device/lifecycle.h"
#include "hostvmm/kvm.h"
#include "hostvmm/vm.h"

#define PAGE_BYTES       4096u
#define PVH_MAGIC        0x336ec578u
#define PVH_START_BYTES  56u
#define PVH_MODULE_BYTES 32u
#define MEMORY_MAP_MAX   (2 + GUEST_REGIONS_MAX)
#define E820_RAM         1u
#define E820_RESERVED    2u
#define LOADER_UNKNOWN   0xffu

#define CR0_PE           (1ull << 0)
#define CR0_ET           (1ull << 4)
#define CR0_PG           (1ull << 31)
#define CR4_PAE          (1ull << 5)
#define EFER_LME         (1ull << 8)
#define EFER_LMA         (1ull << 10)
#define PTE_PRESENT      1u
#define PTE_WRITE        2u
#define PTE_LARGE        (1u << 7)
#define LARGE_BYTES      (1ull << 21)

/* Selectors fixed by the boot protocol, and what both modes load into the segment registers. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_TR 0x20

struct memory_map {
    struct {
        uint64_t base;
        uint64_t size;
        uint32_t type;
    } entries[MEMORY_MAP_MAX];
    unsigned count;
};

static void map_add(struct memory_map *map, uint64_t base, uint64_t size, uint32_t type)
{
    map->entries[map->count].base = base;
    map->entries[map->count].size = size;
    map->entries[map->count++].type = type;
}

static struct memory_map map_of(const struct guest_memory *memory)
{
    struct memory_map map = {.count = 0};
    map_add(&map, 0, X86_LOW_RAM_END, E820_RAM);
    map_add(&map, X86_LOW_RAM_END, X86_HIGH_RAM - X86_LOW_RAM_END, E820_RESERVED);
    map_add(&map, X86_HIGH_RAM, memory->regions[0].size_bytes - X86_HIGH_RAM, E820_RAM);
    if (memory->region_count > 1)
        map_add(&map, memory->regions[1].base, memory->regions[1].size_bytes, E820_RAM);
    return map;
}

static int put_acpi(struct vm *vm, unsigned virtio_count)
{
    struct acpi_machine machine = {
        .vcpu_count = vm->vcpu_limit,
        .virtio_count = virtio_count,
        .serial = arch_serial_slot(),
        .sleep_control_port = X86_LIFECYCLE_PORT + LIFECYCLE_SLEEP_CONTROL,
        .sleep_status_port = X86_LIFECYCLE_PORT + LIFECYCLE_SLEEP_STATUS,
        .reset_port = X86_LIFECYCLE_PORT + LIFECYCLE_RESET,
        .reset_value = LIFECYCLE_RESET_VALUE,
        .vmgenid = arch_vmgenid_address().value,
        .ged_gsi = arch_event_slot().gsi,
    };
    for (unsigned i = 0; i < virtio_count; i++)
        machine.virtio[i] = arch_virtio_slot(i);
    uint8_t *to = guest_memory_at(&vm->memory, gpa_of(X86_ACPI), X86_ACPI_BYTES);
    if (!to)
        return -EFAULT;
    const int bytes = acpi_build(&machine, X86_ACPI, to, X86_ACPI_BYTES);
    return bytes < 0 ? bytes : 0;
}

static int put_pvh_start(struct vm *vm, const struct arch_boot_info *info)
{
    uint8_t page[512];
    struct cursor out = cursor_over(page, sizeof page);
    const struct memory_map map = map_of(&vm->memory);
    const uint64_t modules = X86_BOOT_PARAMS + PVH_START_BYTES;
    cursor_put_le(&out, PVH_MAGIC, 4);
    cursor_put_le(&out, 1, 4); /* version with a memory map */
    cursor_put_le(&out, 0, 4);
    cursor_put_le(&out, info->initrd_bytes ? 1 : 0, 4);
    cursor_put_le(&out, modules, 8);
    cursor_put_le(&out, X86_COMMAND_LINE, 8);
    cursor_put_le(&out, X86_ACPI, 8);
    cursor_put_le(&out, modules + PVH_MODULE_BYTES, 8);
    cursor_put_le(&out, map.count, 4);
    cursor_put_le(&out, 0, 4);
    cursor_put_le(&out, info->initrd.value, 8);
    cursor_put_le(&out, info->initrd_bytes, 8);
    cursor_put_le(&out, 0, 8);
    cursor_put_le(&out, 0, 8);
    for (unsigned i = 0; i < map.count; i++) {
        cursor_put_le(&out, map.entries[i].base, 8);
        cursor_put_le(&out, map.entries[i].size, 8);
        cursor_put_le(&out, map.entries[i].type, 4);
        cursor_put_le(&out, 0, 4);
    }
    if (out.failed)
        return -ENOSPC;
    return guest_memory_write(&vm->memory, gpa_of(X86_BOOT_PARAMS), page, out.at);
}

static int put_zero_page(struct vm *vm, const struct arch_boot_info *info)
{
    const struct memory_map map = map_of(&vm->memory);
    /* The guest does not run yet: its page can be filled in place. */
    struct boot_params *params =
        guest_memory_at(&vm->memory, gpa_of(X86_BOOT_PARAMS), sizeof(struct boot_params));
    if (!params)
        return -EFAULT;
    memset(params, 0, sizeof *params);
    if (info->kernel->setup_header_bytes) {
        const size_t bytes = info->kernel->setup_header_bytes;
        memcpy(&params->hdr, info->kernel->setup_header,
               bytes < sizeof params->hdr ? bytes : sizeof params->hdr);
    } else {
        params->hdr.boot_flag = 0xaa55;
        params->hdr.header = 0x53726448; /* "HdrS" */
        params->hdr.version = 0x20c;
        params->hdr.kernel_alignment = 0x1000000;
    }
    params->hdr.type_of_loader = LOADER_UNKNOWN;
    params->hdr.loadflags |= LOADED_HIGH;
    params->hdr.cmd_line_ptr = X86_COMMAND_LINE;
    params->hdr.cmdline_size = (uint32_t)strlen(info->command_line);
    params->hdr.ramdisk_image = (uint32_t)info->initrd.value;
    params->hdr.ramdisk_size = (uint32_t)info->initrd_bytes;
    params->ext_ramdisk_size = (uint32_t)(info->initrd_bytes >> 32);
    params->acpi_rsdp_addr = X86_ACPI;
    params->e820_entries = (uint8_t)map.count;
    for (unsigned i = 0; i < map.count; i++) {
        params->e820_table[i].addr = map.entries[i].base;
        params->e820_table[i].size = map.entries[i].size;
        params->e820_table[i].type = map.entries[i].type;
    }
    return 0;
}

/* GDT with the protocol's selectors, and 4 GiB one to one in 2 MiB pages, which every x86-64 has. */
static int put_long_mode_tables(struct vm *vm)
{
    static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x008f8b000000ffff};
    uint64_t *tables = guest_memory_at(&vm->memory, gpa_of(X86_PAGE_TABLES), 6 * PAGE_BYTES);
    if (!tables)
        return -EFAULT;
    tables[0] = (X86_PAGE_TABLES + PAGE_BYTES) | PTE_PRESENT | PTE_WRITE;
    for (uint64_t i = 0; i < 4; i++)
        tables[512 + i] = (X86_PAGE_TABLES + (2 + i) * PAGE_BYTES) | PTE_PRESENT | PTE_WRITE;
    for (uint64_t i = 0; i < 4 * 512; i++)
        tables[1024 + i] = i * LARGE_BYTES | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
    return guest_memory_write(&vm->memory, gpa_of(X86_GDT), gdt, sizeof gdt);
}

static int set_entry_state(struct vm *vm, const struct kernel_plan *kernel)
{
    const int fd = vm->vcpus[0].fd;
    const bool wide = kernel->protocol == KERNEL_LINUX64;
    const struct kvm_segment code = {
        .limit = UINT32_MAX,
        .selector = BOOT_CS,
        .type = 11,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = wide,
        .db = !wide,
    };
    const struct kvm_segment data = {
        .limit = UINT32_MAX,
        .selector = BOOT_DS,
        .type = 3,
        .present = 1,
        .s = 1,
        .g = 1,
        .db = 1,
    };
    const struct kvm_segment task = {.limit = 0x67, .selector = BOOT_TR, .type = 11, .present = 1};
    struct kvm_sregs sregs = {0};
    int error = kvm_call(fd, KVM_GET_SREGS, &sregs);
    if (error < 0)
        return error;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
    sregs.tr = task;
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    if (wide) {
        sregs.gdt = (struct kvm_dtable){.base = X86_GDT, .limit = 5 * 8 - 1};
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = X86_PAGE_TABLES;
        sregs.cr4 = CR4_PAE;
        sregs.efer |= EFER_LME | EFER_LMA;
    }
    const struct kvm_regs regs = {
        .rip = kernel->entry.value,
        .rbx = X86_BOOT_PARAMS, /* where PVH looks */
        .rsi = X86_BOOT_PARAMS, /* where Linux looks */
        .rflags = 2,
    };
    error = kvm_call(fd, KVM_SET_SREGS, &sregs);
    return error < 0 ? error : kvm_call(fd, KVM_SET_REGS, &regs);
}

int arch_boot(struct vm *vm, const struct arch_boot_info *info)
{
    const bool wide = info->kernel->protocol == KERNEL_LINUX64;
    int error = put_acpi(vm, info->virtio_count);
    if (error == 0)
        error = guest_memory_write(&vm->memory, gpa_of(X86_COMMAND_LINE), info->command_line,
                                   strlen(info->command_line) + 1);
    if (error == 0)
        error = wide ? put_zero_page(vm, info) : put_pvh_start(vm, info);
    if (error == 0 && wide)
        error = put_long_mode_tables(vm);
    if (error == 0)
        error = set_entry_state(vm, info->kernel);
    if (error)
        log_error("cannot set up the boot processor: %s", strerror(-error));
    return error;
}
