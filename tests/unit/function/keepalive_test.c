/*
 * The example keepalive against an agent and server of the test's own, in one thread: what is sent, what
 * becomes of responses of every kind, and when a request is repeated. The example is a part of this file,
 * without its main.
 */
#define main keepalive_main
int keepalive_main(void);
#include "agent/function/examples/keepalive.c"
#undef main

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/un.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/reply.h"

#define PATIENCE_MS 20000

/* What the server does, step by step. */
enum action {
    END,    /* of the script */
    ACCEPT, /* a connection, in the place of the one before, and say ok */
    REFUSE, /* a connection */
    ASKED,  /* read a request, which must be for `text` */
    SAY,    /* `text` */
    CLOSE,
    RESET, /* an end with something unread: the function's next read fails */
};

struct step {
    enum action action;
    const char *text;
};

static char directory[64];
static int listener;
static struct keepalive self;
static struct function_reply reply;

static const char *accept_one(int *fd, const char *answer)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    char name[16] = "";
    fd_close(fd);
    if (poll(&ready, 1, PATIENCE_MS) != 1 || (*fd = accept(listener, NULL, NULL)) < 0)
        return "nobody came";
    if (fd_read_all(*fd, name, strlen("upstream\n")) != 0 || strcmp(name, "upstream\n") != 0)
        return "another name than upstream";
    return fd_write_all(*fd, answer, strlen(answer)) == 0 ? NULL : "the answer was not taken";
}

static const char *read_request(int fd, const char *path)
{
    char request[2048] = "", wanted[1200];
    size_t have = 0;
    while (!strstr(request, "\r\n\r\n")) {
        const ssize_t n = recv(fd, request + have, sizeof request - 1 - have, 0);
        if (n <= 0)
            return "no request";
        have += (size_t)n;
    }
    (void)snprintf(wanted, sizeof wanted, "GET /%s HTTP/1.1\r\nHost: upstream\r\n", path);
    return strncmp(request, wanted, strlen(wanted)) == 0 ? NULL : "another request";
}

static const char *play(const struct step *step, int *fd)
{
    switch (step->action) {
    case ACCEPT:
        return accept_one(fd, "ok\n");
    case REFUSE:
        return accept_one(fd, "error 129 server's certificate expired on 2025-01-31\n");
    case ASKED:
        return read_request(*fd, step->text);
    case SAY:
        return fd_write_all(*fd, step->text, strlen(step->text)) == 0 ? NULL : "the response was not taken";
    case RESET: /* a Unix socket closed with bytes unread resets its peer */
    case CLOSE:
        if (step->action == RESET) {
            struct pollfd ready = {.fd = *fd, .events = POLLIN};
            if (poll(&ready, 1, PATIENCE_MS) != 1)
                return "nothing to leave unread";
        }
        fd_close(fd);
        return NULL;
    case END:
        break;
    }
    return "no step";
}

static void *serve(void *context)
{
    const char *complaint = NULL;
    int fd = -1;
    for (const struct step *step = context; step->action != END && !complaint; step++)
        complaint = play(step, &fd);
    struct pollfd ended = {.fd = fd};
    if (!complaint && fd >= 0 && poll(&ended, 1, PATIENCE_MS) != 1) /* the test hangs up when it is done */
        complaint = "the function does not hang up";
    fd_close(&fd);
    return (void *)(uintptr_t)complaint;
}

static pthread_t server;

static void server_begin(const struct step *steps)
{
    assert_int_equal(pthread_create(&server, NULL, serve, (void *)(uintptr_t)steps), 0);
}

static void server_end(void)
{
    hang_up(&self);
    void *complaint;
    assert_int_equal(pthread_join(server, &complaint), 0);
    if (complaint)
        fail_msg("server: %s", (const char *)complaint);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/keepalive_test.XXXXXX");
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/" FUNCTION_CONNECT_SOCKET, directory);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(setenv(FUNCTION_ENV_CONNECTIONS, directory, 1), 0);
    self = (struct keepalive){.fd = -1};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    hang_up(&self);
    reply_fini(&reply);
    fd_close(&listener);
    (void)snprintf(path, sizeof path, "%s/" FUNCTION_CONNECT_SOCKET, directory);
    (void)unlink(path);
    assert_int_equal(rmdir(directory), 0);
    return 0;
}

/* True for an answer. */
static bool invoke_within(const char *path, uint64_t time_ns)
{
    const struct function_event event = {.request_id = "r",
                                         .trace_id = "",
                                         .deadline_ns = clock_monotonic_ns() + time_ns,
                                         .data = path,
                                         .size = strlen(path)};
    reply_reset(&reply);
    return reply_conclude(&reply, handle(&self, &event, &reply));
}

