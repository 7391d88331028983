/*
 * From the function to the owner of the invocation: hello, init, the fragments of an answer, errors; and the
 * end of the function. See agent/function/channel.h for what may come when, session.h for the whole.
 *
 * The function is not trusted: whatever it says out of turn ends it. What it has said before it ended counts:
 * its channel is read to the end before its exit is looked at.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/session.h"

static FAILURE_APART void bad_channel(struct session *session, const char *why)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_CHANNEL, "%s", why);
    session_fail(session, &failure);
}

static FAILURE_APART void bad_response(struct session *session, const char *why, struct proto_slice id)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_RESPONSE, "%s (request %.*s)", why, (int)id.size,
                (const char *)id.data);
    session_fail(session, &failure);
}

/* All output of the invocation goes out before its end. */
static void finish_logs(struct session *session)
{
    output_drain(&session->output);
    if (session->current.owner)
        client_log_dropped(session->current.owner, proto_text(session->current.id));
}

static enum session_take take_response(struct session *session, const struct proto_message *fragment)
{
    struct invocation *current = &session->current;
    const struct proto_slice id = fragment->u.response.id;
    if (!proto_slice_equal(id, proto_text(current->id))) {
        bad_response(session, "it is for another request, or came twice", id);
        return SESSION_TAKEN;
    }
    if (event_is_uploading(session)) {
        bad_response(session, "it came before all of the event was sent", id);
        return SESSION_TAKEN;
    }
    if (!link_has_room(&current->owner->link, LINK_PAYLOAD, fragment->u.response.body.size))
        return SESSION_LATER;
    const char *why;
    int step = current->answer.id[0] == '\0' ? payload_begin(&current->answer, fragment, &why) : 0;
    if (step == 0)
        step = payload_add(&current->answer, fragment, NULL, &why);
    if (step < 0) {
        bad_response(session, why, id);
        return SESSION_TAKEN;
    }
    if (step == PAYLOAD_COMPLETE)
        finish_logs(session);
    if (current->owner)
        (void)link_send(&current->owner->link, LINK_PAYLOAD, fragment); /* there is room */
    if (step == PAYLOAD_COMPLETE && session->state == LIFECYCLE_RUNNING)
        session_step(session, LIFECYCLE_ANSWERED);
    return SESSION_TAKEN;
}

/* The function fails this invocation, and goes on; without an id it fails itself. */
static FAILURE_APART void take_error(struct session *session, const struct proto_message *message)
{
    const struct proto_slice id = message->u.error.id;
    if (id.size == 0) {
        session_fail_told(session, &message->u.error.failure);
        return;
    }
    if (!proto_slice_equal(id, proto_text(session->current.id))) {
        bad_response(session, "it is for another request, or came twice", id);
        return;
    }
    if (event_is_uploading(session)) {
        bad_response(session, "it came before all of the event was sent", id);
        return;
    }
    finish_logs(session);
    struct failure failure;
    failure_copy(&failure, &message->u.error.failure);
    struct client *owner = session->current.owner;
    session_step(session, LIFECYCLE_ANSWERED);
    if (owner)
        client_fail(owner, session, id, &failure);
}

static void take_starting(struct session *session, const struct proto_message *message)
{
    if (!session->greeted && !channel_is_http(&session->function)) {
        if (message->type != PROTO_HELLO)
            bad_channel(session, "it did not begin with hello");
        else if (message->u.hello.version != PROTO_VERSION)
            bad_channel(session, "it speaks another version: build it again with this release's library");
        else
            session->greeted = true;
    } else if (message->type == PROTO_INIT && message->u.init.state == PROTO_STATE_READY) {
        session_step(session, LIFECYCLE_INIT_READY);
    } else if (message->type == PROTO_INIT) {
        session_fail_told(session, &message->u.init.failure);
    } else if (message->type == PROTO_ERROR && message->u.error.id.size == 0) {
        session_fail_told(session, &message->u.error.failure);
    } else {
        bad_channel(session, "it sent something else before its init had ended");
    }
}

