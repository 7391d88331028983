/*
 * See acpi.h. ACPI 6.5: the root pointer (5.2.5), tables (5.2.6 on), the hardware-reduced profile (3.11.1,
 * 4.1), sleep and reset registers (4.8.3.5 to 4.8.3.7).
 *
 * Hardware-reduced means: no PM timer, no SCI, no fixed events, no PIT, no PIC, and the guest does not look
 * for them. Processors are in the MADT alone; devices of the platform are in the DSDT.
 */
#include "hostvmm/arch/x86_64/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "hostvmm/arch/x86_64/aml.h"
#include "hostvmm/arch/x86_64/layout.h"

#define RSDP_BYTES      36
#define RSDP_V1_BYTES   20
#define HEADER_BYTES    36
#define HEADER_CHECKSUM 9
#define FADT_BYTES      276
#define TABLE_ALIGNMENT 16
#define SYSTEM_IO       1
#define S5_SLEEP_TYPE   5
#define NOTIFY_CHANGED  0x80   /* device-specific: the generation id is a new one */
#define FADT_BOOT_ARCH  0x0034 /* no VGA, no ASPM, no CMOS clock; neither legacy devices nor an 8042 */
#define FADT_WBINVD     (1u << 0)
#define FADT_BUTTONS    (3u << 4) /* no fixed power or sleep button */
#define FADT_RESET      (1u << 10)
#define FADT_HW_REDUCED (1u << 20)
#define MADT_LAPIC      0
#define MADT_IOAPIC     1
#define LAPIC_ENABLED   1

struct tables {
    struct cursor out;
    uint64_t address;
};

static uint8_t checksum_of(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + data[i]);
    return (uint8_t)-sum;
}

/* Begin a table; its length and checksum are filled in by table_end. Where it begins. */
static size_t table_begin(struct tables *tables, const char *signature, uint8_t revision)
{
    struct cursor *out = &tables->out;
    while (!out->failed && out->at % TABLE_ALIGNMENT)
        cursor_put_le(out, 0, 1);
    const size_t start = out->at;
    cursor_put(out, signature, 4);
    cursor_put_le(out, 0, 4);
    cursor_put_le(out, revision, 1);
    cursor_put_le(out, 0, 1);
    cursor_put(out, "REKIND", 6);
    cursor_put(out, "HOSTVMM ", 8);
    cursor_put_le(out, 1, 4);
    cursor_put(out, "RKDL", 4);
    cursor_put_le(out, 1, 4);
    return start;
}

/* The table's guest address. */
static uint64_t table_end(struct tables *tables, size_t start)
{
    if (tables->out.failed)
        return 0;
    uint8_t *table = tables->out.data + start;
    const size_t size = tables->out.at - start;
    struct cursor length = cursor_over(table + 4, 4);
    cursor_put_le(&length, size, 4);
    table[HEADER_CHECKSUM] = checksum_of(table, size);
    return tables->address + start;
}

static void describe_device(struct aml *aml, const struct arch_slot *slot, unsigned index)
{
    char name[5];
    (void)snprintf(name, sizeof name, "VR%02u", index % 100);
    aml_device(aml, name);
    aml_name_string(aml, "_HID", "LNRO0005"); /* virtio-mmio, as Linux and QEMU know it */
    aml_name_integer(aml, "_UID", index);
    aml_resources(aml);
    aml_memory32(aml, (uint32_t)slot->base, ARCH_VIRTIO_SLOT_BYTES);
    aml_interrupt_edge(aml, slot->gsi);
    aml_resources_end(aml);
    aml_end(aml);
}

/* The generation id, and the device whose interrupt says that it has changed (ACPI 6.5, 5.6.9). */
static void describe_vmgenid(struct aml *aml, const struct acpi_machine *machine)
{
    const uint32_t address[] = {(uint32_t)machine->vmgenid, (uint32_t)(machine->vmgenid >> 32)};
    aml_device(aml, "VGEN");
    aml_name_string(aml, "_HID", "RKDL0001");
    aml_name_string(aml, "_CID", "VM_Gen_Counter");
    aml_name_string(aml, "_DDN", "VM_Gen_Counter");
    aml_name_package(aml, "ADDR", address, 2);
    aml_end(aml);
    aml_device(aml, "GED_");
    aml_name_string(aml, "_HID", "ACPI0013");
    aml_resources(aml);
    aml_interrupt_edge(aml, machine->ged_gsi);
    aml_resources_end(aml);
    aml_method(aml, "_EVT", 1);
    aml_notify_if(aml, machine->ged_gsi, "VGEN", NOTIFY_CHANGED);
    aml_end(aml);
    aml_end(aml);
}

