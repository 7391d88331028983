/*
 * A connection of tls-peer's: handshake, then HTTP/1.1 with keep-alive until the client has enough of it.
 *
 *   GET /x        200, and a line: "x connection=3 request=1 resumed=0"
 *   GET /half     200 with a Content-Length of which half comes; the rest never does
 *   GET /bytes/N  200 and N bytes
 *
 * Blocking, on a thread of its own. Each time bytes of the client's have come, they wait for delay_ms before
 * they are looked at: a handshake is delayed once for each of its flights, as by a distant server. A fault
 * is done by hand, in bytes on the descriptor, behind the TLS library's back.
 */
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/peers/peer.h"

#define REQUEST_MAX   16384
#define HALF_BYTES    1000
#define BYTES_MAX     (64u << 20)
#define RECORD_HEADER 5

static void wait_for_bytes(const struct peer_connection *connection)
{
    struct pollfd ready = {.fd = connection->fd, .events = POLLIN};
    const unsigned ms = connection->options->delay_ms;
    struct timespec delay = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (poll(&ready, 1, -1) < 0 && errno == EINTR)
        continue;
    if (ms > 0)
        while (nanosleep(&delay, &delay) < 0)
            continue;
}

/* The error at hand in words; what a reset leaves behind is no error of the library's. */
static const char *reason(struct peer_connection *connection, int result, char *text, size_t size)
{
    const int saved = errno, kind = SSL_get_error(connection->ssl, result);
    const unsigned long error = ERR_get_error();
    if (kind == SSL_ERROR_ZERO_RETURN)
        return "close_notify";
    if (error != 0 && ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return "end of stream";
    if (error != 0) {
        ERR_error_string_n(error, text, size);
        return text;
    }
    return saved == ECONNRESET || saved == EPIPE ? "reset" : "end of stream";
}

/* SSL_ERROR_WANT_READ comes of a nonblocking descriptor: the moment to wait, and to be slow. */
static int until_done(struct peer_connection *connection, int (*step)(SSL *))
{
    for (;;) {
        ERR_clear_error();
        const int result = step(connection->ssl);
        if (result > 0 || SSL_get_error(connection->ssl, result) != SSL_ERROR_WANT_READ)
            return result;
        wait_for_bytes(connection);
    }
}

static int read_some(struct peer_connection *connection, char *to, int room)
{
    for (;;) {
        ERR_clear_error();
        const int result = SSL_read(connection->ssl, to, room);
        if (result > 0 || SSL_get_error(connection->ssl, result) != SSL_ERROR_WANT_READ)
            return result;
        wait_for_bytes(connection);
    }
}

static int write_all(struct peer_connection *connection, const char *bytes, size_t size)
{
    while (size > 0) {
        ERR_clear_error();
        const int part = size < 65536 ? (int)size : 65536;
        const int result = SSL_write(connection->ssl, bytes, part);
        if (result > 0) {
            bytes += result;
            size -= (size_t)result;
            continue;
        }
        if (SSL_get_error(connection->ssl, result) != SSL_ERROR_WANT_WRITE)
            return -1;
        struct pollfd room = {.fd = connection->fd, .events = POLLOUT};
        (void)poll(&room, 1, -1);
    }
    return 0;
}

/* ---- faults ---- */

static void send_record(const struct peer_connection *connection, uint8_t type, size_t said, size_t sent)
{
    uint8_t record[RECORD_HEADER + 4096] = {type, 3, 3, (uint8_t)(said >> 8), (uint8_t)said};
    (void)send(connection->fd, record, RECORD_HEADER + sent, MSG_NOSIGNAL);
}

static void reset(const struct peer_connection *connection)
{
    const struct linger now = {.l_onoff = 1};
    (void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Whatever comes is read until the client gives up. */
static void swallow(const struct peer_connection *connection)
{
    char bytes[4096];
    for (;;) {
        wait_for_bytes(connection);
        const ssize_t got = recv(connection->fd, bytes, sizeof bytes, 0);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
            return;
    }
}

static void do_fault(const struct peer_connection *connection, enum peer_fault fault, uint8_t type)
{
    char hello[4096];
    if (type == 22) { /* in a handshake, the ClientHello first */
        wait_for_bytes(connection);
        (void)recv(connection->fd, hello, sizeof hello, 0);
    }
    if (fault == PEER_RESET_IN_HANDSHAKE || fault == PEER_RESET_ANSWER) {
        reset(connection);
    } else if (fault == PEER_TRUNCATED_RECORD || fault == PEER_TRUNCATED_ANSWER) {
        send_record(connection, type, 64, 10);
        (void)shutdown(connection->fd, SHUT_WR);
        swallow(connection);
    } else if (fault == PEER_OVERSIZED_RECORD || fault == PEER_OVERSIZED_ANSWER) {
        send_record(connection, type, 65535, 4096);
        swallow(connection);
    } else {
        swallow(connection);
    }
}

/* ---- requests ---- */

/* A whole request's head in `text`; what follows it stays. Its path, or NULL at the end. */
static char *next_request(struct peer_connection *connection, char *text, size_t *have, char *path,
                          size_t room, const char **how)
{
    static _Thread_local char why[200];
    for (;;) {
        text[*have] = '\0';
        char *end = strstr(text, "\r\n\r\n");
        if (end) {
            const size_t head = (size_t)(end + 4 - text);
            (void)snprintf(path, room, "%.*s", (int)strcspn(text + strcspn(text, " ") + 1, " \r"),
                           text + strcspn(text, " ") + 1);
            memmove(text, text + head, *have - head);
            *have -= head;
            return path;
        }
        if (*have == REQUEST_MAX) {
            *how = "a request too long";
            return NULL;
        }
        const int got = read_some(connection, text + *have, (int)(REQUEST_MAX - *have));
        if (got <= 0) {
            *how = reason(connection, got, why, sizeof why);
            return NULL;
        }
        *have += (size_t)got;
    }
}

static int answer_bytes(struct peer_connection *connection, size_t size, size_t sent)
{
    char head[128], part[16384];
    memset(part, 'x', sizeof part);
    const int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    if (write_all(connection, head, (size_t)length))
        return -1;
    while (sent > 0) {
        const size_t now = sent < sizeof part ? sent : sizeof part;
        if (write_all(connection, part, now))
            return -1;
        sent -= now;
    }
    return 0;
}

static int answer(struct peer_connection *connection, const char *path)
{
    char text[1024], body[512];
    if (strcmp(path, "/half") == 0)
        return answer_bytes(connection, HALF_BYTES, HALF_BYTES / 2);
    if (strncmp(path, "/bytes/", 7) == 0) {
        const unsigned long size = strtoul(path + 7, NULL, 10);
        return answer_bytes(connection, size < BYTES_MAX ? size : BYTES_MAX,
                            size < BYTES_MAX ? size : BYTES_MAX);
    }
    const int size = snprintf(body, sizeof body, "%.200s connection=%u request=%u resumed=%d\n",
                              path[0] == '/' ? path + 1 : path, connection->number, connection->requests,
                              SSL_session_reused(connection->ssl));
    const int length =
        snprintf(text, sizeof text,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size, body);
    return write_all(connection, text, (size_t)length);
}

static void serve_requests(struct peer_connection *connection)
{
    const enum peer_fault fault = connection->options->fault;
    char *text = malloc(REQUEST_MAX + 1), path[256], why[200];
    const char *how = "out of memory";
    size_t have = 0;
    while (text && next_request(connection, text, &have, path, sizeof path, &how)) {
        connection->requests++;
        if (fault >= PEER_OVERSIZED_ANSWER) {
            do_fault(connection, fault, 23);
            how = "as told";
            break;
        }
        if (answer(connection, path)) {
            how = reason(connection, -1, why, sizeof why);
            break;
        }
        if (fault == PEER_CLOSE_IDLE) {
            (void)SSL_shutdown(connection->ssl);
            swallow(connection);
            how = "closed when idle";
            break;
        }
    }
    if (strcmp(how, "close_notify") == 0)
        (void)SSL_shutdown(connection->ssl);
    peer_log_end(connection, "end", how);
    free(text);
}

void peer_serve(struct peer_connection *connection)
{
    const enum peer_fault fault = connection->options->fault;
    char why[200];
    if (fault != PEER_NO_FAULT && fault < PEER_CLOSE_IDLE) {
        do_fault(connection, fault, 22);
        peer_log_end(connection, "end", "as told");
    } else {
        SSL_set_fd(connection->ssl, connection->fd);
        peer_watch(connection);
        const int result = until_done(connection, SSL_accept);
        if (result > 0) {
            peer_log_handshake(connection);
            serve_requests(connection);
        } else {
            peer_log_end(connection, "failed", reason(connection, result, why, sizeof why));
        }
    }
    SSL_free(connection->ssl);
    close(connection->fd);
}
