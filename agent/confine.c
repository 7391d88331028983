/*
 * See confine.h. The program is built from the table, one comparison a row; seccomp's own cache (a bitmap of
 * the calls that are always allowed) spares the common calls all of it.
 *
 * The numbers are those of the processor this file is compiled for; a call made by another ABI's numbers (x32
 * has a bit of its own, i386 another architecture) kills the process: no rule below would fit it.
 */
#include "agent/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "agent/arch.h"

#define NAMESPACES                                                                                           \
    ((unsigned)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static const struct confine_refusal refusals[] = {
    /* a second way into the kernel, which no filter sees */
    {SYS_io_uring_setup, ENOSYS},
    {SYS_io_uring_enter, ENOSYS},
    {SYS_io_uring_register, ENOSYS},
    /* its arguments are in memory, where a filter cannot look: libcs fall back to clone */
    {SYS_clone3, ENOSYS},
    /* namespaces, mounts, roots */
    {SYS_unshare, EPERM},
    {SYS_setns, EPERM},
    {SYS_mount, EPERM},
    {SYS_umount2, EPERM},
    {SYS_pivot_root, EPERM},
    {SYS_chroot, EPERM},
    {SYS_fsopen, EPERM},
    {SYS_fsconfig, EPERM},
    {SYS_fsmount, EPERM},
    {SYS_fspick, EPERM},
    {SYS_open_tree, EPERM},
    {SYS_move_mount, EPERM},
    {SYS_mount_setattr, EPERM},
    /* other processes */
    {SYS_ptrace, EPERM},
    {SYS_process_vm_readv, EPERM},
    {SYS_process_vm_writev, EPERM},
    {SYS_process_madvise, EPERM},
    {SYS_pidfd_getfd, EPERM},
    {SYS_kcmp, EPERM},
    /* the kernel itself */
    {SYS_init_module, EPERM},
    {SYS_finit_module, EPERM},
    {SYS_delete_module, EPERM},
    {SYS_bpf, EPERM},
    {SYS_kexec_load, EPERM},
    {SYS_kexec_file_load, EPERM},
    {SYS_perf_event_open, EPERM},
    {SYS_userfaultfd, EPERM},
    {SYS_syslog, EPERM},
    {SYS_add_key, EPERM},
    {SYS_request_key, EPERM},
    {SYS_keyctl, EPERM},
    {SYS_open_by_handle_at, EPERM},
    {SYS_quotactl, EPERM},
    {SYS_acct, EPERM},
    {SYS_swapon, EPERM},
    {SYS_swapoff, EPERM},
    {SYS_reboot, EPERM},
    {SYS_sethostname, EPERM},
    {SYS_setdomainname, EPERM},
    {SYS_settimeofday, EPERM},
    {SYS_clock_settime, EPERM},
    {SYS_clock_adjtime, EPERM},
    {SYS_adjtimex, EPERM},
    {SYS_vhangup, EPERM},
};

enum { REFUSALS = sizeof refusals / sizeof *refusals };
enum { PROGRAM_MAX = 2 * (REFUSALS + ARCH_REFUSALS_MAX) + 32 };

const struct confine_refusal *confine_refusals(size_t *count)
{
    *count = REFUSALS;
    return refusals;
}

/* The low half of an argument: what is looked at are ints. Little-endian, as every architecture here is. */
#define ARGUMENT(index) ((uint32_t)(offsetof(struct seccomp_data, args) + (index) * sizeof(uint64_t)))
#define LOAD(offset)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define GIVE(action)    BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE(error)   GIVE(SECCOMP_RET_ERRNO | (error))
/* Go on with the next, or skip so many. */
#define IF_EQUAL(value, then_skip, else_skip)                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (then_skip), (else_skip))

/* Ends with the call's number loaded. */
static const struct sock_filter own_calls_only[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    IF_EQUAL(ARCH_AUDIT, 1, 0),
    GIVE(SECCOMP_RET_KILL_PROCESS),
    LOAD(offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ARCH_CALLS_END, 0, 1),
    GIVE(SECCOMP_RET_KILL_PROCESS),
};

/* socket(family, type, protocol) */
static const struct sock_filter some_sockets_only[] = {
    IF_EQUAL(SYS_socket, 0, 10), LOAD(ARGUMENT(0)),        IF_EQUAL(AF_UNIX, 6, 0),
    IF_EQUAL(AF_INET, 5, 0),     IF_EQUAL(AF_INET6, 4, 0), IF_EQUAL(AF_NETLINK, 1, 0),
    REFUSE(EAFNOSUPPORT),        LOAD(ARGUMENT(2)),        IF_EQUAL(NETLINK_ROUTE, 0, 1),
    GIVE(SECCOMP_RET_ALLOW),     REFUSE(EPROTONOSUPPORT),
};

/* clone(flags, ...) */
static const struct sock_filter no_namespaces[] = {
    IF_EQUAL(SYS_clone, 0, 4),
    LOAD(ARGUMENT(0)),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1),
    REFUSE(EPERM),
    GIVE(SECCOMP_RET_ALLOW),
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short size;
};

static void put(struct program *program, const struct sock_filter *code, size_t count)
{
    for (size_t i = 0; i < count; i++)
        program->code[program->size++] = code[i];
}

static void put_refusals(struct program *program, const struct confine_refusal *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sock_filter row[] = {IF_EQUAL(rows[i].call, 0, 1), REFUSE((uint32_t)rows[i].error)};
        put(program, row, 2);
    }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))
_Static_assert(COUNT(own_calls_only) + COUNT(some_sockets_only) + COUNT(no_namespaces) + 1 <= 32, "room");

int confine_self(void)
{
    static const struct sock_filter pass = GIVE(SECCOMP_RET_ALLOW);
    static struct program program; /* one thread, before exec */
    size_t count;
    const struct confine_refusal *of_arch = arch_refusals(&count);
    program.size = 0;
    put(&program, own_calls_only, COUNT(own_calls_only));
    put(&program, some_sockets_only, COUNT(some_sockets_only));
    put(&program, no_namespaces, COUNT(no_namespaces));
    put_refusals(&program, refusals, REFUSALS);
    put_refusals(&program, of_arch, count);
    put(&program, &pass, 1);
    const struct sock_fprog given = {.len = program.size, .filter = program.code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &given, 0, 0) < 0 ? -errno : 0;
}