static uint64_t put_dsdt(struct tables *tables, const struct acpi_machine *machine)
{
    static const uint32_t s5[] = {S5_SLEEP_TYPE, 0, 0, 0};
    const size_t start = table_begin(tables, "DSDT", 2);
    if (tables->out.failed)
        return 0;
    struct aml aml;
    aml_init(&aml, tables->out.data + tables->out.at, cursor_left(&tables->out));
    aml_name_package(&aml, "_S5_", s5, sizeof s5 / sizeof s5[0]);
    aml_scope(&aml, "\\_SB_");
    aml_device(&aml, "COM1");
    aml_name_eisaid(&aml, "_HID", "PNP0501");
    aml_name_integer(&aml, "_UID", 0);
    aml_resources(&aml);
    aml_io(&aml, (uint16_t)machine->serial.base, 8);
    aml_interrupt_edge(&aml, machine->serial.gsi);
    aml_resources_end(&aml);
    aml_end(&aml);
    for (unsigned i = 0; i < machine->virtio_count; i++)
        describe_device(&aml, &machine->virtio[i], i);
    if (machine->vmgenid)
        describe_vmgenid(&aml, machine);
    aml_end(&aml);
    if (aml.out.failed || aml.depth != 0)
        tables->out.failed = true;
    (void)cursor_take(&tables->out, aml.out.at);
    return table_end(tables, start);
}

/* Generic Address Structure of a byte-wide port. */
static void put_port(struct cursor *out, uint16_t port)
{
    cursor_put_le(out, SYSTEM_IO, 1);
    cursor_put_le(out, 8, 1); /* bits */
    cursor_put_le(out, 0, 1);
    cursor_put_le(out, 1, 1); /* accessed as bytes */
    cursor_put_le(out, port, 8);
}

static void put_zeros(struct cursor *out, size_t until)
{
    while (!out->failed && out->at < until)
        cursor_put_le(out, 0, 1);
}

static uint64_t put_fadt(struct tables *tables, const struct acpi_machine *machine, uint64_t dsdt)
{
    struct cursor *out = &tables->out;
    const size_t start = table_begin(tables, "FACP", 6);
    put_zeros(out, start + 40);
    cursor_put_le(out, dsdt, 4);
    put_zeros(out, start + 109);
    cursor_put_le(out, FADT_BOOT_ARCH, 2);
    cursor_put_le(out, 0, 1);
    cursor_put_le(out, FADT_WBINVD | FADT_BUTTONS | FADT_RESET | FADT_HW_REDUCED, 4);
    put_port(out, machine->reset_port);
    cursor_put_le(out, machine->reset_value, 1);
    cursor_put_le(out, 0, 2); /* ARM boot flags */
    cursor_put_le(out, 5, 1); /* minor version */
    put_zeros(out, start + 140);
    cursor_put_le(out, dsdt, 8);
    put_zeros(out, start + 244);
    put_port(out, machine->sleep_control_port);
    put_port(out, machine->sleep_status_port);
    put_zeros(out, start + FADT_BYTES); /* hypervisor vendor id */
    return table_end(tables, start);
}

static uint64_t put_madt(struct tables *tables, const struct acpi_machine *machine)
{
    struct cursor *out = &tables->out;
    const size_t start = table_begin(tables, "APIC", 5);
    cursor_put_le(out, X86_LAPIC, 4);
    cursor_put_le(out, 0, 4); /* no dual 8259 */
    for (unsigned i = 0; i < machine->vcpu_count; i++) {
        cursor_put_le(out, MADT_LAPIC, 1);
        cursor_put_le(out, 8, 1);
        cursor_put_le(out, i, 1); /* processor UID */
        cursor_put_le(out, i, 1); /* APIC id */
        cursor_put_le(out, LAPIC_ENABLED, 4);
    }
    cursor_put_le(out, MADT_IOAPIC, 1);
    cursor_put_le(out, 12, 1);
    cursor_put_le(out, 0, 2); /* id, reserved */
    cursor_put_le(out, X86_IOAPIC, 4);
    cursor_put_le(out, 0, 4); /* its first GSI */
    return table_end(tables, start);
}

static void put_rsdp(uint8_t *to, uint64_t xsdt)
{
    struct cursor out = cursor_over(to, RSDP_BYTES);
    cursor_put(&out, "RSD PTR ", 8);
    cursor_put_le(&out, 0, 1);
    cursor_put(&out, "REKIND", 6);
    cursor_put_le(&out, 2, 1); /* revision: ACPI 2.0 and later */
    cursor_put_le(&out, 0, 4); /* no RSDT */
    cursor_put_le(&out, RSDP_BYTES, 4);
    cursor_put_le(&out, xsdt, 8);
    cursor_put_le(&out, 0, 4);
    to[8] = checksum_of(to, RSDP_V1_BYTES);
    to[32] = checksum_of(to, RSDP_BYTES);
}

int acpi_build(const struct acpi_machine *machine, uint64_t address, uint8_t *to, size_t capacity)
{
    struct tables tables = {.out = cursor_over(to, capacity), .address = address};
    put_zeros(&tables.out, RSDP_BYTES); /* written last, when the XSDT's address is known */
    const uint64_t dsdt = put_dsdt(&tables, machine);
    const uint64_t fadt = put_fadt(&tables, machine, dsdt);
    const uint64_t madt = put_madt(&tables, machine);
    const size_t start = table_begin(&tables, "XSDT", 1);
    cursor_put_le(&tables.out, fadt, 8);
    cursor_put_le(&tables.out, madt, 8);
    const uint64_t xsdt = table_end(&tables, start);
    if (tables.out.failed)
        return -ENOSPC;
    put_rsdp(to, xsdt);
    return (int)tables.out.at;
}
