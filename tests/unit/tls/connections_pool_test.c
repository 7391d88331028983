/* Pools: filled, filled again, renewed; who shakes hands first; what a server that is down costs; reports. */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/connections_stage.h"

#define ONE    "[orders]\nhost = orders.test\n"
#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

static void without_a_manifest_nothing_happens(void **state)
{
    struct stat about;
    char why[CONNECTIONS_WHY_BYTES] = "";
    (void)state;
    assert_int_equal(stage_begin(NULL, why), 0);
    assert_false(connections_are_wanted(table));
    assert_int_equal(stat(stage_directory, &about), -1);
    assert_int_equal(stage_drain(1000), 0);
    connections_undrain(table);
    connections_forget(table);
    assert_int_equal(connections_renew(table, NULL, 0, why), 0);
}

static void a_bad_manifest_is_refused(void **state)
{
    char why[CONNECTIONS_WHY_BYTES] = "";
    (void)state;
    assert_int_equal(stage_begin(ONE "port = 70000\n", why), -EINVAL);
    assert_non_null(strstr(why, "/connections: line 3"));
    assert_false(connections_are_wanted(table));
}

static void bad_anchors_are_refused(void **state)
{
    char why[CONNECTIONS_WHY_BYTES] = "";
    (void)state;
    fake_trust_fails = true;
    assert_int_equal(stage_begin(ONE "trust = ca.pem\n", why), -EBADMSG);
    assert_non_null(strstr(why, "connection orders: "));
    assert_non_null(strstr(why, "/ca.pem: no certificate in it"));
    assert_false(connections_are_wanted(table));
}

