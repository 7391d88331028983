/*
 * A resume: from a client's RESUME to its RESUMED, with a STEP for each thing done. PROTOCOL.md, "Across a
 * snapshot", has the flow and the reasons; lifecycle.h the states; resume.h the agent's steps.
 *
 * The agent's steps are taken in one go while the function is frozen (or there is none). Then come the
 * session's own, reported the same way: `thaw` and `hooks`; or `start`, when the process that the snapshot
 * had was half-way through something and a fresh one takes its place. The first that fails ends it:
 * LIFECYCLE_UNRESUMED.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/facts.h"
#include "agent/proto/errors.h"
#include "agent/session.h"

/* ---- what is said of it ---------------------------------------------------------------------------- */

static void begin_step(struct session *session, const char *name)
{
    session->snapshot.step_name = name;
    session->snapshot.step_started_ns = clock_monotonic_ns();
}

static void end_step(struct session *session, const struct failure *failure)
{
    struct snapshot *snapshot = &session->snapshot;
    struct proto_message step = {
        .type = PROTO_STEP,
        .u.step = {.name = proto_text(snapshot->step_name),
                   .duration_us = (clock_monotonic_ns() - snapshot->step_started_ns) / 1000},
    };
    if (failure)
        step.u.step.failure = failure_view(failure);
    if (snapshot->resumer) {
        link_hold(&snapshot->resumer->link);
        client_say(snapshot->resumer, session, &step);
    }
}

/* Keys of this clone are not kept a moment longer than they are needed. */
static void wipe(struct resume_secret *secrets, unsigned count)
{
    explicit_bzero(secrets, count * sizeof *secrets);
}

static void wipe_order(struct session *session)
{
    struct resume_order *order = &session->snapshot.order;
    explicit_bzero(order->seed, sizeof order->seed);
    wipe(session->order_secrets, order->secret_count);
    order->secret_count = 0;
}

void resume_wipe_secrets(struct session *session)
{
    wipe(session->secrets, session->snapshot.secret_count);
    session->snapshot.secret_count = 0;
    session->snapshot.secrets_of = NULL;
}

void resume_end(struct session *session, const struct failure *failure)
{
    struct snapshot *snapshot = &session->snapshot;
    struct client *resumer = snapshot->resumer;
    struct proto_message message = {
        .type = PROTO_RESUMED,
        .u.resumed.duration_us = (clock_monotonic_ns() - snapshot->order.received_ns) / 1000,
    };
    snapshot->resumer = NULL;
    snapshot->due = snapshot->starting = false;
    wipe_order(session);
    if (failure)
        message.u.resumed.failure = failure_view(failure);
    if (resumer)
        client_say(resumer, session, &message);
    /* What went well is not logged: the host knows, and a line on the console costs a clone more than a step.
     */
    char text[512];
    if (failure)
        log_warn("not resumed: %s", failure_text(failure, text, sizeof text));
}

/* The bytes of a frame in hand, in the client's buffer. */
static void wipe_slice(struct proto_slice slice)
{
    if (slice.size > 0)
        explicit_bzero((void *)(uintptr_t)slice.data, slice.size);
}

static void copy_name(char *to, struct proto_slice from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size); /* decoding has checked its length */
    to[from.size] = '\0';
}

/* ---- a client asks --------------------------------------------------------------------------------- */

static FAILURE_APART void refuse(struct session *session, struct client *client, const char *why)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_MESSAGE, "%s", why);
    client_refuse(client, session, &failure);
}

/* Secrets are those of one connection: what another gave, and has not used, is forgotten. */
static void own_secrets(struct session *session, const struct client *client)
{
    if (session->snapshot.secrets_of != client)
        resume_wipe_secrets(session);
    session->snapshot.secrets_of = client;
}

void resume_take_secret(struct session *session, struct client *client)
{
    struct snapshot *snapshot = &session->snapshot;
    const struct proto_slice body = client->held.u.secret.body;
    own_secrets(session, client);
    if (snapshot->secret_count == RESUME_SECRETS_MAX) {
        resume_wipe_secrets(session);
        refuse(session, client, "more secrets than 16");
        return;
    }
    struct resume_secret *secret = &session->secrets[snapshot->secret_count++];
    copy_name(secret->name, client->held.u.secret.name);
    if (body.size > 0)
        memcpy(secret->data, body.data, body.size);
    secret->size = body.size;
    wipe_slice(body);
}

static FAILURE_APART void supersede(struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_NOT_RESUMED, "another resume has come before this one had ended");
    resume_end(session, &failure);
}

