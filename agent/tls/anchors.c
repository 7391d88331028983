/*
 * Trust anchors: certificates of authorities, of which a name and a key are kept (some 350 bytes for each, in
 * one piece). See credentials.h.
 *
 * They are kept in the order of the hashes of their names. BearSSL would hash all their names for every
 * certificate of every handshake; it is given only those that bear the issuer's name (trust.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/certificate.h"
#include "agent/tls/credentials.h"
#include "agent/tls/pem.h"

#define NAME_BYTES_MAX 2048

struct name {
    uint8_t bytes[NAME_BYTES_MAX];
    size_t size; /* above NAME_BYTES_MAX: it was longer */
};

static void take_name(void *context, const void *bytes, size_t size)
{
    struct name *name = context;
    if (name->size + size <= sizeof name->bytes)
        memcpy(name->bytes + name->size, bytes, size);
    name->size = name->size + size <= sizeof name->bytes ? name->size + size : sizeof name->bytes + 1;
}

/* First anchor whose name is not before `name`. */
static unsigned lower_bound(const struct credentials *credentials, const uint8_t name[32])
{
    unsigned low = 0;
    for (unsigned high = credentials->anchor_count; low < high;) {
        unsigned middle = low + (high - low) / 2;
        if (memcmp(credentials->anchor_names[middle], name, 32) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const br_x509_trust_anchor *credentials_find_anchors(const struct credentials *credentials,
                                                     const uint8_t name[32], unsigned *count)
{
    unsigned first = lower_bound(credentials, name), end = first;
    while (end < credentials->anchor_count && !memcmp(credentials->anchor_names[end], name, 32))
        end++;
    *count = end - first;
    return *count ? &credentials->anchors[first] : NULL;
}

/* Name and key in one piece, which dn.data owns. */
static int copy_anchor(br_x509_trust_anchor *anchor, const struct name *name, const br_x509_pkey *key)
{
    size_t key_size =
        key->key_type == BR_KEYTYPE_RSA ? key->key.rsa.nlen + key->key.rsa.elen : key->key.ec.qlen;
    uint8_t *piece = malloc(name->size + key_size);
    if (!piece)
        return -ENOMEM;
    memcpy(piece, name->bytes, name->size);
    *anchor = (br_x509_trust_anchor){
        .dn = {.data = piece, .len = name->size}, .flags = BR_X509_TA_CA, .pkey = *key};
    piece += name->size;
    if (key->key_type == BR_KEYTYPE_RSA) {
        anchor->pkey.key.rsa.n = memcpy(piece, key->key.rsa.n, key->key.rsa.nlen);
        anchor->pkey.key.rsa.e = memcpy(piece + key->key.rsa.nlen, key->key.rsa.e, key->key.rsa.elen);
    } else {
        anchor->pkey.key.ec.q = memcpy(piece, key->key.ec.q, key->key.ec.qlen);
    }
    return 0;
}

/* Room comes in steps of 16; both arrays grow before either is written. */
static int make_room(struct credentials *credentials)
{
    unsigned count = credentials->anchor_count;
    if (count % 16)
        return 0;
    void *anchors = realloc(credentials->anchors, (count + 16) * sizeof *credentials->anchors);
    if (!anchors)
        return -ENOMEM;
    credentials->anchors = anchors;
    void *names = realloc(credentials->anchor_names, (count + 16) * sizeof *credentials->anchor_names);
    if (!names)
        return -ENOMEM;
    credentials->anchor_names = names;
    return 0;
}

static int insert(struct credentials *credentials, const struct name *name, const br_x509_pkey *key)
{
    br_x509_trust_anchor anchor;
    int error = make_room(credentials);
    if (!error)
        error = copy_anchor(&anchor, name, key);
    if (error)
        return error;
    uint8_t hash[32];
    certificate_hash_name(hash, name->bytes, name->size);
    unsigned at = lower_bound(credentials, hash), after = credentials->anchor_count - at;
    memmove(&credentials->anchors[at + 1], &credentials->anchors[at], after * sizeof anchor);
    memmove(&credentials->anchor_names[at + 1], &credentials->anchor_names[at], after * sizeof hash);
    credentials->anchors[at] = anchor;
    memcpy(credentials->anchor_names[at], hash, sizeof hash);
    credentials->anchor_count++;
    return 0;
}

struct reading {
    struct credentials *credentials;
    char *why;
    unsigned seen;
};

static int take_certificate(void *context, const char *label, const void *data, size_t size)
{
    struct reading *reading = context;
    if (strcmp(label, "CERTIFICATE") != 0 && strcmp(label, "X509 CERTIFICATE") != 0)
        return 0;
    unsigned number = ++reading->seen;
    struct name name = {.size = 0};
    br_x509_decoder_context decoder;
    br_x509_decoder_init(&decoder, take_name, &name);
    br_x509_decoder_push(&decoder, data, size);
    const br_x509_pkey *key = br_x509_decoder_get_pkey(&decoder);
    int error = br_x509_decoder_last_error(&decoder);
    if (error == BR_ERR_X509_UNSUPPORTED || error == BR_ERR_X509_WRONG_KEY_TYPE)
        return 0;
    if (!key || name.size > NAME_BYTES_MAX) {
        snprintf(reading->why, CREDENTIALS_WHY_BYTES, "certificate %u is broken (BearSSL's error %d)", number,
                 error);
        return -EBADMSG;
    }
    if (!br_x509_decoder_isCA(&decoder)) {
        snprintf(reading->why, CREDENTIALS_WHY_BYTES,
                 "certificate %u is not an authority's: name the one that signed it", number);
        return -EBADMSG;
    }
    if (reading->credentials->anchor_count >= CREDENTIALS_ANCHORS_MAX) {
        snprintf(reading->why, CREDENTIALS_WHY_BYTES, "more than %d certificates", CREDENTIALS_ANCHORS_MAX);
        return -EBADMSG;
    }
    error = insert(reading->credentials, &name, key);
    if (error)
        snprintf(reading->why, CREDENTIALS_WHY_BYTES, "no memory for certificate %u", number);
    return error;
}

int credentials_parse_trust(struct credentials *credentials, const void *pem, size_t size, char *why)
{
    struct reading reading = {.credentials = credentials, .why = why};
    unsigned objects, before = credentials->anchor_count;
    why[0] = '\0';
    int error = pem_each(pem, size, take_certificate, &reading, &objects);
    if (!error && credentials->anchor_count == before)
        error = -EBADMSG;
    if (error && !why[0])
        snprintf(why, CREDENTIALS_WHY_BYTES,
                 reading.seen ? "its PEM is broken after certificate %u, or has no key of a known kind"
                              : "no certificate in it: PEM with BEGIN CERTIFICATE is wanted",
                 reading.seen);
    return error;
}
