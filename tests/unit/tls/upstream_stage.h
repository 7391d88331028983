/*
 * A stage for the tests of upstreams: a loop, a plan, an upstream, and a server that plays a script.
 *
 * The server is a thread with blocking sockets on 127.0.0.1, and BearSSL's server behind them when the script
 * wants TLS. Whatever waits, on either side, gives up after STAGE_LIMIT_MS, and the test fails. Certificates
 * are those of tests/support/tls-certs.sh. Names are looked up in `stage->addresses` (there is no DNS here).
 */
#ifndef TESTS_UNIT_TLS_UPSTREAM_STAGE_H
#define TESTS_UNIT_TLS_UPSTREAM_STAGE_H

#include <bearssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/upstream.h"

#define STAGE_LIMIT_MS 20000

struct server;
typedef void server_script(struct server *server);

struct server {
    int listen_fd, fd;
    uint16_t port;
    pthread_t thread;
    bool running;
    server_script *script;
    /* TLS, when the script begins it */
    struct credentials shown, clients; /* clients: trust, for those who must show a certificate */
    bool wants_client;
    unsigned version; /* 0: 1.2 */
    br_ssl_server_context tls;
    br_x509_minimal_context minimal;
    br_ssl_session_cache_lru cache;
    uint8_t cache_store[4096];
    uint8_t buffer[BR_SSL_BUFSIZE_BIDI];
    bool spoil; /* flip a bit of the next record sent */
    /* what it saw */
    uint8_t hello[4096]; /* of server_take_hello */
    size_t hello_size;
    int error; /* BearSSL's */
    size_t taken;
    bool saw_end; /* the client's close_notify */
};

struct stage {
    struct loop loop;
    struct manifest_connection connection;
    struct credentials credentials;
    struct upstream_sessions sessions;
    struct upstream_plan plan;
    struct upstream upstream;
    struct server server;
    bool hold, fini_when_told; /* do not read; end the upstream from within `changed` */
    unsigned told;
    char *got; /* read, up to a limit of STAGE_GOT_BYTES */
    size_t got_size;
};

#define STAGE_GOT_BYTES (8u << 20)

/* What dns_begin answers with; `pending`: later never. */
extern struct stage_names {
    struct dns_address addresses[DNS_ADDRESSES_MAX];
    unsigned count;
    bool pending;
    int error;
} stage_names;
void stage_add_address(const char *text);

int stage_setup(void **state);
int stage_teardown(void **state);
/* A certificate's path: "ec.pem". */
const char *stage_path(const char *name);
void stage_load_trust(struct stage *stage, const char *name);
void stage_load_client(struct stage *stage, const char *name);

/* Start a server that shows `certificate` ("ec", "rsa"; NULL: none) and the upstream towards it. */
void stage_serve(struct stage *stage, const char *certificate, server_script *script);
void stage_begin(struct stage *stage);
void stage_stop_server(struct stage *stage);
void stage_changed(void *context, struct upstream *upstream);
/* Run the loop until the upstream is in that state, or all `size` bytes have come. Fails when it cannot be.
 */
void stage_until(struct stage *stage, enum upstream_state state);
void stage_until_got(struct stage *stage, size_t size);
/* Run what is ready, until nothing is for a moment that the kernel needs on loopback: none. */
void stage_run_ready(struct stage *stage);
void stage_write(struct stage *stage, const void *data, size_t size);
void stage_assert_failed(struct stage *stage, int error, const char *words);

/* ---- for scripts */
void server_accept(struct server *server);
void server_close(struct server *server, bool reset);
void server_begin_tls(struct server *server);
/* Until the handshake is done; false: it failed. */
bool server_handshake(struct server *server);
bool server_send(struct server *server, const void *data, size_t size);
/* One read, 0: ended. */
size_t server_receive(struct server *server, void *data, size_t size);
/* close_notify, and wait for the client's. */
void server_end(struct server *server);
void server_send_raw(struct server *server, const void *data, size_t size);
/* The first record of the client's, as it is. */
void server_take_hello(struct server *server);
/* Until the client goes. */
void server_drain_raw(struct server *server);

void script_echo(struct server *server);

#endif
