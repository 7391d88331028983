/* See session.h. What each action of the lifecycle does, and the two phases. */
#include "agent/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

#define NS_PER_MS UINT64_C(1000000)

/* ---- output of the function ------------------------------------------------------------------------ */

static void on_output(void *context, enum proto_stream stream, struct proto_slice text)
{
    struct session *session = context;
    const struct proto_slice id = proto_text(session->current.id);
    bool heard = false;
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++) {
        struct client *client = &session->clients[i];
        if (client->state == CLIENT_OPEN && (client->wants_logs || client == session->current.owner)) {
            client_log(client, id, stream, text);
            heard = true;
        }
    }
    if (!heard)
        backlog_add(&session->backlog, stream, text);
}

/* ---- actions --------------------------------------------------------------------------------------- */

void session_limit_state(struct session *session, uint32_t limit_ms)
{
    session->state_limit_ns = clock_monotonic_ns() + limit_ms * NS_PER_MS;
}

void session_no_limits(struct session *session)
{
    session->state_limit_ns = session->linger_limit_ns = LOOP_TIMER_NEVER;
}

void session_spawn(struct session *session)
{
    struct process_ends ends;
    session->started_ns = clock_monotonic_ns();
    session->greeted = session->holding = session->restart = false;
    session->served = 0;
    session_limit_state(session, session->init_limit_ms);
    session->linger_limit_ns = LOOP_TIMER_NEVER;
    if (session->connections_why[0]) {
        struct failure failure;
        failure_set(&failure, FAILURE_INIT, "%s", session->connections_why);
        session_fail(session, &failure);
        return;
    }
    int error =
        channel_listen(&session->function, session->loop, session->api_port, process_user(session->process));
    if (error)
        log_warn("no Runtime API for this function: %s", strerror(-error));
    session->process->api_port = session->function.http.port; /* 0: none */
    session->process->connections =
        connections_are_wanted(connections_get()) ? session->connections_directory : NULL;
    error = process_start(session->process, &ends);
    if (error == 0) {
        error = channel_open(&session->function, session->loop, ends.channel_fd);
        const int output_error = output_open(&session->output, ends.stdout_fd, ends.stderr_fd);
        error = error ? error : output_error;
    }
    if (error) {
        struct failure failure;
        failure_set(&failure, FAILURE_NOT_STARTED, "%s", strerror(-error));
        session_fail(session, &failure);
    }
}

static void tell_init(struct session *session, enum proto_state state)
{
    session->init_state = state;
    session->init_duration_us = (clock_monotonic_ns() - session->started_ns) / 1000;
    parent_say(session->parent,
               state == PROTO_STATE_READY ? HANDOFF_FUNCTION_READY : HANDOFF_FUNCTION_FAILED);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        if (session->clients[i].state == CLIENT_OPEN)
            client_tell_init(&session->clients[i], session);
}

static void announce(struct session *session)
{
    session_no_limits(session);
    tell_init(session, PROTO_STATE_READY);
    resume_started(session, NULL);
    log_info("function ready after %" PRIu64 " ms", session->init_duration_us / 1000);
}

void session_kill_function(struct session *session)
{
    process_kill(session->process);
    output_drain(&session->output);
    output_close(&session->output);
    channel_close(&session->function);
    session->holding = false;
    session->linger_limit_ns = LOOP_TIMER_NEVER;
    session_limit_state(session, SESSION_KILL_AGAIN_MS);
    session->progress = true;
}

static void fail_init(struct session *session)
{
    session_kill_function(session);
    if (session->failure_is_told || strncmp(session->failure.type, "Function.InitError", 18) == 0)
        session->init_failure = session->failure;
    else
        failure_set(&session->init_failure, FAILURE_INIT, "%.*s", (int)session->failure.message_bytes,
                    session->failure.message);
    tell_init(session, PROTO_STATE_FAILED);
    resume_started(session, &session->init_failure);
    event_fail_waiting(session, &session->init_failure); /* they waited for this start */
}

