/*
 * The real agent, under sanitizers, with a real function process and real clients on this machine: every way
 * in which a function or a client can go wrong ends in the right error, and the next invocation works.
 *
 * Limits of memory and processes need the guest's cgroup: tests/integration proves them in a VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "tests/unit/agent/talk.h"

#define INIT_LIMIT_MS "700"

struct host {
    char directory[64];
    char socket_path[96];
    pid_t agent;
    int log_fd; /* the agent's stderr */
    char log[16384];
    size_t log_size;
};

static char build_directory[512]; /* $(BUILD)/tests/agent */

static void path_in(char *path, size_t capacity, const char *directory, const char *name)
{
    const int size = snprintf(path, capacity, "%s/%s", directory, name);
    assert_true(size > 0 && (size_t)size < capacity);
}

static void copy_program(const char *from, const char *to)
{
    static char data[8 << 20];
    const int64_t size = fd_read_file(from, data, sizeof data);
    if (size < 0)
        fail_msg("%s: %s", from, strerror((int)-size));
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, (size_t)size), size);
    fd_close(&fd);
}

static void set_mode(struct host *host, const char *mode)
{
    char path[128];
    path_in(path, sizeof path, host->directory, "mode");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, mode, strlen(mode)), strlen(mode));
    fd_close(&fd);
}

/* Read the agent's log until it says `text`. */
static void wait_for_log(struct host *host, const char *text)
{
    while (!strstr(host->log, text)) {
        const ssize_t n =
            read(host->log_fd, host->log + host->log_size, sizeof host->log - 1 - host->log_size);
        if (n <= 0)
            fail_msg("the agent did not say \"%s\", but:\n%s", text, host->log);
        host->log_size += (size_t)n;
        host->log[host->log_size] = '\0';
    }
}

static void start_agent(struct host *host)
{
    int pipe_fds[2];
    char program[600], listen[128];
    path_in(program, sizeof program, build_directory, "agent");
    (void)snprintf(listen, sizeof listen, "unix:%s", host->socket_path);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    host->agent = fork();
    if (host->agent == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        execl(program, "agent", "--listen", listen, "--function", host->directory, "--init-limit-ms",
              INIT_LIMIT_MS, (char *)NULL);
        _exit(126);
    }
    close(pipe_fds[1]);
    host->log_fd = pipe_fds[0];
    wait_for_log(host, "listening");
}

static int set_up_with(void **state, const char *function, const char *mode)
{
    struct host *host = calloc(1, sizeof *host);
    *state = host;
    strcpy(host->directory, "/tmp/rekindle-agent-XXXXXX");
    assert_non_null(mkdtemp(host->directory));
    assert_int_equal(chmod(host->directory, 0755), 0);
    path_in(host->socket_path, sizeof host->socket_path, host->directory, "agent.sock");
    char from[600], to[128];
    path_in(from, sizeof from, build_directory, function);
    path_in(to, sizeof to, host->directory, "bootstrap");
    if (function[0])
        copy_program(from, to);
    set_mode(host, mode);
    start_agent(host);
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, "rude", "");
}

static int set_up_misbehave(void **state)
{
    return set_up_with(state, "misbehave", "");
}

/* Exit code, or minus the signal. */
static int agent_end(struct host *host)
{
    int status;
    assert_int_equal(waitpid(host->agent, &status, 0), host->agent);
    host->agent = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int tear_down(void **state)
{
    struct host *host = *state;
    int code = 0;
    if (host->agent > 0) {
        kill(host->agent, SIGTERM);
        code = agent_end(host);
    }
    char path[128];
    const char *const files[] = {"mode", "bootstrap", "agent.sock"};
    for (size_t i = 0; i < 3; i++) {
        path_in(path, sizeof path, host->directory, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(host->directory);
    if (code != 0 || getenv("V")) {
        char rest[8192];
        ssize_t n;
        fprintf(stderr, "agent ended with %d:\n%s", code, host->log);
        while ((n = read(host->log_fd, rest, sizeof rest)) > 0)
            (void)!write(STDERR_FILENO, rest, (size_t)n);
    }
    close(host->log_fd);
    free(host);
    return code;
}

static struct talk *dial(struct host *host)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, host->socket_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    struct talk *talk = malloc(sizeof *talk);
    talk_init(talk, fd, talk_poll);
    return talk;
}

static struct talk *dial_ready(struct host *host)
{
    struct talk *talk = dial(host);
    talk_ready(talk, false);
    return talk;
}

static void hang_up(struct talk *talk)
{
    talk_close(talk);
    free(talk);
}

static void next_works(struct talk *talk)
{
    talk_invoke(talk, "next", "next please", 10000);
    talk_expect_answer(talk, "next", "next please");
}

/* ---- the good path --------------------------------------------------------------------------------- */

static void answers_an_event(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "good day", 5000);
    talk_expect_answer(talk, "r-1", "good day");
    next_works(talk);
    hang_up(talk);
}

static void answers_an_empty_event(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "", 5000);
    talk_expect_answer(talk, "r-1", "");
    hang_up(talk);
}

