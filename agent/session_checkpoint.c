/*
 * A checkpoint: from a client's CHECKPOINT to its QUIESCED, with the function frozen in between. PROTOCOL.md,
 * "Across a snapshot", has the flow; lifecycle.h the states.
 *
 * Once QUIESCED is said nothing here is armed: the agent waits for its clients and for nothing else, so that
 * an idle clone stays idle. The client may vanish at any moment (in a clone it always has): the function
 * stays frozen until somebody says RESUME, because its hooks have run and only those of a restore undo them.
 */
#include <inttypes.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/resume.h"
#include "agent/session.h"
#include "agent/tls/connections.h"

#define NS_PER_MS UINT64_C(1000000)

static void answer(struct session *session, struct client *client, uint64_t asked_ns,
                   const struct failure *failure)
{
    struct proto_message message = {
        .type = PROTO_QUIESCED,
        .u.quiesced.duration_us = (clock_monotonic_ns() - asked_ns) / 1000,
    };
    if (failure) {
        char text[512];
        log_warn("no checkpoint: %s", failure_text(failure, text, sizeof text));
        message.u.quiesced.failure = failure_view(failure);
    }
    client_say(client, session, &message);
}

void checkpoint_end(struct session *session, const struct failure *failure)
{
    struct client *asker = session->snapshot.asker;
    session->snapshot.asker = NULL;
    if (asker)
        answer(session, asker, session->snapshot.asked_ns, failure);
}

void checkpoint_refuse(struct session *session, struct client *client, const struct failure *failure)
{
    const uint64_t asked_ns = client->deadline_ns - client->held.u.checkpoint.timeout_ms * NS_PER_MS;
    client->order = 0;
    answer(session, client, asked_ns, failure);
}

/* ---- a client asks --------------------------------------------------------------------------------- */

enum session_take checkpoint_take(struct session *session, struct client *client)
{
    struct snapshot *snapshot = &session->snapshot;
    const uint32_t timeout_ms = client->held.u.checkpoint.timeout_ms;
    if (client->order == 0) {
        client->order = ++session->arrivals;
        client->deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    }
    if (session->state == LIFECYCLE_STOPPING || session->state == LIFECYCLE_STOPPED) {
        struct failure failure;
        failure_set(&failure, FAILURE_SHUTTING_DOWN, "%s", "");
        checkpoint_refuse(session, client, &failure);
        return SESSION_TAKEN;
    }
    if (session->state == LIFECYCLE_UNRESUMED) {
        checkpoint_refuse(session, client, &session->init_failure);
        return SESSION_TAKEN;
    }
    const bool turn = session->state == LIFECYCLE_READY && event_is_first_in_line(session, client) &&
                      event_function_waits(session);
    if (!turn && session->state != LIFECYCLE_FROZEN)
        return SESSION_LATER;
    client->order = 0;
    snapshot->asker = client;
    snapshot->asked_ns = client->deadline_ns - timeout_ms * NS_PER_MS;
    snapshot->checkpoint_timeout_ms = timeout_ms;
    snapshot->checkpoint_deadline_ns = client->deadline_ns;
    session_step(session, LIFECYCLE_CHECKPOINT);
    return SESSION_TAKEN;
}

/* ---- the function answers, and freezes ------------------------------------------------------------- */

void checkpoint_take_quiesced(struct session *session, const struct proto_end *end)
{
    output_drain(&session->output);
    if (end->failure.type.size > 0) {
        failure_copy(&session->failure, &end->failure);
        session_step(session, LIFECYCLE_DECLINED);
    } else {
        session_step(session, LIFECYCLE_QUIESCED);
    }
}

static void on_drained(void *context)
{
    struct session *session = context;
    session->snapshot.drained = true;
}

/* Half of what is left of the checkpoint's time, so that freezing has the other. */
static void drain(struct session *session)
{
    const uint64_t now_ns = clock_monotonic_ns();
    const uint64_t deadline_ns = session->snapshot.checkpoint_deadline_ns;
    uint64_t limit_ns = deadline_ns > now_ns ? (deadline_ns - now_ns) / 2 : 0;
    if (limit_ns > SESSION_DRAIN_LIMIT_MS * NS_PER_MS)
        limit_ns = SESSION_DRAIN_LIMIT_MS * NS_PER_MS;
    session->snapshot.drained = false;
    session_limit_state(session, (uint32_t)(limit_ns / NS_PER_MS) + SESSION_DRAIN_LINGER_MS);
    if (connections_drain(connections_get(), now_ns + limit_ns, on_drained, session) == 0)
        session_step(session, LIFECYCLE_DRAINED);
}

static FAILURE_APART void cannot_freeze(struct session *session, int error)
{
    struct failure failure;
    failure_set(&failure, FAILURE_INTERNAL, "cannot freeze the function: %s", strerror(-error));
    session_fail(session, &failure);
}

void session_freeze(struct session *session)
{
    session_limit_state(session, SESSION_FREEZE_LIMIT_MS);
    const int error = process_freeze(session->process, true);
    session->progress = true;
    if (error)
        cannot_freeze(session, error);
}

static FAILURE_APART void cannot_forget(struct session *session, const char *why)
{
    struct failure failure;
    failure_set(&failure, FAILURE_NOT_QUIESCED, "%s", why);
    session_fail(session, &failure);
}

/* What is sent in here is under way when the host takes its snapshot: a clone begins at this depth. */
void checkpoint_froze(struct session *session)
{
    char why[RESUME_WHY_BYTES] = "";
    output_drain(&session->output);
    backlog_clear(&session->backlog); /* the original's: not to be told by each clone */
    resume_wipe_secrets(session);
    link_forget_spare();
    const int error = resume_forget(resume_get(), why);
    if (error) {
        cannot_forget(session, why[0] ? why : strerror(-error));
    } else {
        connections_forget(connections_get());
        session_step(session, LIFECYCLE_FROZE);
    }
}

static void quiesce(struct session *session)
{
    struct snapshot *snapshot = &session->snapshot;
    const uint64_t now_ns = clock_monotonic_ns();
    uint64_t left_ms = 1;
    if (snapshot->checkpoint_deadline_ns > now_ns)
        left_ms = (snapshot->checkpoint_deadline_ns - now_ns) / NS_PER_MS + 1;
    if (left_ms > snapshot->checkpoint_timeout_ms)
        left_ms = snapshot->checkpoint_timeout_ms;
    const struct proto_message message = {.type = PROTO_CHECKPOINT,
                                          .u.checkpoint.timeout_ms = (uint32_t)left_ms};
    session->function.ops->send(&session->function, &message);
    session->state_limit_ns = snapshot->checkpoint_deadline_ns;
    session->progress = true;
}

bool checkpoint_act(struct session *session, enum lifecycle_action action)
{
    if (action == LIFECYCLE_QUIESCE) {
        quiesce(session);
    } else if (action == LIFECYCLE_DRAIN) {
        drain(session);
    } else if (action == LIFECYCLE_FREEZE) {
        session_freeze(session);
    } else if (action == LIFECYCLE_TELL_QUIESCED) {
        session_no_limits(session);
        checkpoint_end(session, NULL);
        session->progress = true; /* others may have asked for the same */
    } else if (action == LIFECYCLE_TELL_DECLINED) {
        session_no_limits(session);
        checkpoint_end(session, &session->failure);
        session->progress = true;
    } else if (action == LIFECYCLE_FAIL_QUIESCE) {
        session_kill_function(session);
        session->restart = true;
        connections_undrain(connections_get());
        checkpoint_end(session, &session->failure);
    } else {
        return false;
    }
    return true;
}
