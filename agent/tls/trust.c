/*
 * See trust.h. A certificate's first bytes are collected, up to CERTIFICATE_HEAD_BYTES or its end, and read;
 * then they and the rest go to BearSSL, which looks for anchors at a certificate's end only.
 *
 * Once BearSSL has said yes or no it ignores the rest of the chain, and so is the rest ignored here.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/tls/trust.h"

#define DAYS_TO_1970 719528 /* from the year 0, as BearSSL counts */

static struct trust *trust_of(const br_x509_class **context)
{
    return (struct trust *)(void *)context;
}

static void start_chain(const br_x509_class **context, const char *server_name)
{
    struct trust *trust = trust_of(context);
    trust->count = 0;
    trust->minimal.vtable->start_chain(&trust->minimal.vtable, server_name);
}

static void start_cert(const br_x509_class **context, uint32_t length)
{
    struct trust *trust = trust_of(context);
    trust->count++;
    trust->head_have = 0;
    trust->head_want = length < sizeof trust->head ? length : sizeof trust->head;
    trust->minimal.vtable->start_cert(&trust->minimal.vtable, length);
}

/* Once, when the chain has failed: at which certificate. */
static void note_failure(struct trust *trust)
{
    if (!trust->minimal.err || trust->minimal.err == BR_ERR_X509_OK || trust->failed)
        return;
    trust->failed = true;
    trust->failed_at = trust->count;
    trust->at_fault = trust->read;
}

static void pass(struct trust *trust, const uint8_t *data, size_t size)
{
    trust->minimal.vtable->append(&trust->minimal.vtable, data, size);
    note_failure(trust);
}

static void read_head(struct trust *trust)
{
    if (trust->minimal.err)
        return;
    unsigned anchors = 0;
    if (certificate_read_head(&trust->read, trust->head, trust->head_have) != 0) {
        trust->minimal.err = BR_ERR_X509_LIMIT_EXCEEDED;
    } else if (trust->count > TRUST_CHAIN_MAX) {
        trust->too_long = true;
        trust->minimal.err = BR_ERR_X509_LIMIT_EXCEEDED;
    } else if (credentials_has_serial(trust->credentials, &trust->read.serial)) {
        trust->revoked = true;
        trust->minimal.err = BR_ERR_X509_NOT_TRUSTED;
    } else {
        trust->minimal.trust_anchors =
            credentials_find_anchors(trust->credentials, trust->read.serial.issuer, &anchors);
    }
    trust->minimal.trust_anchors_num = anchors;
    pass(trust, trust->head, trust->head_have);
}

static void append(const br_x509_class **context, const unsigned char *data, size_t size)
{
    struct trust *trust = trust_of(context);
    if (trust->head_have < trust->head_want) {
        size_t part = trust->head_want - trust->head_have;
        part = part < size ? part : size;
        memcpy(trust->head + trust->head_have, data, part);
        trust->head_have += part;
        data += part;
        size -= part;
        if (trust->head_have < trust->head_want)
            return;
        read_head(trust);
    }
    if (size)
        pass(trust, data, size);
}

static void end_cert(const br_x509_class **context)
{
    struct trust *trust = trust_of(context);
    trust->minimal.vtable->end_cert(&trust->minimal.vtable);
    note_failure(trust);
}

static unsigned end_chain(const br_x509_class **context)
{
    struct trust *trust = trust_of(context);
    return trust->minimal.vtable->end_chain(&trust->minimal.vtable);
}

static const br_x509_pkey *get_pkey(const br_x509_class *const *context, unsigned *usages)
{
    const struct trust *trust = (const struct trust *)(const void *)context;
    /* BearSSL gives the key of a chain that it does not trust, too: for callers that ask about it elsewhere.
     */
    return trust->minimal.err == BR_ERR_X509_OK
               ? trust->minimal.vtable->get_pkey((const br_x509_class *const *)&trust->minimal.vtable, usages)
               : NULL;
}

static const br_x509_class trust_class = {
    .context_size = sizeof(struct trust),
    .start_chain = start_chain,
    .start_cert = start_cert,
    .append = append,
    .end_cert = end_cert,
    .end_chain = end_chain,
    .get_pkey = get_pkey,
};

void trust_init(struct trust *trust, const struct credentials *credentials)
{
    static const unsigned char dns_name[] = {0, 2};
    memset(trust, 0, sizeof *trust);
    trust->vtable = &trust_class;
    trust->credentials = credentials;
    br_x509_minimal_init(&trust->minimal, &br_sha256_vtable, NULL, 0);
    br_x509_minimal_set_minrsa(&trust->minimal, TRUST_RSA_BITS / 8);
    for (unsigned i = 0; i < TRUST_NAMES; i++)
        trust->names[i] =
            (br_name_element){.oid = dns_name, .buf = trust->name_text[i], .len = TRUST_NAME_BYTES};
    br_x509_minimal_set_name_elements(&trust->minimal, trust->names, TRUST_NAMES);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    br_x509_minimal_set_time(&trust->minimal, (uint32_t)(now.tv_sec / 86400 + DAYS_TO_1970),
                             (uint32_t)(now.tv_sec % 86400));
    struct tm utc;
    if (gmtime_r(&now.tv_sec, &utc))
        strftime(trust->now, sizeof trust->now, "%Y%m%d%H%M%S", &utc);
}
