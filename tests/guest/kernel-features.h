/*
 * What the files of the guest program kernel-features share. A check returns NULL, or the reason in words;
 * SKIP before the reason makes it a skip. Reasons live until the next call of anything here: there is one
 * thread.
 */
#ifndef TESTS_GUEST_KERNEL_FEATURES_H
#define TESTS_GUEST_KERNEL_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SKIP          "skip "
#define WAIT_LIMIT_MS 5000

__attribute__((format(printf, 1, 2))) const char *reason(const char *format, ...);
const char *failed(const char *what); /* what, and errno in words */
bool there(const char *path);

/* Read a small file whole; its length, or -1. The text is NUL-terminated and loses its last newline. */
ssize_t slurp(const char *path, char *text, size_t capacity);
bool spit(const char *path, const char *text);
const char *file_holds(const char *path, const char *word);

/* Run `body` in a child; what it returns is what this returns. */
const char *in_child(const char *(*body)(void));

/* kernel-features-limits.c: sockets, control groups, namespaces, seccomp */
const char *check_loopback(void);
const char *check_ipv4(void);
const char *check_ipv6(void);
const char *check_sock_destroy(void);
const char *check_sockets(void);
const char *check_cgroup_controllers(void);
const char *check_cgroup_limits(void);
const char *check_cgroup_freeze(void);
const char *check_cgroup_oom(void);
const char *check_namespaces(void);
const char *check_seccomp(void);

/* kernel-features-machine.c: system calls, clocks, processors, devices, hardening */
const char *check_events(void);
const char *check_io_uring(void);
const char *check_memory_calls(void);
const char *check_getrandom(void);
const char *check_kvm_clock(void);
const char *check_ptp_kvm(void);
const char *check_x2apic(void);
const char *check_cpus(void);
const char *check_virtio_drivers(void);
const char *check_virtio_devices(void);
const char *check_hwrng(void);
const char *check_vmgenid(void);
const char *check_ioperm(void);
const char *check_hardening(void);

#endif
