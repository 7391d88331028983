/*
 * agent/tls/upstream: servers that fail, lie, or go. Each failure names its cause.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/upstream_stage.h"

/* ---- no connection */

static void test_refused(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, NULL, server_drain_raw);
    /* A port that was listened on a moment ago, and is not any more. */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(stage->server.port)};
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    close(fd);
    stage_stop_server(stage);
    int error = upstream_begin(&stage->upstream, &stage->loop, &stage->plan, stage_changed, stage);
    if (!error) {
        stage_assert_failed(stage, -ECONNREFUSED, "cannot connect to orders.example.test at 127.0.0.1 port");
        return;
    }
    assert_int_equal(error, -ECONNREFUSED);
    assert_int_equal(stage->upstream.state, UPSTREAM_FAILED);
}

static void test_unreachable(void **state)
{
    struct stage *stage = *state;
    stage_add_address("ff02::1"); /* a group: nothing connects to it */
    int error = upstream_begin(&stage->upstream, &stage->loop, &stage->plan, stage_changed, stage);
    assert_int_equal(error, -ENETUNREACH);
    assert_int_equal(stage->upstream.state, UPSTREAM_FAILED);
    assert_non_null(strstr(stage->upstream.why, "cannot connect to orders.example.test at ff02::1 port"));
    stage_run_ready(stage);
    assert_int_equal(stage->told, 0);
}

static void test_no_such_name(void **state)
{
    struct stage *stage = *state;
    stage_names.error = -ENOENT;
    assert_int_equal(upstream_begin(&stage->upstream, &stage->loop, &stage->plan, stage_changed, stage),
                     -ENOENT);
    assert_string_equal(stage->upstream.why, "there is no such name");
}

static void test_no_answer_of_the_names(void **state)
{
    struct stage *stage = *state;
    stage_names.pending = true;
    stage->connection.connect_timeout_ms = 100;
    stage_begin(stage);
    stage_assert_failed(stage, -ETIMEDOUT, "no address within 100 ms");
}

static void test_a_bad_address_is_passed_over(void **state)
{
    struct stage *stage = *state;
    stage_add_address("ff02::1");
    stage_add_address("127.0.0.1");
    stage_serve(stage, "ec", script_echo);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    assert_int_equal(stage->upstream.error, 0);
    assert_string_equal(stage->upstream.why, "");
}

/* A listener whose queue is full: what connects to it waits. */
static void test_a_silent_address_has_but_its_share(void **state)
{
    struct stage *stage = *state;
    int fillers[2], deaf = socket(AF_INET, SOCK_STREAM, 0);
    stage_add_address("127.0.0.2");
    stage_add_address("127.0.0.1");
    stage_serve(stage, "ec", script_echo);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(stage->server.port)};
    inet_pton(AF_INET, "127.0.0.2", &at.sin_addr);
    assert_int_equal(bind(deaf, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(deaf, 0), 0);
    for (int i = 0; i < 2; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&at, sizeof at);
    }
    stage->connection.connect_timeout_ms = 3000;
    stage_begin(stage);
    uint64_t begun = clock_monotonic_ns();
    assert_int_equal(stage->upstream.state, UPSTREAM_CONNECTING);
    stage_until(stage, UPSTREAM_OPEN);
    assert_true(clock_monotonic_ns() - begun >= 1400 * 1000000ull);
    for (int i = 0; i < 2; i++)
        close(fillers[i]);
    close(deaf);
}

static void test_a_timer_of_before_means_nothing(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_echo);
    stage_begin(stage);
    assert_int_equal(stage->upstream.state, UPSTREAM_CONNECTING);
    loop_timer_arm(stage->upstream.timer_fd, 0); /* as when its event was fetched before it was armed anew */
    while (stage->upstream.state == UPSTREAM_CONNECTING)
        assert_true(loop_run_once(&stage->loop, STAGE_LIMIT_MS) > 0);
    loop_timer_arm(stage->upstream.timer_fd, 0);
    stage_until(stage, UPSTREAM_OPEN);
}

/* ---- no handshake */

static void fails(void **state, const char *certificate, server_script *script, int error, const char *words)
{
    struct stage *stage = *state;
    stage_serve(stage, certificate, script);
    stage_begin(stage);
    stage_assert_failed(stage, error, words);
    assert_false(stage->sessions.has_last);
}

static void test_a_server_that_says_nothing(void **state)
{
    struct stage *stage = *state;
    stage->connection.connect_timeout_ms = 150;
    fails(state, NULL, server_drain_raw, -ETIMEDOUT, "server did not finish the handshake within 150 ms");
}

static void script_reset(struct server *server)
{
    server_take_hello(server);
    server_close(server, true);
}

static void test_reset_in_mid_handshake(void **state)
{
    fails(state, NULL, script_reset, -ECONNRESET, "server reset the connection in mid-handshake");
}

