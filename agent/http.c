/*
 * The parser of http.h.
 *
 *     HEAD --+-- length ----> BODY --------------------------------------------------+--> HEAD (next request)
 *            +-- no body -------------------------------------------------------------+
 *            +-- chunked --> CHUNK_SIZE --> CHUNK --> CHUNK_END --+                   |
 *                               ^  |                              |                   |
 *                               |  +-- size 0 --> TRAILER --------|-------------------+
 *                               +---------------------------------+
 *
 * Lines are gathered in `text`, whatever the pieces they come in; a body is never copied.
 */
#include "agent/http.h"

#include <string.h>
#include <strings.h>

enum line { LINE_PART, LINE_WHOLE, LINE_BAD };

static enum http_event refuse(struct http_parser *parser, int status, const char *why)
{
    parser->phase = HTTP_PHASE_REFUSED;
    parser->status = status;
    parser->why = why;
    return HTTP_REFUSED;
}

void http_parser_init(struct http_parser *parser)
{
    parser->phase = HTTP_PHASE_HEAD;
    parser->request = (struct http_request){0};
    parser->status = 0;
    parser->why = NULL;
    parser->left_bytes = parser->seen_bytes = 0;
    parser->line_start = parser->text_size = 0;
}

/* Gather up to the next line feed. LINE_WHOLE: the line is at line_start, its CR and LF replaced by NUL;
 * text_size is past them. Control characters other than HT are no part of any line. */
static enum line gather(struct http_parser *parser, struct proto_slice *input)
{
    while (input->size > 0) {
        if (parser->text_size == sizeof parser->text) {
            (void)refuse(parser, 431, "head: larger than 8192 bytes");
            return LINE_BAD;
        }
        const char c = (char)*input->data++;
        input->size--;
        const bool after_cr =
            parser->text_size > parser->line_start && parser->text[parser->text_size - 1] == '\r';
        const bool control = ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
        if ((after_cr && c != '\n') || (!after_cr && control && c != '\r')) {
            (void)refuse(parser, 400, "head: a control character, or a line end that is not CR LF");
            return LINE_BAD;
        }
        parser->text[parser->text_size++] = c;
        if (c == '\n') {
            parser->text[parser->text_size - 1] = parser->text[parser->text_size - 2] = '\0';
            return LINE_WHOLE;
        }
    }
    return LINE_PART;
}

/* ---- the head --------------------------------------------------------------------------------------- */

static bool copy_id(struct http_request *request, const char *id, size_t size)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (size < 1 || size > PROTO_ID_MAX_BYTES || strspn(id, allowed) < size)
        return false;
    memcpy(request->id, id, size);
    request->id[size] = '\0';
    return true;
}

/* Find the route of a path. 0, or the status of the refusal. */
static int find_route(struct http_request *request, const char *method, const char *path)
{
    static const struct {
        const char *path; /* after the version; with "*" for the id in it */
        const char *method;
        enum http_route route;
    } routes[] = {
        {"invocation/next", "GET", HTTP_ROUTE_NEXT},
        {"invocation/*/response", "POST", HTTP_ROUTE_RESPONSE},
        {"invocation/*/error", "POST", HTTP_ROUTE_ERROR},
        {"init/error", "POST", HTTP_ROUTE_INIT_ERROR},
        {"restore/next", "GET", HTTP_ROUTE_RESTORE_NEXT},
        {"restore/error", "POST", HTTP_ROUTE_RESTORE_ERROR},
    };
    static const char prefix[] = "/2018-06-01/runtime/";
    if (strncmp(path, prefix, sizeof prefix - 1) != 0)
        return 404;
    path += sizeof prefix - 1;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const char *star = strchr(routes[i].path, '*');
        const size_t before = star ? (size_t)(star - routes[i].path) : strlen(routes[i].path);
        if (strncmp(path, routes[i].path, before) != 0)
            continue;
        const size_t id = star ? strcspn(path + before, "/") : 0;
        if (strcmp(path + before + id, star ? star + 1 : "") != 0)
            continue;
        if (strcmp(method, routes[i].method) != 0)
            return 405;
        request->route = routes[i].route;
        return star && !copy_id(request, path + before, id) ? 400 : 0;
    }
    return 404;
}

