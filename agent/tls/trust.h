/*
 * Judges the server's chain: BearSSL's minimal X.509 engine, with what it lacks around it. Revoked serial
 * numbers are refused; only the anchors that bear an issuer's name are given to it (anchors.c); and what the
 * words of an error need is noted: which certificate it was, its dates, the names it is for.
 */
#ifndef AGENT_TLS_TRUST_H
#define AGENT_TLS_TRUST_H

#include <bearssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/certificate.h"
#include "agent/tls/credentials.h"

#define TRUST_NAMES      3
#define TRUST_NAME_BYTES 64
#define TRUST_RSA_BITS   2048
#define TRUST_CHAIN_MAX  16 /* certificates; a server that sends more is refused */

struct trust {
    const br_x509_class *vtable; /* first: BearSSL knows no more of it */
    br_x509_minimal_context minimal;
    const struct credentials *credentials;
    /* The certificate in hand: its beginning is held back until its issuer is known. */
    uint8_t head[CERTIFICATE_HEAD_BYTES];
    size_t head_have, head_want;
    struct certificate_head read;
    unsigned count; /* of certificates begun */
    /* Notes. */
    char now[CERTIFICATE_TIME_BYTES];
    bool revoked, too_long, failed;
    unsigned failed_at;               /* number of the certificate, from 1 */
    struct certificate_head at_fault; /* its head */
    br_name_element names[TRUST_NAMES];
    char name_text[TRUST_NAMES][TRUST_NAME_BYTES];
};

/* `minimal` still wants its algorithms. The time is CLOCK_REALTIME's. */
void trust_init(struct trust *trust, const struct credentials *credentials);

#endif
