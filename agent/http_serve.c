/*
 * See http_link.h: what a request to the Runtime API means, and what is answered. agent/function/HTTP.md has
 * the statuses in a table.
 *
 * An answer that is refused ends the invocation with an error, told to the caller at once, and the function
 * goes on: unlike on a native channel, a request carries its id and its status, so the two cannot lose step.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/http_link.h"
#include "agent/proto/errors.h"

#define NOTHING 0 /* for the session */
#define MESSAGE 1
#define AGAIN   2 /* look at the connection once more */

/* ---- refusals -------------------------------------------------------------------------------------- */

static const char *type_of(int status)
{
    switch (status) {
    case 403:
        return "InvalidStateTransition";
    case 404:
        return "NotFound";
    case 413:
        return "RequestEntityTooLarge";
    default:
        return "InvalidRequest";
    }
}

static int refuse(struct http_connection *connection, int status, const char *type, const char *text)
{
    char out[HTTP_REPLY_MAX_BYTES];
    if (connection->link->answerer == connection)
        connection->link->answerer = NULL;
    http_connection_say(connection, out, http_write_refusal(out, status, type, text));
    http_connection_finish(connection);
    return NOTHING;
}

static void drop_gathered(struct http_link *link)
{
    free(link->gathered);
    link->gathered = NULL;
    link->gathered_bytes = link->gathered_capacity = 0;
}

/* The invocation in hand ends here, with this error. */
static int fail_invocation(struct http_link *link, struct proto_message *message)
{
    memcpy(link->ended_id, link->id, sizeof link->ended_id);
    link->id[0] = '\0';
    drop_gathered(link);
    *message = (struct proto_message){
        .type = PROTO_ERROR,
        .u.error = {.id = proto_text(link->ended_id), .failure = failure_view(&link->work->failure)},
    };
    return MESSAGE;
}

/* An answer, or an error, to what is not in hand. */
static int refuse_stranger(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    const struct http_request *request = &connection->buffers->parser.request;
    const bool in_hand = link->id[0] != '\0' && link->answerer == NULL;
    if (in_hand)
        failure_set(&link->work->failure, FAILURE_BAD_RESPONSE,
                    "it is for another request, or came twice (request %s)", request->id);
    (void)refuse(connection, 400, "InvalidRequestID", "no request with this id waits for an answer");
    return in_hand ? fail_invocation(link, message) : AGAIN;
}

/* The parser has refused the request: with it goes the answer, if it was one. */
static int refuse_request(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    const struct http_parser *parser = &connection->buffers->parser;
    const struct http_request *request = &parser->request;
    const bool is_answer = (request->route == HTTP_ROUTE_RESPONSE || request->route == HTTP_ROUTE_ERROR) &&
                           link->id[0] != '\0' && strcmp(request->id, link->id) == 0 &&
                           (!link->answerer || link->answerer == connection);
    const int status = parser->status;
    if (is_answer && status == 413)
        failure_set(&link->work->failure, FAILURE_TOO_LARGE, "at most %d bytes fit", PROTO_PAYLOAD_MAX_BYTES);
    else if (is_answer)
        failure_set(&link->work->failure, FAILURE_BAD_CHANNEL, "%s", parser->why);
    const bool was_gathering = link->answerer == connection;
    (void)refuse(connection, status, type_of(status), parser->why);
    if (is_answer)
        return fail_invocation(link, message);
    if (was_gathering)
        drop_gathered(link); /* of an error of init */
    return AGAIN;
}

/* ---- GET next -------------------------------------------------------------------------------------- */

static int ask(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    if (link->id[0] != '\0')
        return refuse(connection, 403, type_of(403), "the last event has not been answered");
    if (link->asker)
        return refuse(connection, 403, type_of(403), "another connection waits for the next event already");
    link->asker = connection;
    link->asked = true;
    connection->state = HTTP_CONNECTION_ASKING;
    if (link->restoring) { /* its hooks have run */
        link->restoring = false;
        *message = (struct proto_message){.type = PROTO_RESUMED};
        return MESSAGE;
    }
    if (link->init_done)
        return NOTHING;
    link->init_done = true;
    *message = (struct proto_message){.type = PROTO_INIT, .u.init = {.state = PROTO_STATE_READY}};
    return MESSAGE;
}

static uint64_t deadline_unix_ms(uint32_t timeout_ms)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + timeout_ms;
}

static void copy_text(char *to, struct proto_slice from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    to[from.size] = '\0';
}

/* ---- GET restore/next ------------------------------------------------------------------------------ */