static void take_ready(struct session *session, const struct proto_message *message)
{
    if (message->type == PROTO_RESPONSE)
        bad_response(session, "nobody waits for it, it came late or twice", message->u.response.id);
    else if (message->type == PROTO_ERROR && message->u.error.id.size > 0)
        bad_response(session, "nobody waits for it, it came late or twice", message->u.error.id);
    else if (message->type == PROTO_ERROR)
        session_fail_told(session, &message->u.error.failure);
    else
        bad_channel(session, "it sent a message that is not an answer");
}

/* Its hooks run, or have run: it says how they ended, once, and nothing else. */
static void take_hooks(struct session *session, const struct proto_message *message)
{
    if (message->type == PROTO_QUIESCED && session->state == LIFECYCLE_QUIESCING)
        checkpoint_take_quiesced(session, &message->u.quiesced);
    else if (message->type == PROTO_RESUMED && session->state == LIFECYCLE_RESUMING)
        resume_take_resumed(session, &message->u.resumed);
    else if (message->type == PROTO_ERROR && message->u.error.id.size == 0)
        session_fail_told(session, &message->u.error.failure);
    else
        bad_channel(session, "it sent something else while its hooks ran");
}

static enum session_take take_message(struct session *session, const struct proto_message *message)
{
    if (session->state == LIFECYCLE_STARTING)
        take_starting(session, message);
    else if (session->state == LIFECYCLE_READY)
        take_ready(session, message);
    else if (session->state == LIFECYCLE_QUIESCING || session->state == LIFECYCLE_DRAINING ||
             session->state == LIFECYCLE_RESUMING)
        take_hooks(session, message);
    else if (message->type == PROTO_RESPONSE)
        return take_response(session, message);
    else if (message->type == PROTO_ERROR)
        take_error(session, message);
    else
        bad_channel(session, "it sent a message that is not an answer");
    return SESSION_TAKEN;
}

static FAILURE_APART void bad_frame(struct session *session, const char *why)
{
    static const char total_field[] = "response.total_bytes";
    struct failure failure;
    if (session->state == LIFECYCLE_RUNNING && strncmp(why, total_field, sizeof total_field - 1) == 0)
        failure_set(&failure, FAILURE_TOO_LARGE, "at most %d bytes fit", PROTO_PAYLOAD_MAX_BYTES);
    else
        failure_set(&failure, FAILURE_BAD_CHANNEL, "%s", why);
    session_fail(session, &failure);
}

/* Its channel has ended, or it has exited: when both have happened, that is its end. */
static void look_for_end(struct session *session)
{
    const bool reaped = session->process->reaped;
    const bool ended = session->function.ops->ended(&session->function, reaped);
    if ((!ended && !reaped) || session->holding)
        return;
    if (ended && reaped) {
        session_fail_ended(session);
    } else if (session->linger_limit_ns == LOOP_TIMER_NEVER) {
        session->linger_limit_ns = clock_monotonic_ns() + SESSION_EXIT_LINGER_MS * UINT64_C(1000000);
        if (reaped)
            process_kill(session->process); /* what it has forked may hold the channel open */
    }
}

bool answer_pump(struct session *session)
{
    bool taken = false;
    while (lifecycle_listens(session->state)) {
        const char *why;
        struct channel *function = &session->function;
        const int got = session->holding ? 1 : function->ops->next(function, &session->held, &why);
        if (got == 0)
            break;
        if (got < 0) {
            bad_frame(session, why);
            return true;
        }
        session->holding = take_message(session, &session->held) == SESSION_LATER;
        if (session->holding)
            break;
        taken = true;
    }
    if (session->state == LIFECYCLE_READY && !session->function.ops->is_quiet(&session->function)) {
        bad_channel(session, "it began a message that nobody waits for");
        return true;
    }
    if (lifecycle_listens(session->state))
        look_for_end(session);
    return taken;
}