static void answers_the_largest_event(void **state)
{
    static char event[PROTO_PAYLOAD_MAX_BYTES], answer[PROTO_PAYLOAD_MAX_BYTES];
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof event; i++) {
        random = random * 1664525u + 1013904223u;
        event[i] = (char)(random >> 24);
    }
    struct talk *talk = dial_ready(*state);
    talk_invoke_bytes(talk, "big", event, sizeof event, 20000);
    assert_int_equal(talk_answer(talk, "big", answer, sizeof answer, NULL), sizeof event);
    assert_memory_equal(event, answer, sizeof event);
    next_works(talk);
    hang_up(talk);
}

static void logs_come_before_the_answer(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs logs = {0};
    char answer[64];
    talk_invoke(talk, "r-1", "print", 5000);
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, &logs), 7);
    assert_string_equal(logs.text[0], "to stdout\n");
    assert_string_equal(logs.text[1], "to stderr\n");
    assert_string_equal(logs.id, "r-1");
    assert_int_equal(logs.dropped_bytes, 0);
    hang_up(talk);
}

static void logs_go_to_who_wants_them(void **state)
{
    struct talk *owner = dial_ready(*state), *listener = dial(*state), *other = dial_ready(*state);
    talk_ready(listener, true);
    talk_invoke(owner, "r-1", "print", 5000);
    talk_expect_answer(owner, "r-1", "printed");
    struct talk_logs logs = {0};
    while (logs.total_bytes < 20) {
        const struct proto_message *message = talk_next(listener);
        assert_non_null(message);
        assert_int_equal(message->type, PROTO_LOG);
        talk_note_log(&logs, message);
    }
    assert_string_equal(logs.id, "r-1");
    /* The third client gets the answer to its own event next, and nothing else before. */
    talk_invoke(other, "r-2", "mine", 5000);
    assert_int_equal(talk_next(other)->type, PROTO_RESPONSE);
    hang_up(owner);
    hang_up(listener);
    hang_up(other);
}

static void flood_is_carried_or_counted(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs *logs = calloc(1, sizeof *logs);
    char answer[64];
    talk_invoke(talk, "r-1", "flood 20000000", 10000);
    assert_int_equal(talk_answer(talk, "r-1", answer, sizeof answer, logs), 7);
    assert_int_equal(logs->total_bytes + logs->dropped_bytes, 20000000);
    free(logs);
    next_works(talk);
    hang_up(talk);
}

static void function_may_open_its_stdout_again(void **state)
{
    struct talk *talk = dial_ready(*state);
    struct talk_logs logs = {0};
    char answer[64] = "";
    talk_invoke(talk, "r-1", "reopen", 5000);
    (void)talk_answer(talk, "r-1", answer, sizeof answer - 1, &logs);
    assert_string_equal(answer, "reopened");
    assert_string_equal(logs.text[0], "reopened\n");
    hang_up(talk);
}

static void function_is_confined(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    char expected[256];
    const bool root = geteuid() == 0;
    (void)snprintf(expected, sizeof expected,
                   "uid=%d gid=%d groups=%d nnp=1 session=1 cwd=%s home=/tmp fds=0,1,2,3,",
                   root ? 1000 : (int)geteuid(), root ? 1000 : (int)getegid(), root ? 0 : getgroups(0, NULL),
                   host->directory);
    talk_invoke(talk, "r-1", "surroundings", 5000);
    talk_expect_answer(talk, "r-1", expected);
    hang_up(talk);
}

/* ---- the function goes wrong ----------------------------------------------------------------------- */

