/*
 * The agent's own generator of random bytes: HMAC-DRBG with SHA-256 (NIST SP 800-90A, 10.1.2), BearSSL's.
 *
 * It exists because it is the typical twin: state in user space, seeded once, copied by a snapshot. Its
 * rule: no bytes leave it between drbg_forget (checkpoint) and drbg_instantiate (resume).
 */
#ifndef AGENT_DRBG_H
#define AGENT_DRBG_H

#include <bearssl_rand.h>
#include <stddef.h>
#include <stdint.h>

struct drbg {
    br_hmac_drbg_context context;
    int is_ready;
};

/* Wipe what there was and start from the kernel's random bytes (32, getrandom(2)) and `seed`; size 0: from
 * the kernel's alone. 0 or -errno, and then there is no state. */
int drbg_instantiate(struct drbg *drbg, const void *seed, size_t size);

/* The same from given bytes only: what instantiate does with the kernel's and the host's put together. */
void drbg_start(struct drbg *drbg, const void *material, size_t size);

/* 0; -EAGAIN without a state. At most 65536 bytes a call, else -EINVAL. */
int drbg_generate(struct drbg *drbg, void *out, size_t size);

void drbg_forget(struct drbg *drbg);

#endif