enum session_take resume_take(struct session *session, struct client *client)
{
    struct snapshot *snapshot = &session->snapshot;
    const struct proto_message *message = &client->held;
    if (message->u.resume.seed.size == 0) {
        refuse(session, client, "a resume without a seed");
        return SESSION_TAKEN;
    }
    if (snapshot->asker == client)
        return SESSION_LATER; /* its checkpoint comes first */
    if (snapshot->resumer || snapshot->due || snapshot->starting)
        supersede(session);
    own_secrets(session, client);
    struct resume_order *order = &snapshot->order;
    order->received_ns = clock_monotonic_ns();
    order->generation = message->u.resume.generation;
    order->realtime_ns = message->u.resume.realtime_ns;
    memcpy(order->seed, message->u.resume.seed.data, sizeof order->seed);
    memcpy(order->clone_id, message->u.resume.clone_id.data, sizeof order->clone_id);
    copy_name(order->hostname, message->u.resume.hostname);
    copy_name(order->network, message->u.resume.network);
    memcpy(session->order_secrets, session->secrets, snapshot->secret_count * sizeof *session->secrets);
    order->secrets = session->order_secrets;
    order->secret_count = snapshot->secret_count;
    resume_wipe_secrets(session);
    wipe_slice(message->u.resume.seed);
    snapshot->hooks_timeout_ms = message->u.resume.timeout_ms;
    snapshot->resumer = client;
    backlog_clear(&session->backlog); /* the original's */
    session_step(session, LIFECYCLE_RESUME);
    return SESSION_TAKEN;
}

/* ---- facts ----------------------------------------------------------------------------------------- */

struct collection {
    struct session *session;
    struct client *client;
};

static void tell_fact(void *context, struct proto_slice name, struct proto_slice body)
{
    const struct collection *collection = context;
    const struct proto_message fact = {.type = PROTO_FACT, .u.fact = {.name = name, .body = body}};
    if (collection->client->state == CLIENT_OPEN) /* a client that does not read is closed on the way */
        client_say(collection->client, collection->session, &fact);
}

void resume_take_collect(struct session *session, struct client *client)
{
    struct collection collection = {session, client};
    const uint64_t start_ns = clock_monotonic_ns();
    char why[RESUME_WHY_BYTES] = "";
    struct failure failure;
    const int error = facts_collect(tell_fact, &collection, why);
    struct proto_message collected = {
        .type = PROTO_COLLECTED,
        .u.collected.duration_us = (clock_monotonic_ns() - start_ns) / 1000,
    };
    if (error) {
        failure_set(&failure, FAILURE_INTERNAL, "%s", why[0] ? why : strerror(-error));
        collected.u.collected.failure = failure_view(&failure);
    }
    if (client->state == CLIENT_OPEN)
        client_say(client, session, &collected);
}

/* ---- the steps ------------------------------------------------------------------------------------- */

static FAILURE_APART void fail_step(struct session *session, const char *why, int error)
{
    struct failure failure;
    failure_set(&failure, FAILURE_NOT_RESUMED, "%s", why[0] ? why : strerror(-error));
    session_fail(session, &failure);
}

static void take_steps(struct session *session)
{
    session_no_limits(session);
    for (const struct resume_step *step = resume_steps; step->name; step++) {
        char why[RESUME_WHY_BYTES] = "";
        begin_step(session, step->name);
        const int error = step->run(resume_get(), &session->snapshot.order, why);
        if (error) {
            fail_step(session, why, error);
            return;
        }
        end_step(session, NULL);
    }
    wipe_order(session);
    session_step(session, LIFECYCLE_STEPPED);
}

static void thaw(struct session *session)
{
    const struct snapshot *snapshot = &session->snapshot;
    const uint64_t generation = resume_generation(resume_get()); /* above the host's when that was not new */
    begin_step(session, "thaw");
    const int error = process_freeze(session->process, false);
    if (error) {
        fail_step(session, "cannot thaw the function", error);
        return;
    }
    end_step(session, NULL);
    begin_step(session, "hooks");
    const struct proto_message resume = {
        .type = PROTO_RESUME,
        .u.resume = {.timeout_ms = snapshot->hooks_timeout_ms, .generation = generation},
    };
    session->function.ops->send(&session->function, &resume);
    session_limit_state(session, snapshot->hooks_timeout_ms);
    session->progress = true;
}

void resume_take_resumed(struct session *session, const struct proto_end *end)
{
    output_drain(&session->output);
    if (end->failure.type.size > 0)
        session_fail_told(session, &end->failure);
    else
        session_step(session, LIFECYCLE_RESUMED);
}

