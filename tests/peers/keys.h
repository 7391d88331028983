/*
 * The keys of a TLS 1.2 connection (RFC 5246, sections 6.3 and 8.1), from its master secret and the two
 * randoms. For the evidence tools: which key went over the wire, and is it in somebody's memory?
 */
#ifndef TESTS_PEERS_KEYS_H
#define TESTS_PEERS_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_RANDOM_BYTES 32
#define TLS_MASTER_BYTES 48
#define TLS_BLOCK_MAX    256

struct tls_keys {
    uint8_t block[TLS_BLOCK_MAX]; /* as RFC 5246, 6.3 orders it: MAC keys, keys, initial vectors */
    size_t mac_bytes;
    size_t key_bytes;
    size_t iv_bytes;
    size_t explicit_bytes; /* of the nonce, in front of each encrypted record: 8 for GCM */
    bool is_aes;
};

/* `cipher` is OpenSSL's name of a suite. 0, or -EINVAL for one of unknown sizes. */
int tls_keys_derive(struct tls_keys *keys, const char *cipher, const uint8_t master[TLS_MASTER_BYTES],
                    const uint8_t client_random[TLS_RANDOM_BYTES],
                    const uint8_t server_random[TLS_RANDOM_BYTES]);

const uint8_t *tls_keys_client_key(const struct tls_keys *keys);
const uint8_t *tls_keys_server_key(const struct tls_keys *keys);
const uint8_t *tls_keys_client_iv(const struct tls_keys *keys);

/* Bytes as lower-case hexadecimal digits and back. from_hex: 0, or -EINVAL unless exactly `size` bytes are
 * there, up to a character that is no digit. */
void to_hex(char *text, const uint8_t *bytes, size_t size);
int from_hex(uint8_t *bytes, size_t size, const char *text);

#endif