static void test_end_in_mid_handshake(void **state)
{
    fails(state, NULL, server_take_hello, -ECONNRESET, "server ended the connection in mid-handshake");
}

static void script_http(struct server *server)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    server_take_hello(server);
    server_send_raw(server, answer, sizeof answer - 1);
    server_drain_raw(server);
}

static void test_a_server_that_does_not_speak_tls(void **state)
{
    fails(state, NULL, script_http, -EPROTO, "does it speak TLS on this port?");
}

static uint8_t next_alert;
static void script_alert(struct server *server)
{
    uint8_t alert[] = {21, 3, 3, 0, 2, 2, next_alert};
    server_take_hello(server);
    server_send_raw(server, alert, sizeof alert);
    server_drain_raw(server);
}

static void test_alert_protocol_version(void **state)
{
    next_alert = BR_ALERT_PROTOCOL_VERSION;
    fails(state, NULL, script_alert, -EPROTO, "server does not speak TLS 1.2 (alert protocol_version)");
}

static void test_alert_handshake_failure(void **state)
{
    next_alert = BR_ALERT_HANDSHAKE_FAILURE;
    fails(state, NULL, script_alert, -EPROTO, "server refused the handshake (alert handshake_failure)");
}

static void test_alert_unrecognized_name(void **state)
{
    next_alert = 112;
    fails(state, NULL, script_alert, -EPROTO, "alert unrecognized_name (112)");
}

static void test_an_alert_without_a_name(void **state)
{
    next_alert = 199;
    fails(state, NULL, script_alert, -EPROTO, "alert unknown (199)");
}

static void script_tls10(struct server *server)
{
    server->version = BR_TLS10;
    server_begin_tls(server);
    /* BearSSL's server would refuse 1.2's greeting: this one answers as if it had not understood it. */
    static const uint8_t hello[] = {22, 3,  1,  0,  42, 2,  0,  0,  38, 3,  1,  1,  2,    3,    4,  5,
                                    6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18,   19,   20, 21,
                                    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0,  0xc0, 0x13, 0};
    server_take_hello(server);
    server_send_raw(server, hello, sizeof hello);
    server_drain_raw(server);
}

static void test_a_server_of_tls_1_0(void **state)
{
    fails(state, "ec", script_tls10, -EPROTO, "server speaks TLS 1.0; 1.2 is what is spoken here");
}

static void test_no_name_to_check(void **state)
{
    struct stage *stage = *state;
    stage->connection.host[0] = stage->connection.server_name[0] = '\0';
    fails(state, NULL, server_drain_raw, -EINVAL, "no server name to check");
}

static void script_wants_client(struct server *server)
{
    char why[CREDENTIALS_WHY_BYTES];
    credentials_load_trust(&server->clients, stage_path("ca.pem"), why);
    server->wants_client = true;
    server_handshake(server);
}

static void test_a_client_certificate_is_wanted_and_not_there(void **state)
{
    fails(state, "ec", script_wants_client, -ECONNRESET, "asked for a client certificate and got none");
}

/* ---- no whole stream */

static void breaks(void **state, server_script *script, int error, const char *words)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage_assert_failed(stage, error, words);
}

static void script_send_and_go(struct server *server)
{
    if (server_handshake(server))
        server_send(server, "some of it", 10);
}

static void test_an_end_without_close_notify(void **state)
{
    struct stage *stage = *state;
    breaks(state, script_send_and_go, -ECONNRESET, "ended without close_notify: what came may be cut off");
    assert_int_equal(stage->got_size, 10);
    assert_memory_equal(stage->got, "some of it", 10);
    assert_false(stage->upstream.peer_ended);
}

static void script_send_and_reset(struct server *server)
{
    if (server_handshake(server) && server_send(server, "some of it", 10))
        server_close(server, true);
}

static void test_a_reset_is_told_after_what_came(void **state)
{
    struct stage *stage = *state;
    size_t size = 0;
    stage->hold = true;
    stage_serve(stage, "ec", script_send_and_reset);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage_stop_server(stage);
    stage_run_ready(stage);
    assert_int_equal(stage->upstream.state, UPSTREAM_OPEN);
    assert_int_equal(loop_run_once(&stage->loop, 0), 0); /* a hang-up that nobody listens to */
    assert_memory_equal(upstream_peek(&stage->upstream, &size), "some of it", 10);
    /* What can no longer be sent does not take away what came. */
    for (int i = 0; i < 2; i++)
        upstream_write(&stage->upstream, "more", 4);
    assert_true(upstream_write(&stage->upstream, "more", 4) < 0);
    assert_memory_equal(upstream_peek(&stage->upstream, &size), "some of it", 10);
    stage->hold = false;
    stage_changed(stage, &stage->upstream);
    stage_assert_failed(stage, -ECONNRESET, "what came may be cut off");
    assert_int_equal(stage->got_size, 10);
}

