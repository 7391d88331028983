/* The doctor's judgement on machines of every kind, and the text it is printed as. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/client.h"
#include "hostvmm/control/doctor.h"
#include "hostvmm/control/text.h"

static struct doctor_facts facts;
static struct doctor_report report;

/* A machine with everything; each test takes something away. */
static int setup(void **state)
{
    (void)state;
    facts = (struct doctor_facts){.machine = "x86_64",
                                  .kernel = "6.12",
                                  .cpu_vmx = true,
                                  .kvm_version = 12,
                                  .memory_total_kib = 8 << 20,
                                  .memory_available_kib = 4 << 20,
                                  .cgroup_v2 = true,
                                  .qemu = "/usr/bin/qemu-system-x86_64"};
    for (size_t i = 0; i < doctor_capability_count; i++)
        facts.kvm_values[i] = doctor_capabilities[i].least;
    return 0;
}

static const struct doctor_finding *finding(const char *name)
{
    for (size_t i = 0; i < report.count; i++)
        if (strcmp(report.findings[i].name, name) == 0)
            return &report.findings[i];
    fail_msg("no finding named %s", name);
    return NULL;
}

static void test_complete_machine(void **state)
{
    (void)state;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_DIRECT);
    for (size_t i = 0; i < report.count; i++) {
        assert_int_equal(report.findings[i].status, DOCTOR_OK);
        assert_string_equal(report.findings[i].advice, "");
        assert_string_not_equal(report.findings[i].detail, "");
    }
}

static void test_amd_is_as_good(void **state)
{
    (void)state;
    facts.cpu_vmx = false;
    facts.cpu_svm = true;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_DIRECT);
}

static void test_no_kvm(void **state)
{
    (void)state;
    facts.kvm_error = ENOENT;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    assert_int_equal(finding("/dev/kvm")->status, DOCTOR_FAIL);
    assert_non_null(strstr(finding("/dev/kvm")->advice, "modprobe"));
    facts.qemu[0] = '\0';
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_NEITHER);
    assert_non_null(strstr(finding("QEMU")->advice, "apt install"));
}

static void test_no_permission(void **state)
{
    (void)state;
    facts.kvm_error = EACCES;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    assert_non_null(strstr(finding("/dev/kvm")->advice, "group"));
}

static void test_paravirtual_kvm(void **state)
{
    (void)state;
    facts.cpu_vmx = false;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    assert_int_equal(finding("KVM runs a kernel")->status, DOCTOR_FAIL);
    assert_non_null(strstr(finding("KVM runs a kernel")->detail, "paravirtual"));
}

static void test_each_needed_capability(void **state)
{
    (void)state;
    for (size_t i = 0; i < doctor_capability_count; i++) {
        facts.kvm_values[i] = doctor_capabilities[i].least - 1;
        doctor_judge(&facts, &report);
        const bool needed = doctor_capabilities[i].needed;
        assert_int_equal(report.verdict, needed ? DOCTOR_EMULATED : DOCTOR_DIRECT);
        assert_int_equal(finding(doctor_capabilities[i].name)->status, needed ? DOCTOR_FAIL : DOCTOR_WARN);
        assert_string_not_equal(finding(doctor_capabilities[i].name)->advice, "");
        facts.kvm_values[i] = doctor_capabilities[i].least;
    }
}

static void test_other_faults_of_kvm(void **state)
{
    (void)state;
    facts.kvm_version = 11;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    facts.kvm_version = 12;
    facts.kvm_create_error = EBUSY;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    assert_non_null(strstr(finding("KVM makes a VM")->advice, "another hypervisor"));
    facts.kvm_create_error = 0;
    snprintf(facts.machine, sizeof facts.machine, "riscv64");
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_EMULATED);
    assert_int_equal(finding("architecture")->status, DOCTOR_FAIL);
}

static void test_small_and_old_machines_are_warned(void **state)
{
    (void)state;
    facts.memory_available_kib = 65536;
    facts.cgroup_v2 = false;
    doctor_judge(&facts, &report);
    assert_int_equal(report.verdict, DOCTOR_DIRECT);
    assert_int_equal(finding("memory")->status, DOCTOR_WARN);
    assert_int_equal(finding("cgroup v2")->status, DOCTOR_WARN);
}

static void test_worst_machine_fits_in_the_report(void **state)
{
    (void)state;
    facts = (struct doctor_facts){.machine = "mips", .kvm_version = -EINVAL, .kvm_create_error = ENOMEM};
    doctor_judge(&facts, &report);
    assert_true(report.count < DOCTOR_FINDINGS_MAX - 1);
    assert_int_equal(report.verdict, DOCTOR_NEITHER);
}

static void test_probe_of_this_machine(void **state)
{
    (void)state;
    doctor_probe(&facts);
    assert_string_not_equal(facts.machine, "");
    assert_true(facts.memory_total_kib >= facts.memory_available_kib);
    assert_true(facts.memory_available_kib > 0);
}

/* ---- text
 * ------------------------------------------------------------------------------------------------------ */

static char *text;
static size_t text_size;

static void assert_text(FILE *file, const char *expected)
{
    fclose(file);
    assert_string_equal(text, expected);
    free(text);
}

static void test_json_text(void **state)
{
    (void)state;
    FILE *file = open_memstream(&text, &text_size);
    text_json(file, "a\"b\\c\nd\x01\x1f\x7f \xc3\xa9");
    assert_text(file, "\"a\\\"b\\\\c\\nd\\u0001\\u001f\\u007f \xc3\xa9\"");
}

static void test_json_failure(void **state)
{
    (void)state;
    static struct control_failure failure = {
        .type = "T", .message = "m \"q\"", .stack = {"one", "two"}, .stack_count = 2};
    FILE *file = open_memstream(&text, &text_size);
    text_json_failure(file, &failure);
    assert_text(file,
                "{\"errorType\":\"T\",\"errorMessage\":\"m \\\"q\\\"\",\"stackTrace\":[\"one\",\"two\"]}");
}

static void test_lines_cannot_drive_a_terminal(void **state)
{
    (void)state;
    static const char output[] = "one\ntw\to\n\n\x1b[2Jthree\r[x] \0";
    FILE *file = open_memstream(&text, &text_size);
    text_lines(file, "[r] ", output, sizeof output - 1);
    assert_text(file, "[r] one\n[r] tw\to\n[r] \n[r] \\x1b[2Jthree\\x0d[x] \\x00\n");
}

static void test_no_output_is_no_line(void **state)
{
    (void)state;
    FILE *file = open_memstream(&text, &text_size);
    text_lines(file, "[r] ", "", 0);
    assert_text(file, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_complete_machine, setup),
        cmocka_unit_test_setup(test_amd_is_as_good, setup),
        cmocka_unit_test_setup(test_no_kvm, setup),
        cmocka_unit_test_setup(test_no_permission, setup),
        cmocka_unit_test_setup(test_paravirtual_kvm, setup),
        cmocka_unit_test_setup(test_each_needed_capability, setup),
        cmocka_unit_test_setup(test_other_faults_of_kvm, setup),
        cmocka_unit_test_setup(test_small_and_old_machines_are_warned, setup),
        cmocka_unit_test_setup(test_worst_machine_fits_in_the_report, setup),
        cmocka_unit_test(test_probe_of_this_machine),
        cmocka_unit_test(test_json_text),
        cmocka_unit_test(test_json_failure),
        cmocka_unit_test(test_lines_cannot_drive_a_terminal),
        cmocka_unit_test(test_no_output_is_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
