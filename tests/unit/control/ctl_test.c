/* `hostvmm ctl` as a whole, against a server that is a script: what it sends, what it prints, its exit codes. */
#include <fcntl.h>
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/control/control.h"
#include "hostvmm/exit.h"

#define ANSWERS_MAX 4

static char directory[] = "/tmp/ctl_test.XXXXXX";
static char sock[64];
static char event[64];
static char captured[2][65536]; /* standard output and error of the last run */

/* Takes one connection for each answer; keeps what came. */
static struct {
    int listen_fd;
    pthread_t thread;
    const char *answers[ANSWERS_MAX + 1];
    char asked[ANSWERS_MAX][8192];
} server;

static const char *in_directory(char *path, const char *name)
{
    snprintf(path, 64, "%s/%s", directory, name);
    return path;
}

/* A request until its body is whole. */
static void read_request(int fd, char *to, size_t capacity)
{
    size_t used = 0;
    for (;;) {
        const ssize_t n = read(fd, to + used, capacity - 1 - used);
        if (n <= 0)
            return;
        used += (size_t)n;
        to[used] = '\0';
        const char *end = strstr(to, "\r\n\r\n");
        const char *length = strstr(to, "Content-Length: ");
        if (end && used >= (size_t)(end + 4 - to) + (length ? strtoul(length + 16, NULL, 10) : 0))
            return;
    }
}

