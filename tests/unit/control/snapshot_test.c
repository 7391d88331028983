/* `hostvmm snapshot --control`: what it asks for, what it prints, how it ends. The other side is a thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/operator.h"
#include "hostvmm/exit.h"

static char directory[64];
static char path[96];
static int listen_fd;
static const char *script; /* what is answered; NULL: hang up; "": nothing until the client has gone */
static char asked[OPERATOR_LINE_MAX_BYTES + 2];
static char printed[4096];

static int setup(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    log_setup("test", LOG_LEVEL_ERROR, -1);
    (void)snprintf(directory, sizeof directory, "/tmp/snapshot-test.XXXXXX");
    if (!mkdtemp(directory) || chdir(directory) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s/control", directory);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(asked, 0, sizeof asked);
    return bind(listen_fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(listen_fd, 1) < 0;
}

static int teardown(void **state)
{
    (void)state;
    fd_close(&listen_fd);
    (void)unlink(path);
    (void)unlink("printed");
    return chdir("/") < 0 || rmdir(directory) < 0;
}

static void *other_side(void *context)
{
    (void)context;
    char byte;
    int fd = accept(listen_fd, NULL, NULL);
    for (size_t i = 0; fd >= 0 && i < sizeof asked - 1 && read(fd, asked + i, 1) == 1; i++)
        if (asked[i] == '\n')
            break;
    if (script && *script)
        (void)fd_write_all(fd, script, strlen(script));
    if (script)
        (void)!read(fd, &byte, 1);
    fd_close(&fd);
    return NULL;
}

/* Run the command with its standard output in `printed`. `arguments` end with NULL. */
static int run(const char *answer, const char *const *arguments)
{
    char *argv[16] = {"snapshot"};
    int argc = 1;
    pthread_t thread;
    for (; arguments[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    script = answer;
    assert_int_equal(pthread_create(&thread, NULL, other_side, NULL), 0);
    (void)fflush(stdout);
    int saved = dup(1);
    assert_non_null(freopen("printed", "w", stdout));
    const int code = control_snapshot_main(argc, argv);
    (void)fflush(stdout);
    assert_int_equal(dup2(saved, 1), 1);
    fd_close(&saved);
    (void)shutdown(listen_fd, SHUT_RDWR); /* where nobody came */
    assert_int_equal(pthread_join(thread, NULL), 0);
    const int64_t size = fd_read_file("printed", printed, sizeof printed - 1);
    printed[size > 0 ? size : 0] = '\0';
    return code;
}
#define RUN(answer, ...) run(answer, (const char *const[]){__VA_ARGS__, NULL})

static void test_asks_and_tells(void **state)
{
    (void)state;
    char line[256];
    assert_int_equal(RUN("{\"ok\":true,\"pause_ns\":2500000,\"disk_bytes\":1048576}\n", "--control", path,
                         "--out", "here", "--parent", "/there", "--no-checkpoint", "--stop"),
                     HOSTVMM_EXIT_OK);
    (void)snprintf(line, sizeof line, "snapshot\tout=%s/here\tparent=/there\tcheckpoint=no\tthen=stop\n",
                   directory);
    assert_string_equal(asked, line);
    assert_non_null(strstr(printed, "/here, 1.0 MiB, the guest stood still for 2.5 ms"));
}

static void test_json(void **state)
{
    (void)state;
    assert_int_equal(RUN("{\"ok\":true}\n", "--control", path, "--out", "/o", "--json"), HOSTVMM_EXIT_OK);
    assert_string_equal(asked, "snapshot\tout=/o\n");
    assert_string_equal(printed, "{\"ok\":true}\n");
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(RUN("{\"ok\":false,\"error\":\"exists \\\"code\\\":9\",\"code\":3}\n", "--control", path,
                         "--out", "/o"),
                     HOSTVMM_EXIT_INPUT);
    assert_string_equal(printed, "");
}

static void test_refused_without_a_code(void **state)
{
    (void)state;
    assert_int_equal(RUN("{\"ok\":false,\"error\":\"\\u001b\"}\n", "--control", path, "--out", "/o"),
                     HOSTVMM_EXIT_HOST);
}

static void test_hangs_up(void **state)
{
    (void)state;
    assert_int_equal(RUN(NULL, "--control", path, "--out", "/o"), HOSTVMM_EXIT_HOST);
}

static void test_no_hostvmm(void **state)
{
    (void)state;
    assert_int_equal(RUN("220 mail ready\n", "--control", path, "--out", "/o"), HOSTVMM_EXIT_HOST);
}

static void test_silence(void **state)
{
    (void)state;
    assert_int_equal(RUN("", "--control", path, "--out", "/o", "--wait", "30"), HOSTVMM_EXIT_TIMED_OUT);
}

static void test_nobody_there(void **state)
{
    (void)state;
    assert_int_equal(RUN("", "--control", "/nowhere/at/all", "--out", "/o"), HOSTVMM_EXIT_HOST);
}

static void test_usage(void **state)
{
    (void)state;
    int saved = dup(2);
    assert_non_null(freopen("/dev/null", "w", stderr));
    assert_int_equal(RUN("", "--control", path), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", "a\tb"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", "a\nb"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", ""), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", "/o", "--wait", "0"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", "/o", "more"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(RUN("", "--control", path, "--out", "/o", "--unknown"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(dup2(saved, 2), 2);
    fd_close(&saved);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_asks_and_tells), TEST(test_json),
        TEST(test_refused),        TEST(test_refused_without_a_code),
        TEST(test_hangs_up),       TEST(test_no_hostvmm),
        TEST(test_silence),        TEST(test_nobody_there),
        TEST(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