void resume_started(struct session *session, const struct failure *failure)
{
    if (!session->snapshot.starting)
        return;
    end_step(session, failure);
    resume_end(session, failure);
}

/* What a later client is told, and whoever waits. */
static void serve_nothing(struct session *session, const struct failure *failure)
{
    session->init_state = PROTO_STATE_FAILED;
    session->init_failure = *failure;
    event_fail_waiting(session, failure);
}

/* An agent that is started again would begin anew with a function that shares everything with its twins. */
static void leave_word(const struct session *session, const struct failure *failure)
{
    if (!session->given_up_path)
        return;
    int fd = open(session->given_up_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, failure->message, failure->message_bytes) < 0)
        log_error("cannot write %s: %s", session->given_up_path, strerror(errno));
    fd_close(&fd);
}

bool resume_was_given_up(struct session *session)
{
    struct failure failure;
    char text[PROTO_ERROR_TEXT_MAX_BYTES];
    const int64_t size =
        session->given_up_path ? fd_read_file(session->given_up_path, text, sizeof text) : -ENOENT;
    if (size == -ENOENT)
        return false;
    failure_set(&failure, FAILURE_NOT_RESUMED, "%.*s", size > 0 ? (int)size : 0, text);
    serve_nothing(session, &failure);
    return true;
}

/* From here on this clone answers nothing. Its function is frozen again, or killed if even that fails. */
static FAILURE_APART void give_up(struct session *session)
{
    struct failure failure;
    char text[512];
    const bool is_ours =
        strncmp(session->failure.type, PROTO_ERROR_NOT_RESUMED, sizeof PROTO_ERROR_NOT_RESUMED - 1) == 0;
    if (is_ours)
        (void)snprintf(text, sizeof text, "%.*s", (int)session->failure.message_bytes,
                       session->failure.message);
    else
        failure_text(&session->failure, text, sizeof text);
    failure_set(&failure, FAILURE_NOT_RESUMED, "%s: %s", session->snapshot.step_name, text);
    session_no_limits(session);
    connections_abandon(connections_get());
    if (process_freeze(session->process, true) < 0)
        session_kill_function(session);
    session_no_limits(session);
    leave_word(session, &failure);
    end_step(session, &failure);
    resume_end(session, &failure);
    serve_nothing(session, &failure);
}

/* Half-way through something of the original's: its process goes, and a fresh one comes after the steps. */
static FAILURE_APART void replace(struct session *session)
{
    struct failure failure;
    session_kill_function(session);
    failure_set(&failure, FAILURE_NOT_QUIESCED, "the guest was restored from a snapshot meanwhile");
    checkpoint_end(session, &failure);
    session->snapshot.due = true;
}

static void replace_event(struct session *session)
{
    failure_set(&session->failure, FAILURE_INTERNAL,
                "the guest was restored from a snapshot with the event in hand");
    session_fail_event(session);
    session->snapshot.due = true;
}

static FAILURE_APART void refuse_resume(struct session *session)
{
    struct failure failure = session->init_failure;
    if (session->state != LIFECYCLE_UNRESUMED)
        failure_set(&failure, FAILURE_SHUTTING_DOWN, "%s", "");
    resume_end(session, &failure);
}

static FAILURE_APART void end_checkpoint(struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_NOT_QUIESCED, "a resume came first");
    checkpoint_end(session, &failure);
}

bool resume_act(struct session *session, enum lifecycle_action action)
{
    if (action == LIFECYCLE_HOLD) {
        if (session->snapshot.asker)
            end_checkpoint(session);
        session_freeze(session);
    } else if (action == LIFECYCLE_STEP) {
        take_steps(session);
    } else if (action == LIFECYCLE_THAW) {
        thaw(session);
    } else if (action == LIFECYCLE_RENEW) {
        begin_step(session, "start");
        session->snapshot.starting = true;
        session_spawn(session);
    } else if (action == LIFECYCLE_TELL_RESUMED) {
        session_no_limits(session);
        end_step(session, NULL);
        resume_end(session, NULL);
        session->progress = true;
    } else if (action == LIFECYCLE_REPLACE) {
        replace(session);
    } else if (action == LIFECYCLE_REPLACE_EVENT) {
        replace_event(session);
    } else if (action == LIFECYCLE_FAIL_RESUME) {
        give_up(session);
    } else if (action == LIFECYCLE_REFUSE_RESUME) {
        refuse_resume(session);
    } else {
        return false;
    }
    return true;
}
