/* The base library: cursors stay in bounds, the loop delivers, descriptors are read and written whole. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cursor.h"
#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"

static void cursor_round_trips_both_byte_orders(void **state)
{
    (void)state;
    uint8_t bytes[14];
    struct cursor out = cursor_over(bytes, sizeof bytes);
    cursor_put_le(&out, 0x11223344u, 4);
    cursor_put_be(&out, 0x1122334455667788u, 8);
    cursor_put_le(&out, 0xabcd, 2);
    assert_false(out.failed);
    assert_int_equal(cursor_left(&out), 0);
    assert_int_equal(bytes[0], 0x44);
    assert_int_equal(bytes[4], 0x11);

    struct cursor in = cursor_over(bytes, sizeof bytes);
    assert_int_equal(cursor_get_le(&in, 4), 0x11223344u);
    assert_int_equal(cursor_get_be(&in, 8), 0x1122334455667788u);
    assert_int_equal(cursor_get_le(&in, 2), 0xabcd);
    assert_false(in.failed);
}

static void cursor_error_sticks(void **state)
{
    (void)state;
    uint8_t bytes[4] = {1, 2, 3, 4};
    struct cursor c = cursor_over(bytes, sizeof bytes);
    assert_int_equal(cursor_get_le(&c, 8), 0);
    assert_true(c.failed);
    assert_int_equal(cursor_left(&c), 0);
    assert_null(cursor_take(&c, 1)); /* would have fitted: the failure is remembered */
    cursor_put(&c, "zz", 2);
    assert_int_equal(bytes[0], 1);

    struct cursor seek = cursor_over(bytes, sizeof bytes);
    cursor_seek(&seek, 4);
    assert_false(seek.failed);
    cursor_seek(&seek, 5);
    assert_true(seek.failed);

    struct cursor huge = cursor_over(bytes, sizeof bytes);
    cursor_seek(&huge, 2);
    assert_null(cursor_take(&huge, SIZE_MAX)); /* must not wrap around */
    assert_true(huge.failed);
}

struct seen {
    struct loop *loop;
    struct loop_source *victim;
    int calls;
    int fd;
};

static void on_event_stop(void *context, uint32_t events)
{
    struct seen *seen = context;
    assert_true(events & EPOLLIN);
    uint64_t count;
    assert_int_equal(read(seen->fd, &count, sizeof count), sizeof count);
    seen->calls++;
    loop_stop(seen->loop);
}

static void on_event_remove_other(void *context, uint32_t events)
{
    struct seen *seen = context;
    (void)events;
    seen->calls++;
    loop_remove(seen->loop, seen->victim);
}

