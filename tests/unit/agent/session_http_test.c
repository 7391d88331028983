/*
 * Snapshots of a function that speaks HTTP: restore/next and restore/error, and the function that knows of
 * neither. The test plays the function, request by request.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/proto/errors.h"
#include "tests/unit/agent/snapshot_stage.h"

#define API "/2018-06-01/runtime/"

static int dial(void)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(session.function.http.port),
                                        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void ask(int fd, const char *method, const char *path, const char *body)
{
    char request[512];
    const int size =
        snprintf(request, sizeof request, "%s " API "%s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s",
                 method, path, strlen(body), body);
    assert_int_equal(send(fd, request, (size_t)size, MSG_NOSIGNAL), size);
}

/* The status of the answer on `fd`; 0 when none comes. */
static int status(int fd)
{
    char text[2048] = "";
    int number = 0;
    for (int i = 0; i < 6; i++) {
        const ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
        if (n > 0) {
            text[n] = '\0';
            assert_int_equal(sscanf(text, "HTTP/1.1 %d", &number), 1);
            return number;
        }
        turn(NULL);
    }
    return 0;
}

static void is_ready(void)
{
    for (int i = 0; i < 50 && session.state != LIFECYCLE_READY; i++)
        turn(NULL);
    assert_int_equal(session.state, LIFECYCLE_READY);
}

/* A function that waits in restore/next, and a host. */
static struct talk *start_waiting(int *fd)
{
    session_start(&session);
    *fd = dial();
    ask(*fd, "GET", "restore/next", "");
    is_ready();
    assert_int_equal(status(*fd), 0);
    return client_ready(false);
}

static void checkpoint_at_once(struct talk *host)
{
    ask_checkpoint(host, 5000);
    expect_quiesced(host, NULL, "");
    assert_int_equal(session.state, LIFECYCLE_FROZEN);
    assert_true(fake.frozen);
}

static void serves_event(struct talk *talk, int fd)
{
    talk_invoke(talk, "r-1", "x", 5000);
    assert_int_equal(status(fd), 200);
    ask(fd, "POST", "invocation/r-1/response", "done");
    talk_expect_answer(talk, "r-1", "done");
    assert_int_equal(status(fd), 202);
    ask(fd, "GET", "invocation/next", "");
    turns(3);
}

static void restore_next_answers_when_resumed(void **state)
{
    (void)state;
    int fd;
    struct talk *host = start_waiting(&fd);
    checkpoint_at_once(host);
    assert_int_equal(status(fd), 0);
    ask_resume(host, 7, 1000);
    expect_steps(host);
    expect_step(host, "thaw", false);
    assert_int_equal(status(fd), 200);
    assert_true(talk_is_quiet(host)); /* its hooks run, until it asks for an event */
    ask(fd, "GET", "invocation/next", "");
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    serves_event(host, fd);

    checkpoint_at_once(host); /* once more: it waits in next, and is frozen and thawed there */
    ask_resume(host, 8, 1000);
    expect_steps(host);
    expect_step(host, "thaw", false);
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    serves_event(host, fd);
    close(fd);
    client_free(host);
}

static void restore_error_gives_the_clone_up(void **state)
{
    (void)state;
    int fd;
    struct talk *host = start_waiting(&fd);
    checkpoint_at_once(host);
    ask_resume(host, 7, 1000);
    expect_steps(host);
    expect_step(host, "thaw", false);
    assert_int_equal(status(fd), 200);
    ask(fd, "POST", "restore/error",
        "{\"errorType\":\"Runtime.NoSuchHook\",\"errorMessage\":\"it is not there\"}");
    expect_step(host, "hooks", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "hooks: Runtime.NoSuchHook: it is not there");
    assert_int_equal(session.state, LIFECYCLE_UNRESUMED);
    assert_true(fake.frozen);
    assert_int_equal(status(fd), 202);
    close(fd);
    is_given_up(host, "hooks: ");
}

