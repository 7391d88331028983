/*
 * From a client to the function: the fragments of an event, in order, one event at a time.
 *
 * An event whose turn has not come stays in its client's frame buffer (client.h). Once it is begun, each of
 * its fragments goes on as soon as the function has room for it; a fragment out of order fails the event, and
 * the function, which has part of it, is not fit for another. See session.h.
 */
#include <errno.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/session.h"

bool event_is_uploading(const struct session *session)
{
    const struct payload_assembly *event = &session->current.event;
    return session->state == LIFECYCLE_RUNNING && event->have_bytes < event->total_bytes;
}

static void keep_id(char to[PROTO_ID_MAX_BYTES + 1], struct proto_slice id)
{
    memcpy(to, id.data, id.size); /* decoding has checked its length */
    to[id.size] = '\0';
}

/* Fail a request that the function has not been given anything of. */
static enum session_take refuse(struct session *session, struct client *client, const struct failure *failure)
{
    const struct proto_slice id = client->held.u.invoke.id;
    client->order = 0;
    keep_id(client->discarded_id, id);
    client_fail(client, session, id, failure);
    return SESSION_TAKEN;
}

void event_fail_one(struct session *session, struct client *client, const struct failure *failure)
{
    if (client->held.type == PROTO_CHECKPOINT)
        checkpoint_refuse(session, client, failure);
    else
        (void)refuse(session, client, failure);
    client->holding = false;
    session->progress = true;
}

void event_fail_waiting(struct session *session, const struct failure *failure)
{
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++)
        if (session->clients[i].state == CLIENT_OPEN && session->clients[i].order > 0)
            event_fail_one(session, &session->clients[i], failure);
}

bool event_is_first_in_line(const struct session *session, const struct client *client)
{
    for (int i = 0; i < PROTO_CONNECTIONS_MAX; i++) {
        const struct client *other = &session->clients[i];
        if (other->order > 0 && other->order < client->order)
            return false;
    }
    return true;
}

static void forward(struct session *session, const struct proto_message *fragment)
{
    const uint64_t now = clock_monotonic_ns();
    const uint64_t left_ns = session->current.deadline_ns > now ? session->current.deadline_ns - now : 0;
    struct proto_message message = *fragment;
    message.u.invoke.timeout_ms = (uint32_t)(left_ns / 1000000) + 1;
    if (message.u.invoke.timeout_ms > PROTO_TIMEOUT_MAX_MS)
        message.u.invoke.timeout_ms = PROTO_TIMEOUT_MAX_MS;
    session->function.ops->send(&session->function, &message);
}

/* What the function may have said since its last answer was not asked for: it shows now, not as the answer to
 * what it is given next. */
bool event_function_waits(struct session *session)
{
    struct channel *function = &session->function;
    link_read(&function->native);
    if (!function->ops->is_quiet(function)) {
        session->progress = true;
        return false;
    }
    return !function->ops->ended(function, session->process->reaped);
}

static enum session_take begin(struct session *session, struct client *client)
{
    const struct proto_message *fragment = &client->held;
    struct channel *function = &session->function;
    if (!event_function_waits(session) || !function->ops->has_room(function, fragment->u.invoke.body.size))
        return SESSION_LATER;
    output_drain(&session->output); /* what it printed until now belongs to no request */
    struct invocation invocation = {
        .owner = client,
        .timeout_ms = fragment->u.invoke.timeout_ms,
        .deadline_ns = client->deadline_ns,
    };
    const char *why;
    int step = payload_begin(&invocation.event, fragment, &why);
    if (step == 0)
        step = payload_add(&invocation.event, fragment, NULL, &why);
    if (step < 0) {
        struct failure failure;
        failure_set(&failure, FAILURE_BAD_REQUEST, "%s", why);
        return refuse(session, client, &failure);
    }
    keep_id(invocation.id, fragment->u.invoke.id);
    session->current = invocation;
    client->order = 0;
    client->discarded_id[0] = '\0';
    session_step(session, LIFECYCLE_INVOKE);
    forward(session, fragment); /* there is room */
    return SESSION_TAKEN;
}

/* The first fragment of an event: begun when the function is ready and nobody was here before. */
static enum session_take first_fragment(struct session *session, struct client *client)
{
    if (client->order == 0) {
        client->order = ++session->arrivals;
        client->deadline_ns = clock_monotonic_ns() + client->held.u.invoke.timeout_ms * UINT64_C(1000000);
    }
    if (session->state == LIFECYCLE_STOPPING || session->state == LIFECYCLE_STOPPED) {
        struct failure failure;
        failure_set(&failure, FAILURE_SHUTTING_DOWN, "%s", "");
        return refuse(session, client, &failure);
    }
    if (session->state == LIFECYCLE_UNRESUMED)
        return refuse(session, client, &session->init_failure);
    if (session->state != LIFECYCLE_READY || !event_is_first_in_line(session, client))
        return SESSION_LATER;
    return begin(session, client);
}

/* The client has broken the order of its fragments: its invocation, and the function that has half an event,
 * end. */
static void break_off(struct session *session, const char *why)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_REQUEST, "%s", why);
    session_fail(session, &failure);
}

static enum session_take next_fragment(struct session *session, const struct proto_message *fragment)
{
    if (!session->function.ops->has_room(&session->function, fragment->u.invoke.body.size))
        return SESSION_LATER;
    const char *why;
    if (payload_add(&session->current.event, fragment, NULL, &why) < 0)
        break_off(session, why);
    else
        forward(session, fragment);
    return SESSION_TAKEN;
}

enum session_take event_take(struct session *session, struct client *client)
{
    const struct proto_message *fragment = &client->held;
    const struct proto_slice id = fragment->u.invoke.id;
    const bool is_current = session->state == LIFECYCLE_RUNNING && session->current.owner == client;
    const bool same_id = is_current && proto_slice_equal(id, proto_text(session->current.id));
    if (is_current && event_is_uploading(session)) {
        if (same_id)
            return next_fragment(session, fragment);
        break_off(session, "another began before all of it had come");
    }
    if (fragment->u.invoke.offset_bytes == 0)
        return first_fragment(session, client);
    if (client->discarded_id[0] != '\0' && proto_slice_equal(id, proto_text(client->discarded_id)))
        return SESSION_TAKEN;
    if (same_id) {
        break_off(session, "a fragment past its total size");
        return SESSION_TAKEN;
    }
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_REQUEST, "%s",
                "no event with this id is under way: its first fragment starts at offset 0");
    return refuse(session, client, &failure);
}
