/*
 * What a connection showed, a line of JSON each, flushed at once:
 *
 *   {"event":"handshake","connection":1,"from":"10.0.0.2","resumed":false,"version":"TLSv1.2","cipher":"...",
 *    "client_random":"..","server_random":"..","offered_id":"..","given_id":"..","key_share":"..",
 *    "key":"..","name":"orders.example.test","client":"/CN=..","alpn":"http/1.1"}
 *   {"event":"record","connection":1,"key":"..","nonce":".."}      for each encrypted record of the client's
 *   {"event":"failed" or "end","connection":1,"from":"..","requests":3,"how":".."}
 *
 * `key` is a digest of the client's write key and fixed initial vector; `nonce` the explicit part, or, for
 * suites without one, nothing is logged: their nonce is the record's number under that key. The nonces are
 * read from the bytes of the records themselves, apart from the TLS library, on the way into it.
 */
#include "tests/peers/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#define HANDSHAKE_CLIENT_HELLO        1
#define HANDSHAKE_CLIENT_KEY_EXCHANGE 16
#define RECORD_CHANGE_CIPHER_SPEC     20

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *log_file, *keylog_file;

static int open_file(FILE **file, const char *path)
{
    *file = fopen(path, "ae");
    if (!*file)
        return -errno;
    return setvbuf(*file, NULL, _IOLBF, 0) ? -ENOMEM : 0;
}

int peer_log_open(const char *path)
{
    return open_file(&log_file, path);
}

int peer_keylog_open(const char *path)
{
    return open_file(&keylog_file, path);
}

void peer_keylog(const SSL *ssl, const char *line)
{
    (void)ssl;
    pthread_mutex_lock(&lock);
    (void)fprintf(keylog_file, "%s\n", line);
    pthread_mutex_unlock(&lock);
}

static void log_record(const struct peer_connection *connection, const uint8_t nonce[8])
{
    char hex[17];
    to_hex(hex, nonce, 8);
    if (!log_file)
        return;
    pthread_mutex_lock(&lock);
    (void)fprintf(log_file, "{\"event\":\"record\",\"connection\":%u,\"key\":\"%s\",\"nonce\":\"%s\"}\n",
                  connection->number, connection->key_id, hex);
    pthread_mutex_unlock(&lock);
}

static void take_nonce(struct peer_connection *connection)
{
    if (connection->keys_known && connection->explicit_bytes)
        log_record(connection, connection->nonce);
    else if (!connection->keys_known && connection->ahead_count < PEER_NONCES_AHEAD)
        memcpy(connection->ahead[connection->ahead_count++], connection->nonce, 8);
}

/* The stream of the client's bytes, cut into records as RFC 5246, 6.2.1 says. */
static void follow(struct peer_connection *connection, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        if (connection->header_have < sizeof connection->header) {
            connection->header[connection->header_have++] = *bytes++;
            size--;
            if (connection->header_have < sizeof connection->header)
                continue;
            connection->body_left = (size_t)(connection->header[3] << 8 | connection->header[4]);
            connection->nonce_have = 0;
        } else {
            const size_t take = size < connection->body_left ? size : connection->body_left;
            for (size_t i = 0; i < take && connection->nonce_have < sizeof connection->nonce; i++) {
                connection->nonce[connection->nonce_have++] = bytes[i];
                if (connection->nonce_have == sizeof connection->nonce && connection->encrypted)
                    take_nonce(connection);
            }
            bytes += take;
            size -= take;
            connection->body_left -= take;
        }
        if (connection->body_left == 0) {
            if (connection->header[0] == RECORD_CHANGE_CIPHER_SPEC)
                connection->encrypted = true;
            connection->header_have = 0;
        }
    }
}

static long on_bytes(BIO *bio, int operation, const char *bytes, size_t size, int number, long value,
                     int result, size_t *processed)
{
    (void)size, (void)number, (void)value;
    if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0)
        follow((struct peer_connection *)(void *)BIO_get_callback_arg(bio), (const uint8_t *)bytes,
               *processed);
    return result;
}

/* A vector of one length byte at `at`. */
static size_t copy_vector(uint8_t *to, size_t room, const uint8_t *message, size_t size, size_t at)
{
    if (at >= size || message[at] > room || at + 1 + message[at] > size)
        return 0;
    memcpy(to, message + at + 1, message[at]);
    return message[at];
}

static void on_message(int is_sent, int version, int type, const void *buffer, size_t size, SSL *ssl,
                       void *context)
{
    struct peer_connection *connection = context;
    const uint8_t *message = buffer;
    (void)version, (void)ssl;
    if (is_sent || type != SSL3_RT_HANDSHAKE || size < 4)
        return;
    if (message[0] == HANDSHAKE_CLIENT_HELLO) /* type, 3 of length, version, random, session id */
        connection->offered_size =
            copy_vector(connection->offered_id, sizeof connection->offered_id, message, size, 4 + 2 + 32);
    else if (message[0] == HANDSHAKE_CLIENT_KEY_EXCHANGE)
        connection->key_share_size =
            copy_vector(connection->key_share, sizeof connection->key_share, message, size, 4);
}

