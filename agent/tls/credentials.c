/*
 * Files, the client's chain and its key. See credentials.h; anchors.c and revocation.c hold the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/tls/credentials.h"
#include "agent/tls/pem.h"

void credentials_init(struct credentials *credentials)
{
    *credentials = (struct credentials){0};
}

typedef int parse(struct credentials *credentials, const void *pem, size_t size, char *why);

/* The file whole, in memory for as long as it is parsed. `why` names it. */
static int load(struct credentials *credentials, const char *path, parse *parse_text, char *why)
{
    char inner[CREDENTIALS_WHY_BYTES] = "";
    char *text = malloc(CREDENTIALS_FILE_BYTES);
    if (!text) {
        snprintf(why, CREDENTIALS_WHY_BYTES, "%.120s: no memory to read it", path);
        return -ENOMEM;
    }
    int64_t size = fd_read_file(path, text, CREDENTIALS_FILE_BYTES);
    int error = size < 0 ? (int)size : parse_text(credentials, text, (size_t)size, inner);
    if (size == -EFBIG)
        snprintf(inner, sizeof inner, "larger than %u bytes", CREDENTIALS_FILE_BYTES);
    else if (size < 0)
        snprintf(inner, sizeof inner, "cannot be read: %s", strerror((int)-size));
    if (error)
        snprintf(why, CREDENTIALS_WHY_BYTES, "%.80s: %.116s", path, inner);
    free(text);
    return error;
}

int credentials_load_trust(struct credentials *credentials, const char *path, char *why)
{
    return load(credentials, path, credentials_parse_trust, why);
}

int credentials_load_revoked(struct credentials *credentials, const char *path, char *why)
{
    return load(credentials, path, credentials_parse_revoked, why);
}

int credentials_load_chain(struct credentials *credentials, const char *path, char *why)
{
    return load(credentials, path, credentials_parse_chain, why);
}

/* Of the chain, its certificates from `keep` on. */
static void drop_chain(struct credentials *credentials, unsigned keep)
{
    while (credentials->chain_length > keep)
        free(credentials->chain[--credentials->chain_length].data);
    if (!keep) {
        free(credentials->chain);
        credentials->chain = NULL;
    }
}

static int take_certificate(void *context, const char *label, const void *data, size_t size)
{
    struct credentials *credentials = context;
    if (strcmp(label, "CERTIFICATE") != 0)
        return 0;
    if (credentials->chain_length >= CREDENTIALS_CHAIN_MAX)
        return -E2BIG;
    br_x509_decoder_context decoder;
    br_x509_decoder_init(&decoder, NULL, NULL);
    br_x509_decoder_push(&decoder, data, size);
    if (br_x509_decoder_last_error(&decoder) != 0)
        return -EBADMSG;
    void *copy = malloc(size);
    if (!copy)
        return -ENOMEM;
    credentials->chain[credentials->chain_length++] =
        (br_x509_certificate){.data = memcpy(copy, data, size), .data_len = size};
    return 0;
}

int credentials_parse_chain(struct credentials *credentials, const void *pem, size_t size, char *why)
{
    struct credentials fresh = {.chain = calloc(CREDENTIALS_CHAIN_MAX, sizeof *fresh.chain)};
    unsigned objects;
    int error = fresh.chain ? pem_each(pem, size, take_certificate, &fresh, &objects) : -ENOMEM;
    if (!error && !fresh.chain_length)
        error = -ENOENT;
    switch (error) {
    case 0:
        drop_chain(credentials, 0);
        credentials->chain = fresh.chain;
        credentials->chain_length = fresh.chain_length;
        return 0;
    case -E2BIG:
        snprintf(why, CREDENTIALS_WHY_BYTES, "more than %d certificates", CREDENTIALS_CHAIN_MAX);
        break;
    case -ENOENT:
        snprintf(why, CREDENTIALS_WHY_BYTES, "no certificate in it: PEM with BEGIN CERTIFICATE is wanted");
        break;
    case -ENOMEM:
        snprintf(why, CREDENTIALS_WHY_BYTES, "no memory for it");
        break;
    default:
        snprintf(why, CREDENTIALS_WHY_BYTES, "certificate %u or its PEM is broken", fresh.chain_length + 1);
        break;
    }
    drop_chain(&fresh, 0);
    return error == -ENOMEM ? -ENOMEM : -EBADMSG;
}

struct key_reading {
    br_skey_decoder_context *key;
    bool found, encrypted;
};

static int take_key(void *context, const char *label, const void *data, size_t size)
{
    struct key_reading *reading = context;
    if (strcmp(label, "ENCRYPTED PRIVATE KEY") == 0)
        reading->encrypted = true;
    if (strcmp(label, "PRIVATE KEY") != 0 && strcmp(label, "RSA PRIVATE KEY") != 0 &&
        strcmp(label, "EC PRIVATE KEY") != 0)
        return 0;
    if (reading->found)
        return -E2BIG;
    reading->found = true;
    br_skey_decoder_init(reading->key);
    br_skey_decoder_push(reading->key, data, size);
    return br_skey_decoder_last_error(reading->key) == 0 ? 0 : -EBADMSG;
}

int credentials_set_key(struct credentials *credentials, const void *pem, size_t size, char *why)
{
    struct key_reading reading = {.key = calloc(1, sizeof *reading.key)};
    unsigned objects;
    int error = !reading.key                    ? -ENOMEM
                : size > CREDENTIALS_FILE_BYTES ? -EFBIG
                                                : pem_each(pem, size, take_key, &reading, &objects);
    if (!error && reading.found) {
        credentials_drop_key(credentials);
        credentials->key = reading.key;
        return 0;
    }
    if (error == -ENOMEM)
        snprintf(why, CREDENTIALS_WHY_BYTES, "no memory for the key");
    else if (error == -E2BIG)
        snprintf(why, CREDENTIALS_WHY_BYTES, "more than one private key");
    else if (error)
        snprintf(why, CREDENTIALS_WHY_BYTES, "the private key or its PEM is broken, or of an unknown kind");
    else if (reading.encrypted)
        snprintf(why, CREDENTIALS_WHY_BYTES, "the private key is encrypted: deliver it without a passphrase");
    else
        snprintf(why, CREDENTIALS_WHY_BYTES, "no private key in it: PEM with BEGIN PRIVATE KEY is wanted");
    if (reading.key)
        explicit_bzero(reading.key, sizeof *reading.key);
    free(reading.key);
    return error == -ENOMEM ? -ENOMEM : -EBADMSG;
}

void credentials_drop_key(struct credentials *credentials)
{
    if (credentials->key)
        explicit_bzero(credentials->key, sizeof *credentials->key);
    free(credentials->key);
    credentials->key = NULL;
}

void credentials_fini(struct credentials *credentials)
{
    credentials_drop_key(credentials);
    drop_chain(credentials, 0);
    free(credentials->revoked);
    for (unsigned i = 0; i < credentials->anchor_count; i++)
        free(credentials->anchors[i].dn.data);
    free(credentials->anchors);
    free(credentials->anchor_names);
    credentials_init(credentials);
}
