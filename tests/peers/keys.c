#include "tests/peers/keys.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    const size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* Sizes by the suite's name: the suites without authenticated encryption are here to be seen, not to be
 * chosen. */
static int sizes_of(struct tls_keys *keys, const char *cipher)
{
    memset(keys, 0, sizeof *keys);
    if (strstr(cipher, "CHACHA20-POLY1305")) {
        keys->key_bytes = 32;
        keys->iv_bytes = 12;
        return 0;
    }
    keys->is_aes = true;
    if (strstr(cipher, "AES128"))
        keys->key_bytes = 16;
    else if (strstr(cipher, "AES256"))
        keys->key_bytes = 32;
    else
        return -EINVAL;
    if (strstr(cipher, "GCM") || strstr(cipher, "CCM")) {
        keys->iv_bytes = 4;
        keys->explicit_bytes = 8;
    } else if (ends_with(cipher, "SHA384")) {
        keys->mac_bytes = 48;
    } else if (ends_with(cipher, "SHA256")) {
        keys->mac_bytes = 32;
    } else {
        keys->mac_bytes = 20;
    }
    return 0;
}

int tls_keys_derive(struct tls_keys *keys, const char *cipher, const uint8_t master[TLS_MASTER_BYTES],
                    const uint8_t client_random[TLS_RANDOM_BYTES],
                    const uint8_t server_random[TLS_RANDOM_BYTES])
{
    static const char label[] = "key expansion";
    uint8_t seed[sizeof label - 1 + 2 * TLS_RANDOM_BYTES], secret[TLS_MASTER_BYTES];
    char digest[8] = "SHA256";
    if (sizes_of(keys, cipher))
        return -EINVAL;
    if (ends_with(cipher, "SHA384"))
        memcpy(digest, "SHA384", 7);
    memcpy(secret, master, sizeof secret);
    memcpy(seed, label, sizeof label - 1);
    memcpy(seed + sizeof label - 1, server_random, TLS_RANDOM_BYTES);
    memcpy(seed + sizeof label - 1 + TLS_RANDOM_BYTES, client_random, TLS_RANDOM_BYTES);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, secret, sizeof secret),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    const size_t size = 2 * (keys->mac_bytes + keys->key_bytes + keys->iv_bytes);
    const int good = EVP_KDF_derive(context, keys->block, size, params);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return good > 0 ? 0 : -EINVAL;
}

const uint8_t *tls_keys_client_key(const struct tls_keys *keys)
{
    return keys->block + 2 * keys->mac_bytes;
}

const uint8_t *tls_keys_server_key(const struct tls_keys *keys)
{
    return tls_keys_client_key(keys) + keys->key_bytes;
}

const uint8_t *tls_keys_client_iv(const struct tls_keys *keys)
{
    return tls_keys_server_key(keys) + keys->key_bytes;
}

void to_hex(char *text, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

static int digit(char letter)
{
    return isdigit((unsigned char)letter) ? letter - '0' : tolower((unsigned char)letter) - 'a' + 10;
}

int from_hex(uint8_t *bytes, size_t size, const char *text)
{
    for (size_t i = 0; i < 2 * size; i++)
        if (!isxdigit((unsigned char)text[i]))
            return -EINVAL;
    if (isxdigit((unsigned char)text[2 * size]))
        return -EINVAL;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    return 0;
}
