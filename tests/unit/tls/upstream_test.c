/*
 * agent/tls/upstream: what goes well. A server in a thread, over loopback.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/tls/engine.h"
#include "agent/tls/proven.h"
#include "tests/unit/tls/upstream_stage.h"

static void exchange(struct stage *stage, const char *certificate)
{
    strcpy(stage->connection.alpn[0], "h9");
    strcpy(stage->connection.alpn[1], "http/1.1");
    stage->connection.alpn_count = 2;
    stage_serve(stage, certificate, script_echo);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    assert_false(stage->upstream.resumed);
    assert_true(upstream_is_quiet(&stage->upstream));
    stage_write(stage, "ping", 4);
    stage_until_got(stage, 4);
    assert_memory_equal(stage->got, "ping", 4);
    br_ssl_engine_context *tls = &stage->upstream.engine->client.eng;
    assert_string_equal(br_ssl_engine_get_selected_protocol(tls), "http/1.1");
    assert_int_equal(br_ssl_engine_get_version(tls), BR_TLS12);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
    assert_true(stage->upstream.peer_ended);
    upstream_fini(&stage->upstream);
    stage_stop_server(stage);
    assert_string_equal(br_ssl_engine_get_server_name(&stage->server.tls.eng), "orders.example.test");
    assert_true(stage->server.saw_end);
    assert_int_equal(stage->server.error, 0);
}

static void test_exchange_with_an_ec_certificate(void **state)
{
    exchange(*state, "ec");
}

static void test_exchange_with_an_rsa_certificate(void **state)
{
    exchange(*state, "rsa");
}

static void fill(char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 7 + i / 4099);
}

static void script_take_all(struct server *server)
{
    static char data[16384];
    size_t size;
    if (!server_handshake(server))
        return;
    while ((size = server_receive(server, data, sizeof data)))
        continue;
}

static void test_much_is_sent_whole(void **state)
{
    struct stage *stage = *state;
    size_t size = 3u << 20;
    char *data = malloc(size);
    fill(data, size);
    stage_serve(stage, "ec", script_take_all);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage_write(stage, data, size);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
    stage_stop_server(stage);
    assert_int_equal(stage->server.taken, size);
    assert_true(stage->server.saw_end);
    free(data);
}

enum { MUCH = 6u << 20 };

static void script_send_much(struct server *server)
{
    char *data = malloc(MUCH);
    fill(data, MUCH);
    if (server_handshake(server) && server_send(server, data, MUCH))
        server_end(server);
    free(data);
}

static void test_unread_data_holds_the_server_back(void **state)
{
    struct stage *stage = *state;
    char *data = malloc(MUCH);
    fill(data, MUCH);
    stage_serve(stage, "ec", script_send_much);
    stage->hold = true;
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    /* Until more has come than one record, and the upstream has stopped to listen. */
    while (stage->upstream.source.fd >= 0)
        assert_true(loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0);
    size_t size = 0;
    assert_non_null(upstream_peek(&stage->upstream, &size));
    assert_true(size <= 16384);
    assert_int_equal(loop_run_once(&stage->loop, 0), 0);
    stage->hold = false;
    stage_changed(stage, &stage->upstream);
    stage_until_got(stage, MUCH);
    assert_memory_equal(stage->got, data, MUCH);
    stage_until(stage, UPSTREAM_CLOSED);
    assert_true(stage->upstream.peer_ended);
    free(data);
}

static void script_send_and_end(struct server *server)
{
    if (server_handshake(server) && server_send(server, "the last words", 14))
        server_end(server);
}