void session_fail_event(struct session *session)
{
    session_kill_function(session);
    struct client *owner = session->current.owner;
    char id[PROTO_ID_MAX_BYTES + 1];
    memcpy(id, session->current.id, sizeof id);
    session->current = (struct invocation){0};
    session->restart = true;
    if (!owner)
        return;
    memcpy(owner->discarded_id, id, sizeof id);
    client_log_dropped(owner, proto_text(id));
    client_fail(owner, session, proto_text(id), &session->failure);
}

/* Whoever waits for the end of a checkpoint or a resume hears it. */
static FAILURE_APART void leave_snapshot(struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_SHUTTING_DOWN, "%s", "");
    checkpoint_end(session, &failure);
    if (session->snapshot.resumer)
        resume_end(session, &failure);
    session->snapshot.due = session->snapshot.starting = false;
}

static void terminate(struct session *session)
{
    leave_snapshot(session);
    session->holding = false;
    session->linger_limit_ns = LOOP_TIMER_NEVER;
    session_limit_state(session, SESSION_STOP_GRACE_MS);
    channel_say_end(&session->function);
    process_stop(session->process);
    session->progress = true;
}

static void abort_event(struct session *session)
{
    struct client *owner = session->current.owner;
    terminate(session);
    failure_set(&session->failure, FAILURE_SHUTTING_DOWN, "%s", "");
    if (owner)
        client_fail(owner, session, proto_text(session->current.id), &session->failure);
}

static void halt(struct session *session)
{
    session_no_limits(session);
    output_drain(&session->output);
    output_close(&session->output);
    channel_close(&session->function);
    process_forget(session->process);
    if (session->exiting || session->parent->fd < 0)
        loop_stop(session->loop);
    else
        parent_say(session->parent, HANDOFF_HALT); /* its SIGTERM is next */
}

static void begin(struct session *session)
{
    session->served++;
}

static void finish(struct session *session)
{
    session->current = (struct invocation){0};
    session->progress = true;
}

static void fail_idle(struct session *session)
{
    session_kill_function(session);
    /* At most one restart for each invocation: a function that fails on its own waits to be asked for. */
    session->restart = session->served > 0;
}

static void bury(struct session *session)
{
    session_no_limits(session);
    process_forget(session->process);
}

static void cut(struct session *session)
{
    session_kill_function(session);
    leave_snapshot(session);
}

/* Those around a snapshot are in session_checkpoint.c and session_resume.c. */
static void (*const actions[LIFECYCLE_ACTION_COUNT])(struct session *session) = {
    [LIFECYCLE_SPAWN] = session_spawn,
    [LIFECYCLE_ANNOUNCE] = announce,
    [LIFECYCLE_BEGIN] = begin,
    [LIFECYCLE_FINISH] = finish,
    [LIFECYCLE_FAIL_INIT] = fail_init,
    [LIFECYCLE_FAIL_IDLE] = fail_idle,
    [LIFECYCLE_FAIL_EVENT] = session_fail_event,
    [LIFECYCLE_BURY] = bury,
    [LIFECYCLE_TERMINATE] = terminate,
    [LIFECYCLE_ABORT] = abort_event,
    [LIFECYCLE_CUT] = cut,
    [LIFECYCLE_HALT] = halt,
};

static void act(struct session *session, enum lifecycle_action action)
{
    if (actions[action])
        actions[action](session);
    else if (!checkpoint_act(session, action))
        (void)resume_act(session, action);
}

void session_step(struct session *session, enum lifecycle_event event)
{
    const struct lifecycle_step step = lifecycle_step(session->state, event);
    if (step.action == LIFECYCLE_IMPOSSIBLE)
        log_error("internal: %s while the function is %s; ignored", lifecycle_event_name(event),
                  lifecycle_state_name(session->state));
    session->state = step.next;
    act(session, step.action);
}

