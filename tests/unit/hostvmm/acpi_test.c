/* ACPI tables: every checksum, pointer and length, and the AML written out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/x86_64/acpi.h"
#include "hostvmm/arch/x86_64/aml.h"

#define ADDRESS 0xe0000u

static uint8_t bytes[16384];

static uint64_t field(const uint8_t *at, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static uint8_t sum(const uint8_t *at, size_t size)
{
    uint8_t total = 0;
    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + at[i]);
    return total;
}

static struct acpi_machine machine_of(unsigned vcpus, unsigned devices)
{
    struct acpi_machine machine = {
        .vcpu_count = vcpus,
        .virtio_count = devices,
        .serial = {.base = 0x3f8, .gsi = 4},
        .sleep_control_port = 0x5f2,
        .sleep_status_port = 0x5f3,
        .reset_port = 0x5f4,
        .reset_value = 1,
        .vmgenid = arch_vmgenid_address().value,
        .ged_gsi = arch_event_slot().gsi,
    };
    for (unsigned i = 0; i < devices; i++)
        machine.virtio[i] = arch_virtio_slot(i);
    return machine;
}

/* A table that the XSDT points to, its length and checksum proven. */
static const uint8_t *table_at(uint64_t address, const char *signature, int used)
{
    assert_true(address >= ADDRESS && address + 36 <= ADDRESS + (uint64_t)used);
    const uint8_t *table = bytes + (address - ADDRESS);
    assert_memory_equal(table, signature, 4);
    const uint64_t length = field(table + 4, 4);
    assert_true(address + length <= ADDRESS + (uint64_t)used);
    assert_int_equal(sum(table, length), 0);
    return table;
}

static void tables_hold_together(unsigned vcpus, unsigned devices)
{
    const struct acpi_machine machine = machine_of(vcpus, devices);
    memset(bytes, 0xcc, sizeof bytes);
    const int used = acpi_build(&machine, ADDRESS, bytes, sizeof bytes);
    assert_true(used > 0);
    assert_memory_equal(bytes, "RSD PTR ", 8);
    assert_int_equal(sum(bytes, 20), 0);
    assert_int_equal(sum(bytes, 36), 0);
    const uint8_t *xsdt = table_at(field(bytes + 24, 8), "XSDT", used);
    assert_int_equal(field(xsdt + 4, 4), 36 + 2 * 8);

    const uint8_t *fadt = table_at(field(xsdt + 36, 8), "FACP", used);
    assert_int_equal(field(fadt + 4, 4), 276);
    assert_int_equal(field(fadt + 112, 4) & (1u << 20 | 1u << 10), 1u << 20 | 1u << 10);
    assert_int_equal(fadt[116], 1); /* reset register: a port */
    assert_int_equal(field(fadt + 120, 8), 0x5f4);
    assert_int_equal(fadt[128], 1);
    assert_int_equal(field(fadt + 40, 4), field(fadt + 140, 8));
    assert_int_equal(field(fadt + 248, 8), 0x5f2);
    assert_int_equal(field(fadt + 260, 8), 0x5f3);
    (void)table_at(field(fadt + 140, 8), "DSDT", used);

    const uint8_t *madt = table_at(field(xsdt + 44, 8), "APIC", used);
    assert_int_equal(field(madt + 36, 4), 0xfee00000);
    unsigned processors = 0;
    unsigned ioapics = 0;
    const uint64_t length = field(madt + 4, 4);
    for (uint64_t at = 44; at < length; at += madt[at + 1]) {
        assert_true(madt[at + 1] >= 8);
        if (madt[at] == 0) {
            assert_int_equal(madt[at + 3], processors);
            assert_int_equal(field(madt + at + 4, 4), 1);
            processors++;
        } else if (madt[at] == 1) {
            ioapics++;
            assert_int_equal(field(madt + at + 4, 4), 0xfec00000);
        }
    }
    assert_int_equal(processors, vcpus);
    assert_int_equal(ioapics, 1);
}

static void every_size_of_machine_has_sound_tables(void **state)
{
    (void)state;
    for (unsigned vcpus = 1; vcpus <= ARCH_VCPUS_MAX; vcpus++)
        tables_hold_together(vcpus, vcpus % (ARCH_VIRTIO_SLOTS_MAX + 1));
    tables_hold_together(32, ARCH_VIRTIO_SLOTS_MAX);
    tables_hold_together(1, 0);
}

