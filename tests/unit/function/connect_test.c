/*
 * function_connect() against an agent of the test's own: a listener in a directory of the test's, served by a
 * thread that says one thing and, where it matters, waits to be told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/function.h"

#define THREADS    8
#define ROUNDS     50
#define LONG_WHY   512
#define PATIENCE_S 20

static char directory[64];
static int listener;
static char why[LONG_WHY];

/* ---- the agent ---- */

/* What it says to one who asks: `parts`, one send each, then the end when `ends`. */
struct saying {
    const char *parts[4];
    size_t sizes[4]; /* 0: of a string */
    bool ends;
    bool unasked;       /* without reading what was asked */
    atomic_int *signal; /* wait for it to be above zero before the second part */
    char asked[64];
    int fd; /* kept when it does not end */
};

static void *agent_say(void *context)
{
    struct saying *saying = context;
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    if (poll(&ready, 1, PATIENCE_S * 1000) != 1)
        return "nobody asked";
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return "accept failed";
    for (size_t have = 0; !saying->unasked && !memchr(saying->asked, '\n', have);) {
        const ssize_t n = recv(fd, saying->asked + have, sizeof saying->asked - 1 - have, 0);
        if (n <= 0)
            return "the name did not come";
        have += (size_t)n;
    }
    for (int i = 0; i < 4 && saying->parts[i]; i++) {
        for (int turn = 0; i == 1 && saying->signal && atomic_load(saying->signal) == 0; turn++) {
            if (turn > PATIENCE_S * 1000)
                return "the signal did not come";
            (void)poll(NULL, 0, 1);
        }
        const size_t size = saying->sizes[i] > 0 ? saying->sizes[i] : strlen(saying->parts[i]);
        if (send(fd, saying->parts[i], size, MSG_NOSIGNAL) != (ssize_t)size)
            return "the answer was not taken";
    }
    saying->fd = fd;
    if (saying->ends)
        fd_close(&saying->fd);
    return NULL;
}

static pthread_t agent;

static void agent_begin(struct saying *saying)
{
    saying->fd = -1;
    assert_int_equal(pthread_create(&agent, NULL, agent_say, saying), 0);
}

static void agent_end(struct saying *saying)
{
    void *complaint;
    assert_int_equal(pthread_join(agent, &complaint), 0);
    if (complaint)
        fail_msg("%s", (const char *)complaint);
    fd_close(&saying->fd);
}

/* ---- set-up ---- */

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/connect_test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/" FUNCTION_CONNECT_SOCKET, directory);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, THREADS), 0);
    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, directory, 1), 0);
    memset(why, 'w', sizeof why);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    fd_close(&listener);
    (void)snprintf(path, sizeof path, "%s/" FUNCTION_CONNECT_SOCKET, directory);
    (void)unlink(path);
    assert_int_equal(rmdir(directory), 0);
    return 0;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* ---- tests ---- */

static void ok_and_what_follows_is_the_servers(void **state)
{
    (void)state;
    struct saying saying = {.parts = {"o", "k", "\nhello\nok\n"}};
    agent_begin(&saying);
    int fd = function_connect("orders-1", why, sizeof why);
    assert_true(fd >= 0);
    assert_string_equal(why, "");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    char bytes[9];
    assert_int_equal(fd_read_all(fd, bytes, sizeof bytes), 0);
    assert_memory_equal(bytes, "hello\nok\n", sizeof bytes);
    agent_end(&saying);
    assert_string_equal(saying.asked, "orders-1\n");
    assert_int_equal(recv(fd, bytes, 1, 0), 0);
    close(fd);
}

static void assert_fails(struct saying saying, int error, const char *text)
{
    const int before = open_descriptors();
    agent_begin(&saying);
    const int got = function_connect("orders", why, sizeof why);
    agent_end(&saying);
    assert_string_equal(why, text);
    assert_int_equal(got, error);
    assert_int_equal(open_descriptors(), before);
}

