/*
 * See operator.h. A client reads -> waits -> is the asker -> is answered and closed. An answer is small and
 * goes out in one piece into an empty socket buffer; a client for which that fails has gone away.
 */
#include "hostvmm/control/operator.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"

#define BACKLOG 8

static void drop(struct operator_client *client)
{
    struct operator_server *server = client->owner;
    loop_remove(server->loop, &client->source);
    fd_close(&client->fd);
    client->arrival = 0;
    if (server->asker == client)
        server->asker = NULL;
}

static void reply(struct operator_client *client, bool ok, int code, const char *text)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    if (out) {
        if (ok) {
            (void)fprintf(out, "{\"ok\":true%s%s}\n", text && *text ? "," : "", text ? text : "");
        } else {
            (void)fputs("{\"ok\":false,\"error\":", out);
            text_json(out, text);
            (void)fprintf(out, ",\"code\":%d}\n", code);
        }
        if (fclose(out) == 0 && send(client->fd, line, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
            log_info("control: the client did not wait for its answer");
    }
    free(line);
    drop(client);
}

/* The first that waits, or NULL. */
static struct operator_client *next_waiting(struct operator_server *server)
{
    struct operator_client *next = NULL;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++) {
        struct operator_client *client = &server->clients[i];
        if (client->fd >= 0 && client->arrival > 0 && (!next || client->arrival < next->arrival))
            next = client;
    }
    return next;
}

/* Hand over what waits. An answer given within on_snapshot lets the loop go on instead of going deeper. */
static void dispatch(struct operator_server *server)
{
    struct operator_client *client;
    if (server->dispatching)
        return;
    server->dispatching = true;
    while (!server->busy && (client = next_waiting(server))) {
        client->arrival = 0;
        server->busy = true;
        server->asker = client;
        const struct operator_snapshot request = client->request; /* outlives the client */
        server->on_snapshot(server->context, &request);
    }
    server->dispatching = false;
}

void operator_answer(struct operator_server *server, bool ok, int code, const char *text)
{
    struct operator_client *asker = server->asker;
    server->busy = false;
    server->asker = NULL;
    if (asker)
        reply(asker, ok, code, text);
    dispatch(server);
}

static void take_line(struct operator_client *client, size_t size)
{
    struct operator_server *server = client->owner;
    char why[OPERATOR_WHY_BYTES] = "";
    if (operator_parse(client->line, size, &client->request, why) < 0) {
        reply(client, false, HOSTVMM_EXIT_USAGE, why);
        return;
    }
    client->arrival = ++server->arrivals;
    /* From now on only its going away is of interest; half a close is none. */
    if (loop_modify(server->loop, &client->source, 0) < 0)
        drop(client);
    else
        dispatch(server);
}

static void on_client(void *context, uint32_t events)
{
    struct operator_client *client = context;
    if (client->arrival > 0 || client == client->owner->asker) {
        if (events & (EPOLLHUP | EPOLLERR))
            drop(client);
        return;
    }
    ssize_t n =
        recv(client->fd, client->line + client->used, sizeof client->line - client->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(client);
        return;
    }
    client->used += (size_t)n;
    const char *newline = memchr(client->line, '\n', client->used);
    if (newline && newline != client->line + client->used - 1)
        reply(client, false, HOSTVMM_EXIT_USAGE, "one request a connection");
    else if (newline)
        take_line(client, client->used - 1);
    else if (client->used == sizeof client->line)
        reply(client, false, HOSTVMM_EXIT_USAGE, "a request of more than 8192 bytes");
}

static void attach(struct operator_server *server, int fd)
{
    static const char too_many[] =
        "{\"ok\":false,\"error\":\"4 other clients are connected: try again later\",\"code\":1}\n";
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++) {
        struct operator_client *client = &server->clients[i];
        if (client->fd >= 0)
            continue;
        client->fd = fd;
        client->used = 0;
        client->arrival = 0;
        if (loop_add(server->loop, &client->source, fd, EPOLLIN, on_client, client) < 0)
            drop(client);
        return;
    }
    (void)send(fd, too_many, sizeof too_many - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    fd_close(&fd);
}

static void on_listener(void *context, uint32_t events)
{
    struct operator_server *server = context;
    (void)events;
    const int fd = accept4(server->place.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        attach(server, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        log_error("control %s: serves nobody any more: %s", server->place.address.sun_path, strerror(errno));
        loop_remove(server->loop, &server->listener); /* rather than turn in circles */
    }
}

void operator_init(struct operator_server *server, struct loop *loop)
{
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->place.fd = server->listener.fd = -1;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++) {
        server->clients[i].owner = server;
        server->clients[i].fd = server->clients[i].source.fd = -1;
    }
}

int operator_open(struct operator_server *server, const char *path, operator_on_snapshot *on_snapshot,
                  void *context)
{
    server->on_snapshot = on_snapshot;
    server->context = context;
    const struct listen_wish wish = {
        .what = "control socket",
        .path = path,
        .path_max_bytes = sizeof server->place.address.sun_path - 1,
        .backlog = BACKLOG,
        .mode = 0600,
    };
    int error = listen_open(&server->place, &wish);
    if (error == 0)
        error = loop_add(server->loop, &server->listener, server->place.fd, EPOLLIN, on_listener, server);
    if (error)
        listen_close(&server->place);
    return error;
}

void operator_fini(struct operator_server *server)
{
    if (!server->loop)
        return;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++)
        if (server->clients[i].fd >= 0)
            drop(&server->clients[i]);
    loop_remove(server->loop, &server->listener);
    listen_close(&server->place);
    server->busy = false;
}
