/*
 * See certificate.h.
 *
 *   Certificate    ::= SEQUENCE { TBSCertificate, ... }
 *   TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, serial INTEGER, signature SEQUENCE { OID, ... },
 *                                 issuer Name, validity SEQUENCE { Time, Time }, subject Name, ... }
 */
#include <errno.h>
#include <string.h>

#include "agent/tls/certificate.h"
#include "agent/tls/der.h"

void certificate_hash_name(uint8_t hash[32], const void *name, size_t size)
{
    br_sha256_context sha256;
    br_sha256_init(&sha256);
    br_sha256_update(&sha256, name, size);
    br_sha256_out(&sha256, hash);
}

bool certificate_make_serial(struct credentials_serial *out, const void *issuer, size_t issuer_size,
                             const uint8_t *serial, size_t serial_size)
{
    while (serial_size && serial[0] == 0) {
        serial++;
        serial_size--;
    }
    if (serial_size > sizeof out->serial)
        return false;
    memset(out->serial, 0, sizeof out->serial);
    if (serial_size)
        memcpy(out->serial + sizeof out->serial - serial_size, serial, serial_size);
    certificate_hash_name(out->issuer, issuer, issuer_size);
    return true;
}

/* OIDs of signatures over MD5 and SHA-1: with RSA (1.2.840.113549.1.1.4 and .5), with ECDSA
 * (1.2.840.10045.4.1). */
static bool is_weak_hash(const struct der *oid)
{
    static const uint8_t md5_rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04};
    static const uint8_t sha1_rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05};
    static const uint8_t sha1_ecdsa[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01};
    if (oid->size == sizeof sha1_ecdsa)
        return !memcmp(oid->at, sha1_ecdsa, sizeof sha1_ecdsa);
    return oid->size == sizeof sha1_rsa &&
           (!memcmp(oid->at, sha1_rsa, sizeof sha1_rsa) || !memcmp(oid->at, md5_rsa, sizeof md5_rsa));
}

/* UTCTime (YYMMDDhhmmssZ, 1950 to 2049) or GeneralizedTime (YYYYMMDDhhmmssZ). */
static bool read_time(struct der *in, char text[CERTIFICATE_TIME_BYTES])
{
    struct der_item time;
    if (!der_next(in, &time) || (time.tag != DER_UTC_TIME && time.tag != DER_GENERALIZED_TIME))
        return false;
    size_t digits = time.tag == DER_UTC_TIME ? 12 : 14;
    if (time.content.size < digits)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (time.content.at[i] < '0' || time.content.at[i] > '9')
            return false;
    memcpy(text, time.content.at[0] < '5' ? "20" : "19", 2);
    memcpy(text + 14 - digits, time.content.at, digits);
    text[14] = '\0';
    return true;
}

int certificate_read_head(struct certificate_head *head, const void *certificate, size_t size)
{
    *head = (struct certificate_head){0};
    struct der in = {.at = certificate, .size = size};
    struct der_item version, serial, signature, issuer, validity, oid;
    for (int depth = 0; depth < 2; depth++)
        if (!der_enter(&in, DER_SEQUENCE))
            return -EBADMSG;
    der_take(&in, DER_CONTEXT_0, &version);
    if (!der_take(&in, DER_INTEGER, &serial) || !der_take(&in, DER_SEQUENCE, &signature) ||
        !der_take(&in, DER_SEQUENCE, &issuer) || !der_take(&in, DER_SEQUENCE, &validity))
        return -EBADMSG;
    if (!der_take(&signature.content, DER_OID, &oid) || !read_time(&validity.content, head->not_before) ||
        !read_time(&validity.content, head->not_after))
        return -EBADMSG;
    head->weak_hash = is_weak_hash(&oid.content);
    return certificate_make_serial(&head->serial, issuer.whole, issuer.whole_size, serial.content.at,
                                   serial.content.size)
               ? 0
               : -EBADMSG;
}