static int wait_for_restore(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    if (link->asked || link->restoring)
        return refuse(connection, 403, type_of(403), "restore/next comes before the first next");
    if (link->restorer)
        return refuse(connection, 403, type_of(403), "another connection waits for a restore already");
    link->restorer = connection;
    connection->state = HTTP_CONNECTION_RESTORE;
    if (link->init_done)
        return NOTHING;
    link->init_done = true;
    *message = (struct proto_message){.type = PROTO_INIT, .u.init = {.state = PROTO_STATE_READY}};
    return MESSAGE;
}

static void let_go_on(struct http_link *link)
{
    struct http_connection *connection = link->restorer;
    char out[HTTP_REPLY_MAX_BYTES];
    link->restorer = NULL;
    connection->state = HTTP_CONNECTION_HEAD;
    http_connection_say(connection, out, http_write_accepted(out, 200));
    if (!connection->buffers->parser.request.keep_alive)
        http_connection_finish(connection);
}

/* ---- what the session gives ------------------------------------------------------------------------ */

bool http_link_has_room(struct http_link *link)
{
    if (link->broken)
        return true; /* it swallows */
    if (link->restorer)
        let_go_on(link);
    return link->asker && !http_connection_has_output(link->asker);
}

static void send_event(struct http_link *link, const struct proto_message *invoke)
{
    struct http_connection *asker = link->asker;
    if (link->broken || !asker)
        return;
    char *out = (char *)link->work->event;
    size_t size = 0;
    if (invoke->u.invoke.offset_bytes == 0) {
        char trace[PROTO_TRACE_MAX_BYTES + 1];
        copy_text(link->id, invoke->u.invoke.id);
        copy_text(trace, invoke->u.invoke.trace);
        const uint64_t deadline_ms = deadline_unix_ms(invoke->u.invoke.timeout_ms);
        link->unsent_bytes = invoke->u.invoke.total_bytes;
        int64_t head = http_write_next(out, link->id, trace, deadline_ms, link->unsent_bytes);
        if (head < 0) /* a trace that would end a field */
            head = http_write_next(out, link->id, "", deadline_ms, link->unsent_bytes);
        size = head > 0 ? (size_t)head : 0;
    }
    const struct proto_slice body = invoke->u.invoke.body;
    if (body.size > 0)
        memcpy(out + size, body.data, body.size);
    link->event_start = 0;
    link->event_end = size + body.size;
    link->unsent_bytes -= (uint32_t)body.size;
    http_connection_flush(asker);
}

void http_link_send(struct http_link *link, const struct proto_message *message)
{
    if (message->type == PROTO_INVOKE) {
        send_event(link, message);
    } else if (message->type == PROTO_CHECKPOINT) {
        link->quiesced_due = true; /* nothing is asked of the function: it is frozen wherever it is */
    } else if (message->type == PROTO_RESUME && link->restorer) {
        link->restoring = true;
        let_go_on(link);
    } else if (message->type == PROTO_RESUME) {
        link->resumed_due = true;
    }
}

/* ---- answers --------------------------------------------------------------------------------------- */

static int give_response(struct http_connection *connection, struct proto_slice body,
                         struct proto_message *message)
{
    *message = (struct proto_message){
        .type = PROTO_RESPONSE,
        .u.response = {.id = proto_text(connection->link->id),
                       .total_bytes = connection->total_bytes,
                       .offset_bytes = connection->given_bytes,
                       .body = body},
    };
    connection->given_bytes += (uint32_t)body.size;
    connection->given = true;
    return MESSAGE;
}

static int gather(struct http_link *link, struct proto_slice body)
{
    const uint32_t wanted = link->gathered_bytes + (uint32_t)body.size; /* the parser bounds it */
    if (wanted > link->gathered_capacity) {
        uint32_t capacity = link->gathered_capacity ? link->gathered_capacity : HTTP_LINK_IN_BYTES;
        while (capacity < wanted)
            capacity *= 2;
        if (capacity > PROTO_PAYLOAD_MAX_BYTES)
            capacity = PROTO_PAYLOAD_MAX_BYTES;
        uint8_t *bigger = realloc(link->gathered, capacity);
        if (!bigger)
            return -ENOMEM;
        link->gathered = bigger;
        link->gathered_capacity = capacity;
    }
    memcpy(link->gathered + link->gathered_bytes, body.data, body.size);
    link->gathered_bytes = wanted;
    return 0;
}

static void say_accepted(struct http_connection *connection)
{
    char out[HTTP_REPLY_MAX_BYTES];
    http_connection_say(connection, out, http_write_accepted(out, 202));
}

