/*
 * Fuzzes what reads PEM: trust anchors, revocation lists, chains, keys. The first byte says which; the same
 * bytes go in twice, so that what was there before is added to or replaced. Its bit 7 takes the rest for one
 * object as it is, so that the readers of DER are reached without base64.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/certificate.h"
#include "agent/tls/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const labels[] = {"CERTIFICATE", "X509 CRL", "CERTIFICATE", "PRIVATE KEY"};

/* The bytes as PEM; its size in *out_size. */
static char *wrap(const char *label, const uint8_t *data, size_t size, size_t *out_size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(size * 2 + 256), *at = text;
    at += sprintf(at, "-----BEGIN %s-----", label);
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = 0;
        for (size_t k = 0; k < 3; k++)
            three = three << 8 | (i + k < size ? data[i + k] : 0u);
        if (i % 48 == 0)
            *at++ = '\n';
        for (int k = 0; k < 4; k++)
            *at++ = (size_t)k <= size - i ? digits[three >> (18 - 6 * k) & 63] : '=';
    }
    at += sprintf(at, "\n-----END %s-----\n", label);
    *out_size = (size_t)(at - text);
    return text;
}

static void read_all(unsigned kind, const void *text, size_t size)
{
    struct credentials credentials;
    char why[CREDENTIALS_WHY_BYTES];
    credentials_init(&credentials);
    for (int twice = 0; twice < 2; twice++) {
        why[0] = '\0';
        int error = 0;
        switch (kind) {
        case 0:
            error = credentials_parse_trust(&credentials, text, size, why);
            break;
        case 1:
            error = credentials_parse_revoked(&credentials, text, size, why);
            break;
        case 2:
            error = credentials_parse_chain(&credentials, text, size, why);
            break;
        default:
            error = credentials_set_key(&credentials, text, size, why);
            break;
        }
        if (error && !why[0])
            abort();
    }
    for (unsigned i = 0; i < credentials.chain_length; i++)
        credentials_is_revoked(&credentials, credentials.chain[i].data, credentials.chain[i].data_len);
    for (unsigned i = 0; i < credentials.anchor_count; i++) {
        unsigned count = 0;
        if (!credentials_find_anchors(&credentials, credentials.anchor_names[i], &count) || !count)
            abort();
    }
    credentials_fini(&credentials);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct certificate_head head;
    if (!size)
        return 0;
    unsigned kind = data[0] & 3;
    if (!(data[0] & 0x80)) {
        read_all(kind, data + 1, size - 1);
        return 0;
    }
    certificate_read_head(&head, data + 1, size - 1);
    size_t text_size = 0;
    char *text = wrap(labels[kind], data + 1, size - 1, &text_size);
    read_all(kind, text, text_size);
    free(text);
    return 0;
}
