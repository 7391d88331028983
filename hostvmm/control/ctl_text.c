/*
 * One text out of a JSON object, for messages to people (ctl_answer.h). No parser of JSON: it walks over
 * strings and counts brackets, which is enough to find a member of the first level in JSON that is right, and
 * finds nothing, or something else to show, in what is wrong.
 */
#include <string.h>

#include "hostvmm/control/ctl_answer.h"

#define DEPTH_MAX 64

/* The index behind the string that begins at json[at], which is a quote; `size` when it does not end. */
static size_t string_end(const char *json, size_t size, size_t at)
{
    for (at++; at < size && json[at] != '"'; at++)
        if (json[at] == '\\')
            at++;
    return at < size ? at + 1 : size;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One character of a string at *at, which moves behind it; '?' for what has no place on a terminal. */
static char show(const char *json, size_t end, size_t *at)
{
    char c = json[(*at)++];
    if (c != '\\' || *at >= end)
        return (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
    c = json[(*at)++];
    if (c == 'u') {
        *at += end - *at < 4 ? end - *at : 4;
        return '?';
    }
    return c == '"' || c == '\\' || c == '/' ? c : ' '; /* \n and its like part words */
}

static void copy(const char *json, size_t begin, size_t end, char *to, size_t capacity)
{
    size_t used = 0;
    for (size_t at = begin; at < end && used + 1 < capacity;)
        to[used++] = show(json, end, &at);
    to[used] = '\0';
}

bool ctl_answer_text(const char *json, size_t size, const char *name, char *to, size_t capacity)
{
    const size_t wanted = strlen(name);
    unsigned depth = 0;
    for (size_t at = 0; at < size;) {
        const char c = json[at];
        if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (c != '"') {
            at++;
            continue;
        }
        const size_t begin = at + 1;
        at = string_end(json, size, at);
        if (depth != 1 || at - begin != wanted + 1 || memcmp(json + begin, name, wanted) != 0)
            continue;
        size_t next = at;
        while (next < size && (is_blank(json[next]) || json[next] == ':'))
            next++;
        if (next == at || next >= size || json[next] != '"')
            continue;
        const size_t end = string_end(json, size, next);
        if (json[end - 1] != '"' || end - next < 2)
            return false;
        copy(json, next + 1, end - 1, to, capacity);
        return true;
    }
    return false;
}