/* The error object that was gathered, as a message. */
static int give_error(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    const struct http_request *request = &connection->buffers->parser.request;
    const bool of_init = request->route == HTTP_ROUTE_INIT_ERROR;
    const bool of_restore = request->route == HTTP_ROUTE_RESTORE_ERROR;
    const char *type = request->error_type[0] ? request->error_type
                       : of_init              ? PROTO_ERROR_INIT
                       : of_restore           ? FUNCTION_ERROR_RESTORE
                                              : "Function.Error";
    const struct proto_slice body = {link->gathered, link->gathered_bytes};
    connection->given = true;
    http_failure(body, type, &link->work->told, link->work->scratch);
    if (of_init) {
        say_accepted(connection); /* now: the session ends a function whose init has failed */
        *message = (struct proto_message){
            .type = PROTO_INIT, .u.init = {.state = PROTO_STATE_FAILED, .failure = link->work->told}};
    } else if (of_restore && link->restoring) {
        say_accepted(connection); /* now: this clone is given up */
        link->restoring = false;
        *message = (struct proto_message){.type = PROTO_RESUMED, .u.resumed.failure = link->work->told};
    } else if (of_restore) { /* it was told to go on without one, and does not: its end */
        say_accepted(connection);
        *message = (struct proto_message){.type = PROTO_ERROR, .u.error.failure = link->work->told};
    } else {
        *message = (struct proto_message){
            .type = PROTO_ERROR, .u.error = {.id = proto_text(link->id), .failure = link->work->told}};
    }
    return MESSAGE;
}

/* All of it has been taken: 202, and the connection is free for the next request. */
static int finish_answer(struct http_connection *connection)
{
    struct http_link *link = connection->link;
    link->answerer = NULL;
    link->id[0] = '\0';
    drop_gathered(link);
    connection->state = HTTP_CONNECTION_HEAD;
    say_accepted(connection);
    if (!connection->buffers->parser.request.keep_alive)
        http_connection_finish(connection);
    return AGAIN;
}

static int go_on_giving(struct http_connection *connection, struct proto_message *message)
{
    struct http_link *link = connection->link;
    if (connection->given && connection->given_bytes == connection->total_bytes)
        return finish_answer(connection);
    if (connection->buffers->parser.request.route != HTTP_ROUTE_RESPONSE)
        return give_error(connection, message);
    const uint32_t left = connection->total_bytes - connection->given_bytes;
    const struct proto_slice piece = {link->gathered ? link->gathered + connection->given_bytes : NULL,
                                      left < PROTO_FRAGMENT_MAX_BYTES ? left : PROTO_FRAGMENT_MAX_BYTES};
    return give_response(connection, piece, message);
}

/* ---- requests -------------------------------------------------------------------------------------- */

static int begin_answer(struct http_connection *connection, const char **why, struct proto_message *message)
{
    struct http_link *link = connection->link;
    const struct http_request *request = &connection->buffers->parser.request;
    if (request->route == HTTP_ROUTE_INIT_ERROR) {
        if (link->init_done || link->answerer)
            return refuse(connection, 403, type_of(403), "init has ended already");
    } else if (request->route == HTTP_ROUTE_RESTORE_ERROR) {
        if (!link->init_done || link->asked || link->restorer || link->answerer)
            return refuse(connection, 403, type_of(403), "no restore is under way");
    } else if (link->id[0] == '\0' || link->answerer || strcmp(link->id, request->id) != 0) {
        return refuse_stranger(connection, message);
    } else if (link->asker) {
        *why = "it answered before it had read the whole event";
        return -EPROTO;
    }
    link->answerer = connection;
    connection->given = false;
    connection->given_bytes = 0;
    connection->total_bytes = 0;
    const bool streams = request->route == HTTP_ROUTE_RESPONSE && !request->chunked;
    if (streams)
        connection->total_bytes = request->body_bytes;
    connection->state = streams ? HTTP_CONNECTION_STREAM : HTTP_CONNECTION_GATHER;
    return AGAIN;
}

static int begin_request(struct http_connection *connection, const char **why, struct proto_message *message)
{
    const struct http_request *request = &connection->buffers->parser.request;
    int result = AGAIN;
    switch (request->route) {
    case HTTP_ROUTE_NEXT:
    case HTTP_ROUTE_RESTORE_NEXT:
        break;
    case HTTP_ROUTE_RESPONSE:
    case HTTP_ROUTE_ERROR:
    case HTTP_ROUTE_INIT_ERROR:
    case HTTP_ROUTE_RESTORE_ERROR:
        result = begin_answer(connection, why, message);
        break;
    }
    if (result == AGAIN && request->expects_continue && connection->state != HTTP_CONNECTION_CLOSING) {
        char out[HTTP_REPLY_MAX_BYTES];
        http_connection_say(connection, out, http_write_continue(out));
    }
    return result;
}