static void loop_delivers_and_stops(void **state)
{
    (void)state;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    int fd = eventfd(1, EFD_CLOEXEC);
    struct seen seen = {.loop = &loop, .fd = fd};
    struct loop_source source;
    assert_int_equal(loop_add(&loop, &source, fd, EPOLLIN, on_event_stop, &seen), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(seen.calls, 1);
    loop_remove(&loop, &source);
    loop_remove(&loop, &source); /* twice is harmless */
    fd_close(&fd);
    loop_fini(&loop);
}

static void loop_skips_events_of_removed_sources(void **state)
{
    (void)state;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    int fds[2] = {eventfd(1, EFD_CLOEXEC), eventfd(1, EFD_CLOEXEC)};
    struct loop_source sources[2];
    struct seen seen[2] = {{.loop = &loop, .victim = &sources[1]}, {.loop = &loop, .victim = &sources[0]}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(loop_add(&loop, &sources[i], fds[i], EPOLLIN, on_event_remove_other, &seen[i]), 0);
    assert_int_equal(loop_run_once(&loop, 1000), 2); /* both were fetched in one batch */
    assert_int_equal(seen[0].calls + seen[1].calls, 1);
    for (int i = 0; i < 2; i++)
        fd_close(&fds[i]);
    loop_fini(&loop);
}

static void on_timer(void *context, uint32_t events)
{
    struct seen *seen = context;
    (void)events;
    loop_timer_clear(seen->fd);
    seen->calls++;
    loop_stop(seen->loop);
}

static void timer_fires_once_armed_and_not_when_disarmed(void **state)
{
    (void)state;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    int timer = loop_timer_open();
    assert_true(timer >= 0);
    struct seen seen = {.loop = &loop, .fd = timer};
    struct loop_source source;
    assert_int_equal(loop_add(&loop, &source, timer, EPOLLIN, on_timer, &seen), 0);
    assert_int_equal(loop_timer_arm(timer, 1000), 0);
    assert_int_equal(loop_timer_arm(timer, LOOP_TIMER_NEVER), 0);
    assert_int_equal(loop_run_once(&loop, 20), 0);
    assert_int_equal(loop_timer_arm(timer, 0), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(seen.calls, 1);
    loop_remove(&loop, &source);
    fd_close(&timer);
    loop_fini(&loop);
}

static void signals_arrive_by_descriptor(void **state)
{
    (void)state;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    int fd = loop_signal_open(&set);
    assert_true(fd >= 0);
    assert_int_equal(loop_signal_next(fd), 0);
    raise(SIGUSR1);
    assert_int_equal(loop_signal_next(fd), SIGUSR1);
    assert_int_equal(loop_signal_next(fd), 0);
    fd_close(&fd);
}

static void whole_reads_and_writes(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fd_write_all(pair[0], "abcdef", 6), 0);
    char got[7] = {0};
    assert_int_equal(fd_read_all(pair[1], got, 6), 0);
    assert_string_equal(got, "abcdef");
    assert_int_equal(fd_write_all(pair[0], "xy", 2), 0);
    fd_close(&pair[0]);
    assert_int_equal(pair[0], -1);
    assert_int_equal(fd_read_all(pair[1], got, 3), -EPIPE);              /* the end came first */
    assert_int_equal(fd_write_all(pair[1], "peer is gone", 12), -EPIPE); /* and no SIGPIPE */
    fd_close(&pair[1]);

    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(fd_write_all(pipes[1], "pipe", 4), 0);
    assert_int_equal(fd_read_all(pipes[0], got, 4), 0);
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
}

static void files_have_a_limit(void **state)
{
    (void)state;
    char path[] = "/tmp/base-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "12345678", 8), 8);
    fd_close(&fd);
    char bytes[8];
    assert_int_equal(fd_read_file(path, bytes, 8), 8);
    assert_int_equal(fd_read_file(path, bytes, 7), -EFBIG);
    assert_int_equal(fd_write_file(path, "abc"), 0);
    assert_int_equal(fd_read_file(path, bytes, 8), 8);
    assert_memory_equal(bytes, "abc45678", 8);
    unlink(path);
    assert_int_equal(fd_read_file(path, bytes, 8), -ENOENT);
    assert_int_equal(fd_write_file(path, "x"), -ENOENT);
}

static void log_lines_are_whole_and_cut_when_long(void **state)
{
    (void)state;
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    log_setup("prog", LOG_LEVEL_WARN, pipes[1]);
    errno = EBADF;
    log_error("cannot open %s", "x");
    assert_int_equal(errno, EBADF);
    log_info("not shown");
    char line[2 * LOG_LINE_MAX] = {0};
    assert_true(read(pipes[0], line, sizeof line) > 0);
    assert_string_equal(line, "prog: error: cannot open x\n");

    char *text = malloc(3 * LOG_LINE_MAX);
    memset(text, 'a', 3 * LOG_LINE_MAX - 1);
    text[3 * LOG_LINE_MAX - 1] = '\0';
    log_warn("%s", text);
    free(text);
    memset(line, 0, sizeof line);
    assert_int_equal(read(pipes[0], line, sizeof line), LOG_LINE_MAX);
    assert_int_equal(line[LOG_LINE_MAX - 1], '\n');
    log_setup("test", LOG_LEVEL_INFO, STDERR_FILENO);
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor_round_trips_both_byte_orders),
        cmocka_unit_test(cursor_error_sticks),
        cmocka_unit_test(loop_delivers_and_stops),
        cmocka_unit_test(loop_skips_events_of_removed_sources),
        cmocka_unit_test(timer_fires_once_armed_and_not_when_disarmed),
        cmocka_unit_test(signals_arrive_by_descriptor),
        cmocka_unit_test(whole_reads_and_writes),
        cmocka_unit_test(files_have_a_limit),
        cmocka_unit_test(log_lines_are_whole_and_cut_when_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
