/* Around a snapshot: drain, undrain, forget, renew, with local ends in every state. */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/connections_stage.h"

#define LAZY     "[orders]\nhost = orders.test\npool = 0\n"
#define POOL_2   "[orders]\nhost = orders.test\npool = 2\n"
#define TCP_PORT 15874
#define MS       UINT64_C(1000000)

static int open_on(int fd, struct fake **fake)
{
    const int before = fake_count;
    until(fake_count > before);
    *fake = fake_last();
    fake_open(*fake);
    return fd;
}

static int open_pair(struct fake **fake)
{
    const int before = fake_count;
    const int fd = function_open("orders");
    until(fake_count > before);
    *fake = fake_last();
    fake_open(*fake);
    return fd;
}

static void ask_and_answer(int fd, struct fake *fake)
{
    const size_t before = fake->sent_size;
    function_write(fd, "ask");
    until(fake->sent_size == before + 3);
    fake_give(fake, "answer", 6);
    function_expect(fd, "answer");
}

static void renew(void)
{
    char why[RESUME_WHY_BYTES] = "";
    assert_int_equal(connections_renew(table, NULL, 0, why), 0);
    assert_string_equal(why, "");
}

static void an_unused_pool_is_drained_at_once(void **state)
{
    (void)state;
    stage_serve(POOL_2);
    fake_open(&fakes[0]);
    assert_int_equal(stage_drain(1000), 0); /* one ready, one in its handshake */
    assert_true(fakes[0].closed && fakes[0].fini_in_order);
    assert_true(fakes[1].fini && !fakes[1].closed);
    stage_rest();
    assert_int_equal(fake_count, 2); /* nothing is filled */
    connections_forget(table);
    assert_int_equal(fake_stack_wipes, 1);
    renew();
    assert_int_equal(fake_count, 4);
    assert_false(fakes[2].resumes); /* no session of the original's */
    assert_true(fakes[3].held);
    assert_int_equal(stage_drained, 0);
}

static void a_server_that_does_not_answer_is_waited_for(void **state)
{
    (void)state;
    fake_answers_close = false;
    stage_serve("[orders]\nhost = orders.test\n");
    fake_open(&fakes[0]);
    assert_int_equal(stage_drain(5000), -EINPROGRESS);
    stage_rest();
    assert_int_equal(stage_drained, 0);
    fake_closed(&fakes[0]);
    until(stage_drained == 1);
    assert_int_equal(fake_alive(), 0);
    stage_rest();
    assert_int_equal(stage_drained, 1);
}

static void but_not_beyond_the_deadline(void **state)
{
    (void)state;
    fake_answers_close = false;
    stage_serve("[orders]\nhost = orders.test\n");
    fake_open(&fakes[0]);
    const uint64_t start_ns = clock_monotonic_ns();
    assert_int_equal(stage_drain(100), -EINPROGRESS);
    until(stage_drained == 1);
    assert_true(clock_monotonic_ns() - start_ns >= 100 * MS);
    assert_int_equal(fake_alive(), 0);
}

static void idle_local_ends_carry_on(void **state)
{
    struct fake *fake, *fresh;
    (void)state;
    stage_serve(LAZY);
    int used = open_pair(&fake);
    ask_and_answer(used, fake);
    int unused = open_pair(&fresh);
    assert_int_equal(stage_drain(1000), 0);
    assert_true(fake->fini_in_order && fresh->fini_in_order);
    connections_forget(table);
    function_write(used, "written meanwhile");
    renew();
    assert_int_equal(fake_count, 4);
    int at_used = 0, at_unused = 0;
    for (int i = 2; i < 4; i++) {
        if (fakes[i].held)
            continue;
        fake_open(&fakes[i]);
    }
    for (int i = 2; i < 4; i++)
        if (fakes[i].upstream->state != UPSTREAM_OPEN)
            fake_open(&fakes[i]);
    until(fakes[2].sent_size + fakes[3].sent_size == 17);
    at_used = fakes[2].sent_size > 0 ? 2 : 3;
    at_unused = 5 - at_used;
    fake_give(&fakes[at_used], "answered", 8);
    function_expect(used, "answered");
    ask_and_answer(unused, &fakes[at_unused]);
    fd_close(&used);
    fd_close(&unused);
}

