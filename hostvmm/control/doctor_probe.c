/*
 * See doctor.h: gathering the facts. Nothing is changed: the VM made to see whether KVM makes one is closed
 * at once.
 */
#include "hostvmm/control/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define NEEDED true
#define USEFUL false

const struct doctor_capability doctor_capabilities[] = {
    {"user memory", "guest memory is ours, mapped here", "use a newer kernel", KVM_CAP_USER_MEMORY, 1,
     NEEDED},
    {"memory slots", "guest memory below and above the MMIO hole", "use a newer kernel", KVM_CAP_NR_MEMSLOTS,
     2, NEEDED},
    {"irqchip", "interrupt controllers in the kernel", "use a kernel with KVM's in-kernel irqchip",
     KVM_CAP_IRQCHIP, 1, NEEDED},
    {"irqfd", "devices raise interrupts without the vCPUs", "use a kernel with eventfd support in KVM",
     KVM_CAP_IRQFD, 1, NEEDED},
    {"ioeventfd", "queue notifications leave the vCPUs running", "use a kernel with eventfd support in KVM",
     KVM_CAP_IOEVENTFD, 1, NEEDED},
    {"immediate_exit", "stopping a vCPU without a race", "use kernel 4.13 or newer", KVM_CAP_IMMEDIATE_EXIT,
     1, NEEDED},
    {"vCPUs", "more than one CPU a guest", "use a kernel with SMP support in KVM", KVM_CAP_NR_VCPUS, 1,
     NEEDED},
    {"cpuid", "the guest sees the CPU that KVM supports", "use a newer kernel", KVM_CAP_EXT_CPUID, 1, NEEDED},
    {"tss address", "Intel: room for KVM's task state segment", "use a newer kernel", KVM_CAP_SET_TSS_ADDR, 1,
     NEEDED},
    {"identity map address", "Intel: room for KVM's page table", "use a newer kernel",
     KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, NEEDED},
    {"xsave", "floating-point and vector state", "use a newer kernel", KVM_CAP_XSAVE, 1, NEEDED},
    {"adjust clock", "the guest's clock", "use a newer kernel", KVM_CAP_ADJUST_CLOCK, 1, NEEDED},
    {"xsave2", "vector state larger than 4 KiB (AMX)",
     "harmless unless the CPU has AMX; else use kernel 5.17 or newer", KVM_CAP_XSAVE2, 1, USEFUL},
    {"tsc frequency", "guests told their TSC's rate instead of measuring it",
     "guests measure it at boot, some ms slower", KVM_CAP_GET_TSC_KHZ, 1, USEFUL},
    {"tsc control", "a TSC rate other than the CPU's own, for moved snapshots",
     "snapshots need a host with the same TSC rate", KVM_CAP_TSC_CONTROL, 1, USEFUL},
    {"tsc deadline timer", "precise guest timers without calibration", "guests fall back to a slower timer",
     KVM_CAP_TSC_DEADLINE_TIMER, 1, USEFUL},
};
const size_t doctor_capability_count = sizeof doctor_capabilities / sizeof doctor_capabilities[0];
_Static_assert(sizeof doctor_capabilities / sizeof doctor_capabilities[0] <= DOCTOR_CAPABILITIES_MAX,
               "room in struct doctor_facts");

/* The kernel's file lists every CPU: the first page or two hold the flags of the first. */
#define CPUINFO_BYTES 16384

static void probe_cpu(struct doctor_facts *facts)
{
    char text[CPUINFO_BYTES + 1];
    int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    size_t size = 0;
    ssize_t n;
    while (size < CPUINFO_BYTES && (n = read(fd, text + size, CPUINFO_BYTES - size)) > 0)
        size += (size_t)n;
    fd_close(&fd);
    text[size] = '\0';
    char *flags = strstr(text, "\nflags");
    if (!flags)
        return;
    flags++;
    flags[strcspn(flags, "\n")] = '\0';
    for (char *word = strtok(flags, " \t:"); word; word = strtok(NULL, " \t:")) {
        facts->cpu_vmx = facts->cpu_vmx || strcmp(word, "vmx") == 0;
        facts->cpu_svm = facts->cpu_svm || strcmp(word, "svm") == 0;
    }
}

static void probe_kvm(struct doctor_facts *facts)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    facts->kvm_error = kvm < 0 ? errno : 0;
    if (kvm < 0)
        return;
    const int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    facts->kvm_version = version < 0 ? -errno : version;
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    facts->kvm_create_error = vm < 0 ? errno : 0;
    /* Capabilities may depend on the VM: ask it, where there is one. */
    for (size_t i = 0; i < doctor_capability_count; i++) {
        const int value = ioctl(vm < 0 ? kvm : vm, KVM_CHECK_EXTENSION, doctor_capabilities[i].id);
        facts->kvm_values[i] = value < 0 ? 0 : value;
    }
    fd_close(&vm);
    fd_close(&kvm);
}

static uint64_t meminfo_kib(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void probe_memory(struct doctor_facts *facts)
{
    char text[8193];
    const int64_t size = fd_read_file("/proc/meminfo", text, sizeof text - 1);
    if (size < 0)
        return;
    text[size] = '\0';
    facts->memory_total_kib = meminfo_kib(text, "MemTotal:");
    facts->memory_available_kib = meminfo_kib(text, "\nMemAvailable:");
}

/* Look along PATH, as the shell would. */
static void probe_qemu(struct doctor_facts *facts)
{
    const char *path = getenv("PATH");
    while (path && *path != '\0') {
        const size_t length = strcspn(path, ":");
        const int size =
            snprintf(facts->qemu, sizeof facts->qemu, "%.*s/qemu-system-x86_64", (int)length, path);
        if (length > 0 && size > 0 && (size_t)size < sizeof facts->qemu && access(facts->qemu, X_OK) == 0)
            return;
        path += length + (path[length] == ':');
    }
    facts->qemu[0] = '\0';
}

void doctor_probe(struct doctor_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    struct utsname name;
    if (uname(&name) == 0) {
        snprintf(facts->machine, sizeof facts->machine, "%.64s", name.machine);
        snprintf(facts->kernel, sizeof facts->kernel, "%.64s", name.release);
    }
    struct statfs root;
    facts->cgroup_v2 = statfs("/sys/fs/cgroup", &root) == 0 && root.f_type == CGROUP2_SUPER_MAGIC;
    probe_cpu(facts);
    probe_kvm(facts);
    probe_memory(facts);
    probe_qemu(facts);
}
