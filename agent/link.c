/* See link.h. */
#include "agent/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "agent/base/fd.h"

/* The largest frame without its body: an error with a full stack trace. */
#define HEAD_MAX_BYTES 16384

/*
 * Of the connection that closed last. A clone closes its original's and opens its own: buffers that are
 * handed on cost it no mapping, and no fresh pages.
 */
static struct {
    struct link_buffers *spare;
    uint8_t head[HEAD_MAX_BYTES]; /* of the frame that is sent: see link_send */
} shared;

static struct link_buffers *take_buffers(void)
{
    struct link_buffers *buffers = shared.spare;
    shared.spare = NULL;
    return buffers ? buffers : malloc(sizeof *buffers);
}

void link_forget_spare(void)
{
    free(shared.spare);
    shared.spare = NULL;
}

void link_init(struct link *link)
{
    *link = (struct link){.fd = -1, .source = {.fd = -1}};
}

static void on_event(void *context, uint32_t events)
{
    struct link *link = context;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        link->hung_up = true;
    if (events & EPOLLOUT)
        link_flush(link);
    if (link->interest & EPOLLIN)
        link_read(link);
}

int link_open(struct link *link, struct loop *loop, int fd)
{
    link_init(link);
    link->loop = loop;
    link->fd = fd;
    int error = fd_set_nonblock(fd);
    if (error == 0) {
        link->buffers = take_buffers();
        if (!link->buffers)
            error = -ENOMEM;
    }
    if (error == 0) {
        frame_reader_init(&link->buffers->in);
        link->buffers->out[0] = 0; /* its page is there: who first queues something may be a clone */
        error = link_settle(link, true);
    }
    if (error)
        link_close(link);
    return error;
}

void link_close(struct link *link)
{
    if (link->fd < 0)
        return;
    if (link->held)
        link_flush(link);
    loop_remove(link->loop, &link->source);
    fd_close(&link->fd);
    link_forget_spare();
    shared.spare = link->buffers;
    link_init(link);
}

void link_read(struct link *link)
{
    if (link->fd < 0 || link->ended)
        return;
    size_t room;
    uint8_t *space = frame_reader_space(&link->buffers->in, &room);
    if (room == 0)
        return;
    const ssize_t n = recv(link->fd, space, room, MSG_DONTWAIT);
    if (n > 0)
        frame_reader_fill(&link->buffers->in, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        link->ended = link->hung_up = true;
        link->reset = n < 0;
    }
}

/* ---- output ---------------------------------------------------------------------------------------- */

static size_t queued(const struct link *link)
{
    return link->out_end - link->out_start;
}

/* Bytes of the last payload frame that are still queued. */
static size_t queued_payload(const struct link *link)
{
    if (link->sent_bytes >= link->payload_end_bytes)
        return 0;
    const uint64_t left = link->payload_end_bytes - link->sent_bytes;
    return left < link->payload_bytes ? (size_t)left : link->payload_bytes;
}

static bool fits(const struct link *link, enum link_kind kind, size_t frame_bytes)
{
    const size_t others = queued(link) - queued_payload(link);
    switch (kind) {
    case LINK_PAYLOAD:
        return queued_payload(link) == 0;
    case LINK_LOG:
        return others + frame_bytes <= LINK_LOG_BYTES;
    case LINK_CONTROL:
        return others + frame_bytes <= LINK_LOG_BYTES + LINK_CONTROL_BYTES;
    }
    return false;
}

bool link_has_room(const struct link *link, enum link_kind kind, size_t body_bytes)
{
    if (link->fd < 0 || link->broken)
        return true;
    return fits(link, kind, body_bytes + (kind == LINK_CONTROL ? HEAD_MAX_BYTES : PROTO_HEAD_MAX_BYTES));
}

static void sent(struct link *link, size_t count)
{
    link->sent_bytes += count;
}

/* The peer has closed, or its connection has failed. What it sent before may still be waiting for us. */
static void give_up(struct link *link)
{
    link->broken = true;
    link->sent_bytes += queued(link);
    link->out_start = link->out_end = 0;
}

void link_hold(struct link *link)
{
    link->held = true;
}

void link_flush(struct link *link)
{
    link->held = false;
    while (link->fd >= 0 && queued(link) > 0) {
        const ssize_t n =
            send(link->fd, link->buffers->out + link->out_start, queued(link), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            link->out_start += (size_t)n;
            sent(link, (size_t)n);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            give_up(link);
        }
    }
    link->out_start = link->out_end = 0;
}

/* Hand a frame to the kernel from where it is. The bytes taken; 0 when something else must go first. */
static size_t send_directly(struct link *link, const uint8_t *head, size_t head_bytes,
                            struct proto_slice body)
{
    if (link->held || queued(link) > 0)
        return 0;
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)head, .iov_len = head_bytes},
        {.iov_base = (void *)(uintptr_t)body.data, .iov_len = body.size},
    };
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = body.size > 0 ? 2 : 1};
    const ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR)
        give_up(link);
    return 0;
}

static void append(struct link *link, const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    if (link->out_end + size > LINK_OUT_BYTES) {
        memmove(link->buffers->out, link->buffers->out + link->out_start, queued(link));
        link->out_end -= link->out_start;
        link->out_start = 0;
    }
    memcpy(link->buffers->out + link->out_end, data, size);
    link->out_end += size;
}

int link_send(struct link *link, enum link_kind kind, const struct proto_message *message)
{
    if (link->fd < 0 || link->broken)
        return 0;
    /* Not on the stack: in each depth of it that sends, a clone would write other pages. One thread, and
     * nothing below comes back here. */
    uint8_t *const head = shared.head;
    const int64_t head_bytes = proto_encode_head(message, head, sizeof shared.head);
    if (head_bytes < 0)
        return (int)head_bytes;
    const struct proto_slice body = proto_body(message);
    const size_t frame_bytes = (size_t)head_bytes + body.size;
    if (link->held && !fits(link, kind, frame_bytes))
        link_flush(link);
    if (!fits(link, kind, frame_bytes))
        return -EAGAIN;
    if (kind == LINK_PAYLOAD) {
        link->payload_bytes = frame_bytes;
        link->payload_end_bytes = link->sent_bytes + queued(link) + frame_bytes;
    }
    const size_t done = send_directly(link, head, (size_t)head_bytes, body);
    sent(link, done);
    if (link->broken)
        return 0;
    if (done < (size_t)head_bytes) {
        append(link, head + done, (size_t)head_bytes - done);
        append(link, body.data, body.size);
    } else if (done < frame_bytes) {
        append(link, body.data + (done - (size_t)head_bytes), frame_bytes - done);
    }
    return 0;
}

int link_settle(struct link *link, bool wants_input)
{
    if (link->fd < 0)
        return 0;
    if (link->held)
        link_flush(link);
    uint32_t interest = queued(link) > 0 ? EPOLLOUT : 0;
    if (wants_input && !link->ended)
        interest |= EPOLLIN;
    /* A hang-up is reported for as long as it lasts: once known, it is asked for only together with input. */
    if (!link->hung_up)
        interest |= EPOLLRDHUP;
    if (interest == link->interest)
        return 0;
    link->interest = interest;
    if (interest == 0) {
        loop_remove(link->loop, &link->source);
        return 0;
    }
    if (link->source.fd < 0)
        return loop_add(link->loop, &link->source, link->fd, interest, on_event, link);
    return loop_modify(link->loop, &link->source, interest);
}
