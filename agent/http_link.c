/* See http_link.h: the listener, the connections, and the bytes on them. */
#include "agent/http_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/loopback.h"

void http_link_init(struct http_link *link)
{
    *link = (struct http_link){.listen_fd = -1, .source = {.fd = -1}};
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++)
        link->connections[i] = (struct http_connection){.fd = -1, .source = {.fd = -1}, .link = link};
}

/* ---- connections ----------------------------------------------------------------------------------- */

/* A connection that goes in the middle of something is the end of the function's sense, if not of itself. */
void http_connection_close(struct http_connection *connection)
{
    struct http_link *link = connection->link;
    if (connection->state == HTTP_CONNECTION_FREE)
        return;
    if ((link->asker == connection && link->id[0] != '\0') || link->answerer == connection)
        link->broken = true;
    if (link->asker == connection)
        link->asker = NULL;
    if (link->restorer == connection)
        link->restorer = NULL;
    if (link->answerer == connection)
        link->answerer = NULL;
    loop_remove(link->loop, &connection->source);
    fd_close(&connection->fd);
    free(connection->buffers);
    *connection = (struct http_connection){.fd = -1, .source = {.fd = -1}, .link = link};
}

static void read_input(struct http_connection *connection)
{
    struct http_buffers *buffers = connection->buffers;
    if (connection->ended)
        return;
    if (connection->in_start == connection->in_end)
        connection->in_start = connection->in_end = 0;
    const size_t room = sizeof buffers->in - connection->in_end;
    if (room == 0)
        return;
    const ssize_t n = recv(connection->fd, buffers->in + connection->in_end, room, MSG_DONTWAIT);
    if (n > 0)
        connection->in_end += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        connection->ended = true;
    if (connection->state == HTTP_CONNECTION_CLOSING) {
        connection->in_start = connection->in_end = 0; /* thrown away */
        if (connection->ended)
            http_connection_close(connection);
    }
}

static bool sends_event(const struct http_connection *connection)
{
    return connection->link->asker == connection &&
           connection->link->event_start < connection->link->event_end;
}

bool http_connection_has_output(const struct http_connection *connection)
{
    return connection->out_start < connection->out_end || sends_event(connection);
}

/* Send data[*start, *end), as far as it goes. */
static void send_some(struct http_connection *connection, const void *data, size_t *start, size_t *end)
{
    while (*start < *end && !connection->broken) {
        const ssize_t n =
            send(connection->fd, (const uint8_t *)data + *start, *end - *start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            *start += (size_t)n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            connection->broken = true;
    }
    *start = *end = 0;
}

void http_connection_flush(struct http_connection *connection)
{
    struct http_link *link = connection->link;
    if (connection->out_start < connection->out_end)
        send_some(connection, connection->buffers->out, &connection->out_start, &connection->out_end);
    if (sends_event(connection) && connection->out_end == 0)
        send_some(connection, link->work->event, &link->event_start, &link->event_end);
    if (connection->state == HTTP_CONNECTION_CLOSING && connection->out_end == 0 &&
        !connection->half_closed) {
        connection->half_closed = true;
        (void)shutdown(connection->fd, SHUT_WR);
    }
}

void http_connection_say(struct http_connection *connection, const char *text, int64_t size)
{
    char *out = connection->buffers->out;
    if (size < 0 || connection->out_end + (size_t)size > sizeof connection->buffers->out) {
        connection->broken = true;
        return;
    }
    memcpy(out + connection->out_end, text, (size_t)size);
    connection->out_end += (size_t)size;
    http_connection_flush(connection);
}

void http_connection_finish(struct http_connection *connection)
{
    connection->state = HTTP_CONNECTION_CLOSING;
    connection->in_start = connection->in_end = 0; /* nobody looks at it any more */
    http_connection_flush(connection);
    if (connection->ended)
        http_connection_close(connection);
}

static void on_connection(void *context, uint32_t events)
{
    struct http_connection *connection = context;
    if (events & EPOLLOUT)
        http_connection_flush(connection);
    if (connection->interest & EPOLLIN)
        read_input(connection);
}

/* ---- the listener ---------------------------------------------------------------------------------- */

static struct http_connection *find_place(struct http_link *link)
{
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++)
        if (link->connections[i].state == HTTP_CONNECTION_FREE)
            return &link->connections[i];
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++) {
        if (link->connections[i].state != HTTP_CONNECTION_CLOSING)
            continue;
        http_connection_close(&link->connections[i]);
        return &link->connections[i];
    }
    return NULL;
}