struct wrong {
    const char *event, *type, *part;
    uint32_t timeout_ms;
};

static const struct wrong wrongs[] = {
    {"crash", PROTO_ERROR_CRASHED, "signal 11 (SIGSEGV)", 5000},
    {"print-crash", PROTO_ERROR_CRASHED, "signal 6 (SIGABRT)", 5000},
    {"exit 3", PROTO_ERROR_EXITED, "exit code 3", 5000},
    {"exit 0", PROTO_ERROR_EXITED, "exit code 0", 5000},
    {"fork-exit 4", PROTO_ERROR_EXITED, "exit code 4", 5000},
    {"hang", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.25 seconds", 250},
    {"other", PROTO_ERROR_BAD_RESPONSE, "somebody-else", 5000},
    {"gap", PROTO_ERROR_BAD_RESPONSE, "out of order", 5000},
    {"too-large", PROTO_ERROR_TOO_LARGE, "6291556", 5000},
    {"garbage", PROTO_ERROR_BAD_CHANNEL, "impossible length", 5000},
    {"hello", PROTO_ERROR_BAD_CHANNEL, "not an answer", 5000},
    {"close", PROTO_ERROR_BAD_CHANNEL, "closed its channel", 5000},
    {"give-up", "Test.Failed", "as told", 5000},
    {"error", "Test.Failed", "as told", 5000},
};

static void every_failure_is_reported_and_survived(void **state)
{
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        talk_invoke(talk, "bad", wrongs[i].event, wrongs[i].timeout_ms);
        talk_expect_error(talk, "bad", wrongs[i].type, wrongs[i].part);
        next_works(talk);
    }
    hang_up(talk);
}

static void stack_trace_is_passed_on(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "error", 5000);
    const struct proto_message *message = talk_next(talk);
    assert_int_equal(message->type, PROTO_ERROR);
    assert_int_equal(message->u.error.failure.stack_count, 2);
    assert_true(proto_slice_equal(message->u.error.failure.stack[1], proto_text("second")));
    hang_up(talk);
}

static void last_output_of_a_crash_comes_before_its_error(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "print-crash", 5000);
    const struct proto_message *message = talk_next(talk);
    assert_int_equal(message->type, PROTO_LOG);
    assert_true(proto_slice_equal(message->u.log.body, proto_text("last line\n")));
    talk_expect_error(talk, "r-1", PROTO_ERROR_CRASHED, "SIGABRT");
    hang_up(talk);
}

static void second_answer_reaches_nobody(void **state)
{
    static const char *const events[] = {"twice", "twice-open"};
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    for (int i = 0; i < 2; i++) {
        talk_invoke(talk, "r-1", events[i], 5000);
        talk_expect_answer(talk, "r-1", "once");
        wait_for_log(host, i == 0 ? "late or twice" : "began a message");
        next_works(talk);
    }
    hang_up(talk);
}

static void answer_given_before_exit_counts(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_invoke(talk, "r-1", "answer-exit", 5000);
    talk_expect_answer(talk, "r-1", "last words");
    wait_for_log(*state, "exit code 0"); /* until then the next event could meet the process on its way out */
    next_works(talk);
    hang_up(talk);
}

static void answer_before_the_whole_event_is_refused(void **state)
{
    static const char event[200000] = "early";
    struct talk *talk = dial_ready(*state);
    struct proto_message fragment = {.type = PROTO_INVOKE,
                                     .u.invoke = {.id = proto_text("r-1"), .timeout_ms = 5000}};
    (void)payload_fragment(&fragment, event, sizeof event, 0);
    talk_send(talk, &fragment);
    talk_expect_error(talk, "r-1", PROTO_ERROR_BAD_RESPONSE, "before all of the event");
    next_works(talk);
    hang_up(talk);
}

