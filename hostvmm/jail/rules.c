/*
 * The system calls of each role, as hostvmm and its libc (musl) make them. What is not here kills; what is here
 * and never used is found by tests/jail/usage.sh. The calls that come most often stand first.
 *
 * Arguments are looked at where they give more than the call's name says: which ioctl, whether memory becomes
 * executable, which family a socket is of, whether a clone is a thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "hostvmm/jail/filter.h"

/* pthread_create's: a thread of this process and nothing else. (Its detached bit is not one of the kernel's.) */
#define THREAD_FLAGS                                                                                         \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |       \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)

#define ALL (MAIN | VCPU | BLK | NET | SPAWN)
#define IOCTL(roles, n)                                                                                      \
    {                                                                                                        \
        SYS_ioctl, (roles), JAIL_EQUAL, 1, (uint32_t)(n)                                                     \
    }
#define NO_CODE(call) (call), .check = JAIL_NONE_OF, .argument = 2, .value = PROT_EXEC

static const struct jail_rule rules[] = {
    IOCTL(VCPU, KVM_RUN),
    IOCTL(VCPU, KVM_GET_REGS), /* where the guest was, for an error */
    IOCTL(VCPU | MAIN, TUNSETOFFLOAD),
    /* a snapshot */
    IOCTL(MAIN, KVM_GET_REGS),
    IOCTL(MAIN, KVM_GET_DIRTY_LOG),
    IOCTL(MAIN, KVM_SET_USER_MEMORY_REGION),
    IOCTL(MAIN, TIOCGWINSZ), /* stdio's question about any file that it opens */
    IOCTL(MAIN, TCSETS),     /* the terminal, at the end */

    {.call = SYS_futex, .roles = ALL},
    {.call = SYS_read, .roles = MAIN | VCPU | BLK | NET},
    {.call = SYS_write, .roles = MAIN | VCPU | BLK | NET},
    {.call = SYS_epoll_pwait, .roles = MAIN},
    {.call = SYS_epoll_ctl, .roles = MAIN},
    {.call = SYS_ppoll, .roles = BLK | NET},
    {.call = SYS_clock_gettime,
     .roles = MAIN | VCPU | BLK | NET}, /* of hosts whose clock user space cannot read */
    {.call = SYS_timerfd_settime, .roles = MAIN | VCPU},
    {.call = SYS_timerfd_create, .roles = MAIN},

    /* drives */
    {.call = SYS_preadv, .roles = BLK},
    {.call = SYS_pwritev, .roles = BLK},
    {.call = SYS_fdatasync, .roles = BLK | MAIN},
    {.call = SYS_fallocate, .roles = BLK | MAIN}, /* the loop's: memory that the guest gives back */

    /* interfaces: frames of a TAP device; of a stream */
    {.call = SYS_readv, .roles = NET | MAIN},
    {.call = SYS_writev, .roles = NET | MAIN},
    {.call = SYS_recvmsg, .roles = NET},
    {.call = SYS_sendmsg, .roles = NET | MAIN},

    /* Unix sockets; the console may be one */
    {.call = SYS_recvfrom, .roles = MAIN},
    {.call = SYS_sendto, .roles = MAIN | VCPU},
    {.call = SYS_accept4, .roles = MAIN},
    {.call = SYS_socket, .roles = MAIN, .check = JAIL_EQUAL, .argument = 0, .value = AF_UNIX},
    {.call = SYS_socketpair, .roles = MAIN, .check = JAIL_EQUAL, .argument = 0, .value = AF_UNIX},
    {.call = SYS_connect, .roles = MAIN},
    {.call = SYS_shutdown, .roles = MAIN},
    {.call = SYS_close, .roles = MAIN},

    /* memory; without brk and mremap malloc goes by mmap */
    {.call = NO_CODE(SYS_mmap), .roles = MAIN | SPAWN},
    {.call = NO_CODE(SYS_mprotect), .roles = MAIN | SPAWN},
    {.call = SYS_munmap, .roles = MAIN | VCPU | SPAWN},
    {.call = SYS_madvise, .roles = MAIN},
    {.call = SYS_brk, .roles = ALL, .check = JAIL_REFUSED, .value = ENOMEM},
    {.call = SYS_mremap, .roles = ALL, .check = JAIL_REFUSED, .value = ENOMEM},

    /* threads */
    {.call = SYS_clone, .roles = SPAWN, .check = JAIL_EQUAL, .argument = 0, .value = THREAD_FLAGS},
    /* its children take their names and their filters under its own */
    {.call = SYS_prctl, .roles = SPAWN, .check = JAIL_EQUAL, .argument = 0, .value = PR_SET_NAME},
    {.call = SYS_prctl, .roles = SPAWN, .check = JAIL_EQUAL, .argument = 0, .value = PR_SET_SECCOMP},
    {.call = SYS_rt_sigprocmask, .roles = ALL},
    {.call = SYS_rt_sigreturn, .roles = VCPU},
    {.call = SYS_tkill,
     .roles = MAIN,
     .check = JAIL_EQUAL,
     .argument = 1,
     .value = SIGUSR1}, /* vcpu_kick's */
    {.call = SYS_exit, .roles = VCPU | BLK | NET},
    {.call = SYS_exit_group, .roles = MAIN},

    /* files of a snapshot, the timeline, sockets: in the tree, and nowhere else */
    {.call = SYS_openat, .roles = MAIN},
    {.call = SYS_mkdirat, .roles = MAIN},
    {.call = SYS_unlinkat, .roles = MAIN},
    {.call = SYS_renameat2, .roles = MAIN},
    {.call = SYS_flock, .roles = MAIN},
    {.call = SYS_fcntl, .roles = MAIN, .check = JAIL_EQUAL, .argument = 1, .value = F_SETFD},
    {.call = SYS_fcntl, .roles = MAIN, .check = JAIL_EQUAL, .argument = 1, .value = F_OFD_SETLK},
    {.call = SYS_fsync, .roles = MAIN},
    {.call = SYS_lseek, .roles = MAIN},
    {.call = SYS_pread64, .roles = MAIN},
    {.call = SYS_pwrite64, .roles = MAIN},
    {.call = SYS_fstat, .roles = MAIN},
    {.call = SYS_getrandom, .roles = MAIN},
    {.call = SYS_getcwd, .roles = MAIN},
    {.call = SYS_getpid, .roles = MAIN},
    {.call = SYS_getrusage, .roles = MAIN}, /* metrics */
};

const struct jail_rule *jail_rules(size_t *count)
{
    *count = sizeof rules / sizeof *rules;
    return rules;
}
