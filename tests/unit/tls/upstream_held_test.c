/* agent/tls/upstream: held before the handshake, until it is released. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/tcp.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/upstream_stage.h"

static void begin_held(struct stage *stage)
{
    assert_int_equal(upstream_begin_held(&stage->upstream, &stage->loop, &stage->plan, stage_changed, stage),
                     0);
}

static void until_waiting(struct stage *stage)
{
    const uint64_t limit_ns = clock_monotonic_ns() + STAGE_LIMIT_MS * UINT64_C(1000000);
    while (!stage->upstream.waiting && clock_monotonic_ns() < limit_ns)
        assert_true(loop_run_once(&stage->loop, 100) >= 0);
    assert_true(stage->upstream.waiting);
    assert_int_equal(stage->upstream.state, UPSTREAM_CONNECTING);
}

static void exchange(struct stage *stage)
{
    stage_until(stage, UPSTREAM_OPEN);
    stage_write(stage, "ping", 4);
    stage_until_got(stage, 4);
    assert_memory_equal(stage->got, "ping", 4);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
    upstream_fini(&stage->upstream);
    stage_stop_server(stage);
}

static void it_connects_and_says_nothing(void **state)
{
    struct stage *stage = *state;
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    stage_serve(stage, "ec", script_echo);
    begin_held(stage);
    until_waiting(stage);
    assert_int_equal(loop_run_once(&stage->loop, 0), 0);
    assert_int_equal(getsockopt(stage->upstream.fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    assert_int_equal(info.tcpi_bytes_sent, 0);
    assert_null(stage->upstream.engine); /* nor has it drawn a random byte */
    assert_int_equal(stage->told, 0);
    upstream_release(&stage->upstream);
    assert_int_equal(stage->upstream.state, UPSTREAM_HANDSHAKING);
    exchange(stage);
}

static void released_before_it_is_connected_it_never_waits(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_echo);
    begin_held(stage);
    upstream_release(&stage->upstream);
    assert_int_equal(stage->upstream.state, UPSTREAM_CONNECTING);
    exchange(stage);
}

static void another_release_means_nothing(void **state)
{
    struct stage *stage = *state;
    stage_serve(stage, "ec", script_echo);
    begin_held(stage);
    until_waiting(stage);
    upstream_release(&stage->upstream);
    upstream_release(&stage->upstream);
    stage_until(stage, UPSTREAM_OPEN);
    upstream_release(&stage->upstream);
    exchange(stage);
}

static void it_does_not_wait_for_ever(void **state)
{
    struct stage *stage = *state;
    stage->connection.connect_timeout_ms = 200;
    stage_serve(stage, "ec", script_echo);
    begin_held(stage);
    until_waiting(stage);
    stage_assert_failed(stage, -ETIMEDOUT, "waited for");
    upstream_fini(&stage->upstream);
    stage_stop_server(stage);
}

static sem_t may_reset;

static void script_reset(struct server *server)
{
    sem_wait(&may_reset);
    server_close(server, true);
}

static void a_server_that_went_is_found_out_at_the_release(void **state)
{
    struct stage *stage = *state;
    sem_init(&may_reset, 0, 0);
    stage_serve(stage, NULL, script_reset);
    begin_held(stage);
    until_waiting(stage);
    sem_post(&may_reset);
    stage_stop_server(stage); /* it has reset the connection */
    upstream_release(&stage->upstream);
    assert_int_equal(stage->told, 0); /* not from within */
    stage_assert_failed(stage, -ECONNRESET, "");
    assert_true(stage->told > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_connects_and_says_nothing, stage_setup, stage_teardown),
        cmocka_unit_test_setup_teardown(released_before_it_is_connected_it_never_waits, stage_setup,
                                        stage_teardown),
        cmocka_unit_test_setup_teardown(another_release_means_nothing, stage_setup, stage_teardown),
        cmocka_unit_test_setup_teardown(it_does_not_wait_for_ever, stage_setup, stage_teardown),
        cmocka_unit_test_setup_teardown(a_server_that_went_is_found_out_at_the_release, stage_setup,
                                        stage_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