/* "METHOD SP target SP HTTP/1.x", split in place. */
static enum http_event parse_request_line(struct http_parser *parser, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || target == line || strchr(version + 1, ' '))
        return refuse(parser, 400, "request line: not a method, a path and a version");
    *target++ = '\0';
    *version++ = '\0';
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        return refuse(parser, 505, "request line: not HTTP/1.1");
    parser->request.keep_alive = version[7] == '1';
    const int status = find_route(&parser->request, line, target);
    if (status == 404)
        return refuse(parser, status, "path: not one of the Runtime API, version 2018-06-01");
    if (status == 405)
        return refuse(parser, status, "method: not the one of this path");
    if (status != 0)
        return refuse(parser, status, "request id: 1 to 64 characters of A-Z a-z 0-9 . _ -");
    return HTTP_MORE;
}

struct fields {
    unsigned count;
    bool host, length;
};

static bool list_has(const char *list, const char *word)
{
    const size_t size = strlen(word);
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
        at += strspn(at, " \t");
        if (strncasecmp(at, word, size) == 0 &&
            strchr(", \t", at[size]) != NULL) /* NUL too: the list's end */
            return true;
    }
    return false;
}

static enum http_event parse_length(struct http_parser *parser, struct fields *fields, const char *value)
{
    uint32_t length = 0;
    if (fields->length)
        return refuse(parser, 400, "Content-Length: more than once");
    fields->length = true;
    if (*value == '\0' || value[strspn(value, "0123456789")] != '\0')
        return refuse(parser, 400, "Content-Length: not a number");
    for (; *value; value++) {
        length = length * 10 + (uint32_t)(*value - '0'); /* below 10 * the limit + 9: no overflow */
        if (length > PROTO_PAYLOAD_MAX_BYTES)
            length = PROTO_PAYLOAD_MAX_BYTES + 1;
    }
    parser->request.body_bytes = length;
    return HTTP_MORE;
}

static enum http_event parse_field(struct http_parser *parser, struct fields *fields, const char *name,
                                   const char *value)
{
    struct http_request *request = &parser->request;
    if (strcasecmp(name, "Host") == 0) {
        if (fields->host)
            return refuse(parser, 400, "Host: more than once");
        fields->host = true;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        return parse_length(parser, fields, value);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || request->chunked)
            return refuse(parser, 501, "Transfer-Encoding: only chunked, once");
        request->chunked = true;
    } else if (strcasecmp(name, "Connection") == 0) {
        if (list_has(value, "close"))
            request->keep_alive = false;
    } else if (strcasecmp(name, "Expect") == 0) {
        if (strcasecmp(value, "100-continue") != 0)
            return refuse(parser, 417, "Expect: only 100-continue");
        request->expects_continue = true;
    } else if (strcasecmp(name, "Lambda-Runtime-Function-Error-Type") == 0) {
        const size_t size = strlen(value);
        const size_t kept = size < PROTO_ERROR_TYPE_MAX_BYTES ? size : PROTO_ERROR_TYPE_MAX_BYTES;
        for (size_t i = 0; i < kept; i++)
            request->error_type[i] = (signed char)value[i] < 0 ? '?' : value[i];
        request->error_type[kept] = '\0';
    }
    return HTTP_MORE;
}

/* "Name: value", split in place. */
static enum http_event parse_field_line(struct http_parser *parser, struct fields *fields, char *line)
{
    static const char token[] =
        "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char *colon = line + strspn(line, token);
    if (colon == line || *colon != ':') /* also a folded line, and blanks before the colon */
        return refuse(parser, 400, "field: not a name, a colon and a value");
    if (++fields->count > HTTP_FIELDS_MAX)
        return refuse(parser, 431, "head: more than 64 fields");
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t size = strlen(value);
    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t'))
        value[--size] = '\0';
    return parse_field(parser, fields, line, value);
}

/* The head is whole: every line of it lies in `text`, each ended by two NULs, the last empty. */
static enum http_event parse_head(struct http_parser *parser)
{
    struct fields fields = {0};
    char *line = parser->text;
    size_t size = strlen(line);
    if (parse_request_line(parser, line) == HTTP_REFUSED)
        return HTTP_REFUSED;
    const bool is_1_1 = parser->request.keep_alive;
    for (line += size + 2; *line; line += size + 2) {
        size = strlen(line);
        if (parse_field_line(parser, &fields, line) == HTTP_REFUSED)
            return HTTP_REFUSED;
    }
    if (is_1_1 && !fields.host)
        return refuse(parser, 400, "Host: missing");
    if (parser->request.chunked && (fields.length || !is_1_1))
        return refuse(parser, 400, "Transfer-Encoding: beside Content-Length, or before HTTP/1.1");
    if (parser->request.body_bytes > PROTO_PAYLOAD_MAX_BYTES)
        return refuse(parser, 413, "Content-Length: larger than 6291556 bytes");
    parser->left_bytes = parser->request.body_bytes;
    parser->seen_bytes = 0;
    parser->text_size = parser->line_start = 0;
    parser->phase = parser->request.chunked ? HTTP_PHASE_CHUNK_SIZE : HTTP_PHASE_BODY;
    return HTTP_HEAD;
}

