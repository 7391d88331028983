/*
 * What the function may not ask of the guest's kernel: a seccomp filter (seccomp(2)), put on its process
 * before it is executed and inherited by all it starts.
 *
 * The filter names what is refused and lets the rest pass, because a function is any program, made by any
 * compiler and runtime. Refused are: sockets of every family but Unix, IPv4, IPv6 and routing netlink (vsock
 * to the host above all: its ports are the agent's); io_uring, through which such a socket could be made past
 * the filter; namespaces, mounts and roots; tracing and reading other processes; kernel modules, BPF, kexec,
 * performance events, userfaultfd, key rings, port I/O, the clock, swap, accounting, reboot.
 *
 * Refusal is EPERM, or what a kernel without that feature says (ENOSYS, EAFNOSUPPORT), so that runtimes with
 * a second way take it.
 */
#ifndef AGENT_CONFINE_H
#define AGENT_CONFINE_H

#include <stddef.h>

/* On the calling thread, which has no_new_privs; for good. 0 or -errno. */
int confine_self(void);

/* The system calls that are refused whatever their arguments: for the tests. */
struct confine_refusal {
    int call;
    int error;
};
const struct confine_refusal *confine_refusals(size_t *count);

#endif