static void errors_are_told(void **state)
{
    (void)state;
    assert_fails(
        (struct saying){.parts = {"error 129 server's certificate expired on 2025-01-31\n"}, .ends = true},
        -EKEYREJECTED, "orders: server's certificate expired on 2025-01-31");
    assert_fails((struct saying){.parts = {"error 2 no", " such name\n"}, .ends = true}, -ENOENT,
                 "orders: no such name");
    assert_fails((struct saying){.parts = {"error 11 busy\n"}, .ends = true, .unasked = true}, -EAGAIN,
                 "orders: busy");
}

static void no_answer_is_told(void **state)
{
    (void)state;
    static const char ended[] = "orders: the agent ended the connection before it had answered";
    assert_fails((struct saying){.ends = true}, -ECONNABORTED, ended);
    assert_fails((struct saying){.parts = {"o"}, .ends = true}, -ECONNABORTED, ended);
    assert_fails((struct saying){.parts = {"error 2 no such"}, .ends = true}, -ECONNABORTED, ended);
}

static void answers_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\n",
        "OK\n",
        "ok \n",
        "ok\r\n",
        "error\n",
        "error \n",
        "error 2\n",
        "error 2 \n",
        "error 0 x\n",
        "error -2 x\n",
        "error +2 x\n",
        "error  2 x\n",
        "error 4096 x\n",
        "error 99999999999999999999 x\n",
        "error 2x x\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "orders: the agent's answer \"%.*s\" is none",
                       (int)strlen(bad[i]) - 1, bad[i]);
        assert_fails((struct saying){.parts = {bad[i]}, .ends = true}, -EPROTO, text);
    }
    assert_fails((struct saying){.parts = {"ok\0\n"}, .sizes = {4}, .ends = true}, -EPROTO,
                 "orders: the agent's answer is no text");
}

static void long_lines(void **state)
{
    (void)state;
    char line[FUNCTION_CONNECT_LINE_BYTES + 2], text[LONG_WHY];
    memset(line, 'x', sizeof line);
    memcpy(line, "error 2 ", 8);
    line[FUNCTION_CONNECT_LINE_BYTES - 1] = '\n';
    line[FUNCTION_CONNECT_LINE_BYTES] = '\0';
    (void)snprintf(text, sizeof text, "orders: %.*s", FUNCTION_CONNECT_LINE_BYTES - 9, line + 8);
    assert_fails((struct saying){.parts = {line}, .ends = true}, -ENOENT, text);
    line[FUNCTION_CONNECT_LINE_BYTES - 1] = 'x';
    line[FUNCTION_CONNECT_LINE_BYTES] = '\n';
    line[FUNCTION_CONNECT_LINE_BYTES + 1] = '\0';
    (void)snprintf(text, sizeof text, "orders: the agent's answer is longer than %d bytes",
                   FUNCTION_CONNECT_LINE_BYTES);
    assert_fails((struct saying){.parts = {line}, .ends = true}, -EPROTO, text);
}

static void room_for_the_reason(void **state)
{
    (void)state;
    struct saying saying = {.parts = {"error 2 no such name\n"}, .ends = true};
    agent_begin(&saying);
    assert_int_equal(function_connect("orders", why, 10), -ENOENT);
    agent_end(&saying);
    assert_string_equal(why, "orders: n");
    assert_int_equal(why[10], 'w');
    agent_begin(&saying);
    assert_int_equal(function_connect("orders", NULL, 0), -ENOENT);
    agent_end(&saying);
    why[0] = 'x';
    assert_int_equal(function_connect("Orders", why, 0), -EINVAL);
    assert_int_equal(why[0], 'x');
}

static void names_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",     "Orders", "a b", "a\n",      "a.error",
        "../a", "/",      "a_b", "\xc3\xa4", "abcdefghijklmnopqrstuvwxyz0123456",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(function_connect(bad[i], why, sizeof why), -EINVAL);
        assert_string_equal(why, "a connection's name is 1 to 32 of a-z, 0-9 and -");
    }
    assert_int_equal(function_connect(NULL, why, sizeof why), -EINVAL);
    struct saying saying = {.parts = {"ok\n"}};
    agent_begin(&saying);
    int fd = function_connect("abcdefghijklmnopqrstuvwxyz-01234", why, sizeof why);
    assert_true(fd >= 0);
    agent_end(&saying);
    close(fd);
}

