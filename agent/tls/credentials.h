/*
 * What a TLS client checks its server against, and shows of itself: PEM files into BearSSL's structures.
 * Loaded once, shared by all connections of a name, read-only afterwards.
 *
 *   trust         anchors: certificates of CAs, up to CREDENTIALS_ANCHORS_MAX (the distribution has ~140);
 *                 those with a key of a kind that BearSSL does not know are left out
 *   revoked       issuer and serial number of certificates in PEM revocation lists (RFC 5280, 5.1), which
 *                 are part of the image and so as trusted as the anchors: no signature is checked
 *   certificate   the client's chain
 *   key           its private key, RSA or EC, wiped when dropped
 *
 * The files come from the image and the host; they are parsed as if from a stranger (tests/fuzz/pem.c).
 * -errno or -EBADMSG with `why` (CREDENTIALS_WHY_BYTES): which file, what, and what was wanted.
 */
#ifndef AGENT_TLS_CREDENTIALS_H
#define AGENT_TLS_CREDENTIALS_H

#include <bearssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CREDENTIALS_FILE_BYTES  (1u << 20) /* of one PEM file */
#define CREDENTIALS_ANCHORS_MAX 512
#define CREDENTIALS_CHAIN_MAX   8
#define CREDENTIALS_REVOKED_MAX 4096
#define CREDENTIALS_WHY_BYTES   200

struct credentials_serial {
    uint8_t issuer[32]; /* SHA-256 of the issuer's name as encoded */
    uint8_t serial[20]; /* left-padded with zeros */
};

struct credentials {
    br_x509_trust_anchor
        *anchors; /* allocated, with all they point to; in the order of their names' hashes */
    uint8_t (
        *anchor_names)[32]; /* SHA-256 of each one's name: a chain's anchor is found without the others */
    unsigned anchor_count;
    struct credentials_serial *revoked; /* sorted */
    unsigned revoked_count;
    br_x509_certificate *chain;
    unsigned chain_length;
    br_skey_decoder_context *key; /* NULL: none (yet) */
};

void credentials_init(struct credentials *credentials);
int credentials_load_trust(struct credentials *credentials, const char *path, char *why);
int credentials_load_revoked(struct credentials *credentials, const char *path, char *why);
int credentials_load_chain(struct credentials *credentials, const char *path, char *why);
/* From memory: a secret. The key before it is wiped. */
int credentials_set_key(struct credentials *credentials, const void *pem, size_t size, char *why);
void credentials_drop_key(struct credentials *credentials);
void credentials_fini(struct credentials *credentials);

/* The same from memory, for the fuzz target and the tests. What was there before stays, and stays when it
 * fails. */
int credentials_parse_trust(struct credentials *credentials, const void *pem, size_t size, char *why);
int credentials_parse_revoked(struct credentials *credentials, const void *pem, size_t size, char *why);
int credentials_parse_chain(struct credentials *credentials, const void *pem, size_t size, char *why);

/* The anchors of that name (its SHA-256). NULL and 0: none. */
const br_x509_trust_anchor *credentials_find_anchors(const struct credentials *credentials,
                                                     const uint8_t name[32], unsigned *count);
/* The beginning of a certificate will do. */
bool credentials_is_revoked(const struct credentials *credentials, const void *certificate, size_t size);
bool credentials_has_serial(const struct credentials *credentials, const struct credentials_serial *serial);

#endif