static void too_little_room_is_an_error_never_an_overrun(void **state)
{
    (void)state;
    const struct acpi_machine machine = machine_of(4, 3);
    const int used = acpi_build(&machine, ADDRESS, bytes, sizeof bytes);
    assert_true(used > 0);
    for (size_t capacity = 0; capacity < (size_t)used; capacity++) {
        uint8_t *small = malloc(capacity ? capacity : 1); /* the sanitizer watches its end */
        assert_non_null(small);
        if (acpi_build(&machine, ADDRESS, small, capacity) != -ENOSPC)
            fail_msg("%zu bytes were enough, %d are needed", capacity, used);
        free(small);
    }
    uint8_t *exact = malloc((size_t)used);
    assert_non_null(exact);
    assert_int_equal(acpi_build(&machine, ADDRESS, exact, (size_t)used), used);
    free(exact);
}

static void a_device_is_written_as_the_specification_says(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0x5b, 0x82, 0x37,      /* Device, 55 bytes */
        'V',  'R',  '0',  '3', /* */
        0x08, '_',  'H',  'I', 'D', 0x0d, 'L',  'N',  'R',  'O',  '0', '0', '0', '5', 0, /* */
        0x08, '_',  'U',  'I', 'D', 0x0a, 3,                                             /* */
        0x08, '_',  'C',  'R', 'S', 0x11, 0x16, 0x0a, 0x17,               /* Buffer, 23 bytes */
        0x86, 9,    0,    1,   0,   0x30, 0,    0xd0, 0,    0x10, 0,   0, /* Memory32Fixed */
        0x89, 6,    0,    3,   1,   8,    0,    0,    0,                  /* Interrupt */
        0x79, 0,                                                          /* */
    };
    struct aml aml;
    aml_init(&aml, bytes, sizeof bytes);
    aml_device(&aml, "VR03");
    aml_name_string(&aml, "_HID", "LNRO0005");
    aml_name_integer(&aml, "_UID", 3);
    aml_resources(&aml);
    aml_memory32(&aml, 0xd0003000, 4096);
    aml_interrupt_edge(&aml, 8);
    aml_resources_end(&aml);
    aml_end(&aml);
    assert_false(aml.out.failed);
    assert_int_equal(aml.depth, 0);
    /* Lengths are checked apart from the literal above, whose two length bytes are computed here. */
    assert_int_equal(bytes[2], aml.out.at - 2);
    assert_int_equal(aml.out.at, sizeof expected);
    uint8_t copy[sizeof expected];
    memcpy(copy, expected, sizeof expected);
    copy[2] = (uint8_t)(sizeof expected - 2);
    copy[35] = (uint8_t)(sizeof expected - 35);
    assert_memory_equal(bytes, copy, sizeof copy);
}

/* The generation id and its event device, as ACPI 6.5 encodes them: 5.6.9, 20.2.5. */
static void the_generation_id_is_found_and_notified(void **state)
{
    (void)state;
    static const uint8_t vgen[] = {
        0x5b, 0x82, 0x4d, 0x04, 'V', 'G',  'E',  'N', /* Device, 77 bytes */
        0x08, '_',  'H',  'I',  'D', 0x0d, 'R',  'K',  'D',  'L',  '0',  '0',  '0',  '1', 0, /* */
        0x08, '_',  'C',  'I',  'D', 0x0d, 'V',  'M',  '_',  'G',  'e',  'n',  '_',  'C', 'o',
        'u',  'n',  't',  'e',  'r', 0,    0x08, '_',  'D',  'D',  'N',  0x0d, 'V',  'M', '_',
        'G',  'e',  'n',  '_',  'C', 'o',  'u',  'n',  't',  'e',  'r',  0,    0x08, 'A', 'D',
        'D',  'R',  0x12, 0x08, 2,   0x0c, 0x00, 0x40, 0x0e, 0x00, 0x00, /* 0xe4000, 0 */
    };
    static const uint8_t ged[] = {
        0x5b, 0x82, 0x3c, 'G',  'E',  'D',  '_',                                           /* Device */
        0x08, '_',  'H',  'I',  'D',  0x0d, 'A',  'C',  'P',  'I',  '0', '0', '1', '3', 0, /* */
        0x08, '_',  'C',  'R',  'S',  0x11, 0x0e, 0x0a, 0x0b,          /* Buffer, 11 bytes */
        0x89, 6,    0,    3,    1,    23,   0,    0,    0,    0x79, 0, /* Interrupt 23, edge */
        0x14, 0x13, '_',  'E',  'V',  'T',  0x09,                      /* Method, one argument, serialized */
        0xa0, 0x0c, 0x93, 0x68, 0x0a, 23,                              /* If (Arg0 == 23) */
        0x86, 'V',  'G',  'E',  'N',  0x0a, 0x80,                      /* Notify (VGEN, 0x80) */
    };
    struct acpi_machine machine = machine_of(1, 0);
    int used = acpi_build(&machine, ADDRESS, bytes, sizeof bytes);
    assert_true(used > 0);
    const uint8_t *at = memmem(bytes, (size_t)used, "VGEN", 4);
    assert_non_null(at);
    assert_memory_equal(at - 4, vgen, sizeof vgen);
    assert_memory_equal(at - 4 + sizeof vgen, ged, sizeof ged);
    /* None of it where there is no id. */
    machine.vmgenid = 0;
    used = acpi_build(&machine, ADDRESS, bytes, sizeof bytes);
    assert_null(memmem(bytes, (size_t)used, "VGEN", 4));
    assert_null(memmem(bytes, (size_t)used, "ACPI0013", 8));
}