/* ---- what happens ---------------------------------------------------------------------------------- */

static void fail(struct session *session)
{
    char text[512];
    log_warn("function %s, request %s: %s", lifecycle_state_name(session->state),
             session->current.id[0] ? session->current.id : "none",
             failure_text(&session->failure, text, sizeof text));
    session_step(session, LIFECYCLE_FAILED);
}

void session_fail(struct session *session, const struct failure *failure)
{
    session->failure = *failure;
    session->failure_is_told = false;
    fail(session);
}

FAILURE_APART void session_fail_ended(struct session *session)
{
    struct failure failure;
    process_explain(session->process, &failure);
    session_fail(session, &failure);
}

void session_fail_told(struct session *session, const struct proto_failure *failure)
{
    failure_copy(&session->failure, failure);
    session->failure_is_told = true;
    fail(session);
}

static FAILURE_APART void fail_for_its_client(struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_INTERNAL, "its client is gone");
    session_fail(session, &failure);
}

void session_client_gone(struct session *session, struct client *client, bool broke_off)
{
    struct snapshot *snapshot = &session->snapshot;
    if (snapshot->asker == client)
        snapshot->asker = NULL;
    if (snapshot->resumer == client)
        snapshot->resumer = NULL; /* what it began is brought to its end all the same */
    if (snapshot->secrets_of == client)
        resume_wipe_secrets(session);
    if (session->current.owner != client)
        return;
    session->current.owner = NULL;
    if (session->state != LIFECYCLE_RUNNING)
        return;
    fail_for_its_client(session);
    /* A connection that breaks off is how a clone of a guest that was answering learns what it is. Its next
     * process must not draw its first random numbers before the resume has come: it starts when asked for. */
    if (broke_off)
        session->restart = false;
}

/* What the function's manifest names, before the function: it may connect with its first instruction. */
static void begin_connections(struct session *session)
{
    if (!session->connections_directory)
        return;
    const struct process *process = session->process;
    char *why = session->connections_why;
    const int error =
        connections_begin(connections_get(), session->loop, process->directory,
                          session->connections_directory, process_user(process), process_group(process), why);
    if (error && why[0] == '\0')
        (void)snprintf(why, CONNECTIONS_WHY_BYTES, "connections: %s", strerror(-error));
    if (error == 0)
        why[0] = '\0';
}

void session_start(struct session *session)
{
    if (resume_was_given_up(session)) {
        log_warn("an earlier agent has given this clone up: it does not serve");
        process_kill(session->process); /* what it has left */
        session->state = LIFECYCLE_UNRESUMED;
    } else if (process_is_gone(session->process)) {
        begin_connections(session);
        session_step(session, LIFECYCLE_START);
    } else {
        begin_connections(session);
        log_warn("an earlier agent has left processes in the function's cgroup: they are killed");
        session->state = LIFECYCLE_ENDING;
        session_kill_function(session);
        session->restart = true;
    }
    session_settle(session);
}

void session_stop(struct session *session, bool by_init)
{
    session->exiting = session->exiting || by_init;
    if (session->state == LIFECYCLE_STOPPED && session->exiting)
        loop_stop(session->loop);
    session_step(session, LIFECYCLE_STOP);
}

static FAILURE_APART void refuse_one_too_many(struct session *session, int fd)
{
    struct client extra = {0};
    struct failure failure;
    if (client_open(&extra, session, fd) < 0)
        return;
    failure_set(&failure, FAILURE_FULL, "%d are connected", PROTO_CONNECTIONS_MAX);
    client_refuse(&extra, session, &failure);
}

void session_accept(struct session *session, int fd)
{
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++) {
        if (session->clients[i].state != CLIENT_FREE)
            continue;
        const int error = client_open(&session->clients[i], session, fd);
        if (error)
            log_error("cannot serve a client: %s", strerror(-error));
        return;
    }
    refuse_one_too_many(session, fd);
}