static void event_without_a_snapshot_lets_it_go_on(void **state)
{
    (void)state;
    int fd;
    struct talk *talk = start_waiting(&fd);
    talk_invoke(talk, "r-0", "x", 5000);
    assert_int_equal(status(fd), 200); /* of restore/next */
    ask(fd, "GET", "invocation/next", "");
    assert_int_equal(status(fd), 200);
    ask(fd, "POST", "invocation/r-0/response", "done");
    talk_expect_answer(talk, "r-0", "done");
    assert_int_equal(status(fd), 202);
    ask(fd, "GET", "invocation/next", "");
    turns(3);
    serves_event(talk, fd);
    close(fd);
    client_free(talk);
}

static void restore_error_without_a_snapshot_ends_it(void **state)
{
    (void)state;
    int fd;
    struct talk *talk = start_waiting(&fd);
    talk_invoke(talk, "r-0", "x", 5000);
    assert_int_equal(status(fd), 200);
    ask(fd, "POST", "restore/error", "{}");
    for (int i = 0; i < 50 && fake.starts < 2; i++)
        turn(NULL);
    assert_int_equal(fake.starts, 2); /* the event waits for the next */
    close(fd);
    fd = dial();
    ask(fd, "GET", "invocation/next", "");
    assert_int_equal(status(fd), 200);
    close(fd);
    client_free(talk);
}

static void function_that_waits_in_next_is_resumed_there(void **state)
{
    (void)state;
    session_start(&session);
    int fd = dial();
    ask(fd, "GET", "invocation/next", "");
    is_ready();
    struct talk *host = client_ready(false);
    ask_resume(host, 7, 1000); /* and nobody announced the snapshot */
    expect_steps(host);
    expect_step(host, "thaw", false);
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    serves_event(host, fd);
    close(fd);
    client_free(host);
}

static void hook_that_hangs_gives_the_clone_up(void **state)
{
    (void)state;
    int fd;
    struct talk *host = start_waiting(&fd);
    checkpoint_at_once(host);
    ask_resume(host, 7, 20);
    expect_steps(host);
    expect_step(host, "thaw", false);
    expect_step(host, "hooks", true);
    expect_resumed(host, PROTO_ERROR_NOT_RESUMED, "in its hooks after the restore");
    close(fd);
    client_free(host);
}

static void restore_requests_out_of_turn_are_refused(void **state)
{
    (void)state;
    session_start(&session);
    int fd = dial();
    ask(fd, "POST", "restore/error", "{}");
    assert_int_equal(status(fd), 403);
    close(fd);
    fd = dial();
    int second = dial();
    ask(fd, "GET", "restore/next", "");
    is_ready();
    ask(second, "GET", "restore/next", "");
    assert_int_equal(status(second), 403);
    close(second);
    second = dial();
    ask(second, "POST", "restore/error", "{}");
    assert_int_equal(status(second), 403);
    close(second);
    second = dial();
    ask(second, "GET", "invocation/next", "");
    turns(3);
    close(fd);
    fd = dial();
    ask(fd, "GET", "restore/next", "");
    assert_int_equal(status(fd), 403); /* after the first next */
    assert_int_equal(session.state, LIFECYCLE_READY);
    close(fd);
    close(second);
}

/* A client whose request timed out asks again on a new connection. */
static void restore_next_may_be_asked_again(void **state)
{
    (void)state;
    int fd;
    struct talk *host = start_waiting(&fd);
    close(fd);
    turns(3);
    fd = dial();
    ask(fd, "GET", "restore/next", "");
    turns(3);
    checkpoint_at_once(host);
    ask_resume(host, 7, 1000);
    expect_steps(host);
    expect_step(host, "thaw", false);
    assert_int_equal(status(fd), 200);
    ask(fd, "GET", "invocation/next", "");
    expect_step(host, "hooks", false);
    expect_resumed(host, NULL, "");
    close(fd);
    client_free(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(restore_next_answers_when_resumed),
        WITH_SESSION(restore_error_gives_the_clone_up),
        WITH_SESSION(event_without_a_snapshot_lets_it_go_on),
        WITH_SESSION(restore_error_without_a_snapshot_ends_it),
        WITH_SESSION(function_that_waits_in_next_is_resumed_there),
        WITH_SESSION(hook_that_hangs_gives_the_clone_up),
        WITH_SESSION(restore_requests_out_of_turn_are_refused),
        WITH_SESSION(restore_next_may_be_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