static void an_eisaid_is_compressed(void **state)
{
    (void)state;
    static const uint8_t expected[] = {0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01};
    struct aml aml;
    aml_init(&aml, bytes, sizeof bytes);
    aml_name_eisaid(&aml, "_HID", "PNP0501");
    assert_int_equal(aml.out.at, sizeof expected);
    assert_memory_equal(bytes, expected, sizeof expected);
}

/* Packages of every length around the borders of the one-, two- and three-byte encodings. */
static void package_lengths_have_every_width(void **state)
{
    (void)state;
    static const size_t counts[] = {0,  1,  55,   56,   57,   58,   59,   60,   61,   62,
                                    63, 64, 4080, 4084, 4085, 4086, 4087, 4088, 4090, 5000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct aml aml;
        aml_init(&aml, bytes, sizeof bytes);
        aml_scope(&aml, "ABCD");
        for (size_t n = 0; n < counts[i]; n++)
            cursor_put_le(&aml.out, 0xee, 1);
        aml_end(&aml);
        assert_false(aml.out.failed);
        const unsigned extra = bytes[1] >> 6;
        size_t length = extra ? bytes[1] & 0xfu : bytes[1] & 0x3fu;
        for (unsigned n = 0; n < extra; n++)
            length |= (size_t)bytes[2 + n] << (4 + 8 * n);
        assert_int_equal(length, aml.out.at - 1);
        assert_memory_equal(bytes + 2 + extra, "ABCD", 4);
        assert_int_equal(bytes[aml.out.at - 1], counts[i] ? 0xee : 'D');
    }
}

static void misuse_fails_for_good(void **state)
{
    (void)state;
    struct aml aml;
    aml_init(&aml, bytes, sizeof bytes);
    aml_end(&aml); /* nothing is open */
    assert_true(aml.out.failed);
    aml_init(&aml, bytes, sizeof bytes);
    aml_name_integer(&aml, "TOOLONG", 1);
    assert_true(aml.out.failed);
    aml_init(&aml, bytes, sizeof bytes);
    for (unsigned i = 0; i <= AML_DEPTH_MAX; i++)
        aml_scope(&aml, "ABCD");
    assert_true(aml.out.failed);
    aml_init(&aml, bytes, sizeof bytes);
    aml_resources(&aml);
    for (unsigned i = 0; i < 30; i++)
        aml_interrupt_edge(&aml, i);
    aml_resources_end(&aml); /* 272 bytes do not fit the size byte */
    assert_true(aml.out.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_of_machine_has_sound_tables),
        cmocka_unit_test(too_little_room_is_an_error_never_an_overrun),
        cmocka_unit_test(a_device_is_written_as_the_specification_says),
        cmocka_unit_test(the_generation_id_is_found_and_notified),
        cmocka_unit_test(an_eisaid_is_compressed),
        cmocka_unit_test(package_lengths_have_every_width),
        cmocka_unit_test(misuse_fails_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
