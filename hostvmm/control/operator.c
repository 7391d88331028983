/*
 * See operator.h. A client reads -> waits -> is the asker -> is answered and closed, or reads on if it stays.
 * An answer is small and goes out in one piece into a socket buffer that is empty, as the client has read the
 * one before; a client for which that fails has gone away. A line is checked when its turn has come.
 */
#include "hostvmm/control/operator.h"

#include <errno.h>
#include <fcntl.h>
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
    const bool stays = client->stays;
    loop_remove(server->loop, &client->source);
    fd_close(&client->fd);
    client->arrival = 0;
    client->stays = false;
    if (server->asker == client)
        server->asker = NULL;
    if (stays)
        server->ops->hung_up(server->context);
}

/* Read the request that follows, if the client may send one. */
static void next_line(struct operator_client *client);

static void reply(struct operator_client *client, bool ok, int code, const char *text)
{
    char *line = NULL;
    size_t size = 0;
    bool sent = false;
    FILE *out = open_memstream(&line, &size);
    if (out) {
        if (ok) {
            (void)fprintf(out, "{\"ok\":true%s%s}\n", text && *text ? "," : "", text ? text : "");
        } else {
            (void)fputs("{\"ok\":false,\"error\":", out);
            text_json(out, text);
            (void)fprintf(out, ",\"code\":%d}\n", code);
        }
        sent = fclose(out) == 0 && send(client->fd, line, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
        if (!sent)
            log_info("control: the client did not wait for its answer");
    }
    free(line);
    if (client->stays && sent)
        next_line(client);
    else
        drop(client);
}

/* The first that waits, or NULL. */
static struct operator_client *next_waiting(struct operator_server *server)
{
    struct operator_client *next = server->inherited.arrival > 0 ? &server->inherited : NULL;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++) {
        struct operator_client *client = &server->clients[i];
        if (client->arrival > 0 && (!next || client->arrival < next->arrival))
            next = client;
    }
    return next;
}

/* Take the client's line: make it the one in hand, or answer what is wrong with it. */
static void hand_over(struct operator_server *server, struct operator_client *client)
{
    char why[OPERATOR_WHY_BYTES] = "";
    const size_t size = (size_t)((const char *)memchr(client->line, '\n', client->used) - client->line);
    const int error = operator_parse(client->line, size, &server->request, why);
    client->arrival = 0;
    client->used -= size + 1;
    memmove(client->line, client->line + size + 1, client->used);
    if (error) {
        reply(client, false, HOSTVMM_EXIT_USAGE, why);
        return;
    }
    server->busy = true;
    server->asker = client;
    server->ops->request(server->context, &server->request);
}

/* Hand over what waits. An answer given within ops->request lets the loop go on instead of going deeper. */
static void dispatch(struct operator_server *server)
{
    struct operator_client *client;
    if (server->dispatching)
        return;
    server->dispatching = true;
    while (!server->busy && (client = next_waiting(server)))
        hand_over(server, client);
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

/* Forget what is left of a line that was refused for its length. */
static void skip_rest(struct operator_client *client)
{
    const char *newline = memchr(client->line, '\n', client->used);
    const size_t size = newline ? (size_t)(newline - client->line) + 1 : client->used;
    client->skips = !newline;
    client->used -= size;
    memmove(client->line, client->line + size, client->used);
}

/* Look for a whole line in what has come. */
static void look(struct operator_client *client)
{
    struct operator_server *server = client->owner;
    if (client->skips)
        skip_rest(client);
    const char *newline = memchr(client->line, '\n', client->used);
    if (newline && !client->stays && newline != client->line + client->used - 1) {
        reply(client, false, HOSTVMM_EXIT_USAGE, "one request a connection");
    } else if (newline) {
        client->arrival = ++server->arrivals;
        /* From now on only its going away is of interest; half a close is none. */
        if (loop_modify(server->loop, &client->source, 0) < 0)
            drop(client);
    } else if (client->used == sizeof client->line) {
        client->used = 0;
        client->skips = true;
        reply(client, false, HOSTVMM_EXIT_USAGE, "a request of more than 8192 bytes");
    }
}

static void next_line(struct operator_client *client)
{
    if (loop_modify(client->owner->loop, &client->source, EPOLLIN) < 0)
        drop(client);
    else
        look(client);
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
    look(client);
    dispatch(client->owner);
}

static int begin(struct operator_client *client, int fd, bool stays)
{
    client->fd = fd;
    client->used = 0;
    client->arrival = 0;
    client->skips = false;
    const int error = loop_add(client->owner->loop, &client->source, fd, EPOLLIN, on_client, client);
    if (error)
        drop(client);
    else
        client->stays = stays;
    return error;
}

static void attach(struct operator_server *server, int fd)
{
    static const char too_many[] =
        "{\"ok\":false,\"error\":\"4 other clients are connected: try again later\",\"code\":1}\n";
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++)
        if (server->clients[i].fd < 0) {
            (void)begin(&server->clients[i], fd, false);
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

static void init_client(struct operator_server *server, struct operator_client *client)
{
    client->owner = server;
    client->fd = client->source.fd = -1;
    client->stays = false;
    client->arrival = 0;
}

/* The buffers are large, and set when there is something in them. */
void operator_init(struct operator_server *server, struct loop *loop, const struct operator_ops *ops,
                   void *context)
{
    server->loop = loop;
    server->ops = ops;
    server->context = context;
    server->place.fd = server->listener.fd = -1;
    server->arrivals = 0;
    server->busy = server->dispatching = false;
    server->asker = NULL;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++)
        init_client(server, &server->clients[i]);
    init_client(server, &server->inherited);
}

int operator_open(struct operator_server *server, const char *path)
{
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

/* Whether a descriptor is what it is said to be. */
static int check_connection(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    int type = 0;
    socklen_t type_size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0)
        return -errno;
    if (type != SOCK_STREAM)
        return -EPROTOTYPE;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        return -errno;
    return fd_set_cloexec(fd, 1);
}

int operator_adopt(struct operator_server *server, int fd)
{
    const int error = check_connection(fd);
    if (error == 0)
        return begin(&server->inherited, fd, true);
    if (error != -EBADF)
        fd_close(&fd);
    return error;
}

void operator_fini(struct operator_server *server)
{
    if (!server->loop)
        return;
    for (unsigned i = 0; i < OPERATOR_CLIENTS_MAX; i++)
        if (server->clients[i].fd >= 0)
            drop(&server->clients[i]);
    server->inherited.stays = false; /* we hang up, not the other end */
    if (server->inherited.fd >= 0)
        drop(&server->inherited);
    loop_remove(server->loop, &server->listener);
    listen_close(&server->place);
    server->busy = false;
}
