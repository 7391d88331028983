/*
 * hostvmm doctor: say what this machine can do, and where it cannot, why and what to do.
 *
 * One line a finding, `ok`, `warn` or `fail`, then the verdict; --json prints one object instead. A failed
 * finding about KVM rules out running VMs directly; the emulated host needs none of them.
 */
#include "hostvmm/control/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"

#define KVM_VERSION        12 /* the only one there has been since Linux 2.6.22 */
#define GUEST_LEAST_KIB    (UINT64_C(128) * 1024)
#define EMULATED_LEAST_KIB (UINT64_C(1024) * 1024)

static struct doctor_finding *find(struct doctor_report *report, enum doctor_status status, const char *name,
                                   const char *advice)
{
    struct doctor_finding *finding = &report->findings[report->count];
    if (report->count < DOCTOR_FINDINGS_MAX - 1)
        report->count++;
    *finding = (struct doctor_finding){.status = status, .name = name};
    snprintf(finding->advice, sizeof finding->advice, "%s", status == DOCTOR_OK ? "" : advice);
    return finding;
}

__attribute__((format(printf, 2, 3))) static void detail(struct doctor_finding *finding, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->detail, sizeof finding->detail, format, arguments);
    va_end(arguments);
}

/* Each judge_* gives whether VMs can run directly as far as it can tell. */

static bool judge_cpu(const struct doctor_facts *facts, struct doctor_report *report)
{
    const bool known = strcmp(facts->machine, "x86_64") == 0;
    detail(find(report, known ? DOCTOR_OK : DOCTOR_FAIL, "architecture",
                "use an x86-64 machine: the only one hostvmm runs on as yet"),
           "%s, Linux %s", facts->machine, facts->kernel);
    const bool capable = facts->cpu_vmx || facts->cpu_svm;
    detail(find(report, capable ? DOCTOR_OK : DOCTOR_WARN, "hardware virtualisation",
                "on a physical machine turn on VT-x or AMD-V in the firmware; in a virtual one ask its host "
                "for nested "
                "virtualisation"),
           "%s",
           facts->cpu_vmx   ? "Intel VT-x (vmx)"
           : facts->cpu_svm ? "AMD-V (svm)"
                            : "none in /proc/cpuinfo");
    return known && capable;
}

static bool judge_device(const struct doctor_facts *facts, struct doctor_report *report)
{
    const int error = facts->kvm_error;
    const char *advice = error == ENOENT ? "load it: modprobe kvm_intel, or modprobe kvm_amd"
                         : error == EACCES || error == EPERM
                             ? "add yourself to the group that owns it (adduser $USER kvm) and log in again"
                             : "see the cause";
    struct doctor_finding *finding = find(report, error ? DOCTOR_FAIL : DOCTOR_OK, "/dev/kvm", advice);
    if (error) {
        detail(finding, "cannot open it: %s", strerror(error));
        return false;
    }
    detail(finding, "opens");
    const bool version_fits = facts->kvm_version == KVM_VERSION;
    detail(
        find(report, version_fits ? DOCTOR_OK : DOCTOR_FAIL, "KVM version", "use a Linux kernel's own KVM"),
        "%d, %s", facts->kvm_version, version_fits ? "as expected" : "expected 12");
    const int create = facts->kvm_create_error;
    detail(find(report, create ? DOCTOR_FAIL : DOCTOR_OK, "KVM makes a VM",
                create == EBUSY ? "another hypervisor holds the CPU: stop it" : "see dmesg for the cause"),
           "%s", create ? strerror(create) : "yes");
    const bool real = facts->cpu_vmx || facts->cpu_svm;
    if (!real)
        detail(
            find(report, DOCTOR_FAIL, "KVM runs a kernel",
                 "use the emulated host, or a machine with vmx or svm"),
            "no: /dev/kvm opens on a CPU without vmx or svm: a paravirtual KVM, which runs user mode only");
    return real && version_fits && create == 0;
}

static bool judge_capabilities(const struct doctor_facts *facts, struct doctor_report *report)
{
    bool enough = true;
    for (size_t i = 0; i < doctor_capability_count; i++) {
        const struct doctor_capability *capability = &doctor_capabilities[i];
        const bool there = facts->kvm_values[i] >= capability->least;
        const enum doctor_status lacking = capability->needed ? DOCTOR_FAIL : DOCTOR_WARN;
        struct doctor_finding *finding =
            find(report, there ? DOCTOR_OK : lacking, capability->name, capability->advice);
        if (there && facts->kvm_values[i] > 1)
            detail(finding, "%s: %d", capability->use, facts->kvm_values[i]);
        else
            detail(finding, "%s: %s", capability->use, there ? "yes" : "not offered by this KVM");
        enough = enough && (there || !capability->needed);
    }
    return enough;
}

