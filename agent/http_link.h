/*
 * The function's channel in its HTTP form: a small server of the Lambda Runtime API on loopback, whose
 * requests come out as messages of the runtime protocol. The session sees INIT, RESPONSE, ERROR, QUIESCED and
 * RESUMED as from a native function, and gives it INVOKE, CHECKPOINT and RESUME (channel.h).
 * agent/function/HTTP.md is the function's view.
 *
 *   http_link.c    the listener, the connections, and the bytes on them
 *   http_serve.c   what a request means, and what is answered
 *
 *       HEAD -- GET next --> ASKING -- event written --> HEAD
 *         |  -- GET restore/next --> RESTORE -- a resume, or an event: 200 --> HEAD
 *         |  -- POST, with a length --> STREAM ----+
 *         |  -- POST, anything else --> GATHER ----+--> GIVING -- all taken, 202 --> HEAD
 *         |  -- refused --> CLOSING: the refusal goes out, the rest is read and thrown away
 *
 * As in link.h, events of the loop only move bytes, and a connection whose pieces are not wanted now is not
 * read: the function is held back by TCP. Memory is bounded: HTTP_LINK_CONNECTIONS_MAX connections with fixed
 * buffers, one piece of an event, and one gathered body, which is the answer that came without a length, or
 * an error.
 */
#ifndef AGENT_HTTP_LINK_H
#define AGENT_HTTP_LINK_H

#include <sys/types.h>

#include "agent/base/loop.h"
#include "agent/failure.h"
#include "agent/http.h"

#define HTTP_LINK_PORT            9001 /* Lambda's own */
#define HTTP_LINK_CONNECTIONS_MAX 8
#define HTTP_LINK_IN_BYTES        16384

enum http_connection_state {
    HTTP_CONNECTION_FREE,
    HTTP_CONNECTION_HEAD,    /* between two requests, or in the head of one */
    HTTP_CONNECTION_ASKING,  /* for the next event, until it is written */
    HTTP_CONNECTION_RESTORE, /* waits for a snapshot to be restored, or for an event without one */
    HTTP_CONNECTION_STREAM,  /* an answer with a length: each piece goes on as it comes */
    HTTP_CONNECTION_GATHER,  /* a body that is needed whole */
    HTTP_CONNECTION_GIVING,  /* what was gathered goes on; then 202 */
    HTTP_CONNECTION_CLOSING, /* said all: read to the end, so that the peer gets to read it */
};

struct http_buffers {
    struct http_parser parser;
    uint8_t in[HTTP_LINK_IN_BYTES];
    char out[2 * HTTP_REPLY_MAX_BYTES]; /* "100 Continue" and an answer */
};

struct http_link;

struct http_connection {
    enum http_connection_state state;
    struct http_link *link;
    struct http_buffers *buffers; /* NULL while FREE */
    struct loop_source source;
    int fd;
    uint32_t interest;
    bool ended;  /* nothing more will come */
    bool broken; /* it does not take anything any more */
    bool half_closed;
    size_t in_start, in_end;
    size_t out_start, out_end;
    uint32_t total_bytes; /* of the answer under way */
    uint32_t given_bytes; /* of it, to the session */
    bool given;           /* at least one message */
};

/* Of a function that has spoken HTTP; not before. */
struct http_work {
    uint8_t event[HTTP_REPLY_MAX_BYTES + PROTO_FRAGMENT_MAX_BYTES];
    struct proto_failure told;
    struct failure failure;
    char scratch[HTTP_FAILURE_SCRATCH_BYTES];
};

struct http_link {
    struct loop *loop;
    int listen_fd; /* -1 while closed */
    struct loop_source source;
    uint16_t port;
    uid_t uid; /* whose connections are taken */
    struct http_connection connections[HTTP_LINK_CONNECTIONS_MAX];
    bool init_done; /* it has asked for its first event, or to be told of a restore */
    bool asked;     /* for its first event */
    bool broken;    /* a connection ended in the middle of an event or an answer */
    bool refused;   /* a connection too many: it is logged once, as the function may go on with it */

    struct http_connection *restorer; /* waits in restore/next */
    bool restoring;                   /* it was told of a resume: its next, or restore/error, ends that */
    bool quiesced_due, resumed_due;   /* these messages: there is nothing to wait for */

    struct http_connection *asker;         /* waits for the event, or gets it */
    struct http_connection *answerer;      /* sends the answer */
    char id[PROTO_ID_MAX_BYTES + 1];       /* handed out and not answered; empty: none */
    char ended_id[PROTO_ID_MAX_BYTES + 1]; /* of a message that fails it */
    uint32_t unsent_bytes;                 /* of the event, not yet given to us */
    size_t event_start, event_end;         /* in work->event */
    struct http_work *work;
    uint8_t *gathered; /* of one body */
    uint32_t gathered_bytes, gathered_capacity;
};

/* Closed: safe to close, and to ask. */
void http_link_init(struct http_link *link);

/* Listen on 127.0.0.1, for processes of `uid`; port 0: any, told in link->port. 0 or -errno. */
int http_link_open(struct http_link *link, struct loop *loop, uint16_t port, uid_t uid);
void http_link_close(struct http_link *link);

/* The next message of the function's. 1, 0 when there is none, -EPROTO with *why. Its slices are valid until
 * the next call. It has been taken when this is called again. */
int http_link_next(struct http_link *link, struct proto_message *message, const char **why);

/* Does somebody wait for an event, with room for a piece of it? Asked for a function that waits in
 * restore/next instead, this tells it to go on: there is an event, and so no snapshot before it. */
bool http_link_has_room(struct http_link *link);
/* Hand a piece of an event on, for which there is room; or a CHECKPOINT, or a RESUME. */
void http_link_send(struct http_link *link, const struct proto_message *message);

/* Nothing more will come. Without its process there is an end to what can come, with it only after a break.
 */
bool http_link_ended(struct http_link *link, bool reaped);

int http_link_settle(struct http_link *link, bool wants_input);

/* ---- between http_link.c and http_serve.c ---- */

void http_connection_close(struct http_connection *connection);
/* Queue an answer of `size` bytes that was written to `text` (http.h); negative: it did not fit, closes. */
void http_connection_say(struct http_connection *connection, const char *text, int64_t size);
/* No more of our side; the peer's is read to its end. */
void http_connection_finish(struct http_connection *connection);
void http_connection_flush(struct http_connection *connection);
bool http_connection_has_output(const struct http_connection *connection);

#endif
