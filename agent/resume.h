/*
 * What the agent does to this guest around a snapshot, step by step (the order and why: PROTOCOL.md, "Across
 * a snapshot"). The session decides when; nothing here knows of clients or of the function's channel.
 *
 *   start        resume_begin_life: generation page, machine-id, boot_id: a first identity
 *   checkpoint   resume_forget: secrets, page cache, the DRBG: what a snapshot must not carry
 *   resume       resume_steps[], in order, each checked: entropy, clock, sockets, identity, network,
 *                secrets, connections, generation. The function is frozen meanwhile
 *
 * The steps are a table of functions so that a test can put a failing one in any place.
 */
#ifndef AGENT_RESUME_H
#define AGENT_RESUME_H

#include <stddef.h>
#include <stdint.h>

#include "agent/proto/limits.h"

#define RESUME_WHY_BYTES   160
#define RESUME_SECRETS_MAX 16

struct resume_secret {
    char name[PROTO_NAME_MAX_BYTES + 1]; /* [A-Za-z0-9._-], not starting with a dot: a file name */
    uint8_t data[PROTO_SECRET_MAX_BYTES];
    size_t size;
};

/* What the host says of this clone. Wiped by the caller after the last step. */
struct resume_order {
    uint64_t generation;
    uint64_t realtime_ns; /* the host's CLOCK_REALTIME when it sent this ... */
    uint64_t received_ns; /* ... and our CLOCK_MONOTONIC when it came */
    uint8_t seed[PROTO_SEED_BYTES];
    uint8_t clone_id[PROTO_CLONE_ID_BYTES];
    char hostname[PROTO_HOSTNAME_MAX_BYTES + 1]; /* empty: keep */
    char network[PROTO_NETWORK_MAX_BYTES + 1];   /* proto/network.h; empty: keep */
    struct resume_secret *secrets;               /* the session's */
    unsigned secret_count;
};

/* Where things are; a development machine's agent and the tests use other places, or none. */
struct resume_places {
    const char *generation; /* "/run/generation" */
    const char *machine_id; /* "/run/machine-id", mounted over /etc/machine-id when the image has one */
    const char *boot_id;    /* "/run/boot_id", mounted over /proc/sys/kernel/random/boot_id */
    const char *secrets;    /* directory "/run/secrets" */
};

struct resume; /* resume.c: static storage, one a process */

struct resume_step {
    const char *name; /* as the host shows it */
    /* 0; -errno with `why` (RESUME_WHY_BYTES) saying what was tried. */
    int (*run)(struct resume *resume, const struct resume_order *order, char *why);
};

extern const struct resume_step resume_steps[]; /* ended by a NULL name */

/* `in_guest` false: on a development machine only the generation page and the secrets directory are real,
 * below `places`; the clock, the pool, sockets and names of that machine are left alone. */
struct resume *resume_get(void);
int resume_begin_life(struct resume *resume, const struct resume_places *places, int in_guest);
int resume_forget(struct resume *resume, char *why);
uint64_t resume_generation(const struct resume *resume);

#endif