static void assert_answers(const char *path, const char *wanted)
{
    if (!invoke_within(path, UINT64_C(20000000000)))
        fail_msg("%s: %s", reply.error_type, reply.error_text);
    char *answer = strndup((const char *)reply.data, reply.size);
    assert_string_equal(answer, wanted);
    free(answer);
}

static void assert_fails(const char *path, const char *type, const char *text)
{
    assert_false(invoke_within(path, UINT64_C(20000000000)));
    assert_string_equal(reply.error_type, type);
    assert_string_equal(reply.error_text, text);
    assert_int_equal(self.fd, -1);
}

/* ---- tests ---- */

static void one_descriptor_carries_all(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {ACCEPT, NULL},
        {ASKED, "a"},
        {SAY, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
        {ASKED, "b/c?d"},
        {SAY, "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nfirst\r\nB \r\n and "
              "second\r\n0\r\n"
              "Trailer: t\r\n\r\n"},
        {ASKED, ""},
        {SAY, "HTTP/1.1 204 No Content\n\n"},
        {END, NULL},
    };
    server_begin(steps);
    assert_int_equal(prepare(&self), 0);
    assert_int_equal(self.connections, 1);
    assert_answers("a", "status 200\nrequests 1\nconnections 1\nreconnects 0\n\nhello");
    assert_answers("b/c?d", "status 404\nrequests 2\nconnections 1\nreconnects 0\n\nfirst and second");
    assert_answers("", "status 204\nrequests 3\nconnections 1\nreconnects 0\n\n");
    server_end();
}

static void a_lost_request_is_repeated_once(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {ACCEPT, NULL}, {RESET, NULL}, {ACCEPT, NULL},
        {ASKED, "x"},   {CLOSE, NULL}, /* while the first is answered by nothing at all */
        {END, NULL},
    };
    server_begin(steps);
    assert_int_equal(prepare(&self), 0);
    assert_fails("x", "Upstream.Lost", "the connection ended before the response");
    assert_int_equal(self.reconnects, 1);
    assert_int_equal(self.connections, 2);
    server_end();
}

static void a_lost_request_is_answered(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {ACCEPT, NULL},
        {ASKED, "x"},
        {SAY, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {ASKED, "y"},
        {CLOSE, NULL},
        {ACCEPT, NULL},
        {ASKED, "y"},
        {SAY, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {END, NULL},
    };
    server_begin(steps);
    assert_answers("x", "status 200\nrequests 1\nconnections 1\nreconnects 0\n\n");
    assert_answers("y", "status 200\nrequests 1\nconnections 2\nreconnects 1\n\nok");
    server_end();
}

static void half_a_response_is_never_repeated(void **state)
{
    (void)state;
    static const char *const halves[] = {
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    };
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        const struct step steps[] = {
            {ACCEPT, NULL}, {ASKED, "x"}, {SAY, halves[i]}, {CLOSE, NULL}, {END, NULL}};
        server_begin(steps);
        assert_fails("x", "Upstream.Lost", "the connection ended in the middle of the response");
        assert_int_equal(self.reconnects, 0);
        server_end();
    }
}

static void ends_that_are_announced(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {ACCEPT, NULL},
        {ASKED, "x"},
        {SAY,
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1"},
        {ACCEPT, NULL},
        {ASKED, "y"},
        {SAY, "HTTP/1.0 200 OK\r\n\r\nuntil the end"},
        {CLOSE, NULL},
        {END, NULL},
    };
    server_begin(steps);
    assert_answers("x", "status 200\nrequests 1\nconnections 1\nreconnects 0\n\n1");
    assert_answers("y", "status 200\nrequests 1\nconnections 2\nreconnects 0\n\nuntil the end");
    server_end();
}

static void bad_responses_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *said, *why;
    } cases[] = {
        {"SSH-2.0-x\r\n", "\"SSH-2.0-x\" is no status line of HTTP/1"},
        {"\r\n", "\"\" is no status line of HTTP/1"},
        {"HTTP/1.1 20\r\n", "\"HTTP/1.1 20\" is no status line of HTTP/1"},
        {"HTTP/2 200\r\n", "\"HTTP/2 200\" is no status line of HTTP/1"},
        {"HTTP/1.1 200 OK\r\nno field\r\n", "\"no field\" is no field"},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", "Content-Length -1"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "Content-Length 2"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n",
         "Content-Length 99999999999999999999"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", "a body of more than 1048576 bytes"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
         "Transfer-Encoding gzip; chunked is what is read here"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
         "both Content-Length and Transfer-Encoding"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "\"xyz\" is no size of a chunk"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n",
         "a body of more than 1048576 bytes"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "a chunk longer than it says"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "status 101 was not asked for"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct step steps[] = {{ACCEPT, NULL}, {ASKED, "x"}, {SAY, cases[i].said}, {END, NULL}};
        server_begin(steps);
        assert_fails("x", "Upstream.BadResponse", cases[i].why);
        assert_int_equal(self.reconnects, 0);
        server_end();
    }
}

