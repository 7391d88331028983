/* See stage.h. */
#include "tests/unit/agent/stage.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/log.h"
#include "agent/base/fd.h"
#include "tests/unit/agent/fake_connections.h"

struct loop loop;
struct process process;
static struct parent parent;
struct session session;
static int init_fd; /* init's end of the handoff */
struct talk function;

void turn(struct talk *talk)
{
    (void)talk;
    assert_true(session_run_once(&session, 5) >= 0);
}

void turns(int count)
{
    while (count-- > 0)
        turn(NULL);
}

int stage_set_up(void **state)
{
    (void)state;
    int pair[2];
    log_setup("agent", getenv("V") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, STDERR_FILENO);
    fake_reset();
    fake_resume = (struct fake_resume){.always_frozen = true};
    fake_connections = (struct fake_connections){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    init_fd = pair[0];
    parent_none(&parent);
    parent.fd = pair[1];
    assert_int_equal(loop_init(&loop), 0);
    process_init(&process, "/nowhere", NULL, false);
    assert_int_equal(session_init(&session, &loop, &process, &parent), 0);
    return 0;
}

int stage_tear_down(void **state)
{
    (void)state;
    session_fini(&session);
    loop_fini(&loop);
    parent_fini(&parent);
    fd_close(&init_fd);
    fake_reset();
    return 0;
}

/* ---- the function, played -------------------------------------------------------------------------- */

void function_hello(void)
{
    talk_init(&function, fake.channel_fd, turn);
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text("fake"), .state = PROTO_STATE_STARTING}};
    talk_send(&function, &hello);
}

void function_init(enum proto_state state)
{
    struct proto_message init = {.type = PROTO_INIT, .u.init = {.state = state}};
    if (state == PROTO_STATE_FAILED) {
        init.u.init.failure.type = proto_text("Test.NoInit");
        init.u.init.failure.message = proto_text("as told");
    }
    talk_send(&function, &init);
}

void function_ready(void)
{
    function_hello();
    function_init(PROTO_STATE_READY);
    while (session.state == LIFECYCLE_STARTING)
        turn(NULL);
    assert_true(session.state == LIFECYCLE_READY || session.state == LIFECYCLE_RUNNING);
}

void start_ready(void)
{
    session_start(&session);
    function_ready();
}

void expect_event(const char *id)
{
    const struct proto_message *event = talk_next(&function);
    assert_non_null(event);
    assert_int_equal(event->type, PROTO_INVOKE);
    assert_true(proto_slice_equal(event->u.invoke.id, proto_text(id)));
}

const char *words_to_init(void)
{
    static char words[16];
    const ssize_t n = read(init_fd, words, sizeof words - 1);
    words[n > 0 ? n : 0] = '\0';
    return words;
}

/* ---- clients --------------------------------------------------------------------------------------- */

struct talk *client_new(void)
{
    int pair[2];
    struct talk *talk = malloc(sizeof *talk);
    assert_non_null(talk);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    talk_init(talk, pair[0], turn);
    session_accept(&session, pair[1]);
    session_settle(&session);
    return talk;
}

struct talk *client_ready(bool wants_logs)
{
    struct talk *talk = client_new();
    talk_ready(talk, wants_logs);
    return talk;
}

void client_free(struct talk *talk)
{
    talk_close(talk);
    free(talk);
}
