/* Ways out. Each gives 0 when it has led somewhere, else the errno it met. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/jail/escape.h"

#define CALL(...) (syscall(__VA_ARGS__) < 0 ? errno : 0)

static int opens(const char *path, int flags)
{
    return open(path, flags, 0600) < 0 ? errno : 0;
}

#define ESCAPE(name) static int name(const struct outside *outside __attribute__((unused)))

/* One way out a line. */
/* clang-format off */

/* ---- files ---- */
ESCAPE(open_passwd) { return opens("/etc/passwd", O_RDONLY); }
ESCAPE(open_memory_of_1) { return opens("/proc/1/mem", O_RDWR); }
ESCAPE(open_dev_mem) { return opens("/dev/mem", O_RDWR); }
ESCAPE(open_dev_kvm) { return opens("/dev/kvm", O_RDWR); }
ESCAPE(open_cgroup) { return opens("/sys/fs/cgroup/cgroup.procs", O_WRONLY); }
ESCAPE(open_secret) { return opens(outside->secret, O_RDONLY); }
ESCAPE(write_root) { return opens("/escaped", O_WRONLY | O_CREAT); }
ESCAPE(read_inherited)
{
    char byte;
    return pread(outside->open, &byte, 1, 0) < 0 ? errno : 0;
}
static int in_room(const struct outside *outside, const char *name, int flags)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", outside->room, name);
    return opens(path, flags);
}
ESCAPE(up_and_over) { return in_room(outside, "../secret", O_WRONLY); }
ESCAPE(up_and_make) { return in_room(outside, "../escaped", O_WRONLY | O_CREAT); }
ESCAPE(through_symlink) { return in_room(outside, "link", O_WRONLY); }
ESCAPE(through_symlink_up) { return in_room(outside, "above/secret", O_WRONLY); }
ESCAPE(rename_out)
{
    char from[512];
    (void)snprintf(from, sizeof from, "%s/file", outside->room);
    return rename(from, "/escaped") < 0 ? errno : 0;
}
ESCAPE(link_in)
{
    char to[512];
    (void)snprintf(to, sizeof to, "%s/secret", outside->room);
    return link(outside->secret, to) < 0 ? errno : 0;
}
ESCAPE(make_device)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/device", outside->room);
    return mknod(path, S_IFCHR | 0600, (dev_t)(1 << 8 | 1)) < 0 ? errno : 0;
}
ESCAPE(large_file)
{
    char path[512], byte = 0;
    (void)snprintf(path, sizeof path, "%s/large", outside->room);
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    return fd < 0 || pwrite(fd, &byte, 1, (off_t)1 << 40) < 0 ? errno : 0;
}
ESCAPE(open_by_handle)
{
    struct {
        struct file_handle head;
        unsigned char bytes[128];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}};
    return CALL(SYS_open_by_handle_at, AT_FDCWD, &handle, O_RDONLY);
}

/* ---- roots, mounts, namespaces ---- */
ESCAPE(change_root) { return chroot(outside->room) < 0 ? errno : 0; }
ESCAPE(pivot) { return CALL(SYS_pivot_root, ".", "."); }
ESCAPE(mount_new) { return mount("none", outside->room, "tmpfs", 0, NULL) < 0 ? errno : 0; }
ESCAPE(mount_proc) { return mount("proc", outside->room, "proc", 0, NULL) < 0 ? errno : 0; }
ESCAPE(mount_writable) { return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0 ? errno : 0; }
ESCAPE(mount_executable) { return mount(NULL, outside->room, NULL, MS_REMOUNT | MS_BIND, NULL) < 0 ? errno : 0; }
ESCAPE(unmount) { return umount2(outside->room, MNT_DETACH) < 0 ? errno : 0; }
ESCAPE(fs_open) { return CALL(SYS_fsopen, "tmpfs", 0); }
ESCAPE(tree_clone) { return CALL(SYS_open_tree, AT_FDCWD, "/", 1 /* clone */); }
ESCAPE(new_user_namespace) { return unshare(CLONE_NEWUSER) < 0 ? errno : 0; }
ESCAPE(new_mount_namespace) { return unshare(CLONE_NEWNS) < 0 ? errno : 0; }
ESCAPE(new_net_namespace) { return unshare(CLONE_NEWNET) < 0 ? errno : 0; }
ESCAPE(clone_user_namespace) { return CALL(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0); }
ESCAPE(host_name) { return sethostname("escaped", 7) < 0 ? errno : 0; }

