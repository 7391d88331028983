/*
 * One request of HTTP/1.1 to a Unix socket, and its answer. The connection serves for one: the server is told
 * so. It may answer before it has read all of a request, and hang up: then its answer counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/ctl.h"
#include "hostvmm/control/dial.h"

#define REQUEST_HEAD_BYTES 2048
/* A byte more than the largest answer: head, body, and as many chunks as anybody sends. */
#define REPLY_MAX_BYTES (CTL_HEAD_MAX_BYTES + CTL_BODY_MAX_BYTES + (1u << 20))
#define REPLY_STEP      65536u

struct transfer {
    int fd;
    uint64_t deadline_ns;
    const char *api_sock;
    char head[REQUEST_HEAD_BYTES];
    size_t head_bytes;
    const char *body;
    size_t body_bytes;
    size_t sent;  /* of both */
    bool is_deaf; /* the other side takes no more */
    size_t size;  /* received */
    size_t capacity;
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path) {
        log_error("--api-sock: a socket's path has 1 to %zu bytes", sizeof address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        fd_set_nonblock(fd) == 0)
        return fd;
    const int error = -errno;
    fd_close(&fd);
    log_error(
        "cannot connect to %s: %s; is it the path given to `hostvmm api --api-sock`, and is that running?",
        path, strerror(-error));
    return error;
}

static int write_head(struct transfer *transfer, const struct ctl_request *request)
{
    FILE *out = fmemopen(transfer->head, sizeof transfer->head, "w");
    if (!out)
        return -ENOMEM;
    (void)fprintf(out, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\nConnection: close\r\n",
                  request->method, request->resource, request->accept ? request->accept : "application/json");
    for (unsigned i = 0; i < CTL_REQUEST_FIELDS; i++)
        if (request->fields[i][0])
            (void)fprintf(out, "%s\r\n", request->fields[i]);
    if (request->body)
        (void)fprintf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                      request->is_raw ? "application/octet-stream" : "application/json", request->body_bytes);
    (void)fputs("\r\n", out);
    const long size = ftell(out);
    const bool is_whole = !ferror(out) && size > 0 && (size_t)size < sizeof transfer->head;
    if (fclose(out) || !is_whole)
        return -E2BIG;
    transfer->head_bytes = (size_t)size;
    return 0;
}

static bool is_sending(const struct transfer *transfer)
{
    return !transfer->is_deaf && transfer->sent < transfer->head_bytes + transfer->body_bytes;
}

static void send_some(struct transfer *transfer)
{
    while (is_sending(transfer)) {
        const bool in_head = transfer->sent < transfer->head_bytes;
        const size_t at = in_head ? transfer->sent : transfer->sent - transfer->head_bytes;
        const ssize_t n =
            in_head ? send(transfer->fd, transfer->head + at, transfer->head_bytes - at, MSG_NOSIGNAL)
                    : send(transfer->fd, transfer->body + at, transfer->body_bytes - at, MSG_NOSIGNAL);
        if (n >= 0)
            transfer->sent += (size_t)n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            transfer->is_deaf = true; /* why, reading tells */
    }
}

/* 1 with bytes, 0 when none are there yet, or -errno. */
static int receive_some(struct transfer *transfer, struct ctl_reply *reply)
{
    if (transfer->capacity - transfer->size < REPLY_STEP / 2) {
        const size_t more = transfer->capacity ? transfer->capacity * 2 : REPLY_STEP;
        char *data = more <= 2 * (size_t)REPLY_MAX_BYTES ? realloc(reply->data, more) : NULL;
        if (!data)
            return -ENOMEM;
        reply->data = data;
        transfer->capacity = more;
    }
    const ssize_t n =
        recv(transfer->fd, reply->data + transfer->size, transfer->capacity - transfer->size, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    transfer->size += (size_t)n;
    return n > 0 ? 1 : -EPIPE;
}

/* To and fro until the answer is there. 0, or -errno, told. */
static int converse(struct transfer *transfer, struct ctl_reply *reply)
{
    for (;;) {
        const short wanted = (short)(POLLIN | (is_sending(transfer) ? POLLOUT : 0));
        const int ready = control_poll(transfer->fd, wanted, transfer->deadline_ns);
        if (ready == 0) {
            log_error("%s: no answer in time; what was asked for may still be done", transfer->api_sock);
            return -ETIMEDOUT;
        }
        if (ready > 0 && ready & POLLOUT)
            send_some(transfer);
        const int got = ready < 0                              ? ready
                        : ready & (POLLIN | POLLHUP | POLLERR) ? receive_some(transfer, reply)
                                                               : 0;
        if (got < 0) {
            log_error("%s: the other side hung up without a whole answer: %s", transfer->api_sock,
                      got == -EPIPE ? "its hostvmm has ended" : strerror(-got));
            return got;
        }
        const int is_whole = got > 0 ? ctl_answer_parse(&reply->answer, reply->data, transfer->size) : 0;
        if (is_whole < 0 || (!is_whole && transfer->size > REPLY_MAX_BYTES)) {
            log_error("%s: what answers there is no control API: %s", transfer->api_sock,
                      is_whole ? reply->answer.why : "an answer without end");
            return -EPROTO;
        }
        if (is_whole)
            return 0;
    }
}

int ctl_exchange(const char *api_sock, const struct ctl_request *request, uint64_t deadline_ns,
                 struct ctl_reply *reply)
{
    struct transfer transfer = {.deadline_ns = deadline_ns, .api_sock = api_sock};
    memset(reply, 0, sizeof *reply);
    transfer.body = request->body;
    transfer.body_bytes = request->body ? request->body_bytes : 0;
    int error = write_head(&transfer, request);
    if (error) {
        log_error("%s: too long a resource", request->method);
        return error;
    }
    transfer.fd = connect_to(api_sock);
    if (transfer.fd < 0)
        return transfer.fd;
    error = converse(&transfer, reply);
    fd_close(&transfer.fd);
    if (error == 0) {
        reply->body = reply->data + reply->answer.head_bytes;
        reply->body_bytes = reply->answer.body_bytes;
    }
    return error;
}

void ctl_reply_fini(struct ctl_reply *reply)
{
    free(reply->data);
    memset(reply, 0, sizeof *reply);
}
