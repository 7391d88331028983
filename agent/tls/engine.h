/*
 * BearSSL's side of an upstream: contexts, buffers, and the pump between them and a socket. No state of the
 * connection's life is here (upstream.c), no timer, no address.
 *
 * One allocation of some 42 KiB, of which the buffers are touched only as far as records need them. All of it
 * that was used is wiped before it is freed.
 */
#ifndef AGENT_TLS_ENGINE_H
#define AGENT_TLS_ENGINE_H

#include <bearssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/trust.h"
#include "agent/tls/upstream.h"

#define ENGINE_IN_BYTES  (16384 + 325) /* a record of the largest size, and what encryption adds */
#define ENGINE_OUT_BYTES (16384 + 85)

/* In place of a client certificate: notes that the server asked for one. */
struct engine_no_certificate {
    const br_ssl_client_certificate_class *vtable;
    bool asked;
};

struct upstream_engine {
    br_ssl_client_context client;
    struct trust trust;
    struct engine_no_certificate no_certificate;
    const struct upstream_plan *plan;
    const char *protocols[MANIFEST_ALPN_MAX];
    br_ssl_session_parameters offered; /* session_id_len 0: none */
    bool opened;                       /* the handshake has been over */
    int send_error;                    /* the socket takes nothing any more */
    size_t in_used, out_used;          /* of the buffers, ever */
    uint8_t in[ENGINE_IN_BYTES], out[ENGINE_OUT_BYTES];
};

/* Allocate, seed, and make the first message ready. 0, or -errno with `why`. */
int engine_open(struct upstream_engine **engine, const struct upstream_plan *plan, char *why);
/* Wipe and free; *engine is NULL afterwards, and may be before. */
void engine_drop(struct upstream_engine **engine);

/*
 * Move records between the socket and BearSSL until neither side can go on, or for a while. ENGINE_SEND: only
 * towards the server. `wants`: the EPOLL bits to wait for. 0: it goes on; 1: both sides have ended it;
 * -errno with `why`.
 */
enum engine_way { ENGINE_SEND, ENGINE_BOTH };
int engine_pump(struct upstream_engine *engine, int fd, enum engine_way way, uint32_t *wants, char *why);

/* The handshake is over and the end has not begun. */
bool engine_is_open(const struct upstream_engine *engine);
/* The server's close_notify has come. */
bool engine_peer_ended(const struct upstream_engine *engine);
/* Nothing half sent, unread, or half received. */
bool engine_is_quiet(const struct upstream_engine *engine);
/* There is something that the socket has not taken. */
bool engine_has_output(const struct upstream_engine *engine);
/* More records may be received: the last one's data has been read. */
bool engine_can_receive(const struct upstream_engine *engine);

/* Bytes that fit into the record at hand; 0 when the socket must take some first. */
size_t engine_write(struct upstream_engine *engine, const void *data, size_t size);
void engine_flush(struct upstream_engine *engine);
const void *engine_peek(struct upstream_engine *engine, size_t *size);
void engine_read(struct upstream_engine *engine, size_t size);
/* close_notify; what has not been read is dropped. */
void engine_end(struct upstream_engine *engine);

/* After the handshake: was the session offered taken up? And keep the new one, if there is one. */
bool engine_has_resumed(const struct upstream_engine *engine);
void engine_keep_session(const struct upstream_engine *engine, struct upstream_sessions *sessions);

/*
 * wipe.c: overwrite the stack below the caller, whose callees have handled keys: at the end of each call in
 * here, as nobody can do so later for a frame that has come to lie elsewhere. Records alone (`is_open`) take
 * less of it than a handshake.
 */
void engine_wipe_stack(bool is_open);
/* Put keys of no worth where the last ones are in the processor's registers, and so in what the kernel and a
 * snapshot save of them. Not zeros: a register that is zero may be left out of what is saved, and what was
 * saved before stays. */
void engine_wipe_registers(void);

/* failure.c: why BearSSL gave up, as an error and for people. */
int failure_of_engine(const struct upstream_engine *engine, char *why);
/* ... and why the socket did: `error` is an errno, 0 for an end of the stream. */
int failure_of_socket(const struct upstream_engine *engine, int error, char *why);

#endif