static void *serve(void *context)
{
    (void)context;
    for (unsigned i = 0; server.answers[i]; i++) {
        int fd = accept(server.listen_fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        read_request(fd, server.asked[i], sizeof server.asked[i]);
        (void)fd_write_all(fd, server.answers[i], strlen(server.answers[i]));
        fd_close(&fd);
    }
    return NULL;
}

static void answer_with(const char *first, const char *second, const char *third, const char *fourth)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memset(&server, 0, sizeof server);
    const char *const all[] = {first, second, third, fourth};
    memcpy(server.answers, all, sizeof all);
    memcpy(address.sun_path, sock, strlen(sock) + 1);
    server.listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(server.listen_fd >= 0);
    (void)unlink(sock);
    assert_int_equal(bind(server.listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server.listen_fd, 4), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void end_server(void)
{
    (void)shutdown(server.listen_fd, SHUT_RDWR); /* an accept that nobody came to returns */
    assert_int_equal(pthread_join(server.thread, NULL), 0);
    fd_close(&server.listen_fd);
    (void)unlink(sock);
}

static void capture(int which, const char *name)
{
    char path[64];
    const int64_t size = fd_read_file(in_directory(path, name), captured[which], sizeof captured[which] - 1);
    assert_true(size >= 0);
    captured[which][size] = '\0';
    unlink(path);
}

/* In a process of its own, as the command is; its exit code. */
static int ctl(char **arguments)
{
    int count = 0;
    while (arguments[count])
        count++;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        char path[64];
        if (!freopen(in_directory(path, "stdout"), "w", stdout) ||
            !freopen(in_directory(path, "stderr"), "w", stderr) || !freopen(event, "r", stdin) ||
            chdir(directory))
            _exit(100);
        const int code = control_ctl_main(count, arguments);
        fflush(NULL);
        _exit(code);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    capture(0, "stdout");
    capture(1, "stderr");
    return WEXITSTATUS(status);
}
#define CTL(...)   ctl((char *[]){"ctl", "--api-sock", sock, __VA_ARGS__, NULL})

#define NO_CONTENT "HTTP/1.1 204 No Content\r\n\r\n"
#define RUNNING                                                                                              \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 71\r\n\r\n"                        \
    "{\"id\":\"anonymous\",\"app_name\":\"x\",\"state\":\"Running\",\"vmm_version\":\"1\"}  "

static void expect_asked(unsigned which, const char *line, const char *body)
{
    assert_true(strncmp(server.asked[which], line, strlen(line)) == 0);
    const char *end = strstr(server.asked[which], "\r\n\r\n");
    assert_non_null(end);
    assert_string_equal(end + 4, body);
}

static void test_words_send_firecrackers_requests(void **state)
{
    (void)state;
    const struct {
        char *words[4];
        const char *line;
        const char *body;
    } rows[] = {
        {{"start"}, "PUT /actions HTTP/1.1\r\n", "{\"action_type\":\"InstanceStart\"}"},
        {{"stop"}, "PUT /actions HTTP/1.1\r\n", "{\"action_type\":\"SendCtrlAltDel\"}"},
        {{"pause"}, "PATCH /vm HTTP/1.1\r\n", "{\"state\":\"Paused\"}"},
        {{"resume"}, "PATCH /vm HTTP/1.1\r\n", "{\"state\":\"Resumed\"}"},
        {{"drive", "data", "--path", "/a \"b\""},
         "PATCH /drives/data HTTP/1.1\r\n",
         "{\"drive_id\":\"data\",\"path_on_host\":\"/a \\\"b\\\"\"}"},
        {{"balloon", "--target", "64"}, "PATCH /balloon HTTP/1.1\r\n", "{\"amount_mib\":64}"},
        {{"metrics"}, "GET /metrics HTTP/1.1\r\n", ""},
        {{"clones"}, "GET /clones HTTP/1.1\r\n", ""},
        {{"resume-steps"}, "GET /resume-steps HTTP/1.1\r\n", ""},
        {{"PUT", "/vsock", "{\"guest_cid\":3}"}, "PUT /vsock HTTP/1.1\r\n", "{\"guest_cid\":3}"},
        {{"DELETE", "/clones/7"}, "DELETE /clones/7 HTTP/1.1\r\n", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *const *words = rows[i].words;
        answer_with(NO_CONTENT, NULL, NULL, NULL);
        assert_int_equal(
            ctl((char *[]){"ctl", "--api-sock", sock, words[0], words[1], words[2], words[3], NULL}),
            HOSTVMM_EXIT_OK);
        end_server();
        expect_asked(0, rows[i].line, rows[i].body);
        assert_string_equal(captured[0], "");
        assert_string_equal(captured[1], "");
    }
}

static void test_status_is_one_line(void **state)
{
    (void)state;
    answer_with(RUNNING, NULL, NULL, NULL);
    assert_int_equal(CTL("status"), HOSTVMM_EXIT_OK);
    end_server();
    assert_string_equal(captured[0], "anonymous: Running (hostvmm 1)\n");
}

static void test_a_snapshot_pauses_and_resumes(void **state)
{
    (void)state;
    answer_with(RUNNING, NO_CONTENT, NO_CONTENT, NO_CONTENT);
    assert_int_equal(CTL("snapshot", "--out", "/a/snap"), HOSTVMM_EXIT_OK);
    end_server();
    expect_asked(1, "PATCH /vm ", "{\"state\":\"Paused\"}");
    expect_asked(
        2, "PUT /snapshot/create ",
        "{\"snapshot_path\":\"/a/snap\",\"mem_file_path\":\"/a/snap.mem\",\"snapshot_type\":\"Full\"}");
    expect_asked(3, "PATCH /vm ", "{\"state\":\"Resumed\"}");
}

static void test_a_checkpoint_leaves_the_guest_running(void **state)
{
    char wanted[256];
    (void)state;
    answer_with(RUNNING, NO_CONTENT, NULL, NULL);
    assert_int_equal(CTL("snapshot", "--out", "snap", "--mem", "mem", "--diff", "--checkpoint"),
                     HOSTVMM_EXIT_OK);
    end_server();
    snprintf(wanted, sizeof wanted,
             "{\"snapshot_path\":\"%s/snap\",\"mem_file_path\":\"%s/mem\",\"snapshot_type\":\"Diff\","
             "\"checkpoint\":true}",
             directory, directory);
    expect_asked(1, "PUT /snapshot/create ", wanted);
}

static void test_a_snapshot_that_fails_resumes_all_the_same(void **state)
{
    (void)state;
    answer_with(RUNNING, NO_CONTENT,
                "HTTP/1.1 400 Bad\r\nContent-Length: 23\r\n\r\n{\"fault_message\":\"full\"}", NO_CONTENT);
    assert_int_equal(CTL("snapshot", "--out", "/a/snap"), HOSTVMM_EXIT_INPUT);
    end_server();
    expect_asked(3, "PATCH /vm ", "{\"state\":\"Resumed\"}");
    assert_non_null(strstr(captured[1], "full"));
}

static void test_invoke(void **state)
{
    (void)state;
    answer_with("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4\r\n"
                "X-Log-Result: bGluZSBvbmUKdHdvGwo=\r\n\r\npong",
                NULL, NULL, NULL);
    assert_int_equal(CTL("invoke", "--event", "-", "--logs", "--timeout", "500", "--trace", "Root=1"),
                     HOSTVMM_EXIT_OK);
    end_server();
    expect_asked(0, "POST /invocations HTTP/1.1\r\n", "ping");
    assert_non_null(strstr(server.asked[0], "\r\nX-Deadline-Ms: 500\r\n"));
    assert_non_null(strstr(server.asked[0], "\r\nX-Log-Type: Tail\r\n"));
    assert_non_null(strstr(server.asked[0], "\r\nX-Amzn-Trace-Id: Root=1\r\n"));
    assert_non_null(strstr(server.asked[0], "\r\nContent-Type: application/octet-stream\r\n"));
    assert_string_equal(captured[0], "pong");
    assert_string_equal(captured[1], "line one\ntwo\\x1b\n");

    answer_with(
        "HTTP/1.1 200 OK\r\nX-Function-Error: Unhandled\r\nContent-Length: 17\r\n\r\n{\"errorType\":\"X\"}",
        NULL, NULL, NULL);
    assert_int_equal(CTL("invoke", "--event", event, "--clone", "3"), HOSTVMM_EXIT_FUNCTION);
    end_server();
    expect_asked(0, "POST /clones/3/invocations HTTP/1.1\r\n", "ping");
    assert_string_equal(captured[0], "");
    assert_string_equal(captured[1], "{\"errorType\":\"X\"}\n");
}

static void test_a_body_from_a_file_or_standard_input(void **state)
{
    char at[80];
    (void)state;
    snprintf(at, sizeof at, "@%s", event);
    answer_with(NO_CONTENT, NULL, NULL, NULL);
    assert_int_equal(CTL("PUT", "/boot-source", at), HOSTVMM_EXIT_OK);
    end_server();
    expect_asked(0, "PUT /boot-source ", "ping");
    answer_with(NO_CONTENT, NULL, NULL, NULL);
    assert_int_equal(CTL("PUT", "/boot-source", "-"), HOSTVMM_EXIT_OK);
    end_server();
    expect_asked(0, "PUT /boot-source ", "ping");
    assert_int_equal(CTL("PUT", "/boot-source", "@/nowhere"), HOSTVMM_EXIT_INPUT);
}

static void test_exit_codes(void **state)
{
    (void)state;
    const struct {
        const char *answer;
        int code;
        const char *said;
    } rows[] = {
        {"HTTP/1.1 400 Bad\r\nContent-Length: 24\r\n\r\n{\"fault_message\":\"wrong\"}", HOSTVMM_EXIT_INPUT,
         "wrong"},
        {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", HOSTVMM_EXIT_INPUT, "404"},
        {"HTTP/1.1 502 Bad\r\nContent-Length: 23\r\n\r\n{\"fault_message\":\"gone\"}", HOSTVMM_EXIT_HOST,
         "gone"},
        {"HTTP/1.1 504 Late\r\nContent-Length: 23\r\n\r\n{\"fault_message\":\"late\"}",
         HOSTVMM_EXIT_TIMED_OUT, "late"},
        {"OK 1024\n\r\n\r\n", HOSTVMM_EXIT_HOST, "no control API"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", HOSTVMM_EXIT_HOST, "hung up"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        answer_with(rows[i].answer, NULL, NULL, NULL);
        assert_int_equal(CTL("GET", "/"), rows[i].code);
        end_server();
        assert_string_equal(captured[0], "");
        if (!strstr(captured[1], rows[i].said))
            fail_msg("'%s' was expected in: %s", rows[i].said, captured[1]);
    }
    /* Nobody there, and one that never answers. */
    assert_int_equal(CTL("GET", "/"), HOSTVMM_EXIT_HOST);
    answer_with(NULL, NULL, NULL, NULL);
    assert_int_equal(CTL("--wait", "50", "GET", "/"), HOSTVMM_EXIT_TIMED_OUT);
    end_server();
}

static void test_wrong_command_lines(void **state)
{
    (void)state;
    assert_int_equal(ctl((char *[]){"ctl", "GET", "/", NULL}), HOSTVMM_EXIT_USAGE);
    assert_int_equal(ctl((char *[]){"ctl", "--api-sock", sock, NULL}), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("jump"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("GET"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("GET", "machine-config"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("GET", "/a b"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("GET", "/", "{}", "{}"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("GET", "/", "--out", "x"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("pause", "--out", "x"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("pause", "now"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("snapshot"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("drive", "--path", "x"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("drive", "../vm", "--path", "x"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("balloon", "--target", "-1"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("invoke", "--event", "-", "--clone", "a/b"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("invoke", "--event", "-", "--trace", "a\r\nb"), HOSTVMM_EXIT_USAGE);
    assert_int_equal(CTL("--wait", "0", "pause"), HOSTVMM_EXIT_USAGE);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    in_directory(sock, "api.sock");
    in_directory(event, "event");
    int fd = open(event, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int error = fd < 0 ? -1 : fd_write_all(fd, "ping", 4);
    fd_close(&fd);
    return error;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(event);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_send_firecrackers_requests),
        cmocka_unit_test(test_status_is_one_line),
        cmocka_unit_test(test_a_snapshot_pauses_and_resumes),
        cmocka_unit_test(test_a_checkpoint_leaves_the_guest_running),
        cmocka_unit_test(test_a_snapshot_that_fails_resumes_all_the_same),
        cmocka_unit_test(test_invoke),
        cmocka_unit_test(test_a_body_from_a_file_or_standard_input),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_wrong_command_lines),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