static void a_port_in_use_is_refused(void **state)
{
    char why[CONNECTIONS_WHY_BYTES] = "";
    (void)state;
    assert_int_equal(stage_begin(ONE "local_port = 15872\n[b]\nhost = b.test\nlocal_port = 15873\n", why), 0);
    connections_fini(table);
    fake_reset();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in taken = {
        .sin_family = AF_INET, .sin_port = htons(15873), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(bind(fd, (const struct sockaddr *)&taken, sizeof taken), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(stage_begin(ONE "local_port = 15873\n", why), -EADDRINUSE);
    assert_non_null(strstr(why, "127.0.0.1:15873"));
    fd_close(&fd);
}

static void sockets_are_the_functions(void **state)
{
    struct stat about;
    char path[128];
    (void)state;
    stage_serve(ONE);
    assert_int_equal(stat(stage_directory, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0750);
    (void)snprintf(path, sizeof path, "%s/orders", stage_directory);
    assert_int_equal(stat(path, &about), 0);
    assert_true(S_ISSOCK(about.st_mode));
    assert_int_equal(about.st_mode & 07777, 0660);
    (void)snprintf(path, sizeof path, "%s/" CONNECTIONS_ASK, stage_directory);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0660);
}

static void an_earlier_agents_leftovers_go(void **state)
{
    char why[CONNECTIONS_WHY_BYTES] = "";
    (void)state;
    stage_serve(ONE);
    fake_fail(fake_last(), -ENOENT, "no such name");
    assert_non_null(stage_error_of("orders"));
    connections_fini(table);
    fake_reset();
    assert_int_equal(stage_begin(NULL, why), 0);
    assert_null(stage_error_of("orders"));
    int fd = function_open("orders");
    until(fake_count == 2);
    fd_close(&fd);
    stage_rest();
}

static void a_ready_one_is_taken_and_made_up_for(void **state)
{
    (void)state;
    stage_serve(ONE "pool = 2\n");
    assert_int_equal(fake_count, 2);
    assert_false(fakes[0].held);
    assert_true(fakes[1].held);
    fake_open(&fakes[0]);
    assert_false(fakes[1].held);
    fake_open(&fakes[1]);
    stage_rest();
    assert_int_equal(fake_count, 2);
    int fd = function_open("orders");
    function_write(fd, "hello");
    fake_expect(&fakes[0], "hello"); /* the oldest */
    assert_int_equal(fake_count, 3);
    fd_close(&fd);
    until(fakes[0].closed);
}

static void one_that_is_getting_ready_is_waited_for(void **state)
{
    (void)state;
    stage_serve(ONE);
    int fd = function_open("orders");
    function_write(fd, "hello");
    until(fake_count == 2); /* the pool's next */
    fake_open(&fakes[0]);
    fake_expect(&fakes[0], "hello");
    fd_close(&fd);
}

static void the_first_gets_a_session_for_the_others(void **state)
{
    (void)state;
    stage_serve(ONE "pool = 16\n");
    assert_int_equal(fake_count, 16);
    assert_false(fakes[0].held);
    for (int i = 1; i < 16; i++)
        assert_true(fakes[i].held);
    fake_open(&fakes[0]);
    for (int i = 1; i < 16; i++) {
        assert_false(fakes[i].held);
        assert_true(fakes[i].resumes);
    }
}

static void without_sessions_all_go_at_once(void **state)
{
    (void)state;
    fake_gives_sessions = false;
    stage_serve(ONE "pool = 4\n");
    fake_open(&fakes[0]);
    for (int i = 1; i < 4; i++) {
        assert_false(fakes[i].held);
        assert_false(fakes[i].resumes);
        fake_open(&fakes[i]);
    }
    /* And from then on nobody waits for one. */
    int first = function_open("orders"), second = function_open("orders");
    until(fake_count == 6);
    assert_false(fakes[4].held);
    assert_false(fakes[5].held);
    fd_close(&first);
    fd_close(&second);
}

static void a_leader_that_fails_is_followed(void **state)
{
    int fds[3];
    (void)state;
    stage_serve(ONE "pool = 0\n");
    for (int i = 0; i < 3; i++)
        fds[i] = function_open("orders");
    until(fake_count == 3);
    assert_true(fakes[1].held && fakes[2].held);
    fake_fail(&fakes[0], -ECONNRESET, "reset in the middle of the handshake");
    assert_false(fakes[1].held);
    assert_true(fakes[2].held);
    fake_open(&fakes[1]);
    assert_false(fakes[2].held);
    assert_int_equal(function_end(fds[0]), 0);
    for (int i = 0; i < 3; i++)
        fd_close(&fds[i]);
    stage_rest();
}

static void a_leader_whose_function_left_is_followed(void **state)
{
    (void)state;
    stage_serve(ONE "pool = 0\n");
    int first = function_open("orders"), second = function_open("orders");
    until(fake_count == 2);
    fd_close(&first);
    until(fakes[0].fini);
    assert_false(fakes[1].held);
    fd_close(&second);
    stage_rest();
}

static void a_server_that_is_down_is_asked_ever_less(void **state)
{
    uint64_t last_ns = clock_monotonic_ns();
    (void)state;
    stage_serve(ONE "pool = 4\n[other]\nhost = other.test\n");
    assert_int_equal(fake_count, 5);
    fake_open(&fakes[4]);
    struct fake *failing = &fakes[0];
    for (int round = 0; round < 4; round++) {
        const int before = fake_count;
        fake_fail(failing, -ECONNREFUSED, "refused");
        assert_int_equal(fake_alive(), 1); /* what was held went with it */
        until(fake_count == before + 4);
        const uint64_t now_ns = clock_monotonic_ns();
        const uint64_t wait_ns = (100 * MS) << round;
        assert_true(now_ns - last_ns >= wait_ns * 3 / 4 - 1 * MS);
        last_ns = now_ns;
        failing = &fakes[before];
    }
    fake_open(failing);
    stage_rest();
    assert_null(stage_error_of("orders"));
}

static void a_begin_that_fails_backs_off_too(void **state)
{
    (void)state;
    fake_begin_error = -EMFILE;
    stage_serve(ONE "pool = 3\n");
    assert_int_equal(fake_count, 1);
    assert_string_equal(stage_error_of("orders"), "could not begin\n");
    assert_int_equal(loop_run_once(&loop, 20), 0);
    fake_begin_error = 0;
    until(fake_count == 4);
}

static void a_server_that_closes_at_once_is_not_hammered(void **state)
{
    (void)state;
    stage_serve(ONE);
    fake_open(&fakes[0]);
    const uint64_t start_ns = clock_monotonic_ns();
    fake_end(&fakes[0]);
    until(fake_count == 2);
    assert_true(clock_monotonic_ns() - start_ns >= 70 * MS);
    assert_null(stage_error_of("orders")); /* no news */
    fake_open(&fakes[1]);
    fake_fail(&fakes[1], -ECONNRESET, "reset");
    assert_null(stage_error_of("orders"));
    until(fake_count == 3);
    assert_true(clock_monotonic_ns() - start_ns >= (70 + 145) * MS);
}

static void an_old_one_is_renewed(void **state)
{
    (void)state;
    stage_serve(ONE "idle_timeout_ms = 1000\n");
    fake_open(&fakes[0]);
    const uint64_t start_ns = clock_monotonic_ns();
    until(fake_count == 2);
    assert_true(clock_monotonic_ns() - start_ns >= SECOND);
    assert_true(fakes[0].closed);
    until(fakes[0].fini_in_order);
    /* One that lived long is replaced at once. */
    fake_open(&fakes[1]);
}

static void an_error_stays_until_a_success(void **state)
{
    char path[128];
    struct stat about;
    (void)state;
    stage_serve(ONE);
    fake_fail(&fakes[0], -EKEYREJECTED, "server's certificate expired on 2025-01-31");
    assert_string_equal(stage_error_of("orders"), "server's certificate expired on 2025-01-31\n");
    (void)snprintf(path, sizeof path, "%s/orders.error", stage_directory);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0644);
    until(fake_count == 2);
    assert_non_null(stage_error_of("orders"));
    fake_fail(&fakes[1], -ECONNREFUSED, "refused");
    assert_string_equal(stage_error_of("orders"), "refused\n");
    int fd = function_open("orders"); /* does not wait for the pool's turn */
    until(fake_count == 3);
    fake_open(&fakes[2]);
    assert_null(stage_error_of("orders"));
    fd_close(&fd);
    stage_rest();
}

static void without_its_key_nothing_is_begun(void **state)
{
    static struct resume_secret secret = {.name = "orders-key"};
    char why[RESUME_WHY_BYTES] = "";
    (void)state;
    stage_serve(ONE "client_certificate = c.pem\nclient_key_secret = orders-key\n");
    assert_int_equal(fake_count, 0);
    int fd = function_open("orders");
    assert_int_equal(function_end(fd), 0);
    assert_non_null(strstr(stage_error_of("orders"), "secret orders-key, has not been delivered"));
    fd_close(&fd);
    memcpy(secret.data, "bad", 3);
    secret.size = 3;
    assert_int_equal(connections_renew(table, &secret, 1, why), -EBADMSG);
    assert_string_equal(why, "secret orders-key: not a private key");
    assert_int_equal(fake_count, 0);
    memcpy(secret.data, "key", 3);
    assert_int_equal(connections_renew(table, &secret, 1, why), 0);
    assert_int_equal(fake_count, 1);
    assert_null(stage_error_of("orders"));
    /* Another resume without it: it is the last one's alone. */
    assert_int_equal(connections_renew(table, NULL, 0, why), 0);
    assert_int_equal(fake_count, 1);
    assert_true(fakes[0].abandoned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STAGE(without_a_manifest_nothing_happens),
        WITH_STAGE(a_bad_manifest_is_refused),
        WITH_STAGE(bad_anchors_are_refused),
        WITH_STAGE(a_port_in_use_is_refused),
        WITH_STAGE(sockets_are_the_functions),
        WITH_STAGE(an_earlier_agents_leftovers_go),
        WITH_STAGE(a_ready_one_is_taken_and_made_up_for),
        WITH_STAGE(one_that_is_getting_ready_is_waited_for),
        WITH_STAGE(the_first_gets_a_session_for_the_others),
        WITH_STAGE(without_sessions_all_go_at_once),
        WITH_STAGE(a_leader_that_fails_is_followed),
        WITH_STAGE(a_leader_whose_function_left_is_followed),
        WITH_STAGE(a_server_that_is_down_is_asked_ever_less),
        WITH_STAGE(a_begin_that_fails_backs_off_too),
        WITH_STAGE(a_server_that_closes_at_once_is_not_hammered),
        WITH_STAGE(an_old_one_is_renewed),
        WITH_STAGE(an_error_stays_until_a_success),
        WITH_STAGE(without_its_key_nothing_is_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