static void a_half_sent_request_is_waited_for(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "ask");
    fake_expect(fake, "ask");
    assert_int_equal(stage_drain(5000), -EINPROGRESS);
    stage_rest();
    assert_false(fake->closed);
    fake_give(fake, "answer", 6);
    for (int i = 0; i < 5; i++)
        stage_turn();
    assert_int_equal(stage_drained, 0); /* the function has not read it */
    function_expect(fd, "answer");
    until(stage_drained == 1);
    assert_true(fake->fini_in_order);
    connections_forget(table);
    renew();
    assert_int_equal(fake_count, 2);
    fake_open(&fakes[1]);
    ask_and_answer(fd, &fakes[1]);
    fd_close(&fd);
}

static void and_reset_at_the_deadline(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    function_write(fd, "ask");
    fake_expect(fake, "ask");
    assert_int_equal(stage_drain(100), -EINPROGRESS);
    until(stage_drained == 1);
    assert_int_equal(function_end(fd), ECONNRESET);
    assert_int_equal(fake_alive(), 0);
    fd_close(&fd);
    connections_forget(table);
    renew();
    assert_int_equal(fake_count, 1);
}

static void tcp_waits_until_the_function_has_read(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY "local_port = 15874\n");
    int fd = open_on(function_open_tcp(false, TCP_PORT), &fake);
    function_write(fd, "ask");
    fake_expect(fake, "ask");
    fake_give(fake, "answer", 6);
    stage_rest();
    assert_int_equal(stage_drain(5000), -EINPROGRESS);
    for (int i = 0; i < 5; i++)
        stage_turn();
    assert_int_equal(stage_drained, 0);
    function_expect(fd, "answer");
    until(stage_drained == 1);
    connections_forget(table);
    renew();
    assert_int_equal(fake_count, 2);
    fake_open(&fakes[1]);
    ask_and_answer(fd, &fakes[1]);
    fd_close(&fd);
}

static void one_not_yet_open_gets_another(void **state)
{
    (void)state;
    stage_serve(LAZY);
    int fd = function_open("orders"), asking = function_open(CONNECTIONS_ASK);
    int incomplete = function_open(CONNECTIONS_ASK);
    function_write(fd, "early");
    function_write(asking, "orders\n");
    function_write(incomplete, "ord");
    until(fake_count == 2);
    assert_int_equal(stage_drain(1000), 0);
    assert_true(fakes[0].fini && fakes[1].fini);
    connections_forget(table);
    function_write(incomplete, "ers\n");
    renew();
    until(fake_count == 5);
    for (int i = 2; i < 5; i++)
        if (!fakes[i].held)
            fake_open(&fakes[i]);
    for (int i = 2; i < 5; i++)
        if (fakes[i].upstream->state != UPSTREAM_OPEN)
            fake_open(&fakes[i]);
    function_expect(asking, "ok\n");
    function_expect(incomplete, "ok\n");
    until(fakes[2].sent_size + fakes[3].sent_size + fakes[4].sent_size == 5);
    fd_close(&fd);
    fd_close(&asking);
    fd_close(&incomplete);
}

static void connections_made_meanwhile_wait(void **state)
{
    (void)state;
    stage_serve(LAZY);
    assert_int_equal(stage_drain(1000), 0);
    int fd = function_open("orders");
    function_write(fd, "hello");
    stage_rest();
    assert_int_equal(fake_count, 0);
    connections_forget(table);
    renew();
    until(fake_count == 1);
    fake_open(&fakes[0]);
    fake_expect(&fakes[0], "hello");
    fd_close(&fd);
}

static void one_that_the_function_closed_gets_none(void **state)
{
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    int fd = open_pair(&fake);
    ask_and_answer(fd, fake);
    assert_int_equal(stage_drain(1000), 0);
    connections_forget(table);
    fd_close(&fd);
    renew();
    stage_rest();
    assert_int_equal(fake_count, 1);
}

static void a_checkpoint_given_up(void **state)
{
    struct fake *idle, *busy;
    (void)state;
    stage_serve(LAZY);
    int idle_fd = open_pair(&idle), busy_fd = open_pair(&busy);
    function_write(busy_fd, "ask");
    fake_expect(busy, "ask");
    assert_int_equal(stage_drain(5000), -EINPROGRESS);
    stage_rest();
    assert_true(idle->fini && !busy->fini);
    connections_undrain(table);
    assert_int_equal(fake_count, 3);
    assert_true(fakes[2].resumes); /* no clone: the session is ours still */
    fake_open(&fakes[2]);
    ask_and_answer(idle_fd, &fakes[2]);
    fake_give(busy, "answer", 6);
    function_expect(busy_fd, "answer");
    stage_rest();
    assert_int_equal(stage_drained, 0);
    fd_close(&idle_fd);
    fd_close(&busy_fd);
    stage_rest();
}