/* ---- the loop -------------------------------------------------------------------------------------- */

static void on_timer(void *context, uint32_t events)
{
    struct session *session = context;
    (void)events;
    loop_timer_clear(session->timer_fd);
    session->armed_ns = LOOP_TIMER_NEVER;
}

static bool someone_waits(const struct session *session)
{
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        if (session->clients[i].order > 0)
            return true;
    return false;
}

static void look_whether_frozen(struct session *session)
{
    if (session->process->reaped) {
        session_fail_ended(session);
    } else if (!process_is_frozen(session->process)) {
        return;
    } else if (session->state == LIFECYCLE_FREEZING) {
        checkpoint_froze(session);
    } else {
        session_step(session, LIFECYCLE_FROZE);
    }
    session->progress = true;
}

/* What happens by itself once nothing else does. */
static void go_on(struct session *session)
{
    const bool ending = session->state == LIFECYCLE_ENDING || session->state == LIFECYCLE_STOPPING;
    if (ending && process_is_gone(session->process)) {
        session_step(session, LIFECYCLE_GONE);
        session->progress = true;
    } else if (session->state == LIFECYCLE_DOWN && session->snapshot.due) {
        session->snapshot.due = false;
        session_step(session, LIFECYCLE_RESUME);
        session->progress = true;
    } else if (session->state == LIFECYCLE_DRAINING && session->snapshot.drained) {
        session_step(session, LIFECYCLE_DRAINED);
        session->progress = true;
    } else if (session->state == LIFECYCLE_FREEZING || session->state == LIFECYCLE_HOLDING) {
        look_whether_frozen(session);
    } else if (session->state == LIFECYCLE_DOWN && (session->restart || someone_waits(session))) {
        session_step(session, LIFECYCLE_START);
        session->progress = true;
    }
}

void session_settle(struct session *session)
{
    do {
        session->progress = answer_pump(session);
        for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
            if (session->clients[i].state != CLIENT_FREE && client_pump(&session->clients[i], session))
                session->progress = true;
        session_check_limits(session);
        go_on(session);
    } while (session->progress);

    /* Who is frozen is not read: nothing is to be woken by it. */
    int error = session->function.ops->settle(&session->function,
                                              !session->holding && lifecycle_listens(session->state));
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++) {
        const int client_error = link_settle(&session->clients[i].link, !session->clients[i].holding);
        error = error ? error : client_error;
    }
    if (error)
        log_error("cannot wait for a connection: %s", strerror(-error));
    session_arm_timer(session);
}

int session_run_once(struct session *session, int timeout_ms)
{
    const int count = loop_run_once(session->loop, timeout_ms);
    if (count >= 0)
        session_settle(session);
    return count;
}

int session_init(struct session *session, struct loop *loop, struct process *process, struct parent *parent)
{
    memset(session, 0, sizeof *session);
    session->loop = loop;
    session->process = process;
    session->parent = parent;
    session->init_limit_ms = SESSION_INIT_LIMIT_MS;
    session->state = LIFECYCLE_DOWN;
    session->init_state = PROTO_STATE_STARTING;
    session->timer_source.fd = -1;
    session_no_limits(session);
    channel_init(&session->function);
    output_init(&session->output, loop, on_output, session);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        link_init(&session->clients[i].link);
    session->armed_ns = LOOP_TIMER_NEVER;
    session->timer_fd = loop_timer_open();
    if (session->timer_fd < 0)
        return session->timer_fd;
    return loop_add(loop, &session->timer_source, session->timer_fd, EPOLLIN, on_timer, session);
}

void session_fini(struct session *session)
{
    session->state = LIFECYCLE_STOPPED; /* closing a client starts nothing any more */
    connections_fini(connections_get());
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        client_close(&session->clients[i], session);
    channel_close(&session->function);
    output_close(&session->output);
    loop_remove(session->loop, &session->timer_source);
    fd_close(&session->timer_fd);
}
