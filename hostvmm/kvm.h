/* KVM's system calls, with this tree's way of reporting errors. */
#ifndef HOSTVMM_KVM_H
#define HOSTVMM_KVM_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* The call's result (>= 0), or -errno. musl declares the request as an int, which these numbers exceed. */
static inline int kvm_call(int fd, unsigned long request, const void *argument)
{
    const int result = ioctl(fd, (int)request, argument);
    return result < 0 ? -errno : result;
}

/* The same for the calls that take a number. */
static inline int kvm_call_number(int fd, unsigned long request, unsigned long number)
{
    const int result = ioctl(fd, (int)request, number);
    return result < 0 ? -errno : result;
}

#endif
