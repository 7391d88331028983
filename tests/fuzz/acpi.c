/*
 * libFuzzer target: the ACPI tables of any machine, taken apart again as a kernel would. Where they fit, every
 * checksum, length and pointer holds, each processor and each device is there once, and AML's packages end
 * where they say; where they do not fit, that is said, and not a byte is written past the end.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "hostvmm/arch/x86_64/acpi.h"

#define CAPACITY_MAX 0x4000u
#define GUARD_BYTES  64u
#define HEADER_BYTES 36u
#define MADT_ENTRIES 44u /* where they begin */
#define AML_EXT      0x5bu
#define AML_DEVICE   0x82u
#define AML_SCOPE    0x10u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t bytes[CAPACITY_MAX + GUARD_BYTES];
static uint64_t address;
static size_t used;

static uint64_t field(size_t at, unsigned count)
{
    uint64_t value = 0;
    if (at > used || count > used - at)
        abort();
    for (unsigned i = 0; i < count; i++)
        value |= (uint64_t)bytes[at + i] << (8 * i);
    return value;
}

static void check_sum(size_t at, size_t size)
{
    uint8_t sum = 0;
    if (at > used || size > used - at)
        abort();
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[at + i]);
    if (sum != 0)
        abort();
}

/* Where the table with this signature at a guest address is; its length is right. */
static size_t table_at(uint64_t guest, const char *signature)
{
    if (guest < address || guest % 16 != 0)
        abort();
    const size_t at = (size_t)(guest - address);
    if (field(at + 4, 4) < HEADER_BYTES || memcmp(bytes + at, signature, 4) != 0)
        abort();
    check_sum(at, field(at + 4, 4));
    return at;
}

/* A package's length (ACPI 6.5, 20.2.4); *at moves behind the bytes that say it. */
static size_t package_bytes(size_t *at)
{
    const uint8_t lead = (uint8_t)field(*at, 1);
    const unsigned more = lead >> 6;
    size_t size = more ? lead & 15u : lead & 63u;
    for (unsigned i = 0; i < more; i++)
        size |= (size_t)field(*at + 1 + i, 1) << (4 + 8 * i);
    *at += 1 + more;
    return size;
}

/* The DSDT's devices, by the extents that their packages claim. */
static unsigned count_devices(size_t dsdt)
{
    const size_t end = dsdt + field(dsdt + 4, 4);
    unsigned count = 0;
    size_t at = dsdt + HEADER_BYTES;
    while (at < end && bytes[at] != AML_SCOPE) /* the name of S5 comes before it */
        at++;
    if (at >= end)
        abort();
    const size_t scope = ++at;
    if (scope + package_bytes(&at) != end)
        abort();
    at += 5; /* \_SB_ */
    while (at < end) {
        if (field(at, 1) != AML_EXT || field(at + 1, 1) != AML_DEVICE)
            abort();
        at += 2;
        const size_t start = at, size = package_bytes(&at);
        if (size > end - start)
            abort();
        at = start + size;
        count++;
    }
    return count;
}

static void check_madt(size_t madt, unsigned vcpus)
{
    const size_t end = madt + field(madt + 4, 4);
    unsigned processors = 0, controllers = 0;
    for (size_t at = madt + MADT_ENTRIES; at < end; at += field(at + 1, 1)) {
        if (field(at + 1, 1) < 2 || field(at + 1, 1) > end - at)
            abort();
        if (field(at, 1) == 0 && field(at + 3, 1) != processors++)
            abort();
        controllers += field(at, 1) == 1;
    }
    if (processors != vcpus || controllers != 1)
        abort();
}

static void check(const struct acpi_machine *machine)
{
    if (memcmp(bytes, "RSD PTR ", 8) != 0)
        abort();
    check_sum(0, 20);
    check_sum(0, 36);
    const size_t xsdt = table_at(field(24, 8), "XSDT");
    if (field(xsdt + 4, 4) != HEADER_BYTES + 16)
        abort();
    const size_t fadt = table_at(field(xsdt + HEADER_BYTES, 8), "FACP");
    const size_t madt = table_at(field(xsdt + HEADER_BYTES + 8, 8), "APIC");
    if (field(fadt + 140, 8) != field(fadt + 40, 4))
        abort();
    const unsigned others = machine->vmgenid ? 3 : 1; /* serial port, generation id and its events */
    if (count_devices(table_at(field(fadt + 140, 8), "DSDT")) != machine->virtio_count + others)
        abort();
    check_madt(madt, machine->vcpu_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t input[512];
    struct acpi_machine machine = {0};
    if (size > sizeof input)
        return -1;
    memcpy(input, data, size);
    struct cursor in = cursor_over(input, size);
    machine.vcpu_count = (unsigned)cursor_get_le(&in, 1) % (ARCH_VCPUS_MAX + 1);
    machine.virtio_count = (unsigned)cursor_get_le(&in, 1) % (ARCH_VIRTIO_SLOTS_MAX + 1);
    machine.serial = (struct arch_slot){cursor_get_le(&in, 2), (uint32_t)cursor_get_le(&in, 4)};
    machine.sleep_control_port = (uint16_t)cursor_get_le(&in, 2);
    machine.sleep_status_port = (uint16_t)cursor_get_le(&in, 2);
    machine.reset_port = (uint16_t)cursor_get_le(&in, 2);
    machine.reset_value = (uint8_t)cursor_get_le(&in, 1);
    machine.vmgenid = cursor_get_le(&in, 8);
    machine.ged_gsi = (uint32_t)cursor_get_le(&in, 1);
    const size_t capacity = (size_t)(~cursor_get_le(&in, 2) % (CAPACITY_MAX + 1));
    address = cursor_get_le(&in, 3) * 16;
    for (unsigned i = 0; i < machine.virtio_count; i++)
        machine.virtio[i] = (struct arch_slot){cursor_get_le(&in, 4), (uint32_t)cursor_get_le(&in, 4)};
    memset(bytes, 0xa5, sizeof bytes);
    const int result = acpi_build(&machine, address, bytes, capacity);
    for (size_t i = capacity; i < sizeof bytes; i++)
        if (bytes[i] != 0xa5)
            abort();
    if (result < 0 &&
        (result != -ENOSPC || capacity == CAPACITY_MAX)) /* the place it has holds any machine */
        abort();
    if (result >= 0 && (size_t)result > capacity)
        abort();
    used = result < 0 ? 0 : (size_t)result;
    if (result >= 0)
        check(&machine);
    return 0;
}
