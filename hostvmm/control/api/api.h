/*
 * The control API (API.md, openapi.json): HTTP/1.1 and JSON over a Unix socket, in a process of its own that
 * never touches a guest's memory. It holds what the guest is to be until it starts, starts `hostvmm run` or
 * `hostvmm restore` as its child, and operates it (OPERATOR.md). Resources, bodies, status codes and the shape
 * of errors are Firecracker's for what both have.
 *
 *   HTTP (libmicrohttpd) -> route -> handler -> model, or a line to the child
 *
 * One thread per connection, up to API_CONNECTIONS_MAX. A handler runs with api->lock held, and lets go of it
 * (api_unlock, api_lock) where it waits for a function or another process for long. Nothing in a request is
 * trusted: sizes are bounded here, each value by its handler, and unknown members are refused by name.
 */
#ifndef HOSTVMM_CONTROL_API_API_H
#define HOSTVMM_CONTROL_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define API_CONNECTIONS_MAX 32
#define API_BODY_MAX_BYTES  (64u << 10) /* of JSON; /invocations takes PROTO_PAYLOAD_MAX_BYTES */
#define API_ID_BYTES        17          /* of a request: 16 hex digits */
#define API_HEADERS_MAX     4

struct api;

struct api_request {
    char id[API_ID_BYTES]; /* for log lines, and X-Request-Id of the answer */
    const char *method;
    const char *path;
    const char *name;   /* what stands for {…} in the route's pattern; NULL: nothing does */
    const json_t *json; /* the body; NULL: there is none, or the route is raw */
    const void *body;   /* of a raw route */
    size_t body_bytes;
    void *connection; /* libmicrohttpd's, for api_header */
};

struct api_response {
    int status;   /* 200, 204, 400, ...; 204 when the handler leaves it */
    json_t *json; /* the answer takes it over; NULL: none */
    void *body;   /* or bytes, malloc'ed; NULL: none */
    size_t body_bytes;
    const char *type; /* of the bytes; NULL: application/octet-stream */
    struct {
        const char *name; /* a literal */
        char *value;      /* malloc'ed, one line of visible ASCII; the answer takes it over */
    } headers[API_HEADERS_MAX];
    unsigned header_count;
};

typedef void api_handler(struct api *api, const struct api_request *request, struct api_response *response);

struct api_route {
    const char *method;
    const char *pattern; /* "/drives/{drive_id}": one {…} at most, as the last part or before the last */
    api_handler *handler;
    bool raw;   /* the body is bytes, not JSON */
    bool empty; /* it has no body */
};

/* Tables ended by a row without a method. A path that no row has, or not with that method, gets Firecracker's
 * 400. */
extern const struct api_route api_machine_routes[];  /* Firecracker's */
extern const struct api_route api_function_routes[]; /* ours: /invocations, /clones, /audit, /resume-steps */

/* When the server ends: its clones are asked to power off, waited for (a few seconds at most), and killed.
 * Without the lock; no handler runs any more. */
void api_functions_end(void);

/*
 * Firecracker's pages print bodies with a comma before a closing brace; so that they work as printed, such a
 * comma, outside of strings, becomes a blank. For what reads JSON, before it does. Pure.
 */
void api_blank_commas(char *text, size_t size);

void api_lock(struct api *api);
void api_unlock(struct api *api);

/* {"fault_message": ...} with that status. */
void api_fail(struct api_response *response, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A header of the request, or NULL. */
const char *api_header(const struct api_request *request, const char *name);

/* ---- the running guest, for api_function_routes; with the lock held ---- */

/* The Unix socket of its vsock, absolute; NULL: it does not run, or has none. */
const char *api_vsock_path(const struct api *api);
/* Ask the child: `line` without newline, as in OPERATOR.md. The answer, for the caller to json_decref; NULL,
 * with the response filled in, when there is no child, it does not answer, or it refuses. */
json_t *api_operate(struct api *api, const struct api_request *request, struct api_response *response,
                    const char *line);
/* Start a program of ours ("/proc/self/exe") beside the guest, with these arguments behind its name, ended by
 * NULL; its standard output comes back through *out (may be NULL). It dies with us. The pid, or -errno. */
int api_spawn(struct api *api, const char *const *arguments, int *out);

#endif
