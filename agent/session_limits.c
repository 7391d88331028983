/*
 * Every wait of the session has an end: here they are looked at, and one timer is set for the next of them.
 */
#include <inttypes.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/session.h"

#define NS_PER_MS UINT64_C(1000000)

static FAILURE_APART void init_took_too_long(struct session *session)
{
    struct failure failure;
    failure_set_timed_out(&failure, session->init_limit_ms, "");
    session_fail(session, &failure);
}

static FAILURE_APART void invocation_took_too_long(struct session *session)
{
    struct failure failure;
    failure_set_timed_out(&failure, session->current.timeout_ms, "");
    session_fail(session, &failure);
}

static FAILURE_APART void snapshot_took_too_long(struct session *session)
{
    const struct snapshot *snapshot = &session->snapshot;
    struct failure failure;
    if (session->state == LIFECYCLE_QUIESCING)
        failure_set_timed_out(&failure, snapshot->checkpoint_timeout_ms, ", in its hooks before a snapshot");
    else if (session->state == LIFECYCLE_RESUMING)
        failure_set_timed_out(&failure, snapshot->hooks_timeout_ms, ", in its hooks after the restore");
    else if (session->state == LIFECYCLE_DRAINING)
        failure_set(&failure, FAILURE_NOT_QUIESCED, "its connections were not closed in time");
    else
        failure_set(&failure, FAILURE_NOT_QUIESCED, "the function did not freeze within %d ms",
                    SESSION_FREEZE_LIMIT_MS);
    session_fail(session, &failure);
}

/* Killed, and still there after a while: a process forked at that very moment, or one stuck in the kernel. */
static void kill_again(struct session *session, uint64_t now_ns)
{
    log_warn("the function is still %s: killed again", lifecycle_state_name(session->state));
    process_kill(session->process);
    session->state_limit_ns = now_ns + SESSION_KILL_AGAIN_MS * NS_PER_MS;
}

static FAILURE_APART void half_end_took_too_long(struct session *session)
{
    struct failure failure;
    if (session->process->reaped) {
        session_fail_ended(session);
        return;
    }
    failure_set(&failure, FAILURE_CHANNEL_CLOSED, "%s", "");
    session_fail(session, &failure);
}

static void check_function(struct session *session, uint64_t now_ns)
{
    if (session->state == LIFECYCLE_RUNNING && now_ns >= session->current.deadline_ns)
        invocation_took_too_long(session);
    if (now_ns >= session->linger_limit_ns)
        half_end_took_too_long(session);
    if (now_ns >= session->state_limit_ns) {
        if (session->state == LIFECYCLE_STARTING)
            init_took_too_long(session);
        else if (session->state == LIFECYCLE_ENDING || session->state == LIFECYCLE_STOPPING)
            kill_again(session, now_ns);
        else
            snapshot_took_too_long(session);
    }
}

static bool snapshot_is_under_way(const struct session *session)
{
    return session->state >= LIFECYCLE_QUIESCING && session->state <= LIFECYCLE_RESUMING;
}

static FAILURE_APART void client_waited_too_long(struct session *session, struct client *client)
{
    struct failure failure;
    if (client->state == CLIENT_GREETING) {
        failure_set(&failure, FAILURE_BAD_MESSAGE, "no hello within %d ms", CLIENT_GREETING_LIMIT_MS);
        client_refuse(client, session, &failure);
    } else if (client->held.type == PROTO_CHECKPOINT) {
        failure_set(&failure, FAILURE_NOT_QUIESCED,
                    "the function was not ready for it within %" PRIu32 " ms: it is %s",
                    client->held.u.checkpoint.timeout_ms, lifecycle_state_name(session->state));
        event_fail_one(session, client, &failure);
    } else {
        const uint32_t timeout_ms = client->held.u.invoke.timeout_ms;
        if (session->state == LIFECYCLE_RUNNING || snapshot_is_under_way(session))
            failure_set(&failure, FAILURE_BUSY, "it waited %" PRIu32 " ms", timeout_ms);
        else if (session->state == LIFECYCLE_READY)
            failure_set_timed_out(&failure, timeout_ms, " before the function asked for the event");
        else
            failure_set_timed_out(&failure, timeout_ms, " while the function was being started");
        event_fail_one(session, client, &failure);
        /* Ready, and does not ask for its next event: not fit to go on. A native one does not need to ask. */
        if (session->state == LIFECYCLE_READY)
            session_fail(session, &failure);
    }
}

static void check_client(struct session *session, struct client *client, uint64_t now_ns)
{
    const bool waits =
        client->state == CLIENT_GREETING || (client->state == CLIENT_OPEN && client->order > 0);
    if (waits && now_ns >= client->deadline_ns)
        client_waited_too_long(session, client);
}

void session_check_limits(struct session *session)
{
    const uint64_t now_ns = clock_monotonic_ns();
    check_function(session, now_ns);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        check_client(session, &session->clients[i], now_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void session_arm_timer(struct session *session)
{
    uint64_t next_ns = earlier(session->state_limit_ns, session->linger_limit_ns);
    if (session->state == LIFECYCLE_RUNNING)
        next_ns = earlier(next_ns, session->current.deadline_ns);
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++) {
        const struct client *client = &session->clients[i];
        if (client->state == CLIENT_GREETING || client->order > 0)
            next_ns = earlier(next_ns, client->deadline_ns);
    }
    if (next_ns == session->armed_ns)
        return;
    const uint64_t now_ns = clock_monotonic_ns();
    uint64_t delay_ns = LOOP_TIMER_NEVER;
    if (next_ns != LOOP_TIMER_NEVER)
        delay_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    if (loop_timer_arm(session->timer_fd, delay_ns) == 0)
        session->armed_ns = next_ns;
}
