/*
 * What the files of agent/resume/ offer to resume.c, a part each. All return 0 or -errno; with `why`
 * (RESUME_WHY_BYTES) they name the call that failed and what it was given.
 */
#ifndef AGENT_RESUME_PARTS_H
#define AGENT_RESUME_PARTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/resume.h"

/* Write "WHAT: strerror(error)" and give the error back. */
int resume_why(char *why, int error, const char *what);
int resume_why_at(char *why, int error, const char *what, const char *path);

/* ---- page.c: the generation page (agent/function/generation.h) */

struct generation_page;

struct resume_page {
    int fd; /* -1: none */
    struct generation_page *page;
};

/* Make the file anew, of mode 0444, with this generation. */
int resume_page_open(struct resume_page *page, const char *path, uint64_t generation, char *why);
/* In the order that readers rely on; `generation` is larger than the page's. */
int resume_page_write(struct resume_page *page, uint64_t generation, const uint8_t *clone_id, char *why);
void resume_page_close(struct resume_page *page);

/* ---- clock.c: the wall clock */

/* The host's clock as KVM offers it: a descriptor to keep, also across snapshots; -1 where there is none. */
int resume_clock_open(void);
/* Set CLOCK_REALTIME to the host's, which it was when it was sent, and see that it shows that. `device` may
 * be -1. Times as in struct resume_order. */
int resume_clock_step(int device, uint64_t sent_ns, uint64_t received_ns, char *why);

/* ---- identity.c: machine-id and boot_id */

enum { RESUME_MACHINE_ID_BYTES = 33, RESUME_BOOT_ID_BYTES = 37 };

/* 32 hexadecimal digits and a newline of 16 bytes; the same as a UUID of version 4. */
void resume_machine_id_text(char text[RESUME_MACHINE_ID_BYTES + 1], const uint8_t random[16]);
void resume_boot_id_text(char text[RESUME_BOOT_ID_BYTES + 1], const uint8_t random[16]);

/* Write a fresh one into the file, in place: it is mounted elsewhere too. `make`: the file may be new. */
int resume_machine_id_write(const char *path, bool make, char *why);
int resume_boot_id_write(const char *path, bool make, char *why);

/* Mount a file over another, once. 0 too where there is no `target`. */
int resume_mount_over(const char *path, const char *target, char *why);

/* ---- secrets.c: files in memory */

/* [A-Za-z0-9._-]{1,64}, not starting with a dot. */
bool resume_secret_name_is_good(const char *name);

/* Wipe and remove every file in the directory, which need not exist. */
int resume_secrets_remove(const char *directory, char *why);

/* Remove the old ones and write these. `group` of directory and files; (gid_t)-1: leave it. */
int resume_secrets_write(const char *directory, gid_t group, const struct resume_secret *secrets,
                         unsigned count, char *why);

/* ---- netlink.c: sock_diag's messages, bytes in, bytes out (linux/sock_diag.h, linux/inet_diag.h) */

#define RESUME_SOCKETS_PASS  4096 /* taken in by one pass */
#define RESUME_SOCKETS_BATCH 512  /* destroyed by one sendmsg */
#define RESUME_DUMP_BYTES    76   /* of a request */
#define RESUME_DESTROY_BYTES 72
#define RESUME_SOCKETS_STATE_MASK                                                                            \
    0x1b7eu /* 1 << TCP state: all but LISTEN (10) and CLOSE (7), which is no connection; 0 is none */

struct resume_socket {
    uint8_t family; /* AF_INET, AF_INET6 */
    uint8_t id[48]; /* struct inet_diag_sockid, as the kernel gave it */
};

struct resume_socket_list {
    struct resume_socket at[RESUME_SOCKETS_PASS];
    unsigned count;
    bool more; /* there were others, which did not fit */
};

/* Request that dumps TCP sockets, of IPv4 and IPv6. */
size_t resume_netlink_dump(uint8_t out[RESUME_DUMP_BYTES], uint32_t sequence);

/*
 * What one datagram of the dump's answer says: connections that are to go are added to the list. 1: there is
 * more to come; 0: the dump is done; -errno as the kernel said; -EBADMSG: not understood; -EINTR: the
 * table changed meanwhile, the dump is to be repeated.
 */
int resume_netlink_take_dump(struct resume_socket_list *list, const uint8_t *data, size_t size,
                             uint32_t sequence);

/*
 * Requests that destroy `count` sockets (at most RESUME_SOCKETS_BATCH): `out` holds RESUME_DESTROY_BYTES for
 * each. They are numbered from `sequence` on; the last alone is answered even when it went well.
 */
size_t resume_netlink_destroy(uint8_t *out, const struct resume_socket *sockets, unsigned count,
                              uint32_t sequence);

/* What one datagram of the answer says. 1: more to come; 0: all are gone (or were before); -errno; -EBADMSG.
 */
int resume_netlink_take_destroyed(const uint8_t *data, size_t size, uint32_t sequence, unsigned count);

/* Both ends of the connection are addresses of the loopback network: it stays inside this guest. */
bool resume_socket_is_loopback(uint8_t family, const uint8_t source[16], const uint8_t destination[16]);

/* ---- sockets.c: the same with a kernel */

/* Have a socket for it ahead of need: one that waits in a snapshot costs a clone less than one it opens. A
 * failure is the step's to tell. */
void resume_sockets_prepare(void);
int resume_sockets_destroy(char *why);

#endif