static void a_clone_that_was_not_asked(void **state)
{
    struct fake *idle, *sending, *unread, *noisy;
    (void)state;
    stage_serve(POOL_2);
    fake_open(&fakes[0]);
    fake_open(&fakes[1]);
    int fds[5];
    struct fake *lines[4];
    for (int i = 0; i < 4; i++) {
        const int before = fake_count;
        fds[i] = function_open("orders");
        function_write(fds[i], "x");
        until(fake_count > before);
        fake_open(fake_last());
        stage_rest();
        for (int j = 0; j < fake_count; j++)
            if (fakes[j].sent_size == 1 && fakes[j].given_end == 0)
                lines[i] = &fakes[j];
        fake_give(lines[i], "y", 1);
        if (i != 2)
            function_expect(fds[i], "y");
    }
    idle = lines[0], sending = lines[1], unread = lines[2], noisy = lines[3];
    function_write(fds[1], "half");
    until(sending->sent_size == 5);
    noisy->noisy = true;
    const int before = fake_count;
    fake_fail(&fakes[before - 1], -ETIMEDOUT, "what the original's line says");
    renew();
    assert_true(idle->abandoned && sending->abandoned && unread->abandoned && noisy->abandoned);
    for (int i = 0; i < before; i++) {
        assert_true(fakes[i].abandoned || i == before - 1);
        assert_false(fakes[i].closed);
    }
    assert_int_equal(function_end(fds[1]), ECONNRESET);
    function_expect(fds[2], "y");
    assert_int_equal(function_end(fds[2]), ECONNRESET);
    assert_int_equal(function_end(fds[3]), ECONNRESET);
    assert_int_equal(fake_count, before + 3); /* the idle one's, and the pool's */
    assert_false(fakes[before].resumes);
    for (int i = before; i < fake_count; i++)
        if (!fakes[i].held && fakes[i].upstream->state != UPSTREAM_OPEN)
            fake_open(&fakes[i]);
    for (int i = before; i < fake_count; i++)
        if (fakes[i].upstream->state != UPSTREAM_OPEN)
            fake_open(&fakes[i]);
    function_write(fds[0], "again");
    until(fakes[before].sent_size == 5); /* the first to be begun */
    assert_null(stage_error_of("orders"));
    for (int i = 0; i < 4; i++)
        fd_close(&fds[i]);
}

static void what_an_old_line_said_is_taken_back(void **state)
{
    (void)state;
    stage_serve("[orders]\nhost = orders.test\n");
    fake_fail(&fakes[0], -ETIMEDOUT, "no answer");
    assert_non_null(stage_error_of("orders"));
    renew();
    assert_null(stage_error_of("orders"));
    assert_int_equal(fake_count, 2); /* and nothing waits for the back-off */
}

static void sixteen_are_renewed_at_once(void **state)
{
    int fds[16];
    struct fake *fake;
    (void)state;
    stage_serve(LAZY);
    for (int i = 0; i < 16; i++)
        fds[i] = open_pair(&fake);
    assert_int_equal(stage_drain(1000), 0);
    connections_forget(table);
    renew();
    assert_int_equal(fake_count, 32);
    assert_false(fakes[16].held || fakes[16].resumes);
    for (int i = 17; i < 32; i++)
        assert_true(fakes[i].held);
    fake_open(&fakes[16]);
    for (int i = 17; i < 32; i++) {
        assert_true(fakes[i].resumes);
        fake_open(&fakes[i]);
    }
    for (int i = 0; i < 16; i++)
        ask_and_answer(fds[i], &fakes[16 + i]);
    for (int i = 0; i < 16; i++)
        fd_close(&fds[i]);
    stage_rest();
    until(fake_alive() == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STAGE(an_unused_pool_is_drained_at_once),
        WITH_STAGE(a_server_that_does_not_answer_is_waited_for),
        WITH_STAGE(but_not_beyond_the_deadline),
        WITH_STAGE(idle_local_ends_carry_on),
        WITH_STAGE(a_half_sent_request_is_waited_for),
        WITH_STAGE(and_reset_at_the_deadline),
        WITH_STAGE(tcp_waits_until_the_function_has_read),
        WITH_STAGE(one_not_yet_open_gets_another),
        WITH_STAGE(connections_made_meanwhile_wait),
        WITH_STAGE(one_that_the_function_closed_gets_none),
        WITH_STAGE(a_checkpoint_given_up),
        WITH_STAGE(a_clone_that_was_not_asked),
        WITH_STAGE(what_an_old_line_said_is_taken_back),
        WITH_STAGE(sixteen_are_renewed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
