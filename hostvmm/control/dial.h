/*
 * Connect to a guest's vsock port through the VM's Unix socket (DESIGN.md 3.5): wait for the socket to
 * appear, write `CONNECT <port>\n`, read `OK <number>\n`.
 */
#ifndef HOSTVMM_CONTROL_DIAL_H
#define HOSTVMM_CONTROL_DIAL_H

#include <stdint.h>

#define DIAL_PROBLEM_BYTES 320

/*
 * A connected non-blocking descriptor, or a negative errno with `problem` (DIAL_PROBLEM_BYTES) saying what is
 * wrong and what to do. Keeps trying until `deadline_ns` (CLOCK_MONOTONIC) while there is no socket, nobody
 * behind it, or nobody listening in the guest; a deadline in the past makes one attempt that may take up to a
 * second. -ENAMETOOLONG, -ENOENT (no directory, or no socket), -ENOTSOCK, -EACCES, -ECONNREFUSED (no hostvmm
 * behind the socket, or nobody listening on the guest's port), -EPROTO (what answers is no hostvmm),
 * -ETIMEDOUT (no answer to CONNECT)
 */
int control_dial(const char *path, uint32_t port, uint64_t deadline_ns, char *problem);

/* poll(2) for one descriptor until `deadline_ns`; EINTR is retried. Its revents, 0 at the deadline, -errno.
 */
int control_poll(int fd, short events, uint64_t deadline_ns);

#endif