static void take_connection(struct http_link *link, int fd)
{
    const int allowed = loopback_is_of(fd, link->uid);
    struct http_connection *connection = allowed == 1 ? find_place(link) : NULL;
    if (connection)
        connection->buffers = malloc(sizeof *connection->buffers);
    if (!connection || !connection->buffers) {
        if (allowed < 0)
            log_warn("runtime API: cannot tell whose a connection is: %s; closed", strerror(-allowed));
        else if (!link->refused)
            log_warn("runtime API: a connection is closed, and so are others like it: %s",
                     allowed == 0 ? "it is not the function's" : "8 are open");
        link->refused = true;
        fd_close(&fd);
        return;
    }
    http_parser_init(&connection->buffers->parser);
    connection->state = HTTP_CONNECTION_HEAD;
    connection->fd = fd;
}

static void on_listener(void *context, uint32_t events)
{
    struct http_link *link = context;
    (void)events;
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++) {
        const int fd = accept4(link->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        take_connection(link, fd);
    }
}

int http_link_open(struct http_link *link, struct loop *loop, uint16_t port, uid_t uid)
{
    http_link_init(link);
    link->loop = loop;
    link->uid = uid;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int on = 1;
    link->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->listen_fd < 0)
        return -errno;
    int error = 0;
    if (setsockopt(link->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(link->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(link->listen_fd, HTTP_LINK_CONNECTIONS_MAX) < 0 ||
        getsockname(link->listen_fd, (struct sockaddr *)&address, &size) < 0)
        error = -errno;
    link->port = ntohs(address.sin_port);
    if (error == 0)
        error = loop_add(loop, &link->source, link->listen_fd, EPOLLIN, on_listener, link);
    if (error)
        http_link_close(link);
    return error;
}

void http_link_close(struct http_link *link)
{
    if (link->listen_fd < 0)
        return;
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++)
        http_connection_close(&link->connections[i]);
    loop_remove(link->loop, &link->source);
    fd_close(&link->listen_fd);
    free(link->work);
    free(link->gathered);
    http_link_init(link);
}

/* ---- the session's view ---------------------------------------------------------------------------- */

bool http_link_ended(struct http_link *link, bool reaped)
{
    if (link->broken || !reaped)
        return link->broken;
    on_listener(link, 0);
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++)
        if (link->connections[i].state != HTTP_CONNECTION_FREE && !link->connections[i].ended)
            return false;
    return true;
}

static int settle(struct http_connection *connection, bool wants_input)
{
    struct http_link *link = connection->link;
    /* Between requests and while it waits its end is of interest, and the buffer bounds what comes early. */
    const bool has_room =
        connection->in_start == connection->in_end || connection->in_end < HTTP_LINK_IN_BYTES;
    uint32_t interest = http_connection_has_output(connection) ? EPOLLOUT : 0;
    if (!connection->ended && has_room && (wants_input || link->answerer != connection))
        interest |= EPOLLIN;
    if (interest == connection->interest)
        return 0;
    connection->interest = interest;
    if (interest == 0) {
        loop_remove(link->loop, &connection->source);
        return 0;
    }
    if (connection->source.fd < 0)
        return loop_add(link->loop, &connection->source, connection->fd, interest, on_connection, connection);
    return loop_modify(link->loop, &connection->source, interest);
}

int http_link_settle(struct http_link *link, bool wants_input)
{
    int error = 0;
    for (int i = 0; i < HTTP_LINK_CONNECTIONS_MAX; i++) {
        if (link->connections[i].state == HTTP_CONNECTION_FREE)
            continue;
        const int connection_error = settle(&link->connections[i], wants_input);
        error = error ? error : connection_error;
    }
    return error;
}
