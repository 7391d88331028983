/*
 * The real agent with connections that a manifest names, to a real server (`openssl s_server`, which gives
 * each line back reversed), on this machine: before a checkpoint, and as a clone after it. The test plays the
 * function's part of the sockets, as the function's user.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/process.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/host.h"
#include "tests/unit/agent/snapshot_talk.h"

static char certificates[600];
static pid_t server;
static FILE *server_says;
static unsigned port;

/* ---- the server ------------------------------------------------------------------------------------ */

static void start_server(void)
{
    int fds[2];
    char line[256], leaf[640], chain[640], key[640];
    (void)snprintf(leaf, sizeof leaf, "%s/ec.pem", certificates);
    (void)snprintf(chain, sizeof chain, "%s/intermediate.pem", certificates);
    (void)snprintf(key, sizeof key, "%s/ec.key", certificates);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    server = fork();
    if (server == 0) {
        const int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, STDIN_FILENO);
        dup2(fds[1], STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
        execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-tls1_2", "-cert", leaf,
               "-cert_chain", chain, "-key", key, (char *)NULL);
        _exit(126);
    }
    close(fds[1]);
    server_says = fdopen(fds[0], "r");
    assert_non_null(server_says);
    for (port = 0; port == 0 && fgets(line, sizeof line, server_says);)
        (void)sscanf(line, "ACCEPT 127.0.0.1:%u", &port);
    assert_int_not_equal(port, 0);
}

static void stop_server(void)
{
    if (server <= 0)
        return;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    fclose(server_says);
    server = 0;
}

/* ---- the agent ------------------------------------------------------------------------------------- */

static void put(const struct host *host, const char *name, const void *data, size_t size)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", host->directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, data, size), 0);
    fd_close(&fd);
}

static void put_manifest(const struct host *host, const char *extra)
{
    static char trust[65536];
    char path[640], text[512];
    (void)snprintf(path, sizeof path, "%s/ca.pem", certificates);
    const int64_t size = fd_read_file(path, trust, sizeof trust);
    assert_true(size > 0);
    put(host, "ca.pem", trust, (size_t)size);
    const int length = snprintf(text, sizeof text,
                                "[orders]\nhost = 127.0.0.1\nport = %u\n"
                                "server_name = orders.example.test\ntrust = ca.pem\npool = 0\n%s",
                                port, extra);
    put(host, "connections", text, (size_t)length);
}

static void prepare(const struct host *host)
{
    start_server();
    put_manifest(host, "");
}

static int set_up(void **state)
{
    return host_set_up_prepared(state, "hello", prepare);
}

static int tear_down(void **state)
{
    stop_server();
    return host_tear_down(state);
}

/* ---- the function ---------------------------------------------------------------------------------- */

static int open_as_function(const struct host *host, const char *name)
{
    static const struct timeval limit = {.tv_sec = 10};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/connections/%s", host->run, name);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    const bool root = geteuid() == 0;
    assert_true(!root || (setegid(FUNCTION_GID) == 0 && seteuid(FUNCTION_UID) == 0));
    const int result = connect(fd, (const struct sockaddr *)&address, sizeof address);
    assert_true(!root || (seteuid(0) == 0 && setegid(0) == 0));
    assert_int_equal(result, 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void hear(int fd, const char *text)
{
    char got[64] = "";
    assert_int_equal(fd_read_all(fd, got, strlen(text)), 0);
    assert_string_equal(got, text);
}

static bool has_error_file(const struct host *host)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/connections/orders.error", host->run);
    return access(path, F_OK) == 0;
}

static void checkpoint(struct talk *talk, uint32_t timeout_ms)
{
    ask_checkpoint(talk, timeout_ms);
    expect_quiesced(talk, NULL, "");
}

static void resume(struct talk *talk)
{
    static const char *const names[] = {"entropy", "clock",       "sockets",    "identity", "network",
                                        "secrets", "connections", "generation", "thaw",     "hooks"};
    ask_resume(talk, 7, 10000);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_step(talk, names[i], false);
    expect_resumed(talk, NULL, "");
}

/* ---- tests ----------------------------------------------------------------------------------------- */

static void an_idle_connection_carries_on(void **state)
{
    const struct host *host = *state;
    struct talk *talk = dial_ready(*state);
    int fd = open_as_function(host, "orders");
    say(fd, "abc\n");
    hear(fd, "cba\n");
    for (int clone = 0; clone < 3; clone++) {
        checkpoint(talk, 10000);
        resume(talk);
        say(fd, "defg\n");
        hear(fd, "gfed\n");
    }
    assert_false(has_error_file(host));
    fd_close(&fd);
    hang_up(talk);
}

static void a_half_sent_request_is_reset(void **state)
{
    const struct host *host = *state;
    struct talk *talk = dial_ready(*state);
    int fd = open_as_function(host, ".connect");
    say(fd, "orders\n");
    hear(fd, "ok\n");
    say(fd, "half a li");
    checkpoint(talk, 1000);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    fd_close(&fd);
    resume(talk);
    fd = open_as_function(host, "orders");
    say(fd, "next\n");
    hear(fd, "txen\n");
    fd_close(&fd);
    hang_up(talk);
}

static void a_server_that_is_gone_in_the_clone(void **state)
{
    const struct host *host = *state;
    struct talk *talk = dial_ready(*state);
    int fd = open_as_function(host, "orders");
    say(fd, "abc\n");
    hear(fd, "cba\n");
    checkpoint(talk, 10000);
    stop_server();
    resume(talk); /* it is not waited for */
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_true(has_error_file(host));
    fd_close(&fd);
    hang_up(talk);
}

static void prepare_badly(const struct host *host)
{
    start_server();
    put_manifest(host, "minimum_version = 1.3\n");
}

static int set_up_badly(void **state)
{
    return host_set_up_prepared(state, "hello", prepare_badly);
}

static void a_bad_manifest_fails_the_init(void **state)
{
    struct talk *talk = dial(*state);
    talk_hello(talk, false);
    const struct proto_message *message = talk_next(talk);
    while (message->type != PROTO_INIT || message->u.init.state == PROTO_STATE_STARTING)
        message = talk_next(talk);
    assert_int_equal(message->u.init.state, PROTO_STATE_FAILED);
    assert_true(proto_slice_equal(message->u.init.failure.type, proto_text("Function.InitError")));
    const struct proto_slice text = message->u.init.failure.message;
    assert_non_null(memmem(text.data, text.size, "/connections: line 7: ", 22));
    hang_up(talk);
}

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_idle_connection_carries_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_half_sent_request_is_reset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_is_gone_in_the_clone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bad_manifest_fails_the_init, set_up_badly, tear_down),
    };
    (void)count;
    /* $(BUILD)/tests/unit/agent_host_connections_test: the certificates are in $(BUILD)/tests/tls-certs. */
    const char *end = strstr(arguments[0], "/unit/");
    if (!end || host_find_programs() != 0)
        return 1;
    (void)snprintf(certificates, sizeof certificates, "%.*s/tls-certs", (int)(end - arguments[0]),
                   arguments[0]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
