/* The console: output that nobody reads, output in bursts, input as the guest takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/console.h"

#define WAIT_MS 10000

static struct console console;
static struct serial serial;
static struct loop loop;
static char directory[32];
static char path[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/console-XXXXXX");
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/out", directory);
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(serial_init(&serial, &console_serial_ops, &console), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    serial_fini(&serial);
    loop_fini(&loop);
    (void)unlink(path);
    return rmdir(directory);
}

static void out(uint64_t offset, uint8_t value)
{
    serial_bus_ops.write(&serial, offset, &value, 1);
}

static uint8_t in(uint64_t offset)
{
    uint8_t value;
    serial_bus_ops.read(&serial, offset, &value, 1);
    return value;
}

static void say(const char *text)
{
    for (; *text; text++)
        out(0, (uint8_t)*text);
}

static void a_file_gets_what_the_guest_says(void **state)
{
    (void)state;
    char text[64] = {0};
    assert_int_equal(console_init(&console, CONSOLE_FILE, path), 0);
    assert_int_equal(console_attach(&console, &serial, &loop), 0);
    say("first\n");
    assert_int_equal(loop_run_once(&loop, WAIT_MS), 1); /* the burst's end: one write */
    assert_int_equal(fd_read_file(path, text, sizeof text), 6);
    say("second");
    console_fini(&console); /* what is left comes out at the end */
    assert_int_equal(fd_read_file(path, text, sizeof text), 12);
    assert_memory_equal(text, "first\nsecond", 12);
}

/* A pipe whose reader sleeps: the guest goes on, the oldest bytes are kept, the rest is dropped and counted;
 * what is in the buffer still arrives when the reader wakes. */
static void a_reader_that_sleeps_does_not_hold_up_the_guest(void **state)
{
    (void)state;
    const uint64_t total = 300000;
    uint64_t seen = 0;
    static uint8_t bytes[4096];
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    assert_int_equal(console_init(&console, CONSOLE_FILE, path), 0);
    assert_int_equal(console_attach(&console, &serial, &loop), 0);
    for (uint64_t i = 0; i < total; i++)
        out(0, (uint8_t)(i % 251));
    assert_true(console.dropped_bytes > 0);
    assert_true(console.dropped_bytes < total);
    const uint64_t kept = total - console.dropped_bytes;
    while (seen < kept) {
        const ssize_t n = read(reader, bytes, sizeof bytes);
        if (n <= 0) {
            assert_true(loop_run_once(&loop, WAIT_MS) > 0); /* the timer first, then room in the pipe */
            continue;
        }
        for (ssize_t i = 0; i < n; i++, seen++)
            assert_int_equal(bytes[i], seen % 251);
    }
    assert_int_equal(seen, kept);
    console_fini(&console);
    close(reader);
}

static void a_reader_that_is_gone_is_no_error(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(console_init(&console, CONSOLE_FILE, path), 0);
    assert_int_equal(console_attach(&console, &serial, &loop), 0);
    close(reader);
    say("nobody listens");
    assert_int_equal(loop_run_once(&loop, WAIT_MS), 1);
    assert_int_equal(console.dropped_bytes, 14);
    say("still going");
    console_fini(&console);
}

static void none_takes_everything_silently(void **state)
{
    (void)state;
    assert_int_equal(console_init(&console, CONSOLE_NONE, NULL), 0);
    assert_int_equal(console_attach(&console, &serial, &loop), 0);
    say("into the void");
    assert_int_equal(console.dropped_bytes, 0);
    console_fini(&console);
}

/* Standard input replaced by `fd` for as long as console_init looks. */
static void init_with_input(int fd)
{
    const int saved = dup(STDIN_FILENO);
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(console_init(&console, CONSOLE_STDIO, NULL), 0);
    if (saved >= 0) {
        (void)dup2(saved, STDIN_FILENO);
        close(saved);
    }
    assert_int_equal(console_attach(&console, &serial, &loop), 0);
}

/* Read the port until `count` bytes have come; each must be the next of 0, 1, 2, ... */
static void expect_input(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        while (!(in(5) & 1))
            assert_true(loop_run_once(&loop, WAIT_MS) > 0);
        assert_int_equal(in(0), i % 256);
    }
}

static void input_waits_for_the_driver_and_comes_whole(void **state)
{
    (void)state;
    int ends[2];
    uint8_t bytes[1000];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], bytes, sizeof bytes), sizeof bytes);
    close(ends[1]);
    init_with_input(ends[0]);
    close(ends[0]);
    assert_int_equal(loop_run_once(&loop, WAIT_MS), 1); /* nobody reads yet: it leaves the pipe alone */
    assert_int_equal(loop_run_once(&loop, 0), 0);
    out(2, 7); /* a driver starts: clears the FIFOs, then listens */
    out(1, 1);
    expect_input(sizeof bytes);
    while (console.in_fd >= 0) /* the end of the pipe ends the input, once */
        assert_true(loop_run_once(&loop, WAIT_MS) > 0);
    assert_int_equal(loop_run_once(&loop, 0), 0);
    console_fini(&console);
}

static void input_from_a_file_works_without_polling(void **state)
{
    (void)state;
    uint8_t bytes[300];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    init_with_input(fd);
    close(fd);
    out(1, 1);
    expect_input(sizeof bytes);
    console_fini(&console);
}

static void a_path_that_cannot_be_opened_is_an_error(void **state)
{
    (void)state;
    log_setup("console_test", LOG_LEVEL_ERROR, -1); /* the message is for a person */
    assert_true(console_init(&console, CONSOLE_FILE, "/nonexistent/console") < 0);
    console_fini(&console);
    log_setup("console_test", LOG_LEVEL_ERROR, 2);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as run does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_gets_what_the_guest_says, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_sleeps_does_not_hold_up_the_guest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_is_gone_is_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(none_takes_everything_silently, setup, teardown),
        cmocka_unit_test_setup_teardown(input_waits_for_the_driver_and_comes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(input_from_a_file_works_without_polling, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_cannot_be_opened_is_an_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
