/*
 * See proven.h. One table a process, as BearSSL's functions have no context; the loop's thread alone uses it.
 */
#include <string.h>

#include "agent/tls/proven.h"

#define DIGEST_BYTES   32
#define HASH_BYTES_MAX 64

struct proof {
    uint8_t digest[DIGEST_BYTES];
    uint8_t hash[HASH_BYTES_MAX]; /* RSA: what was signed, which the caller compares */
};

static struct {
    struct proof at[PROVEN_MAX];
    unsigned used, next, spared;
} table;

/* Each part with its size before it, so that no two sets of parts look the same. */
static void add(br_sha256_context *sha256, const void *data, size_t size)
{
    uint32_t prefix = (uint32_t)size;
    br_sha256_update(sha256, &prefix, sizeof prefix);
    br_sha256_update(sha256, data, size);
}

static struct proof *find(const uint8_t digest[DIGEST_BYTES])
{
    for (unsigned i = 0; i < table.used; i++)
        if (!memcmp(table.at[i].digest, digest, DIGEST_BYTES)) {
            table.spared++;
            return &table.at[i];
        }
    return NULL;
}

static struct proof *keep(const uint8_t digest[DIGEST_BYTES])
{
    struct proof *proof = &table.at[table.next];
    table.next = (table.next + 1) % PROVEN_MAX;
    if (table.used < PROVEN_MAX)
        table.used++;
    memcpy(proof->digest, digest, DIGEST_BYTES);
    return proof;
}

uint32_t proven_verify_ecdsa(const br_ec_impl *ec, const void *hash, size_t hash_size,
                             const br_ec_public_key *key, const void *signature, size_t size)
{
    uint8_t digest[DIGEST_BYTES];
    br_sha256_context sha256;
    br_sha256_init(&sha256);
    add(&sha256, "ecdsa", 5);
    add(&sha256, &key->curve, sizeof key->curve);
    add(&sha256, key->q, key->qlen);
    add(&sha256, hash, hash_size);
    add(&sha256, signature, size);
    br_sha256_out(&sha256, digest);
    if (find(digest))
        return 1;
    uint32_t good = br_ecdsa_vrfy_asn1_get_default()(ec, hash, hash_size, key, signature, size);
    if (good)
        keep(digest);
    return good;
}

uint32_t proven_verify_rsa(const unsigned char *signature, size_t size, const unsigned char *hash_oid,
                           size_t hash_size, const br_rsa_public_key *key, unsigned char *hash_out)
{
    if (hash_size > HASH_BYTES_MAX)
        return 0;
    uint8_t digest[DIGEST_BYTES];
    br_sha256_context sha256;
    br_sha256_init(&sha256);
    add(&sha256, "rsa", 3);
    add(&sha256, hash_oid, hash_oid ? 1u + hash_oid[0] : 0u); /* its first byte is its size */
    add(&sha256, &hash_size, sizeof hash_size);
    add(&sha256, key->n, key->nlen);
    add(&sha256, key->e, key->elen);
    add(&sha256, signature, size);
    br_sha256_out(&sha256, digest);
    struct proof *proof = find(digest);
    if (proof) {
        memcpy(hash_out, proof->hash, hash_size);
        return 1;
    }
    uint32_t good = br_rsa_pkcs1_vrfy_get_default()(signature, size, hash_oid, hash_size, key, hash_out);
    if (good)
        memcpy(keep(digest)->hash, hash_out, hash_size);
    return good;
}

struct proven_counts proven_count(void)
{
    return (struct proven_counts){.known = table.used, .spared = table.spared};
}

void proven_forget(void)
{
    memset(&table, 0, sizeof table);
}