static void judge_host(const struct doctor_facts *facts, struct doctor_report *report)
{
    const bool room = facts->memory_available_kib >= GUEST_LEAST_KIB;
    detail(
        find(report, room ? DOCTOR_OK : DOCTOR_WARN, "memory", "free some: a guest of 128 MiB does not fit"),
        "%" PRIu64 " of %" PRIu64 " MiB available", facts->memory_available_kib / 1024,
        facts->memory_total_kib / 1024);
    detail(
        find(
            report, facts->cgroup_v2 ? DOCTOR_OK : DOCTOR_WARN, "cgroup v2",
            "boot with systemd.unified_cgroup_hierarchy=1: on cgroup v1 KVM makes VMs up to 80 times slower"),
        "%s", facts->cgroup_v2 ? "mounted on /sys/fs/cgroup" : "not mounted on /sys/fs/cgroup");
    detail(find(report, DOCTOR_OK, "vhost", ""), "not needed: hostvmm has its own devices");
}

static bool judge_emulation(const struct doctor_facts *facts, struct doctor_report *report)
{
    const bool there = facts->qemu[0] != '\0';
    detail(find(report, there ? DOCTOR_OK : DOCTOR_WARN, "QEMU",
                "only needed where VMs cannot run directly: apt install qemu-system-x86"),
           "%s", there ? facts->qemu : "no qemu-system-x86_64 in PATH");
    const bool room = facts->memory_available_kib >= EMULATED_LEAST_KIB;
    if (there && !room)
        detail(find(report, DOCTOR_WARN, "memory for the emulated host", "free some"),
               "%" PRIu64 " MiB available, 1024 wanted", facts->memory_available_kib / 1024);
    return there;
}

void doctor_judge(const struct doctor_facts *facts, struct doctor_report *report)
{
    memset(report, 0, sizeof *report);
    const bool cpu = judge_cpu(facts, report);
    bool direct = judge_device(facts, report) && cpu;
    if (facts->kvm_error == 0)
        direct = judge_capabilities(facts, report) && direct;
    judge_host(facts, report);
    const bool emulated = judge_emulation(facts, report);
    report->verdict = direct ? DOCTOR_DIRECT : emulated ? DOCTOR_EMULATED : DOCTOR_NEITHER;
}

static const char *const status_names[] = {
    [DOCTOR_OK] = "ok",
    [DOCTOR_WARN] = "warn",
    [DOCTOR_FAIL] = "fail",
};

static const char *const verdict_names[] = {
    [DOCTOR_DIRECT] = "direct",
    [DOCTOR_EMULATED] = "emulated",
    [DOCTOR_NEITHER] = "none",
};

static const char *const verdict_texts[] = {
    [DOCTOR_DIRECT] = "VMs run directly on this machine.",
    [DOCTOR_EMULATED] =
        "VMs run here through the emulated host: hostvmm/kvmhost/run -- COMMAND; make demo, test and "
        "bench use it by themselves.",
    [DOCTOR_NEITHER] =
        "VMs cannot run here: see the lines above. Installing QEMU is enough for the emulated host.",
};

static void print_json(const struct doctor_report *report)
{
    printf("{\"verdict\":\"%s\",\"findings\":[", verdict_names[report->verdict]);
    for (size_t i = 0; i < report->count; i++) {
        const struct doctor_finding *finding = &report->findings[i];
        printf("%s\n{\"status\":\"%s\",\"name\":", i > 0 ? "," : "", status_names[finding->status]);
        text_json(stdout, finding->name);
        fputs(",\"detail\":", stdout);
        text_json(stdout, finding->detail);
        fputs(",\"advice\":", stdout);
        text_json(stdout, finding->advice);
        putchar('}');
    }
    puts("\n]}");
}

static void print_lines(const struct doctor_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct doctor_finding *finding = &report->findings[i];
        printf("%-4s  %-24s %s\n", status_names[finding->status], finding->name, finding->detail);
        if (finding->advice[0] != '\0')
            printf("      %-24s -> %s\n", "", finding->advice);
    }
    printf("\n%s\n", verdict_texts[report->verdict]);
}

int control_doctor_main(int argc, char **argv)
{
    const bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
        log_error("doctor: unexpected argument '%s'", argv[1]);
        fputs("usage: hostvmm doctor [--json]\n", stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    static struct doctor_facts facts;
    static struct doctor_report report;
    doctor_probe(&facts);
    doctor_judge(&facts, &report);
    if (json)
        print_json(&report);
    else
        print_lines(&report);
    return report.verdict == DOCTOR_NEITHER ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}