static void limits(void **state)
{
    (void)state;
    static char text[BUFFER_BYTES + 64];
    size_t at = (size_t)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n");
    memset(text + at, 'x', sizeof text - 1 - at);
    const struct step line[] = {{ACCEPT, NULL}, {ASKED, "x"}, {SAY, text}, {END, NULL}};
    server_begin(line);
    assert_fails("x", "Upstream.BadResponse", "a line of more than 16384 bytes");
    server_end();
    for (int i = 0; i < 101; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "x: y\r\n");
    const struct step fields[] = {{ACCEPT, NULL}, {ASKED, "x"}, {SAY, text}, {END, NULL}};
    server_begin(fields);
    assert_fails("x", "Upstream.BadResponse", "more than 100 fields");
    server_end();
    at = 0;
    for (int i = 0; i < 9; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "HTTP/1.1 103 Early Hints\r\n\r\n");
    const struct step interim[] = {{ACCEPT, NULL}, {ASKED, "x"}, {SAY, text}, {END, NULL}};
    server_begin(interim);
    assert_fails("x", "Upstream.BadResponse", "more than 8 interim responses");
    server_end();
}

static void a_large_body_passes(void **state)
{
    (void)state;
    static char text[BODY_BYTES + 64], wanted[BODY_BYTES + 64];
    int at = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY_BYTES);
    memset(text + at, 'b', BODY_BYTES);
    at = snprintf(wanted, sizeof wanted, "status 200\nrequests 1\nconnections 1\nreconnects 0\n\n");
    memset(wanted + at, 'b', BODY_BYTES);
    const struct step steps[] = {{ACCEPT, NULL}, {ASKED, "x"}, {SAY, text}, {END, NULL}};
    server_begin(steps);
    assert_answers("x", wanted);
    server_end();
}

static void more_than_the_response_ends_the_connection(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {ACCEPT, NULL},
        {ASKED, "x"},
        {SAY, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n"},
        {END, NULL},
    };
    server_begin(steps);
    assert_answers("x", "status 200\nrequests 1\nconnections 1\nreconnects 0\n\n1");
    assert_int_equal(self.fd, -1);
    server_end();
}

static void silence_ends_before_the_deadline(void **state)
{
    (void)state;
    static const struct step steps[] = {{ACCEPT, NULL}, {ASKED, "x"}, {END, NULL}};
    server_begin(steps);
    assert_false(invoke_within("x", UINT64_C(200000000)));
    assert_string_equal(reply.error_type, "Upstream.TimedOut");
    assert_string_equal(reply.error_text, "the server's response did not begin before the deadline");
    assert_int_equal(self.reconnects, 0);
    server_end();
}

static void no_connection_is_told(void **state)
{
    (void)state;
    static const struct step steps[] = {{REFUSE, NULL}, {REFUSE, NULL}, {END, NULL}};
    server_begin(steps);
    assert_int_equal(prepare(&self), 0);
    assert_fails("x", "Upstream.NoConnection", "upstream: server's certificate expired on 2025-01-31");
    server_end();
    assert_int_equal(unsetenv(FUNCTION_ENV_CONNECTIONS), 0);
    assert_fails(
        "x", "Upstream.NoConnection",
        "upstream: REKINDLE_CONNECTIONS is not set: there is no manifest (a file \"connections\" beside "
        "the function's program), or no agent");
}

static void events_that_are_no_path(void **state)
{
    (void)state;
    char path[PATH_BYTES + 2];
    memset(path, 'p', sizeof path);
    path[PATH_BYTES + 1] = '\0';
    static const char wanted[] = "the event is no path: want up to 1024 printable characters without blanks";
    assert_fails(path, "Keepalive.BadEvent", wanted);
    assert_fails("a b", "Keepalive.BadEvent", wanted);
    assert_fails("a\r\nX: y", "Keepalive.BadEvent", wanted);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_descriptor_carries_all),
        TEST(a_lost_request_is_repeated_once),
        TEST(a_lost_request_is_answered),
        TEST(half_a_response_is_never_repeated),
        TEST(ends_that_are_announced),
        TEST(bad_responses_are_named),
        TEST(limits),
        TEST(a_large_body_passes),
        TEST(more_than_the_response_ends_the_connection),
        TEST(silence_ends_before_the_deadline),
        TEST(no_connection_is_told),
        TEST(events_that_are_no_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
