/*
 * kernel-features: a guest's PID 1 that tries what the kernel is asked to offer and says what it found.
 *
 * Run as /init of an initramfs, on any VMM. For each feature one line on the console, "ok NAME", "not ok
 * NAME: reason" or "skip NAME: reason" (a device this machine does not have), then "# N ok, N not ok, N
 * skipped" and power-off. Features are used, not looked up: a socket is connected and destroyed, a cgroup
 * frozen, a process killed by its memory limit. Drives (vda..vdd), when there are any, are mounted by what
 * their superblock says.
 *
 * Each check is a function that returns NULL or the reason; SKIP before the reason makes it a skip. What
 * changes the process (namespaces, seccomp) runs in a child.
 */
#include "tests/guest/kernel-features.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char reason_text[256];

const char *reason(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason_text, sizeof reason_text, format, args);
    va_end(args);
    return reason_text;
}

const char *failed(const char *what)
{
    return reason("%s: %s", what, strerror(errno));
}

bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Read a small file whole; its length, or -1. The text is NUL-terminated and loses its last newline. */
ssize_t slurp(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t used = 0;
    ssize_t count;
    while (used < capacity - 1 && (count = read(fd, text + used, capacity - 1 - used)) > 0)
        used += (size_t)count;
    close(fd);
    text[used] = 0;
    if (used && text[used - 1] == '\n')
        text[--used] = 0;
    return (ssize_t)used;
}

bool spit(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

static bool holds_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at++)
        if ((at == text || strchr(" \t\n", at[-1])) && (!at[length] || strchr(" \t\n", at[length])))
            return true;
    return false;
}

const char *file_holds(const char *path, const char *word)
{
    static char text[8192];
    if (slurp(path, text, sizeof text) < 0)
        return failed(path);
    return holds_word(text, word) ? NULL : reason("%s does not list %s", path, word);
}

/* Run `body` in a child; what it returns (NULL or a reason) is what this returns. */
const char *in_child(const char *(*body)(void))
{
    int ends[2], status;
    if (pipe(ends) < 0)
        return failed("pipe");
    pid_t child = fork();
    if (child < 0)
        return failed("fork");
    if (child == 0) {
        const char *why = body();
        if (why && write(ends[1], why, strlen(why)) < 0)
            _exit(2);
        _exit(why != NULL);
    }
    close(ends[1]);
    ssize_t count = read(ends[0], reason_text, sizeof reason_text - 1);
    close(ends[0]);
    reason_text[count > 0 ? count : 0] = 0;
    waitpid(child, &status, 0);
    if (status == 0)
        return NULL;
    return count > 0 ? reason_text : reason("the child ended with status 0x%x", (unsigned)status);
}

/* ---- mounts, console ---- */

static const char *check_mounts(void)
{
    static const struct {
        const char *path, *type;
    } mounts[] = {{"/proc", "proc"},      {"/sys", "sysfs"},     {"/tmp", "tmpfs"}, {"/run", "tmpfs"},
                  {"/dev/pts", "devpts"}, {"/dev/shm", "tmpfs"}, {"/cg", "cgroup2"}};
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        mkdir(mounts[i].path, 0755);
        if (mount(mounts[i].type, mounts[i].path, mounts[i].type, MS_NOSUID, NULL) < 0)
            return failed(mounts[i].type);
    }
    return NULL;
}

static const char *check_console(void)
{
    struct termios settings;
    int fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return failed("/dev/ttyS0");
    int result = tcgetattr(fd, &settings);
    close(fd);
    return result < 0 ? failed("tcgetattr") : file_holds("/proc/consoles", "ttyS0");
}

static const char *check_serial_acpi(void)
{
    char link[256];
    if (!there("/sys/bus/acpi/devices/PNP0501:00"))
        return SKIP "no PNP0501 in this machine's DSDT";
    ssize_t count = readlink("/sys/class/tty/ttyS0", link, sizeof link - 1);
    if (count < 0)
        return failed("/sys/class/tty/ttyS0");
    link[count] = 0;
    return strstr(link, "/pnp0/") ? NULL : reason("ttyS0 is %s, not ACPI's device", link);
}

static const char *check_overlay(void)
{
    mkdir("/tmp/l", 0755), mkdir("/tmp/u", 0755), mkdir("/tmp/w", 0755), mkdir("/tmp/m", 0755);
    int fd = open("/tmp/l/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, "low", 3) != 3)
        return failed("/tmp/l/f");
    close(fd);
    if (mount("overlay", "/tmp/m", "overlay", 0, "lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w") < 0)
        return failed("mount");
    char text[8];
    if (!spit("/tmp/m/f", "top") || slurp("/tmp/m/f", text, sizeof text) != 3 || strcmp(text, "top") != 0)
        return "a write through the overlay is not read back";
    if (slurp("/tmp/l/f", text, sizeof text) != 3 || strcmp(text, "low") != 0)
        return "a write through the overlay reached the lower layer";
    return umount("/tmp/m") < 0 ? failed("umount") : NULL;
}

static const char *check_filesystems(void)
{
    static const char *const types[] = {"erofs", "squashfs", "ext4", "overlay", "tmpfs", "devtmpfs"};
    const char *why = NULL;
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !why; i++)
        why = file_holds("/proc/filesystems", types[i]);
    return why;
}

