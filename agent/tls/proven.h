/*
 * Signatures of certificates that have been found good, remembered.
 *
 * That a key has signed some bytes stays true: a server shows the same chain to each connection, and checking
 * its signatures is more than half of what a handshake costs. What depends on time or trust is not remembered
 * but judged anew each time: dates, names, revoked serials, whether the anchor is one.
 *
 * Kept is a SHA-256 of all that went into the check, never a check that failed. None of it is secret: it may
 * be in a snapshot, and spares its clones the work.
 */
#ifndef AGENT_TLS_PROVEN_H
#define AGENT_TLS_PROVEN_H

#include <bearssl.h>

#define PROVEN_MAX 32 /* the oldest makes room */

/* As br_ecdsa_vrfy and br_rsa_pkcs1_vrfy, which they call when they do not know. */
uint32_t proven_verify_ecdsa(const br_ec_impl *ec, const void *hash, size_t hash_size,
                             const br_ec_public_key *key, const void *signature, size_t size);
uint32_t proven_verify_rsa(const unsigned char *signature, size_t size, const unsigned char *hash_oid,
                           size_t hash_size, const br_rsa_public_key *key, unsigned char *hash_out);

/* How many are known; how often one was asked for and known. */
struct proven_counts {
    unsigned known, spared;
};
struct proven_counts proven_count(void);
void proven_forget(void);

#endif