/* The same through the library, which a function should use, and on purpose does not always. */
static const struct wrong misdeeds[] = {
    {"crash", PROTO_ERROR_CRASHED, "SIGSEGV", 5000},
    {"abort", PROTO_ERROR_CRASHED, "SIGABRT", 5000},
    {"exit 3", PROTO_ERROR_EXITED, "exit code 3", 5000},
    {"hang", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"spin", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"late 100", PROTO_ERROR_TIMED_OUT, "Task timed out after 0.20 seconds", 200},
    {"other", PROTO_ERROR_BAD_RESPONSE, "some-other-request", 5000},
    {"large", PROTO_ERROR_TOO_LARGE, "", 5000},
    {"large-raw", PROTO_ERROR_TOO_LARGE, "6291556", 5000},
    {"garbage", PROTO_ERROR_BAD_CHANNEL, "", 5000},
    {"header", PROTO_ERROR_BAD_CHANNEL, "impossible length", 5000},
    {"half", PROTO_ERROR_TIMED_OUT, "0.20", 200},
    {"half 1", PROTO_ERROR_EXITED, "exit code 0", 5000},
    {"close", PROTO_ERROR_BAD_CHANNEL, "closed its channel", 5000},
    {"fail 7", "Custom.Failure", "number 7", 5000},
    {"return 7", "Function.Error", "7", 5000},
    {"what?", "Misbehave.Unknown", "what?", 5000},
};

static void every_misdeed_is_reported_and_survived(void **state)
{
    struct talk *talk = dial_ready(*state);
    for (size_t i = 0; i < sizeof misdeeds / sizeof *misdeeds; i++) {
        talk_invoke(talk, "bad", misdeeds[i].event, misdeeds[i].timeout_ms);
        talk_expect_error(talk, "bad", misdeeds[i].type, misdeeds[i].part);
        talk_invoke(talk, "next", "ok", 10000);
        talk_expect_answer(talk, "next", "ok");
    }
    hang_up(talk);
}

/* A child that outlives its invocation holds the channel and both outputs open: the end of the function is
 * seen all the same, and with it the child's. */
static void orphan_ends_with_its_function(void **state)
{
    struct talk *talk = dial_ready(*state);
    char answer[64] = "";
    talk_invoke(talk, "r-1", "orphan", 5000);
    (void)talk_answer(talk, "r-1", answer, sizeof answer - 1, NULL);
    const pid_t orphan = (pid_t)atoi(answer + strlen("orphan "));
    assert_true(orphan > 1);
    assert_int_equal(kill(orphan, 0), 0);
    talk_invoke(talk, "r-2", "exit 5", 5000);
    talk_expect_error(talk, "r-2", PROTO_ERROR_EXITED, "exit code 5");
    talk_invoke(talk, "r-3", "ok", 5000);
    talk_expect_answer(talk, "r-3", "ok");
    char path[64], text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)orphan);
    if (fd_read_file(path, text, sizeof text - 1) > 0 && !strstr(text, ") Z"))
        fail_msg("the orphan lives: %s", text);
    hang_up(talk);
}

/* ---- init goes wrong ------------------------------------------------------------------------------- */

static void expect_init_failed(struct talk *talk, const char *type, const char *part)
{
    const struct proto_message *message;
    do {
        message = talk_next_but_log(talk);
        assert_non_null(message);
    } while (message->type == PROTO_INIT && message->u.init.state == PROTO_STATE_READY);
    assert_int_equal(message->type, PROTO_INIT);
    char text[PROTO_ERROR_TEXT_MAX_BYTES + 1];
    const struct proto_failure *failure = &message->u.init.failure;
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->type.size, (const char *)failure->type.data);
    assert_string_equal(text, type);
    (void)snprintf(text, sizeof text, "%.*s", (int)failure->message.size,
                   (const char *)failure->message.data);
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* INIT says why; each invocation makes one attempt more and gets the error; once it is mended, it works. */
static void init_failure(void **state, const char *mode, const char *type, const char *part)
{
    (void)set_up_with(state, "rude", mode);
    struct host *host = *state;
    struct talk *talk = dial(host);
    talk_hello(talk, false);
    expect_init_failed(talk, type, part);
    for (int i = 0; i < 2; i++) {
        talk_invoke(talk, "r-1", "hello", 5000);
        talk_expect_error(talk, "r-1", type, part);
    }
    set_mode(host, "");
    next_works(talk);
    hang_up(talk);
    assert_int_equal(tear_down(state), 0);
}

static void init_exits(void **state)
{
    init_failure(state, "exit", PROTO_ERROR_INIT, "exit code 7");
}

static void init_crashes(void **state)
{
    init_failure(state, "crash", PROTO_ERROR_INIT, "signal 4 (SIGILL)");
}

static void init_hangs(void **state)
{
    init_failure(state, "hang", PROTO_ERROR_INIT, "timed out after 0.70 seconds");
}

