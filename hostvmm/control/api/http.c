/* See http.h. One thread per connection; a request is handled when its body is whole. */
#include "hostvmm/control/api/http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include <microhttpd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/route.h"

#define BACKLOG        64
#define IDLE_SECONDS   600
#define LAST_ANSWERS_S 2
#define HEAD_MAX_BYTES (16u << 10)
/* A body that is too large, up to this, is read and forgotten: who sends before it reads gets its answer. */
#define SWALLOWED_MAX_BYTES (16u << 20)
#define STACK_BYTES         (1u << 20) /* a body within its bound nests as deep as Jansson lets it */

/* One request, from its head to its answer. */
struct exchange {
    struct api_request request;
    size_t most;   /* of the body */
    bool too_much; /* as its head says: the body is not kept */
    char *body;
    size_t used;
    size_t room;
    uint64_t began_ns;
};

const char *api_header(const struct api_request *request, const char *name)
{
    return request->connection ? MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name)
                               : NULL;
}

/* ---- answers ---- */

static struct MHD_Response *body_of(struct api_response *answer, const char **type)
{
    char *text = answer->json ? json_dumps(answer->json, JSON_COMPACT) : NULL;
    *type = NULL;
    if (text) {
        *type = "application/json";
        return MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    }
    if (answer->body) {
        void *body = answer->body;
        answer->body = NULL;
        *type = answer->type ? answer->type : "application/octet-stream";
        return MHD_create_response_from_buffer(answer->body_bytes, body, MHD_RESPMEM_MUST_FREE);
    }
    return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer(struct MHD_Connection *connection, const struct exchange *exchange,
                              struct api_response *response)
{
    const char *type;
    enum MHD_Result result = MHD_NO;
    struct MHD_Response *made = body_of(response, &type);
    if (made) {
        (void)MHD_add_response_header(made, "Server", "Rekindle");
        (void)MHD_add_response_header(made, "X-Request-Id", exchange->request.id);
        if (type)
            (void)MHD_add_response_header(made, "Content-Type", type);
        for (unsigned i = 0; i < response->header_count; i++)
            (void)MHD_add_response_header(made, response->headers[i].name, response->headers[i].value);
        result = MHD_queue_response(connection, (unsigned)response->status, made);
        MHD_destroy_response(made);
    }
    const char *why = json_string_value(json_object_get(response->json, "fault_message"));
    log_info("request=%s %s %.200s: %d%s%.300s, %" PRIu64 " us", exchange->request.id,
             exchange->request.method, exchange->request.path, response->status, why ? " " : "",
             why ? why : "", (clock_monotonic_ns() - exchange->began_ns) / 1000);
    route_free(response);
    return result;
}

/* ---- requests ---- */

static void active(struct http *http, int by)
{
    (void)pthread_mutex_lock(&http->lock);
    http->active += (unsigned)by;
    (void)pthread_cond_broadcast(&http->idle);
    (void)pthread_mutex_unlock(&http->lock);
}

static enum MHD_Result refuse_size(struct MHD_Connection *connection, const struct exchange *exchange)
{
    struct api_response response = {.status = 0};
    const char *given = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    api_fail(&response, 413,
             "Request payload with size %.20s is larger than the limit of %zu allowed by server.", given,
             exchange->most);
    return answer(connection, exchange, &response);
}

/* Its head is there. */
static enum MHD_Result begin(struct http *http, struct MHD_Connection *connection, const char *path,
                             const char *method, void **context)
{
    char name[ROUTE_NAME_MAX + 1];
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return MHD_NO;
    exchange->began_ns = clock_monotonic_ns();
    route_new_id(exchange->request.id);
    exchange->request.method = method;
    exchange->request.path = path;
    exchange->request.connection = connection;
    exchange->most = route_body_max(route_find(method, path, name));
    *context = exchange;
    active(http, 1);
    const char *size = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    exchange->too_much = size && strtoull(size, NULL, 10) > exchange->most;
    if (exchange->too_much && strtoull(size, NULL, 10) > SWALLOWED_MAX_BYTES)
        return refuse_size(connection, exchange);
    return MHD_YES;
}

/* MHD_NO: too much, which its head did not say; libmicrohttpd lets nobody answer in the middle. */
static enum MHD_Result take(struct exchange *exchange, const char *data, size_t size)
{
    if (size > exchange->most - exchange->used)
        return MHD_NO;
    if (size > exchange->room - exchange->used) {
        const size_t wanted = (exchange->used + size) * 2;
        const size_t room = wanted > exchange->most ? exchange->most : wanted;
        char *larger = realloc(exchange->body, room);
        if (!larger)
            return MHD_NO;
        exchange->body = larger;
        exchange->room = room;
    }
    memcpy(exchange->body + exchange->used, data, size);
    exchange->used += size;
    return MHD_YES;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **own)
{
    struct http *http = context;
    struct api_response response = {.status = 0};
    (void)version;
    if (!*own)
        return begin(http, connection, path, method, own);
    struct exchange *exchange = *own;
    if (*size > 0) {
        const enum MHD_Result result = exchange->too_much ? MHD_YES : take(exchange, data, *size);
        *size = 0;
        return result;
    }
    if (exchange->too_much)
        return refuse_size(connection, exchange);
    route_handle(http->api, &exchange->request, exchange->body, exchange->used, &response);
    return answer(connection, exchange, &response);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **own,
                         enum MHD_RequestTerminationCode code)
{
    struct exchange *exchange = *own;
    (void)connection;
    (void)code;
    if (!exchange)
        return;
    *own = NULL;
    free(exchange->body);
    free(exchange);
    active(context, -1);
}

/* ---- the server ---- */

int http_open(struct http *http, struct api *api, const char *path)
{
    const struct listen_wish wish = {.what = "--api-sock",
                                     .path = path,
                                     .path_max_bytes = sizeof http->place.address.sun_path - 1,
                                     .backlog = BACKLOG,
                                     .mode = 0600};
    *http = (struct http){.api = api, .place = {.fd = -1}};
    if (pthread_mutex_init(&http->lock, NULL) || pthread_cond_init(&http->idle, NULL))
        return -ENOMEM;
    const int error = listen_open(&http->place, &wish);
    if (error)
        return error;
    http->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL,
        NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, http->place.fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MAX_BYTES, MHD_OPTION_THREAD_STACK_SIZE,
        (size_t)STACK_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_END);
    if (http->daemon)
        return 0;
    log_error("--api-sock %s: the HTTP server cannot start: %s", path, strerror(errno));
    return -EIO;
}

static void wait_for_answers(struct http *http)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LAST_ANSWERS_S;
    (void)pthread_mutex_lock(&http->lock);
    while (http->active > 0 && pthread_cond_timedwait(&http->idle, &http->lock, &until) == 0)
        ;
    (void)pthread_mutex_unlock(&http->lock);
}

void http_close(struct http *http)
{
    if (http->daemon) {
        (void)MHD_quiesce_daemon(http->daemon);
        wait_for_answers(http);
        MHD_stop_daemon(http->daemon);
        http->daemon = NULL;
    }
    listen_close(&http->place);
}