/* ---- users, capabilities, limits ---- */
ESCAPE(uid_0) { return CALL(SYS_setuid, 0); }
ESCAPE(gid_0) { return CALL(SYS_setgid, 0); }
ESCAPE(groups)
{
    const unsigned group = 0;
    return CALL(SYS_setgroups, 1, &group);
}
ESCAPE(fs_uid_0)
{
    (void)syscall(SYS_setfsuid, 0);
    return syscall(SYS_setfsuid, -1) == 0 ? 0 : EPERM;
}
ESCAPE(raise_capabilities)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    return CALL(SYS_capset, &head, all);
}
ESCAPE(ambient) { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0 ? errno : 0; }
ESCAPE(new_privileges) { return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0 ? errno : 0; }
static int raise_limit(int which)
{
    struct rlimit limit;
    if (getrlimit(which, &limit) < 0)
        return errno;
    limit.rlim_max++;
    return setrlimit(which, &limit) < 0 ? errno : 0;
}
ESCAPE(more_files) { return raise_limit(RLIMIT_NOFILE); }
ESCAPE(core_file) { return raise_limit(RLIMIT_CORE); }
ESCAPE(more_processes) { return raise_limit(RLIMIT_NPROC); }
ESCAPE(limits_of_others)
{
    const struct rlimit none = {0, 0};
    return prlimit(outside->sibling, RLIMIT_CPU, &none, NULL) < 0 ? errno : 0;
}

/* ---- other processes ---- */
ESCAPE(kill_sibling) { return kill(outside->sibling, SIGKILL) < 0 ? errno : 0; }
ESCAPE(signal_keeper) { return kill(outside->keeper, SIGTERM) < 0 ? errno : 0; }
ESCAPE(trace_keeper) { return ptrace(PTRACE_ATTACH, outside->keeper, NULL, NULL) < 0 ? errno : 0; }
ESCAPE(trace_sibling) { return ptrace(PTRACE_SEIZE, outside->sibling, NULL, NULL) < 0 ? errno : 0; }
ESCAPE(pidfd_of_keeper) { return CALL(SYS_pidfd_open, outside->keeper, 0); }
static int memory_of(pid_t pid, long call)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)&escape_count, 1};
    return CALL(call, pid, &here, 1, &there, 1, 0);
}
ESCAPE(read_sibling) { return memory_of(outside->sibling, SYS_process_vm_readv); }
ESCAPE(write_sibling) { return memory_of(outside->sibling, SYS_process_vm_writev); }
ESCAPE(schedule_sibling) { return setpriority(PRIO_PROCESS, (id_t)outside->sibling, 19) < 0 ? errno : 0; }
ESCAPE(make_process) { return CALL(SYS_fork); }
ESCAPE(make_process_by_clone) { return CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
ESCAPE(make_process_by_vfork) { return CALL(SYS_clone, CLONE_VM | SIGCHLD, 0, 0, 0, 0); }
/* Out is who gets 64 of them. */
ESCAPE(fork_bomb)
{
    for (int i = 0; i < 64; i++) {
        const long child = syscall(SYS_fork);
        if (child < 0)
            return errno;
        if (child == 0)
            for (;;)
                (void)pause();
    }
    return 0;
}

/* ---- programs ---- */
static char *const arguments[] = {"true", NULL};
ESCAPE(execute) { return execve("/bin/sh", arguments, NULL) < 0 ? errno : 0; }
ESCAPE(execute_in_room)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/program", outside->room);
    return execve(path, arguments, NULL) < 0 ? errno : 0;
}
ESCAPE(execute_memory)
{
    const int fd = memfd_create("program", 0);
    return fd < 0 || write(fd, "#!", 2) != 2 ? errno : CALL(SYS_execveat, fd, "", arguments, NULL, AT_EMPTY_PATH);
}
ESCAPE(executable_memory)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? errno
               : 0;
}
ESCAPE(make_executable)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

/* ---- network ---- */
static int reach(uint32_t address, unsigned port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(address)}};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0 ? errno : 0;
}
ESCAPE(reach_loopback) { return reach(INADDR_LOOPBACK, outside->port); }
ESCAPE(reach_network) { return reach(0xc0000201u, 80); }
ESCAPE(reach_abstract)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const size_t size = strlen(outside->abstract);
    memcpy(to.sun_path + 1, outside->abstract, size);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
    return fd < 0 || connect(fd, (const struct sockaddr *)&to, length) < 0 ? errno : 0;
}
ESCAPE(raw_socket) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 ? errno : 0; }
ESCAPE(packet_socket) { return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno : 0; }
ESCAPE(loopback_up)
{
    struct ifreq change = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &change) < 0 ? errno : 0;
}
ESCAPE(netlink_socket) { return socket(AF_NETLINK, SOCK_RAW, 0) < 0 ? errno : 0; }
ESCAPE(vsock_of_the_host) { return socket(AF_VSOCK, SOCK_STREAM, 0) < 0 ? errno : 0; }

