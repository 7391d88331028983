/*
 * What the beginning of a certificate says (RFC 5280, 4.1): its number, its issuer, how it is signed, when it
 * holds. Pure. BearSSL judges certificates; this is for revocation lists, for finding a chain's anchor, and
 * for the words of an error.
 */
#ifndef AGENT_TLS_CERTIFICATE_H
#define AGENT_TLS_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/credentials.h"

#define CERTIFICATE_HEAD_BYTES 2048 /* enough of any certificate's beginning */
#define CERTIFICATE_TIME_BYTES 16

struct certificate_head {
    struct credentials_serial serial;
    bool weak_hash;                          /* signed over MD5 or SHA-1 */
    char not_before[CERTIFICATE_TIME_BYTES]; /* "20250131235959": comparable as text */
    char not_after[CERTIFICATE_TIME_BYTES];
};

/* `size` bytes of its beginning. 0, or -EBADMSG. */
int certificate_read_head(struct certificate_head *head, const void *certificate, size_t size);

/* An issuer's name and a serial number (its bytes as encoded), as they are compared. False: too long. */
bool certificate_make_serial(struct credentials_serial *out, const void *issuer, size_t issuer_size,
                             const uint8_t *serial, size_t serial_size);

/* SHA-256 of an encoded name. */
void certificate_hash_name(uint8_t hash[32], const void *name, size_t size);

#endif