static enum http_event take_head(struct http_parser *parser, struct proto_slice *input)
{
    if (parser->text_size == 0 && input->size > 0)
        parser->request = (struct http_request){0};
    for (;;) {
        const enum line got = gather(parser, input);
        if (got != LINE_WHOLE)
            return got == LINE_PART ? HTTP_MORE : HTTP_REFUSED;
        const bool empty = parser->text_size - parser->line_start == 2;
        if (empty && parser->line_start == 0)
            return refuse(parser, 400, "request line: empty");
        if (empty)
            return parse_head(parser);
        parser->line_start = parser->text_size;
    }
}

/* ---- the body --------------------------------------------------------------------------------------- */

static enum http_event take_bytes(struct http_parser *parser, struct proto_slice *input,
                                  struct proto_slice *body)
{
    const size_t size = input->size < parser->left_bytes ? input->size : parser->left_bytes;
    if (size == 0)
        return HTTP_MORE;
    *body = (struct proto_slice){input->data, size};
    input->data += size;
    input->size -= size;
    parser->left_bytes -= (uint32_t)size;
    return HTTP_BODY;
}

static enum http_event end_request(struct http_parser *parser)
{
    parser->phase = HTTP_PHASE_HEAD;
    parser->text_size = parser->line_start = 0;
    return HTTP_END;
}

/* The line that gives a chunk's size: hexadecimal, then perhaps extensions, which are ignored. */
static enum http_event parse_chunk_size(struct http_parser *parser)
{
    const char *line = parser->text;
    const size_t digits = strspn(line, "0123456789abcdefABCDEF");
    const char *after = line + digits;
    after += strspn(after, " \t");
    if (digits == 0 || (*after != '\0' && *after != ';'))
        return refuse(parser, 400, "chunk: size is not a hexadecimal number");
    uint32_t size = 0;
    for (size_t i = 0; i < digits; i++) {
        const char c = line[i];
        size = size * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        if (size > PROTO_PAYLOAD_MAX_BYTES - parser->seen_bytes)
            return refuse(parser, 413, "body: larger than 6291556 bytes");
    }
    parser->seen_bytes += size;
    parser->left_bytes = size;
    parser->text_size = parser->line_start = 0;
    parser->phase = size > 0 ? HTTP_PHASE_CHUNK : HTTP_PHASE_TRAILER;
    return HTTP_MORE;
}

/* One whole line of the framing of a chunked body. */
static enum http_event take_chunk_line(struct http_parser *parser, struct proto_slice *input)
{
    const enum line got = gather(parser, input);
    if (got != LINE_WHOLE)
        return got == LINE_PART ? HTTP_MORE : HTTP_REFUSED;
    if (parser->phase == HTTP_PHASE_CHUNK_SIZE)
        return parse_chunk_size(parser);
    const bool empty = parser->text_size - parser->line_start == 2;
    if (parser->phase == HTTP_PHASE_CHUNK_END) {
        if (!empty)
            return refuse(parser, 400, "chunk: longer than its size");
        parser->text_size = parser->line_start = 0;
        parser->phase = HTTP_PHASE_CHUNK_SIZE;
        return HTTP_MORE;
    }
    parser->line_start =
        parser->text_size; /* trailers add up against the limit of a head; they are ignored */
    return empty ? end_request(parser) : HTTP_MORE;
}

enum http_event http_parse(struct http_parser *parser, struct proto_slice *input, struct proto_slice *body)
{
    enum http_event event = HTTP_MORE;
    do {
        switch (parser->phase) {
        case HTTP_PHASE_HEAD:
            event = take_head(parser, input);
            break;
        case HTTP_PHASE_BODY:
            event = parser->left_bytes == 0 ? end_request(parser) : take_bytes(parser, input, body);
            break;
        case HTTP_PHASE_CHUNK:
            event = take_bytes(parser, input, body);
            if (parser->left_bytes == 0)
                parser->phase = HTTP_PHASE_CHUNK_END;
            break;
        case HTTP_PHASE_CHUNK_SIZE:
        case HTTP_PHASE_CHUNK_END:
        case HTTP_PHASE_TRAILER:
            event = take_chunk_line(parser, input);
            break;
        case HTTP_PHASE_REFUSED:
            return HTTP_REFUSED;
        }
    } while (event == HTTP_MORE && input->size > 0);
    return event;
}
