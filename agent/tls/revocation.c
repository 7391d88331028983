/*
 * Certificate revocation lists (RFC 5280, 5.1): issuer and serial number of each entry. See credentials.h.
 *
 *   CertificateList ::= SEQUENCE { TBSCertList, ... }
 *   TBSCertList     ::= SEQUENCE { version INTEGER OPTIONAL, signature SEQUENCE, issuer Name, thisUpdate
 * Time, nextUpdate Time OPTIONAL, revokedCertificates SEQUENCE OF SEQUENCE { serial INTEGER, date Time,
 * SEQUENCE OF Extension OPTIONAL } OPTIONAL, [0] extensions OPTIONAL } Extension       ::= SEQUENCE { OID,
 * critical BOOLEAN DEFAULT FALSE, OCTET STRING }
 *
 * A list that is out of date still counts: what was revoked stays so. An entry with a critical extension (one
 * that names another issuer) is refused, as it would be read for what it is not. Extensions of the list
 * itself narrow it or make it a part of one: to take each entry for revoked errs on the safe side.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/certificate.h"
#include "agent/tls/credentials.h"
#include "agent/tls/der.h"
#include "agent/tls/pem.h"

struct reading {
    struct credentials *credentials;
    char *why;
    unsigned lists;
};

static int refuse(struct reading *reading, const char *what)
{
    snprintf(reading->why, CREDENTIALS_WHY_BYTES, "revocation list %u: %s", reading->lists, what);
    return -EBADMSG;
}

static bool has_critical(struct der extensions)
{
    struct der_item extension, oid, critical;
    while (der_take(&extensions, DER_SEQUENCE, &extension))
        if (der_take(&extension.content, DER_OID, &oid) &&
            der_take(&extension.content, DER_BOOLEAN, &critical) && critical.content.size &&
            critical.content.at[0])
            return true;
    return extensions.size != 0; /* not well formed: it might be one */
}

static int take_entry(struct reading *reading, const struct der_item *issuer, struct der entry)
{
    struct credentials *credentials = reading->credentials;
    struct der_item serial, date, extensions;
    if (!der_take(&entry, DER_INTEGER, &serial) || !der_next(&entry, &date))
        return refuse(reading, "an entry is broken");
    if (der_take(&entry, DER_SEQUENCE, &extensions) && has_critical(extensions.content))
        return refuse(reading,
                      "an entry has an extension that must be understood and is not: indirect lists are "
                      "not read here");
    unsigned count = credentials->revoked_count;
    if (count >= CREDENTIALS_REVOKED_MAX)
        return refuse(reading, "more entries than are kept (4096)");
    if (count % 64 == 0) {
        void *more = realloc(credentials->revoked, (count + 64) * sizeof *credentials->revoked);
        if (!more)
            return -ENOMEM;
        credentials->revoked = more;
    }
    if (!certificate_make_serial(&credentials->revoked[count], issuer->whole, issuer->whole_size,
                                 serial.content.at, serial.content.size))
        return refuse(reading, "a serial number is longer than 20 bytes");
    credentials->revoked_count++;
    return 0;
}

static int take_list(void *context, const char *label, const void *data, size_t size)
{
    struct reading *reading = context;
    if (strcmp(label, "X509 CRL") != 0)
        return 0;
    reading->lists++;
    struct der in = {.at = data, .size = size};
    struct der_item list, body, item, issuer, entries, entry;
    if (!der_take(&in, DER_SEQUENCE, &list) || !der_take(&list.content, DER_SEQUENCE, &body))
        return refuse(reading, "it is broken");
    der_take(&body.content, DER_INTEGER, &item);
    if (!der_take(&body.content, DER_SEQUENCE, &item) || !der_take(&body.content, DER_SEQUENCE, &issuer) ||
        !der_next(&body.content, &item))
        return refuse(reading, "it is broken");
    if (!der_take(&body.content, DER_UTC_TIME, &item))
        der_take(&body.content, DER_GENERALIZED_TIME, &item);
    if (!der_take(&body.content, DER_SEQUENCE, &entries))
        return 0; /* nothing is revoked */
    while (entries.content.size) {
        if (!der_take(&entries.content, DER_SEQUENCE, &entry))
            return refuse(reading, "an entry is broken");
        int error = take_entry(reading, &issuer, entry.content);
        if (error)
            return error;
    }
    return 0;
}

static int compare(const void *one, const void *other)
{
    return memcmp(one, other, sizeof(struct credentials_serial));
}

int credentials_parse_revoked(struct credentials *credentials, const void *pem, size_t size, char *why)
{
    struct reading reading = {.credentials = credentials, .why = why};
    unsigned objects;
    why[0] = '\0';
    int error = pem_each(pem, size, take_list, &reading, &objects);
    if (!error && !reading.lists)
        error = -EBADMSG;
    if (error && !why[0])
        snprintf(why, CREDENTIALS_WHY_BYTES,
                 reading.lists ? "its PEM is broken after revocation list %u"
                               : "no revocation list in it: PEM with BEGIN X509 CRL is wanted",
                 reading.lists);
    if (credentials->revoked_count)
        qsort(credentials->revoked, credentials->revoked_count, sizeof *credentials->revoked, compare);
    return error;
}

bool credentials_has_serial(const struct credentials *credentials, const struct credentials_serial *serial)
{
    return credentials->revoked_count && bsearch(serial, credentials->revoked, credentials->revoked_count,
                                                 sizeof *credentials->revoked, compare) != NULL;
}

bool credentials_is_revoked(const struct credentials *credentials, const void *certificate, size_t size)
{
    struct certificate_head head;
    return certificate_read_head(&head, certificate, size) == 0 &&
           credentials_has_serial(credentials, &head.serial);
}
