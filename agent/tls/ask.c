/*
 * function_connect()'s question and its answers (agent/function/channel.h): a name and a newline; "ok\n", or
 * "error ERRNO TEXT\n" and the end. The function is not trusted: a name of any other form is an answer like
 * any other. What follows the newline is the server's.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/function/channel.h"
#include "agent/tls/table.h"

enum { QUESTION_BYTES = MANIFEST_NAME_MAX + 1, LEFTOVER_PIECES = 64 };

static struct pool *find(struct connections *connections, const char *name)
{
    for (unsigned i = 0; i < connections->manifest.count; i++)
        if (strcmp(connections->manifest.at[i].name, name) == 0)
            return &connections->pools[i];
    return NULL;
}

static void answer(struct local *local, const char *name)
{
    char why[UPSTREAM_WHY_BYTES];
    local->pool = find(local->connections, name);
    if (local->pool) {
        local->state = LOCAL_SERVED;
        local->owes_ok = true;
        pool_bind(local->pool, local);
        return;
    }
    (void)snprintf(why, sizeof why, "the manifest names no connection %s", name);
    local_fail(local, -ENOENT, why);
}

void ask_look(struct local *local)
{
    char line[QUESTION_BYTES + 1];
    const ssize_t count = recv(local->fd, line, QUESTION_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        local->dirty = local->connections->later = errno == EINTR;
        return;
    }
    char *end = count > 0 ? memchr(line, '\n', (size_t)count) : NULL;
    if (end) {
        const size_t size = (size_t)(end - line) + 1;
        if (recv(local->fd, line, size, MSG_DONTWAIT) != (ssize_t)size) {
            local_fail(local, -EIO, "the question could not be read");
            return;
        }
        line[size - 1] = '\0';
        answer(local, line);
    } else if (count == QUESTION_BYTES) {
        local_fail(local, -ENAMETOOLONG, "a connection's name has at most 32 bytes, and a newline after it");
    } else if (count <= 0 || local->ended) {
        local_finish(local); /* gone in the middle of its question */
    }
}

bool ask_say_ok(struct local *local)
{
    static const char ok[] = "ok\n";
    local->owes_ok = false; /* there is room: nothing was sent before */
    return send(local->fd, ok, sizeof ok - 1, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(sizeof ok - 1);
}

void ask_say_error(struct local *local, int error, const char *why)
{
    char line[FUNCTION_CONNECT_LINE_BYTES];
    char rest[1024];
    int size = snprintf(line, sizeof line - 1, "error %d %s", error < 0 ? -error : EIO, why);
    if (size < 0)
        return;
    if ((size_t)size > sizeof line - 2)
        size = (int)sizeof line - 2;
    for (int i = 0; i < size; i++)
        if (iscntrl((unsigned char)line[i]))
            line[i] = '?';
    line[size++] = '\n';
    (void)send(local->fd, line, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* What was not read would make a reset of the end of stream that follows the answer. */
    for (int i = 0; i < LEFTOVER_PIECES; i++)
        if (recv(local->fd, rest, sizeof rest, MSG_DONTWAIT) <= 0)
            break;
}
