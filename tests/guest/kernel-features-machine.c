/*
 * kernel-features: system calls, clocks, processors, devices, hardening. See kernel-features.c.
 */
#include "tests/guest/kernel-features.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* ---- system calls ---- */

const char *check_events(void)
{
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int poller = epoll_create1(EPOLL_CLOEXEC), count = 0;
    int fds[] = {eventfd(1, EFD_CLOEXEC), signalfd(-1, &set, SFD_CLOEXEC),
                 timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), inotify_init1(IN_CLOEXEC)};
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    if (poller < 0 || fds[0] < 0 || fds[1] < 0 || fds[2] < 0 || fds[3] < 0)
        return failed("a descriptor");
    if (inotify_add_watch(fds[3], "/tmp", IN_CREATE) < 0 || mkdir("/tmp/watched", 0755) < 0 ||
        raise(SIGUSR1) != 0 || timerfd_settime(fds[2], 0, &soon, NULL) < 0)
        return failed("an event");
    for (int i = 0; i < 4; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fds[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &event);
    }
    struct epoll_event ready[4];
    for (int got; count < 4 && (got = epoll_wait(poller, ready, 4, WAIT_LIMIT_MS)) > 0;)
        count += got;
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close(poller);
    return count == 4 ? NULL : reason("%d of eventfd, signalfd, timerfd, inotify fired", count);
}

const char *check_io_uring(void)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0)
        return failed("io_uring_setup");
    size_t ring_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    char *ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry =
        mmap(NULL, 4 * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)IORING_OFF_SQES);
    if (ring == MAP_FAILED || entry == MAP_FAILED)
        return failed("mmap");
    entry[0] = (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = 0x5eed};
    *(uint32_t *)(void *)(ring + params.sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(void *)(ring + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return failed("io_uring_enter");
    struct io_uring_cqe *done = (struct io_uring_cqe *)(void *)(ring + params.cq_off.cqes);
    uint64_t got = done->user_data;
    close(fd);
    return got == 0x5eed ? NULL : reason("completion says 0x%llx", (unsigned long long)got);
}

const char *check_memory_calls(void)
{
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0)
        return failed("memfd_create");
    close(fd);
    if (syscall(SYS_membarrier, 0, 0, 0) < 0)
        return failed("membarrier");
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED || madvise(page, 4096, MADV_DONTNEED) < 0 ? failed("madvise") : NULL;
}

/* Look a function up in the vDSO's dynamic symbols. */
static bool vdso_has(const char *name)
{
    const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (!base)
        return false;
    const Elf64_Ehdr *header = (const void *)base;
    const Elf64_Shdr *sections = (const void *)(base + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM)
            continue;
        const Elf64_Sym *symbols = (const void *)(base + sections[i].sh_offset);
        const char *names = base + sections[sections[i].sh_link].sh_offset;
        for (size_t j = 0; j < sections[i].sh_size / sizeof *symbols; j++)
            if (strcmp(names + symbols[j].st_name, name) == 0)
                return true;
    }
    return false;
}

const char *check_getrandom(void)
{
    unsigned char bytes[32] = {0}, zero[32] = {0};
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes)
        return failed("getrandom without waiting");
    if (memcmp(bytes, zero, sizeof bytes) == 0)
        return "32 zeros";
    return vdso_has("__vdso_getrandom") && vdso_has("__vdso_clock_gettime") ? NULL : "not in the vDSO";
}

/* ---- machine ---- */

static bool under_kvm(void)
{
    unsigned eax, id[3];
    char name[13] = "";
    __cpuid(0x40000000, eax, id[0], id[1], id[2]);
    memcpy(name, id, 12);
    return strcmp(name, "KVMKVMKVM") == 0;
}

const char *check_kvm_clock(void)
{
    if (!under_kvm())
        return SKIP "not under KVM";
    const char *why =
        file_holds("/sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock");
    struct timespec now;
    if (!why && (clock_gettime(CLOCK_REALTIME, &now) < 0 || now.tv_sec < 1600000000))
        why = "the wall clock is not set";
    return why;
}