/* ---- the kernel ---- */
ESCAPE(io_uring)
{
    char parameters[256] = {0};
    return CALL(SYS_io_uring_setup, 4, parameters);
}
ESCAPE(bpf_program)
{
    union bpf_attr what = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return CALL(SYS_bpf, BPF_MAP_CREATE, &what, sizeof what);
}
ESCAPE(perf)
{
    struct perf_event_attr what = {.type = PERF_TYPE_SOFTWARE, .size = sizeof what};
    return CALL(SYS_perf_event_open, &what, -1, 0, -1, 0);
}
ESCAPE(add_key) { return CALL(SYS_add_key, "user", "escaped", "x", 1, -3 /* the session's */); }
ESCAPE(read_key)
{
    char text[16];
    return CALL(SYS_keyctl, 11 /* read */, outside->key, text, sizeof text);
}
ESCAPE(user_fault) { return CALL(SYS_userfaultfd, 0); }
ESCAPE(load_module) { return CALL(SYS_init_module, "", 0, ""); }
ESCAPE(load_kernel) { return CALL(SYS_kexec_load, 0, 0, NULL, 0); }
ESCAPE(kernel_log) { return CALL(SYS_syslog, 5 /* clear */, NULL, 0); }
ESCAPE(set_clock)
{
    const struct timespec then = {1, 0};
    return CALL(SYS_clock_settime, 0, &then);
}
ESCAPE(restart_host) { return CALL(SYS_reboot, 0xfee1dead, 672274793, 0, NULL); /* "off" for Ctrl-Alt-Del */ }
ESCAPE(swap_on) { return CALL(SYS_swapon, outside->room, 0); }
ESCAPE(accounting) { return CALL(SYS_acct, NULL); }
ESCAPE(quota) { return CALL(SYS_quotactl, 0x800002 << 8, NULL, 0, NULL); }
#ifdef SYS_iopl
ESCAPE(io_ports) { return CALL(SYS_iopl, 3); }
#endif
ESCAPE(lock_memory) { return mlockall(MCL_CURRENT) < 0 ? errno : 0; }
ESCAPE(be_realtime)
{
    const struct sched_param wish = {.sched_priority = 1};
    return CALL(SYS_sched_setscheduler, 0, SCHED_FIFO, &wish);
}
ESCAPE(type_at_terminal) { return ioctl(0, TIOCSTI, "x") < 0 ? errno : 0; }

#define ROW(name)    {#name, name, false}
#define FILTER(name) {#name, name, true}
const struct escape escapes[] = {
    ROW(open_passwd), ROW(open_memory_of_1), ROW(open_dev_mem), ROW(open_dev_kvm), ROW(open_cgroup),
    ROW(open_secret), ROW(write_root), ROW(read_inherited), ROW(up_and_over), ROW(up_and_make),
    ROW(through_symlink), ROW(through_symlink_up), ROW(rename_out), ROW(link_in), ROW(make_device),
    ROW(large_file), ROW(open_by_handle), ROW(change_root), ROW(pivot), ROW(mount_new), ROW(mount_proc),
    ROW(mount_writable), ROW(mount_executable), ROW(unmount), ROW(fs_open), ROW(tree_clone),
    ROW(new_user_namespace), ROW(new_mount_namespace), ROW(new_net_namespace), ROW(clone_user_namespace),
    ROW(host_name), ROW(uid_0), ROW(gid_0), ROW(groups), ROW(fs_uid_0), ROW(raise_capabilities), ROW(ambient),
    ROW(new_privileges), ROW(more_files), ROW(core_file), ROW(more_processes), ROW(limits_of_others),
    ROW(kill_sibling), ROW(signal_keeper), ROW(trace_keeper), ROW(trace_sibling), ROW(pidfd_of_keeper),
    ROW(read_sibling), ROW(write_sibling), ROW(schedule_sibling), FILTER(make_process),
    FILTER(make_process_by_clone), FILTER(make_process_by_vfork), ROW(fork_bomb), ROW(execute),
    ROW(execute_in_room), FILTER(execute_memory), FILTER(executable_memory), FILTER(make_executable),
    ROW(reach_loopback), ROW(reach_network), ROW(reach_abstract), ROW(raw_socket), ROW(packet_socket),
    ROW(loopback_up), FILTER(netlink_socket), FILTER(vsock_of_the_host), FILTER(io_uring), FILTER(bpf_program),
    FILTER(perf), FILTER(add_key), ROW(read_key), ROW(user_fault), ROW(load_module), ROW(load_kernel),
    ROW(kernel_log), ROW(set_clock), ROW(restart_host), ROW(swap_on), ROW(accounting), ROW(quota),
#ifdef SYS_iopl
    ROW(io_ports),
#endif
    ROW(lock_memory), ROW(be_realtime), ROW(type_at_terminal),
};
/* clang-format on */
const size_t escape_count = sizeof escapes / sizeof *escapes;