static void script_oversized(struct server *server)
{
    static const uint8_t header[] = {23, 3, 3, 0x48, 0x01}; /* 16384 + 2048 + 1 bytes */
    if (!server_handshake(server))
        return;
    server_send_raw(server, header, sizeof header);
    server_drain_raw(server);
}

static void test_an_oversized_record(void **state)
{
    breaks(state, script_oversized, -EBADMSG, "a record that is too large");
}

static void script_truncated(struct server *server)
{
    static const uint8_t record[] = {23, 3, 3, 1, 0, 1, 2, 3, 4, 5};
    if (server_handshake(server))
        server_send_raw(server, record, sizeof record);
}

static void test_a_truncated_record(void **state)
{
    breaks(state, script_truncated, -ECONNRESET, "ended without close_notify");
}

static void script_spoilt(struct server *server)
{
    if (!server_handshake(server))
        return;
    server->spoil = true;
    server_send(server, "some of it", 10);
    server_drain_raw(server);
}

static void test_a_spoilt_record(void **state)
{
    struct stage *stage = *state;
    breaks(state, script_spoilt, -EBADMSG, "its authentication code is wrong");
    assert_int_equal(stage->got_size, 0);
    assert_false(stage->sessions.has_last);
}

static void script_deaf(struct server *server)
{
    if (server_handshake(server))
        server_drain_raw(server);
}

static void test_a_server_that_does_not_end(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_deaf);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    uint64_t begun = clock_monotonic_ns();
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
    assert_true(clock_monotonic_ns() - begun >= (UPSTREAM_CLOSE_LIMIT_MS - 1) * 1000000ull);
    assert_false(stage->upstream.peer_ended);
}

/* The server's kernel has had nothing of it: neither an end nor a reset. */
static void script_nothing_more(struct server *server)
{
    char byte;
    if (!server_handshake(server) || server_receive(server, &byte, 1) != 1)
        return;
    server->error =
        (int)recv(server->fd, &byte, 1, 0) == 0 ? EPIPE : errno; /* 0, -1: an end came, or a reset */
}

static void test_an_abandoned_connection_is_silent(void **state)
{
    struct stage *stage = *state;
    struct timeval soon = {.tv_usec = 300000};
    if (geteuid() != 0)
        skip();
    stage_serve(stage, "ec", script_nothing_more);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    setsockopt(stage->server.fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    assert_int_equal(upstream_write(&stage->upstream, "x", 1), 1);
    /* What the server's kernel still has to say would be answered with a reset, by this kernel. */
    uint64_t deadline = clock_monotonic_ns() + STAGE_LIMIT_MS * 1000000ull;
    while (!upstream_is_quiet(&stage->upstream) && clock_monotonic_ns() < deadline)
        loop_run_once(&stage->loop, 1);
    upstream_abandon(&stage->upstream);
    assert_int_equal(stage->upstream.state, UPSTREAM_NONE);
    assert_null(stage->upstream.engine);
    pthread_join(stage->server.thread, NULL);
    stage->server.running = false;
    assert_int_equal(stage->server.error, EAGAIN);
}

static void test_an_ended_connection_is_reset(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_nothing_more);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    assert_int_equal(upstream_write(&stage->upstream, "x", 1), 1);
    upstream_fini(&stage->upstream);
    pthread_join(stage->server.thread, NULL);
    stage->server.running = false;
    assert_int_equal(stage->server.error, ECONNRESET);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_refused),
        TEST(test_unreachable),
        TEST(test_no_such_name),
        TEST(test_no_answer_of_the_names),
        TEST(test_a_bad_address_is_passed_over),
        TEST(test_a_silent_address_has_but_its_share),
        TEST(test_a_timer_of_before_means_nothing),
        TEST(test_a_server_that_says_nothing),
        TEST(test_reset_in_mid_handshake),
        TEST(test_end_in_mid_handshake),
        TEST(test_a_server_that_does_not_speak_tls),
        TEST(test_alert_protocol_version),
        TEST(test_alert_handshake_failure),
        TEST(test_alert_unrecognized_name),
        TEST(test_an_alert_without_a_name),
        TEST(test_a_server_of_tls_1_0),
        TEST(test_no_name_to_check),
        TEST(test_a_client_certificate_is_wanted_and_not_there),
        TEST(test_an_end_without_close_notify),
        TEST(test_a_reset_is_told_after_what_came),
        TEST(test_an_oversized_record),
        TEST(test_a_truncated_record),
        TEST(test_a_spoilt_record),
        TEST(test_a_server_that_does_not_end),
        TEST(test_an_abandoned_connection_is_silent),
        TEST(test_an_ended_connection_is_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
