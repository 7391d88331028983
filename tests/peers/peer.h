/*
 * tls-peer, its parts: the server (tls-peer.c), a connection's life (peer-serve.c), what is written down of
 * it (peer-watch.c).
 */
#ifndef TESTS_PEERS_PEER_H
#define TESTS_PEERS_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/peers/keys.h"

#define PEER_NONCES_AHEAD 8 /* encrypted records that may come before the keys are known */

enum peer_fault {
    PEER_NO_FAULT,
    PEER_RESET_IN_HANDSHAKE, /* the ClientHello is read, then the connection reset */
    PEER_OVERSIZED_RECORD,   /* its answer is a record that says 65535 bytes */
    PEER_TRUNCATED_RECORD,   /* ... one that ends, with the stream, after 10 of its 64 bytes */
    PEER_SILENT,             /* accepts, reads, says nothing */
    PEER_CLOSE_IDLE,         /* close_notify after each answer */
    PEER_OVERSIZED_ANSWER,   /* the handshake is fine, the answer to the first request is such a record */
    PEER_TRUNCATED_ANSWER,
    PEER_RESET_ANSWER,
    PEER_FAULT_COUNT
};

struct peer_options {
    enum peer_fault fault;
    unsigned delay_ms; /* before whatever came is looked at */
};

struct peer_connection {
    const struct peer_options *options;
    unsigned number;
    int fd;
    SSL *ssl;
    char from[80];
    unsigned requests;
    /* what the client sent, as seen on the wire */
    uint8_t offered_id[32], key_share[160];
    size_t offered_size, key_share_size;
    uint8_t header[5], nonce[8];
    size_t header_have, nonce_have, body_left;
    bool encrypted; /* its ChangeCipherSpec has come */
    uint8_t ahead[PEER_NONCES_AHEAD][8];
    unsigned ahead_count;
    bool keys_known;
    char
        key_id[33]; /* of the client's write key and initial vector: a digest, so that the log holds no key */
    size_t explicit_bytes;
};

/* ---- peer-watch.c ---- */

int peer_log_open(const char *path);
int peer_keylog_open(const char *path);
void peer_keylog(const SSL *ssl, const char *line);
/* Follow what passes on the connection's descriptor and in its handshake. */
void peer_watch(struct peer_connection *connection);
void peer_log_handshake(struct peer_connection *connection);
/* The handshake failed, or the connection ended: `event` and how. */
void peer_log_end(const struct peer_connection *connection, const char *event, const char *how);

/* ---- peer-serve.c ---- */

/* The connection from its accept to its end. Closes the descriptor. */
void peer_serve(struct peer_connection *connection);

#endif