static void init_says_it_failed(void **state)
{
    init_failure(state, "fail", "Test.NoInit", "no database");
}

static void init_without_hello(void **state)
{
    init_failure(state, "mute", PROTO_ERROR_INIT, "did not begin with hello");
}

static void program_is_missing(void **state)
{
    (void)set_up_with(state, "", "");
    struct talk *talk = dial(*state);
    talk_hello(talk, false);
    expect_init_failed(talk, PROTO_ERROR_INIT, "No such file");
    talk_invoke(talk, "r-1", "hello", 5000);
    talk_expect_error(talk, "r-1", PROTO_ERROR_INIT, "bootstrap");
    hang_up(talk);
    assert_int_equal(tear_down(state), 0);
}

/* ---- the client goes wrong ------------------------------------------------------------------------- */

static void bad_frames_close_only_their_client(void **state)
{
    struct talk *good = dial_ready(*state);
    struct talk *bad = dial_ready(*state);
    talk_send_bytes(bad, "\0\0\0\3\xa1\x18\x63", 7);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "");
    talk_expect_end(bad);
    hang_up(bad);
    bad = dial_ready(*state);
    talk_send_bytes(bad, "\xff\xff\xff\xff", 4);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "impossible length");
    talk_expect_end(bad);
    hang_up(bad);
    bad = dial(*state);
    talk_invoke(bad, "r-1", "no hello", 5000);
    (void)talk_next(bad);
    talk_expect_error(bad, NULL, PROTO_ERROR_BAD_MESSAGE, "before hello");
    hang_up(bad);
    next_works(good);
    hang_up(good);
}

static void other_version_is_refused(void **state)
{
    struct talk *talk = dial(*state);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = 2, .name = proto_text("test"), .state = PROTO_STATE_STARTING}};
    talk_send(talk, &hello);
    assert_int_equal(talk_next(talk)->type, PROTO_HELLO);
    talk_expect_error(talk, NULL, PROTO_ERROR_BAD_VERSION, "version 1, the client 2");
    talk_expect_end(talk);
    hang_up(talk);
}

static void too_large_event_is_refused(void **state)
{
    uint8_t frame[256];
    struct proto_message fragment = {.type = PROTO_INVOKE,
                                     .u.invoke = {.id = proto_text("r-1"),
                                                  .timeout_ms = 5,
                                                  .total_bytes = 0x00410203,
                                                  .body = {(const uint8_t *)"x", 1}}};
    const int64_t size = proto_encode(&fragment, frame, sizeof frame);
    uint8_t *total = memmem(frame, (size_t)size, "\x00\x41\x02\x03", 4);
    assert_non_null(total);
    total[1] = 0x7f;
    struct talk *talk = dial_ready(*state);
    talk_send_bytes(talk, frame, (size_t)size);
    talk_expect_error(talk, NULL, PROTO_ERROR_BAD_MESSAGE, "invoke.total_bytes");
    talk_expect_end(talk);
    hang_up(talk);
    talk = dial_ready(*state);
    next_works(talk);
    hang_up(talk);
}

static void fragments_out_of_order_are_refused(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_fragment(talk, "r-1", 1000, 500, 100); /* begins in the middle; said once */
    talk_fragment(talk, "r-1", 1000, 600, 100);
    talk_expect_error(talk, "r-1", PROTO_ERROR_BAD_REQUEST, "offset 0");
    next_works(talk);
    talk_fragment(talk, "r-2", 1000, 0, 100); /* leaves something out */
    talk_fragment(talk, "r-2", 1000, 200, 100);
    talk_fragment(talk, "r-2", 1000, 300, 700);
    talk_expect_error(talk, "r-2", PROTO_ERROR_BAD_REQUEST, "out of order");
    next_works(talk);
    talk_fragment(talk, "r-3", 1000, 0, 100); /* announces another size */
    talk_fragment(talk, "r-3", 1001, 100, 100);
    talk_expect_error(talk, "r-3", PROTO_ERROR_BAD_REQUEST, "total_bytes");
    next_works(talk);
    talk_fragment(talk, "r-4", 1000, 0, 100); /* begins another before this is complete */
    talk_invoke(talk, "r-5", "the other", 5000);
    talk_expect_error(talk, "r-4", PROTO_ERROR_BAD_REQUEST, "another began");
    talk_expect_answer(talk, "r-5", "the other");
    hang_up(talk);
}

