/*
 * See ctl_answer.h. RFC 9112: a status line, header lines, an empty line, then a body whose length is told
 * (6.2), or that comes in chunks (7.1). A body that ends with the connection is refused: nobody could tell it
 * from one that was cut.
 */
#include "hostvmm/control/ctl_answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static int refuse(struct ctl_answer *answer, const char *why)
{
    answer->why = why;
    return -EPROTO;
}

/* ---- the head ---- */

/* A line of the head, without its end. */
struct line {
    const char *at;
    size_t size;
};

/* The next line before `end`, and *at moved behind it. False: there is none. */
static bool next_line(const char **at, const char *end, struct line *line)
{
    const char *newline = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    if (!newline || newline == *at || newline[-1] != '\r')
        return false;
    *line = (struct line){*at, (size_t)(newline - 1 - *at)};
    *at = newline + 1;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 204 No Content"; the words behind the number may be missing. */
static int take_status(struct ctl_answer *answer, struct line line)
{
    static const char version[] = "HTTP/1.1 ";
    const size_t at = sizeof version - 1;
    if (line.size < at + 3 || memcmp(line.at, version, at) != 0 || !is_digit(line.at[at]) ||
        !is_digit(line.at[at + 1]) || !is_digit(line.at[at + 2]) ||
        (line.size > at + 3 && line.at[at + 3] != ' '))
        return refuse(answer, "no HTTP/1.1 status line");
    answer->status = (line.at[at] - '0') * 100 + (line.at[at + 1] - '0') * 10 + (line.at[at + 2] - '0');
    return answer->status >= 200 && answer->status <= 599 ? 0 : refuse(answer, "a status that is none");
}

/* Name and value of a header line. */
static bool split(struct line line, struct line *name, struct line *value)
{
    const char *colon = memchr(line.at, ':', line.size);
    if (!colon || colon == line.at)
        return false;
    *name = (struct line){line.at, (size_t)(colon - line.at)};
    for (size_t i = 0; i < name->size; i++)
        if (line.at[i] <= ' ' || line.at[i] > '~')
            return false; /* also a line folded onto the one before it */
    *value = (struct line){colon + 1, line.size - name->size - 1};
    for (size_t i = 0; i < value->size; i++)
        if ((unsigned char)value->at[i] < 0x20 && value->at[i] != '\t')
            return false;
    for (; value->size > 0 && (*value->at == ' ' || *value->at == '\t'); value->at++)
        value->size--;
    while (value->size > 0 && (value->at[value->size - 1] == ' ' || value->at[value->size - 1] == '\t'))
        value->size--;
    return true;
}

static bool is_named(struct line name, const char *text)
{
    return name.size == strlen(text) && strncasecmp(name.at, text, name.size) == 0;
}

static int take_length(struct ctl_answer *answer, struct line value)
{
    size_t length = 0;
    if (value.size == 0 || value.size > 9)
        return refuse(answer, "a Content-Length that is no number, or too large");
    for (size_t i = 0; i < value.size; i++) {
        if (!is_digit(value.at[i]))
            return refuse(answer, "a Content-Length that is no number, or too large");
        length = length * 10 + (size_t)(value.at[i] - '0');
    }
    if (length > CTL_BODY_MAX_BYTES)
        return refuse(answer, "a body of more than 8 MiB");
    answer->length = length;
    return 0;
}

static int take_headers(struct ctl_answer *answer, const char *at, const char *end)
{
    bool has_length = false;
    struct line line;
    unsigned count = 0;
    while (next_line(&at, end, &line) && line.size > 0) {
        struct line name;
        struct line value;
        int error = 0;
        if (++count > CTL_HEADERS_MAX || !split(line, &name, &value))
            return refuse(answer, "a header that is none, or too many");
        if (is_named(name, "Content-Length")) {
            error = has_length ? refuse(answer, "Content-Length twice") : take_length(answer, value);
            has_length = true;
        } else if (is_named(name, "Transfer-Encoding")) {
            error = answer->is_chunked || !is_named(value, "chunked")
                        ? refuse(answer, "a Transfer-Encoding other than chunked")
                        : 0;
            answer->is_chunked = true;
        }
        if (error)
            return error;
    }
    if (has_length && answer->is_chunked)
        return refuse(answer, "chunks, and a length too");
    if (answer->status == 204 && (answer->is_chunked || answer->length > 0))
        return refuse(answer, "a body that a 204 has not");
    if (!has_length && !answer->is_chunked && answer->status != 204)
        return refuse(answer, "a body of unknown length");
    return 0;
}

/* 1 when the head is there and good, 0 when more is to come. */
static int take_head(struct ctl_answer *answer, const char *data, size_t size)
{
    const size_t seen = size < CTL_HEAD_MAX_BYTES ? size : CTL_HEAD_MAX_BYTES;
    const char *empty = memmem(data, seen, "\r\n\r\n", 4);
    if (!empty)
        return seen == CTL_HEAD_MAX_BYTES ? refuse(answer, "a head of more than 16 KiB") : 0;
    const char *end = empty + 4;
    const char *at = data;
    struct line line;
    if (memchr(data, '\0', (size_t)(end - data)))
        return refuse(answer, "a NUL in the head");
    int error = next_line(&at, end, &line) ? take_status(answer, line) : refuse(answer, "no status line");
    if (error == 0)
        error = take_headers(answer, at, end);
    if (error == 0)
        answer->head_bytes = (size_t)(end - data);
    return error ? error : 1;
}

/* ---- chunks ---- */

/* The line of a chunk at *at: its size in hexadecimal, alone. 1 with it, 0 when more is to come. */
static int chunk_line(struct ctl_answer *answer, const char *data, size_t size, size_t *at, size_t *chunk)
{
    size_t used = 0;
    *chunk = 0;
    for (;; used++) {
        if (*at + used >= size)
            return used > CTL_CHUNK_MAX_BYTES ? refuse(answer, "a chunk's size that has no end") : 0;
        const char c = data[*at + used];
        const int digit = is_digit(c)            ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            break;
        *chunk = *chunk * 16 + (size_t)digit;
        if (*chunk > CTL_BODY_MAX_BYTES || used >= CTL_CHUNK_MAX_BYTES)
            return refuse(answer, "a chunk of more than 8 MiB");
    }
    if (used == 0 || data[*at + used] != '\r')
        return refuse(answer, "a chunk's size that is no number");
    if (*at + used + 1 >= size)
        return 0;
    if (data[*at + used + 1] != '\n')
        return refuse(answer, "a chunk's size that is no number");
    *at += used + 2;
    return 1;
}

/* Walk the chunks; with `to` put them together there, which is never behind where they are read. 1, 0 or
 * -EPROTO. */
static int walk_chunks(struct ctl_answer *answer, const char *data, size_t size, char *to, size_t *body_bytes)
{
    size_t at = answer->head_bytes;
    *body_bytes = 0;
    for (;;) {
        size_t chunk;
        const int got = chunk_line(answer, data, size, &at, &chunk);
        if (got <= 0)
            return got;
        if (*body_bytes + chunk > CTL_BODY_MAX_BYTES)
            return refuse(answer, "a body of more than 8 MiB");
        if (size - at < chunk + 2)
            return 0;
        if (data[at + chunk] != '\r' || data[at + chunk + 1] != '\n')
            return refuse(answer, "a chunk that does not end where it should");
        if (to)
            memmove(to + *body_bytes, data + at, chunk);
        *body_bytes += chunk;
        at += chunk + 2;
        if (chunk == 0)
            return 1;
    }
}

int ctl_answer_parse(struct ctl_answer *answer, char *data, size_t size)
{
    size_t body_bytes;
    if (answer->head_bytes == 0) {
        const int got = take_head(answer, data, size);
        if (got <= 0)
            return got;
    }
    if (!answer->is_chunked) {
        answer->body_bytes = answer->length;
        return size - answer->head_bytes >= answer->length;
    }
    const int got = walk_chunks(answer, data, size, NULL, &body_bytes);
    if (got <= 0)
        return got;
    (void)walk_chunks(answer, data, size, data + answer->head_bytes, &body_bytes);
    answer->body_bytes = body_bytes;
    return 1;
}

bool ctl_answer_header(const struct ctl_answer *answer, const char *data, const char *name, char *to,
                       size_t capacity)
{
    const char *at = data;
    struct line line;
    struct line found;
    struct line value;
    if (!next_line(&at, data + answer->head_bytes, &line))
        return false;
    while (next_line(&at, data + answer->head_bytes, &line) && line.size > 0) {
        if (!split(line, &found, &value) || !is_named(found, name))
            continue;
        if (value.size >= capacity)
            return false;
        memcpy(to, value.at, value.size);
        to[value.size] = '\0';
        return true;
    }
    return false;
}