const char *check_ptp_kvm(void)
{
    char name[64] = "";
    if (!under_kvm())
        return SKIP "not under KVM";
    if (slurp("/sys/class/ptp/ptp0/clock_name", name, sizeof name) < 0)
        return failed("/sys/class/ptp/ptp0");
    return strcmp(name, "KVM virtual PTP") == 0 ? NULL : reason("ptp0 is %s", name);
}

const char *check_x2apic(void)
{
    static char log[65536];
    if (file_holds("/proc/cpuinfo", "x2apic"))
        return SKIP "this CPU has none";
    int size = klogctl(3, log, sizeof log - 1);
    log[size > 0 ? size : 0] = 0;
    return strstr(log, "x2apic") ? NULL : "the log does not say that x2apic was enabled";
}

const char *check_cpus(void)
{
    char possible[32] = "", online[32] = "";
    slurp("/sys/devices/system/cpu/present", possible, sizeof possible);
    slurp("/sys/devices/system/cpu/online", online, sizeof online);
    printf("# processors online: %s\n", online);
    return online[0] && strcmp(possible, online) == 0 ? NULL
                                                      : reason("present %s, online %s", possible, online);
}

const char *check_virtio_drivers(void)
{
    static const char *const names[] = {"virtio_blk", "virtio_net", "virtio_balloon", "virtio_rng",
                                        "vmw_vsock_virtio_transport"};
    char path[96];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "/sys/bus/virtio/drivers/%s", names[i]);
        if (!there(path))
            return reason("no driver %s", names[i]);
    }
    return there("/sys/bus/platform/drivers/virtio-mmio") ? NULL : "no virtio-mmio";
}

/* Every virtio device that the bus shows has a driver, and free page reporting is agreed on where there is a
 * balloon. */
const char *check_virtio_devices(void)
{
    char path[96], text[128];
    int count = 0;
    for (int i = 0; i < 32; i++) {
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/virtio%d", i);
        if (!there(path))
            continue;
        count++;
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/virtio%d/driver", i);
        if (!there(path))
            return reason("virtio%d has no driver", i);
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/virtio%d/device", i);
        slurp(path, text, sizeof text);
        if (strtoul(text, NULL, 16) != 5)
            continue;
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/virtio%d/features", i);
        slurp(path, text, sizeof text);
        printf("# balloon: free page reporting %s\n", text[5] == '1' ? "on" : "not offered");
    }
    printf("# virtio devices: %d\n", count);
    return count ? NULL : SKIP "this machine has none";
}

const char *check_hwrng(void)
{
    char name[64] = "";
    slurp("/sys/class/misc/hw_random/rng_current", name, sizeof name);
    if (strncmp(name, "virtio_rng", 10) != 0)
        return there("/sys/class/misc/hw_random") ? SKIP "no virtio-rng device" : "no hw_random";
    int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    unsigned char bytes[16];
    ssize_t count = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    close(fd);
    return count > 0 ? NULL : failed("/dev/hwrng");
}

const char *check_vmgenid(void)
{
    if (!there("/sys/bus/platform/drivers/vmgenid") && !there("/sys/bus/acpi/drivers/vmgenid"))
        return "no driver";
    if (!there("/sys/bus/acpi/devices/VMGENCTR:00") && !there("/sys/bus/acpi/devices/VM_GEN_COUNTER:00"))
        return SKIP "no such device in this machine's DSDT";
    return NULL;
}

const char *check_ioperm(void)
{
    return ioperm(0x600, 2, 1) < 0 ? failed("ioperm") : NULL;
}

const char *check_hardening(void)
{
    static const char *const absent[] = {"/dev/mem",       "/dev/port",      "/proc/kcore",
                                         "/proc/modules",  "/proc/kallsyms", "/sys/bus/pci",
                                         "/sys/bus/serio", "/dev/tty0",      "/dev/rtc0"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (there(absent[i]))
            return reason("%s is there", absent[i]);
    static const int calls[] = {SYS_kexec_load, SYS_init_module, SYS_bpf, SYS_modify_ldt, SYS_userfaultfd};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (syscall(calls[i], 0, 0, 0, 0, 0) != -1 || errno != ENOSYS)
            return reason("system call %d is there", calls[i]);
    const char *why = file_holds("/proc/sys/kernel/panic_on_oops", "1");
    return why ? why : file_holds("/proc/sys/kernel/dmesg_restrict", "1");
}