static void test_what_came_before_the_end_can_be_read(void **state)
{
    struct stage *stage = *state;
    size_t size = 0;
    stage_serve(stage, "ec", script_send_and_end);
    stage->hold = true;
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    while (!upstream_peek(&stage->upstream, &size))
        assert_true(loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0);
    assert_int_equal(size, 14);
    assert_false(upstream_is_quiet(&stage->upstream));
    assert_memory_equal(upstream_peek(&stage->upstream, &size), "the last words", 14);
    upstream_drop(&stage->upstream, 4);
    assert_memory_equal(upstream_peek(&stage->upstream, &size), "last words", 10);
    stage_run_ready(stage);
    upstream_drop(&stage->upstream, 10);
    stage_until(stage, UPSTREAM_CLOSED);
    assert_true(stage->upstream.peer_ended);
    assert_null(upstream_peek(&stage->upstream, &size));
    assert_int_equal(upstream_write(&stage->upstream, "x", 1), -ENOTCONN);
}

/* Each of two connections that a test makes, one after the other. */
static void script_twice(struct server *server)
{
    script_echo(server);
    server_accept(server);
    script_echo(server);
}

static void connect_and_close(struct stage *stage)
{
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage->got_size = 0;
    stage_write(stage, "ping", 4);
    stage_until_got(stage, 4);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
}

static void test_a_session_is_resumed(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_twice);
    connect_and_close(stage);
    assert_false(stage->upstream.resumed);
    assert_true(stage->sessions.has_last);
    upstream_fini(&stage->upstream);
    connect_and_close(stage);
    assert_true(stage->upstream.resumed);
}

static void test_a_cleared_session_is_not_resumed(void **state)
{
    struct stage *stage = *state;
    static const struct upstream_sessions none;
    stage_serve(stage, "ec", script_twice);
    connect_and_close(stage);
    unsigned spared = proven_count().spared;
    upstream_sessions_clear(&stage->sessions);
    assert_memory_equal(&stage->sessions, &none, sizeof none);
    upstream_fini(&stage->upstream);
    connect_and_close(stage);
    assert_false(stage->upstream.resumed);
    /* The same chain again, of two signatures; what is fresh in each handshake is checked each time. */
    assert_int_equal(proven_count().spared, spared + 2);
}

static void script_client_certificate(struct server *server)
{
    server->wants_client = true;
    script_echo(server);
}

static void with_client_certificate(struct stage *stage, const char *name)
{
    char why[CREDENTIALS_WHY_BYTES];
    assert_int_equal(credentials_load_trust(&stage->server.clients, stage_path("ca.pem"), why), 0);
    stage_load_client(stage, name);
    stage_serve(stage, "ec", script_client_certificate);
    connect_and_close(stage);
    stage_stop_server(stage);
    assert_int_equal(stage->server.error, 0);
    assert_int_equal(stage->server.taken, 4);
}

static void test_a_client_certificate_is_shown(void **state)
{
    with_client_certificate(*state, "client");
}

static void test_an_ec_client_certificate_is_shown(void **state)
{
    with_client_certificate(*state, "client-ec");
}

/* Bytes 11 to 42 of the first record are the client random. */
static void script_take_two_hellos(struct server *server)
{
    uint8_t first[4096];
    server_take_hello(server);
    memcpy(first, server->hello, sizeof first);
    server_accept(server);
    server_take_hello(server);
    server->taken = memcmp(first + 11, server->hello + 11, 32) != 0;
}

/* Until the server goes. */
static void greet(struct stage *stage)
{
    stage_begin(stage);
    while (stage->upstream.state != UPSTREAM_FAILED && loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0)
        continue;
    upstream_fini(&stage->upstream);
}

static void test_twins_greet_with_different_randoms(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, NULL, script_take_two_hellos);
    pid_t twin = fork();
    if (twin == 0) { /* the same plan, generator and memory, as in another clone; its own events only */
        loop_init(&stage->loop);
        greet(stage);
        _exit(0);
    }
    int status = 0;
    greet(stage);
    assert_int_equal(waitpid(twin, &status, 0), twin);
    stage_stop_server(stage);
    assert_true(stage->server.hello_size > 43);
    assert_int_equal(stage->server.taken, 1);
}

static void script_renegotiate(struct server *server)
{
    char data[8];
    if (!server_handshake(server))
        return;
    br_ssl_engine_renegotiate(&server->tls.eng);
    server_receive(server, data, sizeof data);
}