void peer_watch(struct peer_connection *connection)
{
    BIO *bio = SSL_get_rbio(connection->ssl);
    BIO_set_callback_arg(bio, (char *)connection);
    BIO_set_callback_ex(bio, on_bytes);
    SSL_set_msg_callback(connection->ssl, on_message);
    SSL_set_msg_callback_arg(connection->ssl, connection);
}

static void learn_keys(struct peer_connection *connection, const uint8_t *client, const uint8_t *server)
{
    uint8_t master[TLS_MASTER_BYTES], digest[EVP_MAX_MD_SIZE], secret[TLS_BLOCK_MAX];
    struct tls_keys keys;
    if (SSL_version(connection->ssl) != TLS1_2_VERSION ||
        SSL_SESSION_get_master_key(SSL_get_session(connection->ssl), master, sizeof master) !=
            sizeof master ||
        tls_keys_derive(&keys, SSL_get_cipher_name(connection->ssl), master, client, server))
        return;
    memcpy(secret, tls_keys_client_key(&keys), keys.key_bytes);
    memcpy(secret + keys.key_bytes, tls_keys_client_iv(&keys), keys.iv_bytes);
    if (EVP_Digest(secret, keys.key_bytes + keys.iv_bytes, digest, NULL, EVP_sha256(), NULL) != 1)
        return;
    to_hex(connection->key_id, digest, 16);
    connection->explicit_bytes = keys.explicit_bytes;
    connection->keys_known = true;
}

/* Text of the client's, without what would end a JSON string. */
static void clean(char *to, size_t room, const char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; text && i < size && used + 1 < room; i++)
        if (text[i] >= ' ' && text[i] < 127 && text[i] != '"' && text[i] != '\\')
            to[used++] = text[i];
    to[used] = '\0';
}

static void client_name(const SSL *ssl, char *to, size_t room)
{
    char subject[128] = "";
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    if (certificate)
        X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
    X509_free(certificate);
    clean(to, room, subject, strlen(subject));
}

void peer_log_handshake(struct peer_connection *connection)
{
    uint8_t client[TLS_RANDOM_BYTES], server[TLS_RANDOM_BYTES];
    char client_hex[65], server_hex[65], offered[65], given[65], share[321], name[256], subject[128],
        alpn[64];
    SSL *ssl = connection->ssl;
    unsigned size = 0, alpn_size = 0;
    SSL_get_client_random(ssl, client, sizeof client);
    SSL_get_server_random(ssl, server, sizeof server);
    learn_keys(connection, client, server);
    const uint8_t *id = SSL_SESSION_get_id(SSL_get_session(ssl), &size), *protocol = NULL;
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_get0_alpn_selected(ssl, &protocol, &alpn_size);
    to_hex(client_hex, client, sizeof client);
    to_hex(server_hex, server, sizeof server);
    to_hex(offered, connection->offered_id, connection->offered_size);
    to_hex(given, id, size);
    to_hex(share, connection->key_share, connection->key_share_size);
    clean(name, sizeof name, asked, asked ? strlen(asked) : 0);
    clean(alpn, sizeof alpn, (const char *)protocol, alpn_size);
    client_name(ssl, subject, sizeof subject);
    if (!log_file)
        return;
    pthread_mutex_lock(&lock);
    (void)fprintf(
        log_file,
        "{\"event\":\"handshake\",\"connection\":%u,\"from\":\"%s\",\"resumed\":%s,\"version\":\"%s\","
        "\"cipher\":\"%s\",\"client_random\":\"%s\",\"server_random\":\"%s\",\"offered_id\":\"%s\","
        "\"given_id\":\"%s\",\"key_share\":\"%s\",\"key\":\"%s\",\"name\":\"%s\",\"client\":\"%s\","
        "\"alpn\":\"%s\"}\n",
        connection->number, connection->from, SSL_session_reused(ssl) ? "true" : "false",
        SSL_get_version(ssl), SSL_get_cipher_name(ssl), client_hex, server_hex, offered, given, share,
        connection->key_id, name, subject, alpn);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < connection->ahead_count && connection->explicit_bytes; i++)
        log_record(connection, connection->ahead[i]);
}

void peer_log_end(const struct peer_connection *connection, const char *event, const char *how)
{
    char clear[256];
    clean(clear, sizeof clear, how, strlen(how));
    if (!log_file)
        return;
    pthread_mutex_lock(&lock);
    (void)fprintf(log_file,
                  "{\"event\":\"%s\",\"connection\":%u,\"from\":\"%s\",\"requests\":%u,\"how\":\"%s\"}\n",
                  event, connection->number, connection->from, connection->requests, clear);
    pthread_mutex_unlock(&lock);
}