/* Mount a drive by its superblock and read its root directory. */
static const char *mount_drive(const char *path)
{
    unsigned char head[4096];
    const char *type = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENXIO ? SKIP "no such drive" : failed(path);
    ssize_t count = read(fd, head, sizeof head);
    close(fd);
    if (count != (ssize_t)sizeof head)
        return reason("%s: read %zd bytes of %zu", path, count, sizeof head);
    if (memcmp(head, "hsqs", 4) == 0)
        type = "squashfs";
    else if (memcmp(head + 1024, "\xe2\xe1\xf5\xe0", 4) == 0)
        type = "erofs";
    else if (head[1024 + 56] == 0x53 && head[1024 + 57] == 0xef)
        type = "ext4";
    if (!type)
        return SKIP "no file system known to us on it";
    mkdir("/mnt", 0755);
    if (mount(path, "/mnt", type, MS_RDONLY, NULL) < 0)
        return failed(type);
    char marker[64] = "";
    ssize_t size = slurp("/mnt/marker", marker, sizeof marker);
    umount("/mnt");
    printf("# %s: %s, marker \"%s\"\n", path, type, size >= 0 ? marker : "");
    return NULL;
}

static const char *check_vda(void)
{
    return mount_drive("/dev/vda");
}
static const char *check_vdb(void)
{
    return mount_drive("/dev/vdb");
}
static const char *check_vdc(void)
{
    return mount_drive("/dev/vdc");
}
static const char *check_vdd(void)
{
    return mount_drive("/dev/vdd");
}

/* ---- the table ---- */

static const struct {
    const char *name;
    const char *(*check)(void);
} checks[] = {
    {"mounts", check_mounts},
    {"console", check_console},
    {"serial_by_acpi", check_serial_acpi},
    {"filesystems", check_filesystems},
    {"overlay", check_overlay},
    {"drive_a", check_vda},
    {"drive_b", check_vdb},
    {"drive_c", check_vdc},
    {"drive_d", check_vdd},
    {"loopback", check_loopback},
    {"ipv4", check_ipv4},
    {"ipv6", check_ipv6},
    {"sockets", check_sockets},
    {"sock_destroy", check_sock_destroy},
    {"cgroup_controllers", check_cgroup_controllers},
    {"cgroup_limits", check_cgroup_limits},
    {"cgroup_freeze", check_cgroup_freeze},
    {"cgroup_oom", check_cgroup_oom},
    {"namespaces", check_namespaces},
    {"seccomp", check_seccomp},
    {"events", check_events},
    {"io_uring", check_io_uring},
    {"memory_calls", check_memory_calls},
    {"getrandom", check_getrandom},
    {"kvm_clock", check_kvm_clock},
    {"ptp_kvm", check_ptp_kvm},
    {"x2apic", check_x2apic},
    {"cpus", check_cpus},
    {"virtio_drivers", check_virtio_drivers},
    {"virtio_devices", check_virtio_devices},
    {"hwrng", check_hwrng},
    {"vmgenid", check_vmgenid},
    {"ioperm", check_ioperm},
    {"hardening", check_hardening},
};

int main(void)
{
    struct timespec since_boot;
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL);
    mkdir("/dev/pts", 0755), mkdir("/dev/shm", 0755);
    int console = open("/dev/console", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && console >= 0; fd++)
        dup2(console, fd);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("# PID 1 started %ld.%06ld s after boot\n", (long)since_boot.tv_sec, since_boot.tv_nsec / 1000);
    unsigned good = 0, bad = 0, skipped = 0;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const char *why = checks[i].check();
        if (!why)
            good++, printf("ok %s\n", checks[i].name);
        else if (strncmp(why, SKIP, strlen(SKIP)) == 0)
            skipped++, printf("skip %s: %s\n", checks[i].name, why + strlen(SKIP));
        else
            bad++, printf("not ok %s: %s\n", checks[i].name, why);
    }
    char memory[128];
    if (slurp("/proc/meminfo", memory, sizeof memory) > 0)
        printf("# %.*s\n# %.*s\n", (int)strcspn(memory, "\n"), memory,
               (int)strcspn(strstr(memory, "MemA"), "\n"), strstr(memory, "MemA"));
    printf("# %u ok, %u not ok, %u skipped\n", good, bad, skipped);
    tcdrain(1);
    sync();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    return 1;
}
