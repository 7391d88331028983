/* The calls that x86-64 alone has, most of them for being old, and the KVM calls of its processors. */
#include <linux/audit.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "hostvmm/jail/filter.h"

const uint32_t jail_arch_audit = AUDIT_ARCH_X86_64;
const uint32_t jail_arch_calls_end = 0x40000000u; /* x32's begin here */

#define IOCTL(n)                                                                                             \
    {                                                                                                        \
        SYS_ioctl, MAIN, JAIL_EQUAL, 1, (uint32_t)(n)                                                        \
    }

static const struct jail_rule rules[] = {
    /* a snapshot of the processors */
    IOCTL(KVM_GET_TSC_KHZ),
    IOCTL(KVM_GET_MP_STATE),
    IOCTL(KVM_GET_SREGS),
    IOCTL(KVM_GET_XCRS),
    IOCTL(KVM_GET_XSAVE),
    IOCTL(KVM_GET_XSAVE2),
    IOCTL(KVM_GET_LAPIC),
    IOCTL(KVM_GET_MSR_INDEX_LIST),
    IOCTL(KVM_GET_MSRS),
    IOCTL(KVM_GET_DEBUGREGS),
    IOCTL(KVM_GET_VCPU_EVENTS),
    IOCTL(KVM_GET_CLOCK),
    IOCTL(KVM_GET_IRQCHIP),
    {.call = SYS_open, .roles = MAIN},
    {.call = SYS_stat, .roles = MAIN},
    {.call = SYS_lstat, .roles = MAIN},
    {.call = SYS_unlink, .roles = MAIN},
    {.call = SYS_rename, .roles = MAIN},
    {.call = SYS_readlink, .roles = MAIN},
    {.call = SYS_newfstatat, .roles = MAIN},
};

const struct jail_rule *jail_arch_rules(size_t *count)
{
    *count = sizeof rules / sizeof *rules;
    return rules;
}
