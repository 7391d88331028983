/* See route.h. Paths are taken as Firecracker does: empty parts at the end do not count. */
#include "hostvmm/control/api/route.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/proto/limits.h"

#define FAULT_BYTES 1600

/* ---- faults ---- */

/* What a path or a text of the system's may have in it that JSON may not. */
static json_t *text_of(const char *text)
{
    char plain[FAULT_BYTES];
    json_t *string = json_string(text);
    if (string)
        return string;
    size_t i = 0;
    for (; text[i] && i < sizeof plain - 1; i++)
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    plain[i] = '\0';
    return json_string(plain);
}

void api_fail(struct api_response *response, int status, const char *format, ...)
{
    char text[FAULT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_decref(response->json);
    free(response->body);
    response->body = NULL;
    response->status = status;
    response->json = json_pack("{s:o*}", "fault_message", text_of(text));
}

void route_free(struct api_response *response)
{
    json_decref(response->json);
    free(response->body);
    for (unsigned i = 0; i < response->header_count; i++)
        free(response->headers[i].value);
    *response = (struct api_response){.status = 0};
}

/* ---- which route ---- */

/* The length of the part at `*at`, which moves behind the part and the slashes before it. */
static size_t next_part(const char **at, const char **part)
{
    while (**at == '/')
        (*at)++;
    *part = *at;
    *at += strcspn(*at, "/");
    return (size_t)(*at - *part);
}

/* Part by part; the one in braces takes any name, an empty one at the path's end, too. */
static bool matches(const char *pattern, const char *path, char name[ROUTE_NAME_MAX + 1])
{
    for (;;) {
        const char *wanted;
        const char *given;
        const size_t wanted_bytes = next_part(&pattern, &wanted);
        const size_t given_bytes = next_part(&path, &given);
        if (wanted_bytes == 0)
            return given_bytes == 0;
        if (wanted[0] != '{') {
            if (wanted_bytes != given_bytes || memcmp(wanted, given, given_bytes) != 0)
                return false;
        } else if (given_bytes > ROUTE_NAME_MAX) {
            return false;
        } else {
            memcpy(name, given, given_bytes);
            name[given_bytes] = '\0';
        }
    }
}

static const struct api_route *find_in(const struct api_route *routes, const char *method, const char *path,
                                       char name[ROUTE_NAME_MAX + 1])
{
    for (const struct api_route *route = routes; route->method; route++) {
        name[0] = '\0';
        if (strcmp(route->method, method) == 0 && matches(route->pattern, path, name))
            return route;
    }
    name[0] = '\0';
    return NULL;
}

const struct api_route *route_find(const char *method, const char *path, char name[ROUTE_NAME_MAX + 1])
{
    const struct api_route *route = find_in(api_machine_routes, method, path, name);
    return route ? route : find_in(api_function_routes, method, path, name);
}

size_t route_body_max(const struct api_route *route)
{
    return route && route->raw ? PROTO_PAYLOAD_MAX_BYTES : API_BODY_MAX_BYTES;
}

/* Firecracker names the first part of the path. */
static void refuse_path(const struct api_request *request, struct api_response *response)
{
    const char *at = request->path;
    const char *part;
    const size_t size = next_part(&at, &part);
    api_fail(response, 400, "Invalid request method and/or path: %.16s %.*s.", request->method,
             size > 200 ? 200 : (int)size, part);
}

/* ---- bodies ---- */

void api_blank_commas(char *text, size_t size)
{
    size_t comma = size; /* the last one that nothing but blanks has followed */
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            quoted = c != '"';
            continue;
        }
        if ((c == '}' || c == ']') && comma < size)
            text[comma] = ' ';
        if (c == ',')
            comma = i;
        else if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            comma = size;
        quoted = c == '"';
    }
}

static json_t *parse(char *body, size_t bytes, struct api_response *response)
{
    json_error_t error;
    api_blank_commas(body, bytes);
    json_t *json = json_loadb(body, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        api_fail(response, 400,
                 "An error occurred when deserializing the json body of a request: %s at line %d column %d.",
                 error.text, error.line, error.column);
    return json;
}

/* Whether the route takes a body like this one. */
static bool fits(const struct api_request *request, const struct api_route *route, size_t bytes,
                 struct api_response *response)
{
    const char *empty = strcmp(request->method, "PUT") == 0     ? "PUT"
                        : strcmp(request->method, "PATCH") == 0 ? "PATCH"
                                                                : NULL;
    if (bytes > 0 && strcmp(request->method, "GET") == 0)
        api_fail(response, 400, "GET request cannot have a body.");
    else if (bytes == 0 && empty && !(route && (route->empty || route->raw)))
        api_fail(response, 400, "Empty %s request.", empty);
    else if (!route)
        refuse_path(request, response);
    else
        return true;
    return false;
}

static void call(struct api *api, const struct api_route *route, const struct api_request *request,
                 struct api_response *response)
{
    response->status = 0;
    route->handler(api, request, response);
    if (response->status == 0)
        response->status = response->json || response->body ? 200 : 204;
}

void route_handle(struct api *api, struct api_request *request, void *body, size_t bytes,
                  struct api_response *response)
{
    char name[ROUTE_NAME_MAX + 1];
    json_t *json = NULL;
    const struct api_route *route = route_find(request->method, request->path, name);
    if (!fits(request, route, bytes, response))
        return;
    if (!route->raw && bytes > 0) {
        json = parse(body, bytes, response);
        if (!json)
            return;
    }
    request->name = strchr(route->pattern, '{') ? name : NULL;
    request->json = json;
    request->body = route->raw ? body : NULL;
    request->body_bytes = route->raw ? bytes : 0;
    api_lock(api);
    call(api, route, request, response);
    api_unlock(api);
    request->name = NULL;
    request->json = NULL;
    json_decref(json);
}

void route_resource(struct api *api, struct api_request *request, const json_t *json,
                    struct api_response *response)
{
    char name[ROUTE_NAME_MAX + 1];
    const struct api_route *route = route_find(request->method, request->path, name);
    if (!route) {
        refuse_path(request, response);
        return;
    }
    request->name = strchr(route->pattern, '{') ? name : NULL;
    request->json = json;
    call(api, route, request, response);
    request->name = NULL;
    request->json = NULL;
}

void route_new_id(char id[API_ID_BYTES])
{
    uint8_t bytes[(API_ID_BYTES - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        memset(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        (void)snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}
