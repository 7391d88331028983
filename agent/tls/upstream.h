/*
 * One TLS connection to a server (RFC 5246, BearSSL): names resolved, addresses tried in turn, handshake,
 * data both ways, orderly end. On the agent's loop; nothing blocks.
 *
 *   upstream_begin --> RESOLVING --> CONNECTING --> HANDSHAKING --> OPEN --> CLOSING --> CLOSED
 *                          |             | next address  |           |          |
 *                          +-------------+---------------+-----------+----------+--> FAILED (error, why)
 *
 * The owner is told through `changed` that the state, room to write or bytes to read changed, from the loop
 * and never from within a call of its own; it may call anything here from within, upstream_fini included.
 * Back-pressure is BearSSL's own buffers: what the owner does not read is not read from the server.
 *
 * Trust: server's chain against the credentials' anchors at the time of CLOCK_REALTIME, host name, keys of
 * 2048 bits of RSA (or 256 of EC) and more, revoked serials; TLS 1.2, and forward secrecy (ECDHE) with AEAD
 * suites preferred. Renegotiation is refused.
 *
 * Keys: the engine's generator is seeded from getrandom as each handshake begins and is one upstream's alone;
 * nothing of it is shared, so no (key, nonce) pair can come twice. upstream_fini and upstream_wipe clear all
 * of it. Sessions for resumption are kept per name in a struct upstream_sessions, which the owner clears
 * before a snapshot: a clone never resumes a session of the original's.
 */
#ifndef AGENT_TLS_UPSTREAM_H
#define AGENT_TLS_UPSTREAM_H

#include <bearssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "agent/tls/credentials.h"
#include "agent/tls/dns.h"
#include "agent/tls/manifest.h"

#define UPSTREAM_WHY_BYTES      256
#define UPSTREAM_CLOSE_LIMIT_MS 1000  /* for the server's close_notify */
#define UPSTREAM_DEAD_PEER_MS   20000 /* TCP_USER_TIMEOUT; keep-alive probes well within it */

enum upstream_state {
    UPSTREAM_NONE, /* zeroed, or after upstream_fini */
    UPSTREAM_RESOLVING,
    UPSTREAM_CONNECTING,
    UPSTREAM_HANDSHAKING,
    UPSTREAM_OPEN,
    UPSTREAM_CLOSING, /* our close_notify is on its way, the server's has not come */
    UPSTREAM_CLOSED,  /* both have: the stream ended whole */
    UPSTREAM_FAILED,
};

/* The last session that the server let us resume; wiped by upstream_sessions_clear. */
struct upstream_sessions {
    br_ssl_session_parameters last;
    bool has_last;
};

struct upstream;
typedef void upstream_changed(void *context, struct upstream *upstream);

/* What is the same for all connections of a name; outlives them. */
struct upstream_plan {
    const struct manifest_connection *connection;
    const struct credentials *credentials;
    struct upstream_sessions *sessions;
};

struct upstream_engine; /* BearSSL's contexts and buffers, allocated from the handshake to fini */

struct upstream {
    enum upstream_state state;
    int error; /* FAILED: -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET, -EKEYREJECTED (the server's certificate),
                  -EPROTO (TLS), -ENOENT (no such name), ... */
    char why[UPSTREAM_WHY_BYTES]; /* and for people: "server's certificate expired on 2025-01-31", "server
                                     speaks no TLS version but 1.3; 1.2 is what is spoken here" */
    bool resumed;                 /* the handshake was an abbreviated one */
    bool peer_ended;              /* the server's close_notify has come: what it sent is all there */
    /* private */
    struct loop *loop;
    const struct upstream_plan *plan;
    upstream_changed *changed;
    void *context;
    struct upstream_engine *engine;
    struct dns_lookup lookup;
    unsigned address; /* in hand */
    int fd;
    struct loop_source source;
    uint32_t events;
    int timer_fd;
    struct loop_source timer;
    uint64_t deadline_ns, due_ns; /* the whole time's end, the timer's */
    bool telling;                 /* `changed` is due, from the loop */
    bool held;                    /* until upstream_release */
    bool waiting;                 /* for that: connected */
};

/* `upstream` is zeroed or was upstream_fini'd. 0, or -errno with `why` set: FAILED, `changed` not called. */
int upstream_begin(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                   upstream_changed *changed, void *context);

/* The same, but once connected it waits with its first byte of TLS, still CONNECTING, until upstream_release:
 * others of its name first let one of them get a session to resume. The deadline runs on. */
int upstream_begin_held(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                        upstream_changed *changed, void *context);
void upstream_release(struct upstream *upstream); /* safe in any state */

/* Bytes taken (0: no room now, `changed` comes when there is), or -errno when not OPEN. They are on their way
 * at once; upstream_flush has nothing to do but to try the socket again. */
int64_t upstream_write(struct upstream *upstream, const void *data, size_t size);
void upstream_flush(struct upstream *upstream);
/* Look at the bytes that came, and drop `size` of them. NULL and 0: none now. After the end of the stream
 * what came before it can still be read. */
const void *upstream_peek(struct upstream *upstream, size_t *size);
void upstream_drop(struct upstream *upstream, size_t size);

/* Nothing sent or received is on its way: not in the engine, nor in the socket either way. */
bool upstream_is_quiet(struct upstream *upstream);

/* close_notify, then CLOSED when the server's comes or after UPSTREAM_CLOSE_LIMIT_MS. */
void upstream_close(struct upstream *upstream);
/* No byte more on it, not even an alert: a clone's copy of the original's connection. The descriptor is
 * closed (the kernel's socket was destroyed before), keys are wiped. */
void upstream_abandon(struct upstream *upstream);
/* At once, from any state: descriptor closed (with a reset unless CLOSED), keys wiped. `changed` not called.
 */
void upstream_fini(struct upstream *upstream);

void upstream_sessions_clear(struct upstream_sessions *sessions);
/* Overwrite what functions that handled keys may have left on the stack below the caller. */
void upstream_wipe_stack(void);

#endif