static void client_gone_in_the_middle(void **state)
{
    struct talk *talk = dial_ready(*state);
    talk_fragment(talk, "r-1", 100000, 0, 1000); /* of its event */
    hang_up(talk);
    talk = dial_ready(*state);
    next_works(talk);
    talk_invoke(talk, "r-2", "hang", 60000); /* of its answer */
    struct talk *second = dial_ready(*state);
    talk_invoke(second, "r-3", "waits", 10000);
    hang_up(talk);
    talk_expect_answer(second, "r-3", "waits");
    hang_up(second);
}

static void one_client_too_many(void **state)
{
    struct talk *all[PROTO_CONNECTIONS_MAX];
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        all[i] = dial_ready(*state);
    struct talk *extra = dial(*state);
    assert_int_equal(talk_next(extra)->type, PROTO_HELLO);
    talk_expect_error(extra, NULL, PROTO_ERROR_BUSY, "16 are connected");
    talk_expect_end(extra);
    hang_up(extra);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        talk_invoke(all[i], "r-1", "all at once", 10000);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        talk_expect_answer(all[i], "r-1", "all at once");
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        hang_up(all[i]);
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void shutdown_ends_the_agent(void **state)
{
    struct host *host = *state;
    struct talk *busy = dial_ready(host), *waiting = dial_ready(host), *talk = dial_ready(host);
    talk_invoke(busy, "r-1", "hang", 60000);
    talk_invoke(waiting, "r-2", "hello", 60000);
    wait_for_log(host, "function ready");
    talk_shutdown(talk);
    talk_expect_error(busy, "r-1", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_error(waiting, "r-2", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_end(talk);
    assert_int_equal(agent_end(host), 0);
    hang_up(busy);
    hang_up(waiting);
    hang_up(talk);
}

static void term_ends_the_agent_and_its_function(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    talk_invoke(talk, "r-1", "hang", 60000);
    struct talk *second = dial_ready(host); /* by then the agent has taken the event */
    kill(host->agent, SIGTERM);
    assert_int_equal(agent_end(host), 0);
    talk_expect_error(talk, "r-1", PROTO_ERROR_SHUTTING_DOWN, "shutting down");
    talk_expect_end(talk);
    hang_up(talk);
    hang_up(second);
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    char self[512] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    (void)snprintf(build_directory, sizeof build_directory, "%.480s/../agent", dirname(self));
    const struct CMUnitTest tests[] = {
        WITH_AGENT(answers_an_event),
        WITH_AGENT(answers_an_empty_event),
        WITH_AGENT(answers_the_largest_event),
        WITH_AGENT(logs_come_before_the_answer),
        WITH_AGENT(logs_go_to_who_wants_them),
        WITH_AGENT(flood_is_carried_or_counted),
        WITH_AGENT(function_may_open_its_stdout_again),
        WITH_AGENT(function_is_confined),
        WITH_AGENT(every_failure_is_reported_and_survived),
        WITH_AGENT(stack_trace_is_passed_on),
        WITH_AGENT(last_output_of_a_crash_comes_before_its_error),
        WITH_AGENT(second_answer_reaches_nobody),
        WITH_AGENT(answer_given_before_exit_counts),
        WITH_AGENT(answer_before_the_whole_event_is_refused),
        cmocka_unit_test_setup_teardown(every_misdeed_is_reported_and_survived, set_up_misbehave, tear_down),
        cmocka_unit_test_setup_teardown(orphan_ends_with_its_function, set_up_misbehave, tear_down),
        cmocka_unit_test(init_exits),
        cmocka_unit_test(init_crashes),
        cmocka_unit_test(init_hangs),
        cmocka_unit_test(init_says_it_failed),
        cmocka_unit_test(init_without_hello),
        cmocka_unit_test(program_is_missing),
        WITH_AGENT(bad_frames_close_only_their_client),
        WITH_AGENT(other_version_is_refused),
        WITH_AGENT(too_large_event_is_refused),
        WITH_AGENT(fragments_out_of_order_are_refused),
        WITH_AGENT(client_gone_in_the_middle),
        WITH_AGENT(one_client_too_many),
        WITH_AGENT(shutdown_ends_the_agent),
        WITH_AGENT(term_ends_the_agent_and_its_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
