/* See client.h. */
#include "agent/client.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/session.h"

#define AGENT_NAME "rekindle-agent 1"

static const struct proto_slice no_id;

void client_say(struct client *client, struct session *session, const struct proto_message *message)
{
    const int error = link_send(&client->link, LINK_CONTROL, message);
    if (error == 0)
        return;
    if (error == -EAGAIN)
        log_warn("a client does not read what it is sent: its connection is closed");
    else
        log_error("cannot encode a message of type %d: %s", (int)message->type, strerror(-error));
    client_close(client, session);
}

int client_open(struct client *client, struct session *session, int fd)
{
    *client = (struct client){.state = CLIENT_GREETING};
    client->deadline_ns = clock_monotonic_ns() + CLIENT_GREETING_LIMIT_MS * UINT64_C(1000000);
    const int error = link_open(&client->link, session->loop, fd);
    if (error) {
        client->state = CLIENT_FREE;
        return error;
    }
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION, .name = proto_text(AGENT_NAME), .state = session->init_state},
    };
    client_say(client, session, &hello);
    return 0;
}

void client_close(struct client *client, struct session *session)
{
    if (client->state == CLIENT_FREE)
        return;
    const bool broke_off = client->link.reset;
    link_close(&client->link);
    *client = (struct client){.state = CLIENT_FREE, .link = client->link};
    session_client_gone(session, client, broke_off);
}

void client_fail(struct client *client, struct session *session, struct proto_slice id,
                 const struct failure *failure)
{
    const struct proto_message error = {
        .type = PROTO_ERROR,
        .u.error = {.id = id, .failure = failure_view(failure)},
    };
    client_say(client, session, &error);
}

void client_refuse(struct client *client, struct session *session, const struct failure *failure)
{
    char text[512];
    log_warn("a client is refused: %s", failure_text(failure, text, sizeof text));
    client_fail(client, session, no_id, failure);
    client_close(client, session); /* the error is in the kernel's buffer, unless the client does not read */
}

void client_tell_init(struct client *client, struct session *session)
{
    struct proto_message init = {
        .type = PROTO_INIT,
        .u.init = {.state = session->init_state, .duration_us = session->init_duration_us},
    };
    if (session->init_state == PROTO_STATE_FAILED)
        init.u.init.failure = failure_view(&session->init_failure);
    client_say(client, session, &init);
}

/* ---- logs ------------------------------------------------------------------------------------------ */

void client_log(struct client *client, struct proto_slice id, enum proto_stream stream,
                struct proto_slice text)
{
    const struct proto_message log = {
        .type = PROTO_LOG,
        .u.log = {.id = id, .stream = stream, .dropped_bytes = client->dropped_bytes, .body = text},
    };
    if (link_send(&client->link, LINK_LOG, &log) == 0) {
        client->dropped_bytes = 0;
    } else {
        client->dropped_bytes += text.size;
        client->dropped_stream = stream;
    }
}

void client_log_dropped(struct client *client, struct proto_slice id)
{
    if (client->dropped_bytes == 0)
        return;
    const struct proto_message log = {
        .type = PROTO_LOG,
        .u.log = {.id = id, .stream = client->dropped_stream, .dropped_bytes = client->dropped_bytes},
    };
    if (link_send(&client->link, LINK_CONTROL, &log) == 0)
        client->dropped_bytes = 0;
}

/* What the function printed before anyone listened. A client that has just come has room for it. */
static void tell_backlog(struct client *client, struct backlog *backlog)
{
    static const enum proto_stream streams[] = {PROTO_STREAM_STDOUT, PROTO_STREAM_STDERR};
    struct proto_message log;
    for (int i = 0; i < 2; i++)
        if (backlog_get(backlog, streams[i], &log))
            (void)link_send(&client->link, LINK_LOG, &log);
    backlog_clear(backlog);
}

/* ---- messages -------------------------------------------------------------------------------------- */

static FAILURE_APART void refuse_version(struct client *client, struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_VERSION, "version %d, the client %" PRIu32, PROTO_VERSION,
                client->held.u.hello.version);
    client_refuse(client, session, &failure);
}

static FAILURE_APART void refuse_type(struct client *client, struct session *session)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_MESSAGE,
                client->state == CLIENT_GREETING ? "type %d before hello" : "type %d",
                (int)client->held.type);
    client_refuse(client, session, &failure);
}

static FAILURE_APART void refuse_frame(struct client *client, struct session *session, const char *why)
{
    struct failure failure;
    failure_set(&failure, FAILURE_BAD_MESSAGE, "%s", why);
    client_refuse(client, session, &failure);
}

static void take_hello(struct client *client, struct session *session)
{
    const struct proto_message *hello = &client->held;
    if (hello->u.hello.version != PROTO_VERSION) {
        refuse_version(client, session);
        return;
    }
    client->state = CLIENT_OPEN;
    client->wants_logs = hello->u.hello.wants_logs;
    if (client->wants_logs)
        tell_backlog(client, &session->backlog);
    if (session->init_state != PROTO_STATE_STARTING)
        client_tell_init(client, session);
}

static enum session_take take_message(struct client *client, struct session *session)
{
    const enum proto_type type = client->held.type;
    const bool greeting = client->state == CLIENT_GREETING;
    if (type == PROTO_INVOKE && !greeting)
        return event_take(session, client);
    if (type == PROTO_CHECKPOINT && !greeting)
        return checkpoint_take(session, client);
    if (type == PROTO_RESUME && !greeting)
        return resume_take(session, client);
    if (type == PROTO_HELLO && greeting) {
        take_hello(client, session);
    } else if (type == PROTO_SECRET && !greeting) {
        resume_take_secret(session, client);
    } else if (type == PROTO_COLLECT && !greeting) {
        resume_take_collect(session, client);
    } else if (type == PROTO_SHUTDOWN && !greeting) {
        log_info("a client asks to shut the guest down");
        session_stop(session, false);
    } else {
        refuse_type(client, session);
    }
    return SESSION_TAKEN;
}

/* Decode the next frame into `held`. False when there is none, or the client is closed for it. */
static bool next_message(struct client *client, struct session *session)
{
    struct proto_slice body;
    const char *why = "header: impossible length";
    const int got = frame_reader_next(&client->link.buffers->in, &body);
    if (got == 0)
        return false;
    if (got > 0 && proto_decode(body.data, body.size, &client->held, &why) == 0) {
        client->holding = true;
        return true;
    }
    refuse_frame(client, session, why);
    return false;
}

bool client_pump(struct client *client, struct session *session)
{
    bool taken = false;
    while (client->state != CLIENT_FREE) {
        if (!client->holding && !next_message(client, session))
            break;
        if (take_message(client, session) == SESSION_LATER)
            break;
        client->holding = false;
        taken = true;
    }
    /* Who has closed its sending side has left: a request is answered to who is there to hear it. While a
     * message is held the client is not read, and only the hang-up tells. */
    if (client->state != CLIENT_FREE && (client->holding ? client->link.hung_up : client->link.ended))
        client_close(client, session);
    return taken;
}
