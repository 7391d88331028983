/* The agent's generator: the state machine of drbg.h around BearSSL's HMAC-DRBG. Owner: resume.c. */
#include "agent/drbg.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum { KERNEL_BYTES = 32, SEED_MAX_BYTES = 64 };

void drbg_start(struct drbg *drbg, const void *material, size_t size)
{
    drbg_forget(drbg);
    br_hmac_drbg_init(&drbg->context, &br_sha256_vtable, material, size);
    drbg->is_ready = 1;
}

int drbg_instantiate(struct drbg *drbg, const void *seed, size_t size)
{
    uint8_t material[KERNEL_BYTES + SEED_MAX_BYTES];
    drbg_forget(drbg);
    if (size > SEED_MAX_BYTES)
        return -EINVAL;
    if (getrandom(material, KERNEL_BYTES, 0) != KERNEL_BYTES)
        return errno ? -errno : -EIO;
    if (size > 0)
        memcpy(material + KERNEL_BYTES, seed, size);
    drbg_start(drbg, material, KERNEL_BYTES + size);
    explicit_bzero(material, sizeof material);
    return 0;
}

int drbg_generate(struct drbg *drbg, void *out, size_t size)
{
    if (!drbg->is_ready)
        return -EAGAIN;
    if (size > 65536)
        return -EINVAL;
    br_hmac_drbg_generate(&drbg->context, out, size);
    return 0;
}

void drbg_forget(struct drbg *drbg)
{
    explicit_bzero(drbg, sizeof *drbg);
}
