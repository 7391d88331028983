/*
 * The HTTP form of the function contract, as far as bytes go: a parser of requests to the Lambda Runtime API
 * (version 2018-06-01), the heads of its answers, and the error object in it. Pure: no I/O, no allocation.
 *
 * The function is the client and is not trusted: every length has a limit, and what HTTP leaves open is
 * refused (two lengths, obsolete folding, a bare line feed), because two readers of such a message may
 * disagree. A refusal carries the status to answer with; after it the connection has to be closed. RFC 9110,
 * RFC 9112.
 *
 *     GET  /2018-06-01/runtime/invocation/next             -> 200, event
 *     POST /2018-06-01/runtime/invocation/{id}/response    -> 202
 *     POST /2018-06-01/runtime/invocation/{id}/error       -> 202
 *     POST /2018-06-01/runtime/init/error                  -> 202
 *     GET  /2018-06-01/runtime/restore/next                -> 200
 *     POST /2018-06-01/runtime/restore/error               -> 202
 */
#ifndef AGENT_HTTP_H
#define AGENT_HTTP_H

#include "agent/proto/proto.h"

#define HTTP_HEAD_MAX_BYTES  8192 /* request line and fields */
#define HTTP_FIELDS_MAX      64
#define HTTP_REPLY_MAX_BYTES 1024 /* any head or whole answer written here */

enum http_route {
    HTTP_ROUTE_NEXT,
    HTTP_ROUTE_RESPONSE,
    HTTP_ROUTE_ERROR,
    HTTP_ROUTE_INIT_ERROR,
    HTTP_ROUTE_RESTORE_NEXT,
    HTTP_ROUTE_RESTORE_ERROR,
};

struct http_request {
    enum http_route route;
    char id[PROTO_ID_MAX_BYTES + 1];                 /* of RESPONSE and ERROR */
    char error_type[PROTO_ERROR_TYPE_MAX_BYTES + 1]; /* Lambda-Runtime-Function-Error-Type; may be empty */
    bool keep_alive;                                 /* the client would go on after this one */
    bool expects_continue;                           /* it waits for http_write_continue before the body */
    bool chunked;
    uint32_t body_bytes; /* what is announced; 0 when chunked */
};

enum http_event {
    HTTP_MORE,    /* all input is used up */
    HTTP_HEAD,    /* parser->request is complete */
    HTTP_BODY,    /* a piece of the body, a slice of the input */
    HTTP_END,     /* the request is whole; what is left of the input belongs to the next */
    HTTP_REFUSED, /* parser->status and parser->why; sticks. After HTTP_HEAD the request is still there */
};

enum http_phase {
    HTTP_PHASE_HEAD,
    HTTP_PHASE_BODY,
    HTTP_PHASE_CHUNK_SIZE,
    HTTP_PHASE_CHUNK,
    HTTP_PHASE_CHUNK_END,
    HTTP_PHASE_TRAILER,
    HTTP_PHASE_REFUSED,
};

struct http_parser {
    enum http_phase phase;
    struct http_request request;
    int status; /* of a refusal: 400, 404, 405, 413, 417, 431, 501, 505 */
    const char *why;
    uint32_t left_bytes; /* of the body, or of the chunk */
    uint32_t seen_bytes; /* of a chunked body */
    size_t line_start;   /* of the line being gathered, in `text` */
    size_t text_size;
    char text[HTTP_HEAD_MAX_BYTES]; /* the head; later the lines of chunks and trailers */
};

void http_parser_init(struct http_parser *parser);

/* Take from *input, which moves on, until something is to be told. `body` is set with HTTP_BODY. */
enum http_event http_parse(struct http_parser *parser, struct proto_slice *input, struct proto_slice *body);

/* Each writes at most HTTP_REPLY_MAX_BYTES and returns the size, or -EINVAL for what does not fit. */
int64_t http_write_continue(char *out);
/* 200 and the head of an event whose `size` bytes follow. The deadline is wall-clock time, as Lambda has it.
 */
int64_t http_write_next(char *out, const char *id, const char *trace, uint64_t deadline_unix_ms,
                        uint32_t size);
/* A whole answer without an error: 200 (restore/next) or 202. */
int64_t http_write_accepted(char *out, int status);
/* A whole refusal, with Lambda's error object. Both texts are plain ASCII of ours. It closes the connection.
 */
int64_t http_write_refusal(char *out, int status, const char *error_type, const char *text);

/*
 * The error object a function sends: {"errorMessage": …, "errorType": …, "stackTrace": […]}. Texts are
 * decoded into `scratch`, cut at the protocol's limits, and `failure` points into it. What is not such an
 * object becomes the message as it stands; a missing type becomes `error_type`, which is not empty.
 */
#define HTTP_FAILURE_SCRATCH_BYTES                                                                           \
    (PROTO_ERROR_TYPE_MAX_BYTES + PROTO_ERROR_TEXT_MAX_BYTES + PROTO_STACK_MAX * PROTO_STACK_ENTRY_MAX_BYTES)
void http_failure(struct proto_slice body, const char *error_type, struct proto_failure *failure,
                  char scratch[HTTP_FAILURE_SCRATCH_BYTES]);

#endif
