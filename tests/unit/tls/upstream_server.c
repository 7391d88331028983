/*
 * See upstream_stage.h: the server's half. It runs in a thread of its own and asserts nothing: what it saw is
 * looked at by the test when it has ended.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/upstream_stage.h"

void *server_run(void *context);

void server_accept(struct server *server)
{
    struct pollfd wait = {.fd = server->listen_fd, .events = POLLIN};
    struct timeval limit = {.tv_sec = STAGE_LIMIT_MS / 1000};
    int one = 1;
    fd_close(&server->fd);
    if (poll(&wait, 1, STAGE_LIMIT_MS) != 1)
        return;
    server->fd = accept(server->listen_fd, NULL, NULL);
    setsockopt(server->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(server->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

void server_close(struct server *server, bool reset)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(server->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    fd_close(&server->fd);
}

void *server_run(void *context)
{
    struct server *server = context;
    server_accept(server);
    if (server->fd >= 0)
        server->script(server);
    server_close(server, false);
    return NULL;
}

/* The client's chain is judged as a client judges a server's, but for the name. */
static void ask_for_client(struct server *server)
{
    br_x509_minimal_context *minimal = &server->minimal;
    br_x509_minimal_init(minimal, &br_sha256_vtable, server->clients.anchors, server->clients.anchor_count);
    br_x509_minimal_set_rsa(minimal, br_rsa_pkcs1_vrfy_get_default());
    br_x509_minimal_set_ecdsa(minimal, br_ec_get_default(), br_ecdsa_vrfy_asn1_get_default());
    br_x509_minimal_set_hash(minimal, br_sha256_ID, &br_sha256_vtable);
    time_t now = time(NULL);
    br_x509_minimal_set_time(minimal, (uint32_t)(now / 86400 + 719528), (uint32_t)(now % 86400));
    br_ssl_engine_set_x509(&server->tls.eng, &minimal->vtable);
    br_ssl_server_set_trust_anchor_names_alt(&server->tls, server->clients.anchors,
                                             server->clients.anchor_count);
    br_ssl_engine_set_default_rsavrfy(&server->tls.eng);
    br_ssl_engine_set_default_ecdsa(&server->tls.eng);
}

void server_begin_tls(struct server *server)
{
    static const char *protocols[] = {"http/1.1"};
    const struct credentials *shown = &server->shown;
    const br_ec_private_key *ec = br_skey_decoder_get_ec(shown->key);
    if (ec)
        br_ssl_server_init_full_ec(&server->tls, shown->chain, shown->chain_length, BR_KEYTYPE_EC, ec);
    else
        br_ssl_server_init_full_rsa(&server->tls, shown->chain, shown->chain_length,
                                    br_skey_decoder_get_rsa(shown->key));
    if (server->version)
        br_ssl_engine_set_versions(&server->tls.eng, server->version, server->version);
    if (server->wants_client)
        ask_for_client(server);
    br_ssl_server_set_cache(&server->tls, &server->cache.vtable);
    br_ssl_engine_set_protocol_names(&server->tls.eng, protocols, 1);
    br_ssl_engine_set_buffer(&server->tls.eng, server->buffer, sizeof server->buffer, 1);
    br_ssl_server_reset(&server->tls);
}

/* Move records until one of those states is reached; false: closed or failed before. */
static bool pump_until(struct server *server, unsigned states)
{
    br_ssl_engine_context *tls = &server->tls.eng;
    for (;;) {
        unsigned now = br_ssl_engine_current_state(tls);
        size_t size = 0;
        if (now == BR_SSL_CLOSED) {
            server->error = br_ssl_engine_last_error(tls);
            server->saw_end = server->saw_end || tls->shutdown_recv;
            return false;
        }
        if (now & BR_SSL_SENDREC) {
            uint8_t *from = br_ssl_engine_sendrec_buf(tls, &size);
            if (server->spoil)
                from[size - 1] ^= 1;
            server->spoil = false;
            ssize_t sent = send(server->fd, from, size, MSG_NOSIGNAL);
            if (sent <= 0)
                return false;
            br_ssl_engine_sendrec_ack(tls, (size_t)sent);
        } else if (now & states) {
            return true;
        } else if (now & BR_SSL_RECVREC) {
            uint8_t *into = br_ssl_engine_recvrec_buf(tls, &size);
            ssize_t got = recv(server->fd, into, size, 0);
            if (got <= 0)
                return false;
            br_ssl_engine_recvrec_ack(tls, (size_t)got);
        } else {
            return false;
        }
    }
}

bool server_handshake(struct server *server)
{
    server_begin_tls(server);
    return pump_until(server, BR_SSL_SENDAPP | BR_SSL_RECVAPP);
}

bool server_send(struct server *server, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        if (!pump_until(server, BR_SSL_SENDAPP))
            return false;
        size_t room = 0;
        uint8_t *into = br_ssl_engine_sendapp_buf(&server->tls.eng, &room);
        room = room < size - done ? room : size - done;
        memcpy(into, (const uint8_t *)data + done, room);
        br_ssl_engine_sendapp_ack(&server->tls.eng, room);
        br_ssl_engine_flush(&server->tls.eng, 0);
        done += room;
    }
    return pump_until(server, BR_SSL_SENDAPP);
}

size_t server_receive(struct server *server, void *data, size_t size)
{
    if (!pump_until(server, BR_SSL_RECVAPP))
        return 0;
    size_t have = 0;
    const uint8_t *from = br_ssl_engine_recvapp_buf(&server->tls.eng, &have);
    have = have < size ? have : size;
    memcpy(data, from, have);
    br_ssl_engine_recvapp_ack(&server->tls.eng, have);
    server->taken += have;
    return have;
}

void server_end(struct server *server)
{
    br_ssl_engine_close(&server->tls.eng);
    pump_until(server, 0);
}

void server_send_raw(struct server *server, const void *data, size_t size)
{
    fd_write_all(server->fd, data, size);
}

void server_take_hello(struct server *server)
{
    if (fd_read_all(server->fd, server->hello, 5) != 0)
        return;
    size_t size = (size_t)server->hello[3] << 8 | server->hello[4];
    if (size <= sizeof server->hello - 5 && fd_read_all(server->fd, server->hello + 5, size) == 0)
        server->hello_size = 5 + size;
}

void server_drain_raw(struct server *server)
{
    uint8_t nothing[512];
    while (recv(server->fd, nothing, sizeof nothing, 0) > 0)
        continue;
}

void script_echo(struct server *server)
{
    char data[16384];
    size_t size;
    if (!server_handshake(server))
        return;
    while ((size = server_receive(server, data, sizeof data)))
        if (!server_send(server, data, size))
            return;
}