static void no_agent(void **state)
{
    (void)state;
    assert_int_equal(unsetenv(FUNCTION_ENV_CONNECTIONS), 0);
    static const char unset[] = "orders: REKINDLE_CONNECTIONS is not set: there is no manifest (a file "
                                "\"connections\" beside the function's program), or no agent";
    assert_int_equal(function_connect("orders", why, sizeof why), -ENOTSUP);
    assert_string_equal(why, unset);
    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, "", 1), 0);
    assert_int_equal(function_connect("orders", why, sizeof why), -ENOTSUP);
    assert_string_equal(why, unset);

    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, "/nowhere", 1), 0);
    assert_int_equal(function_connect("orders", why, sizeof why), -ENOENT);
    assert_string_equal(why, "orders: no agent answers at /nowhere/.connect: No such file or directory");

    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, directory, 1), 0);
    fd_close(&listener);
    assert_int_equal(function_connect("orders", why, sizeof why), -ECONNREFUSED);

    char path[200];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, path, 1), 0);
    assert_int_equal(function_connect("orders", why, sizeof why), -ENAMETOOLONG);
    assert_string_equal(why, "orders: REKINDLE_CONNECTIONS is too long for a socket's path");
}

/* ---- signals ---- */

static atomic_int signals;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void *send_signals(void *context)
{
    const pthread_t *to = context;
    for (int i = 0; i < 20; i++) {
        if (pthread_kill(*to, SIGUSR1) != 0)
            return "no signal";
        (void)poll(NULL, 0, 1);
    }
    return NULL;
}

static void signals_do_not_disturb(void **state)
{
    (void)state;
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: calls end with EINTR */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    atomic_store(&signals, 0);
    struct saying saying = {.parts = {"o", "k\n"}, .signal = &signals};
    agent_begin(&saying);
    pthread_t self = pthread_self(), sender;
    assert_int_equal(pthread_create(&sender, NULL, send_signals, &self), 0);
    int fd = function_connect("orders", why, sizeof why);
    assert_true(fd >= 0);
    void *complaint;
    assert_int_equal(pthread_join(sender, &complaint), 0);
    assert_null(complaint);
    agent_end(&saying);
    assert_true(atomic_load(&signals) > 0);
    close(fd);
}

/* ---- threads ---- */

/* Answers each with its own name, as an error, so that a mix-up shows. */
static void *agent_echo(void *context)
{
    (void)context;
    for (int i = 0; i < THREADS * ROUNDS; i++) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        if (poll(&ready, 1, PATIENCE_S * 1000) != 1)
            return "nobody asked";
        int fd = accept(listener, NULL, NULL);
        char name[64] = "", line[128];
        for (size_t have = 0; fd >= 0 && !strchr(name, '\n');) {
            const ssize_t n = recv(fd, name + have, sizeof name - 1 - have, 0);
            if (n <= 0)
                return "the name did not come";
            have += (size_t)n;
        }
        (void)snprintf(line, sizeof line, "error 2 you are %s", name);
        if (fd_write_all(fd, line, strlen(line)) != 0)
            return "the answer was not taken";
        fd_close(&fd);
    }
    return NULL;
}

static void *ask_often(void *context)
{
    const char *name = context;
    char wanted[128], text[128];
    (void)snprintf(wanted, sizeof wanted, "%s: you are %s", name, name);
    for (int i = 0; i < ROUNDS; i++)
        if (function_connect(name, text, sizeof text) != -ENOENT || strcmp(text, wanted) != 0)
            return "another's answer";
    return NULL;
}

static void threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS], server;
    static char names[THREADS][20];
    assert_int_equal(pthread_create(&server, NULL, agent_echo, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        (void)snprintf(names[i], sizeof names[i], "name-%d", i);
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, names[i]), 0);
    }
    void *complaint;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &complaint), 0);
        assert_null(complaint);
    }
    assert_int_equal(pthread_join(server, &complaint), 0);
    assert_null(complaint);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ok_and_what_follows_is_the_servers),
        TEST(errors_are_told),
        TEST(no_answer_is_told),
        TEST(answers_that_are_none),
        TEST(long_lines),
        TEST(room_for_the_reason),
        TEST(names_that_are_none),
        TEST(no_agent),
        TEST(signals_do_not_disturb),
        TEST(threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
