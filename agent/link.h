/*
 * One framed connection: to a client, or to the function. Non-blocking, bounded, owned by the loop's thread.
 *
 * Events of the loop only move bytes: input into the frame reader, output out of the outbox. What the bytes
 * mean is decided afterwards, when the session settles (session.h); so nothing here calls back, and a link
 * may be closed at any point of that. A caller that cannot use the next frame yet leaves it where it is and
 * stops reading (link_settle): the peer's own flow control then stops the peer.
 *
 * The outbox gives each kind of message its own room, so that none can starve another and the memory of a
 * link is fixed: payload  one frame at a time; the next fits when the last has left. This is the
 * backpressure. log      LINK_LOG_BYTES; more is refused, and the caller counts it as dropped. control
 * LINK_CONTROL_BYTES, enough for the largest error; a peer that lets this fill up does not read.
 */
#ifndef AGENT_LINK_H
#define AGENT_LINK_H

#include "agent/base/loop.h"
#include "agent/proto/frame.h"
#include "agent/proto/proto.h"

#define LINK_LOG_BYTES     65536
#define LINK_CONTROL_BYTES 32768
#define LINK_OUT_BYTES     (PROTO_FRAME_MAX_BYTES + LINK_LOG_BYTES + LINK_CONTROL_BYTES)

enum link_kind { LINK_PAYLOAD, LINK_LOG, LINK_CONTROL };

struct link_buffers {
    struct frame_reader in;
    uint8_t out[LINK_OUT_BYTES];
};

struct link {
    struct loop *loop;
    struct loop_source source;
    struct link_buffers *buffers; /* NULL while closed */
    int fd;                       /* -1 while closed */
    uint32_t interest;            /* what epoll was last told; 0: not added */
    bool ended;                   /* no more input will come */
    bool hung_up;                 /* the peer is gone or has closed its sending side */
    bool reset;                   /* ... and did not say goodbye */
    bool broken;                  /* the peer does not take output any more: it is thrown away */
    bool held;                    /* output waits for link_settle */
    size_t out_start, out_end;
    uint64_t sent_bytes;        /* in all */
    uint64_t payload_end_bytes; /* of sent_bytes, when the last payload frame has left */
    size_t payload_bytes;       /* size of that frame */
};

/* A closed link: safe to close, and to ask. */
void link_init(struct link *link);

/* Take over `fd` (any stream), also when this fails. 0 or -errno. */
int link_open(struct link *link, struct loop *loop, int fd);
void link_close(struct link *link);
/* What closed connections left in memory goes back to the kernel, which clears it: before a snapshot. */
void link_forget_spare(void);

/* Read once, when there is room for it. Bodies given out before become invalid. */
void link_read(struct link *link);

/* Is there room for a frame of this kind now? A closed or broken link has room: it swallows. */
bool link_has_room(const struct link *link, enum link_kind kind, size_t body_bytes);

/* Encode and queue, sending what goes at once. 0, -EAGAIN without room, -EINVAL when it cannot be encoded. */
int link_send(struct link *link, enum link_kind kind, const struct proto_message *message);

/* Send what is queued, as far as it goes. */
void link_flush(struct link *link);

/* What is sent from here to link_settle, at the end of the session's turn, leaves as one piece: to a guest
 * every piece is an exit, and to its host a process to wake. */
void link_hold(struct link *link);

/* Tell epoll what to wait for from now on: input only when it is wanted, room for output when some is queued.
 */
int link_settle(struct link *link, bool wants_input);

#endif