static void test_renegotiation_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_renegotiate);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    while (stage->upstream.state == UPSTREAM_OPEN)
        assert_true(loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0);
    stage_stop_server(stage);
    assert_int_equal(stage->server.error, BR_ERR_RECV_FATAL_ALERT + BR_ALERT_NO_RENEGOTIATION);
}

static void test_it_can_be_ended_from_within(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_echo);
    stage->fini_when_told = true;
    stage_begin(stage);
    while (stage->upstream.state != UPSTREAM_NONE)
        assert_true(loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0);
    assert_int_equal(stage->told, 1);
    assert_int_equal(loop_run_once(&stage->loop, 0), 0);
}

static void test_close_before_it_is_open(void **state)
{
    struct stage *stage = *state;
    stage_names.pending = true;
    stage_begin(stage);
    assert_int_equal(stage->upstream.state, UPSTREAM_RESOLVING);
    upstream_close(&stage->upstream);
    assert_int_equal(stage->upstream.state, UPSTREAM_CLOSED);
    assert_int_equal(stage->told, 0);
    assert_int_equal(loop_run_once(&stage->loop, STAGE_LIMIT_MS), 1);
    assert_int_equal(stage->told, 1);
}

/* Freed memory stays as it was for a while, under the address sanitizer; this reads it all the same. */
__attribute__((no_sanitize("address"), no_sanitize("thread"), noinline)) static bool
holds(const uint8_t *where, size_t size, const uint8_t *what, size_t what_size)
{
    for (size_t i = 0; i + what_size <= size; i++) {
        size_t same = 0;
        while (same < what_size && ((const volatile uint8_t *)where)[i + same] == what[same])
            same++;
        if (same == what_size)
            return true;
    }
    return false;
}

static void test_nothing_secret_is_left(void **state)
{
    struct stage *stage = *state;
    static const uint8_t ping[] = "ping, which nobody else is to read";
    stage_serve(stage, "ec", script_echo);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage_write(stage, ping, sizeof ping);
    stage_until_got(stage, sizeof ping);
    const struct upstream_engine *engine = stage->upstream.engine;
    const uint8_t *where = (const uint8_t *)engine;
    uint8_t secret[48];
    memcpy(secret, engine->client.eng.session.master_secret, sizeof secret);
    assert_true(holds(where, sizeof *engine, secret, sizeof secret));
    assert_true(holds(where, sizeof *engine, ping, sizeof ping));
    assert_memory_equal(stage->sessions.last.master_secret, secret, sizeof secret);
    upstream_fini(&stage->upstream);
    upstream_sessions_clear(&stage->sessions);
    assert_false(holds(where, sizeof *engine, secret, 8));
    assert_false(holds(where, sizeof *engine, ping, 8));
    assert_false(holds((const uint8_t *)stage, offsetof(struct stage, server), secret, 8));
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void test_a_dead_peer_would_be_found_out(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_echo);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    int fd = stage->upstream.fd;
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), UPSTREAM_DEAD_PEER_MS);
    int probes_s = option(fd, IPPROTO_TCP, TCP_KEEPINTVL) * option(fd, IPPROTO_TCP, TCP_KEEPCNT);
    assert_true((option(fd, IPPROTO_TCP, TCP_KEEPIDLE) + probes_s) * 1000 <= UPSTREAM_DEAD_PEER_MS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exchange_with_an_ec_certificate),
        TEST(test_exchange_with_an_rsa_certificate),
        TEST(test_much_is_sent_whole),
        TEST(test_unread_data_holds_the_server_back),
        TEST(test_what_came_before_the_end_can_be_read),
        TEST(test_a_session_is_resumed),
        TEST(test_a_cleared_session_is_not_resumed),
        TEST(test_a_client_certificate_is_shown),
        TEST(test_an_ec_client_certificate_is_shown),
        TEST(test_twins_greet_with_different_randoms),
        TEST(test_renegotiation_is_refused),
        TEST(test_it_can_be_ended_from_within),
        TEST(test_close_before_it_is_open),
        TEST(test_nothing_secret_is_left),
        TEST(test_a_dead_peer_would_be_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
