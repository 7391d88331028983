/* Reaching a guest's port through the VM's Unix socket, and every way in which that fails. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/control/dial.h"

#define LONG_NS  UINT64_C(20000000000)
#define SHORT_NS UINT64_C(50000000)

static char directory[] = "/tmp/dial_test.XXXXXX";
static char path[sizeof directory + 16];
static char why[DIAL_PROBLEM_BYTES];

/* A VM that answers its connections one after the other: NULL closes, "" says nothing until the client ends.
 */
struct server {
    int listen_fd;
    const char *const *answers;
    size_t count;
    pthread_t thread;
};

static uint64_t in(uint64_t ns)
{
    return clock_monotonic_ns() + ns;
}

static int listening(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    (void)unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0)
        abort();
    return fd;
}

static void *serve(void *context)
{
    struct server *server = context;
    for (size_t i = 0; i < server->count; i++) {
        int fd = accept(server->listen_fd, NULL, NULL);
        if (fd < 0)
            abort();
        char line[64] = {0};
        if (read(fd, line, sizeof line - 1) < 0 || strcmp(line, "CONNECT 1024\n") != 0)
            abort();
        const char *answer = server->answers[i];
        if (answer && fd_write_all(fd, answer, strlen(answer)) < 0)
            abort();
        if (answer)
            while (read(fd, line, sizeof line) > 0)
                ;
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *server, const char *const *answers, size_t count)
{
    *server = (struct server){.listen_fd = listening(), .answers = answers, .count = count};
    if (pthread_create(&server->thread, NULL, serve, server) != 0)
        abort();
}

static void server_end(struct server *server, int client_fd)
{
    fd_close(&client_fd);
    pthread_join(server->thread, NULL);
    fd_close(&server->listen_fd);
    (void)unlink(path);
}

static void test_path_too_long(void **state)
{
    (void)state;
    char longest[200];
    memset(longest, 'p', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(control_dial(longest, 1024, in(LONG_NS), why), -ENAMETOOLONG);
    assert_non_null(strstr(why, "199 bytes"));
    assert_non_null(strstr(why, "107"));
    assert_int_equal(control_dial("", 1024, in(LONG_NS), why), -ENAMETOOLONG);
}

static void test_no_directory_is_told_at_once(void **state)
{
    (void)state;
    const uint64_t start_ns = clock_monotonic_ns();
    assert_int_equal(control_dial("/nonexistent/vm.sock", 1024, in(LONG_NS), why), -ENOENT);
    assert_true(clock_monotonic_ns() - start_ns < LONG_NS / 2);
    assert_non_null(strstr(why, "/nonexistent"));
}

static void test_no_socket(void **state)
{
    (void)state;
    assert_int_equal(control_dial(path, 1024, 0, why), -ENOENT);
    assert_non_null(strstr(why, "hostvmm run"));
    assert_int_equal(control_dial(path, 1024, in(SHORT_NS), why), -ENOENT);
}

static void test_file_that_is_no_socket(void **state)
{
    (void)state;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(control_dial(path, 1024, in(LONG_NS), why), -ENOTSOCK);
    assert_int_equal(unlink(path), 0);
}

static void test_socket_nobody_serves(void **state)
{
    (void)state;
    int fd = listening();
    fd_close(&fd); /* what kill -9 leaves behind */
    assert_int_equal(control_dial(path, 1024, 0, why), -ECONNREFUSED);
    assert_non_null(strstr(why, "has ended"));
    assert_int_equal(control_dial(path, 1024, in(SHORT_NS), why), -ECONNREFUSED);
    assert_int_equal(unlink(path), 0);
}

static void test_answered(void **state)
{
    (void)state;
    struct server server;
    /* What follows the line belongs to the guest: it must still be there to read. */
    server_start(&server, (const char *const[]){"OK 42\nguest"}, 1);
    int fd = control_dial(path, 1024, in(LONG_NS), why);
    assert_true(fd >= 0);
    char text[8] = {0};
    while (control_poll(fd, POLLIN, in(LONG_NS)) > 0 && read(fd, text, 5) < 0)
        ;
    assert_string_equal(text, "guest");
    server_end(&server, fd);
}

static void *start_late(void *context)
{
    /* The dialler is told by inotify: it needs no particular delay, only that the socket comes after. */
    usleep(20000);
    static const char *const answers[] = {"OK 1\n"};
    server_start(context, answers, 1);
    return NULL;
}

static void test_socket_that_appears_later(void **state)
{
    (void)state;
    struct server server;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_late, &server), 0);
    int fd = control_dial(path, 1024, in(LONG_NS), why);
    pthread_join(thread, NULL);
    assert_true(fd >= 0);
    server_end(&server, fd);
}

static void test_guest_that_listens_later(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, (const char *const[]){NULL, NULL, NULL, "OK 7\n"}, 4);
    int fd = control_dial(path, 1024, in(LONG_NS), why);
    assert_true(fd >= 0);
    server_end(&server, fd);
}

static void test_guest_that_refuses_one_attempt(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, (const char *const[]){NULL}, 1);
    assert_int_equal(control_dial(path, 1024, 0, why), -ECONNREFUSED);
    assert_non_null(strstr(why, "port 1024"));
    server_end(&server, -1);
}

static void answers_badly(const char *answer)
{
    struct server server;
    server_start(&server, &answer, 1);
    assert_int_equal(control_dial(path, 1024, in(LONG_NS), why), -EPROTO);
    assert_non_null(strstr(why, "not a hostvmm"));
    server_end(&server, -1);
}

static void test_answers_that_are_none(void **state)
{
    (void)state;
    answers_badly("HTTP/1.1 400 Bad Request\r\n");
    answers_badly("OK \n");
    answers_badly("OK 12a\n");
    answers_badly("\n");
    answers_badly("OK 00000000000000000000000000000000000000001\n");
}

static void test_silence(void **state)
{
    (void)state;
    struct server server;
    server_start(&server, (const char *const[]){""}, 1);
    assert_int_equal(control_dial(path, 1024, in(SHORT_NS), why), -ETIMEDOUT);
    server_end(&server, -1);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/vm.sock", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_too_long),
        cmocka_unit_test(test_no_directory_is_told_at_once),
        cmocka_unit_test(test_no_socket),
        cmocka_unit_test(test_file_that_is_no_socket),
        cmocka_unit_test(test_socket_nobody_serves),
        cmocka_unit_test(test_answered),
        cmocka_unit_test(test_socket_that_appears_later),
        cmocka_unit_test(test_guest_that_listens_later),
        cmocka_unit_test(test_guest_that_refuses_one_attempt),
        cmocka_unit_test(test_answers_that_are_none),
        cmocka_unit_test(test_silence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