static int take_body(struct http_connection *connection, struct proto_slice body,
                     struct proto_message *message)
{
    if (connection->state == HTTP_CONNECTION_STREAM)
        return give_response(connection, body, message);
    if (connection->state != HTTP_CONNECTION_GATHER || gather(connection->link, body) == 0)
        return AGAIN; /* the body of a GET means nothing */
    struct http_link *link = connection->link;
    const bool in_hand = link->id[0] != '\0';
    if (in_hand)
        failure_set(&link->work->failure, FAILURE_INTERNAL, "no memory for an answer without a length");
    (void)refuse(connection, 500, "OutOfMemory", "no memory for a body without a length");
    return in_hand ? fail_invocation(link, message) : AGAIN;
}

static int end_request(struct http_connection *connection, struct proto_message *message)
{
    if (connection->state == HTTP_CONNECTION_HEAD)
        return connection->buffers->parser.request.route == HTTP_ROUTE_NEXT
                   ? ask(connection, message)
                   : wait_for_restore(connection, message);
    if (connection->state == HTTP_CONNECTION_GATHER &&
        connection->buffers->parser.request.route == HTTP_ROUTE_RESPONSE)
        connection->total_bytes = connection->link->gathered_bytes;
    connection->state = HTTP_CONNECTION_GIVING;
    return AGAIN;
}

static int parse(struct http_connection *connection, struct proto_message *message, const char **why)
{
    struct http_buffers *buffers = connection->buffers;
    struct proto_slice body = {0};
    struct proto_slice input = {buffers->in + connection->in_start,
                                connection->in_end - connection->in_start};
    const enum http_event event = http_parse(&buffers->parser, &input, &body);
    connection->in_start = connection->in_end - input.size;
    switch (event) {
    case HTTP_MORE:
        if (connection->ended)
            http_connection_close(connection);
        return NOTHING;
    case HTTP_HEAD:
        return begin_request(connection, why, message);
    case HTTP_BODY:
        return take_body(connection, body, message);
    case HTTP_END:
        return end_request(connection, message);
    case HTTP_REFUSED:
        return refuse_request(connection, message);
    }
    return NOTHING;
}

/* The event has been written: the connection is free for the next request. */
static int look_after_event(struct http_connection *connection)
{
    struct http_link *link = connection->link;
    const bool under_way =
        link->id[0] == '\0' || link->unsent_bytes > 0 || http_connection_has_output(connection);
    if (under_way) {
        if (connection->ended)
            http_connection_close(connection);
        return NOTHING;
    }
    link->asker = NULL;
    connection->state = HTTP_CONNECTION_HEAD;
    if (!connection->buffers->parser.request.keep_alive)
        http_connection_finish(connection);
    return AGAIN;
}

static int look_at(struct http_connection *connection, struct proto_message *message, const char **why)
{
    if (connection->broken && connection->state != HTTP_CONNECTION_FREE)
        http_connection_close(connection);
    switch (connection->state) {
    case HTTP_CONNECTION_FREE:
    case HTTP_CONNECTION_CLOSING:
        return NOTHING;
    case HTTP_CONNECTION_RESTORE:
        if (connection->ended)
            http_connection_close(connection);
        return NOTHING;
    case HTTP_CONNECTION_ASKING:
        return look_after_event(connection);
    case HTTP_CONNECTION_GIVING:
        return go_on_giving(connection, message);
    case HTTP_CONNECTION_HEAD:
        if (http_connection_has_output(connection))
            return NOTHING; /* who does not read its answers is not asked for more */
        return parse(connection, message, why);
    case HTTP_CONNECTION_STREAM:
    case HTTP_CONNECTION_GATHER:
        return parse(connection, message, why);
    }
    return NOTHING;
}

int http_link_next(struct http_link *link, struct proto_message *message, const char **why)
{
    if (link->quiesced_due || link->resumed_due) {
        *message = (struct proto_message){.type = link->quiesced_due ? PROTO_QUIESCED : PROTO_RESUMED};
        link->quiesced_due = link->resumed_due = false;
        return MESSAGE;
    }
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++) {
        struct http_connection *connection = &link->connections[i];
        int result = AGAIN;
        if (connection->state == HTTP_CONNECTION_FREE)
            continue;
        if (!link->work)
            link->work = malloc(sizeof *link->work);
        if (!link->work) {
            *why = "no memory to serve it";
            return -EPROTO;
        }
        while (result == AGAIN)
            result = look_at(connection, message, why);
        if (result != NOTHING)
            return result;
    }
    return NOTHING;
}
