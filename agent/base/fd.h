/*
 * File descriptor helpers. All return 0 (or a count) or a negative errno.
 */
#ifndef AGENT_BASE_FD_H
#define AGENT_BASE_FD_H

#include <stddef.h>
#include <stdint.h>

/* Close *fd if it is open (>= 0) and set it to -1. Errno is preserved. */
void fd_close(int *fd);

int fd_set_nonblock(int fd);
int fd_set_cloexec(int fd, int on);

/* Write all of `size` bytes to a blocking descriptor. 0, or -errno. Never raises SIGPIPE for sockets. */
int fd_write_all(int fd, const void *data, size_t size);

/* Read exactly `size` bytes. 0; -EPIPE when the end came first; -errno. */
int fd_read_all(int fd, void *data, size_t size);

/*
 * Read a whole regular or special file of at most `limit` bytes into `data` (capacity `limit`). The byte
 * count, -EFBIG when it is longer, or -errno. For /proc, /sys and small files.
 */
int64_t fd_read_file(const char *path, void *data, size_t limit);

/* Write a string to an existing file in one write, as cgroup and /proc/sys files want it. 0 or -errno. */
int fd_write_file(const char *path, const char *text);

/* CLOCK_MONOTONIC (time since boot of this kernel, not counting suspends) in nanoseconds. */
uint64_t clock_monotonic_ns(void);

#endif
