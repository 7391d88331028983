/*
 * The codec of the runtime protocol (PROTOCOL.md): bytes in, message out, and back. Pure: no I/O, no
 * allocation, no state.
 *
 * A frame is a 4-byte big-endian body length and a body: one definite-length CBOR map (RFC 8949, in its core
 * deterministic encoding, section 4.2.1) with unsigned integer keys in ascending order. Decoding is strict:
 * unknown types, unknown or repeated keys, missing keys, wrong kinds, indefinite lengths, integers not in
 * their shortest form, tags, floats, trailing bytes and exceeded limits are refused with a text that names
 * the field. So there is one encoding of a message: what decodes encodes to the same bytes again. Text is
 * UTF-8, checked. Decoded text and bytes are slices of the frame given: valid as long as it is. The same
 * codec serves host <-> agent (vsock) and agent <-> native function (inherited socket).
 */
#ifndef AGENT_PROTO_PROTO_H
#define AGENT_PROTO_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto/limits.h"

enum proto_type {
    PROTO_HELLO = 1,    /* both ways, first on every connection */
    PROTO_INIT = 2,     /* agent -> host, function -> agent: the function's init ended, well or not */
    PROTO_INVOKE = 3,   /* host -> agent -> function: one fragment of an event */
    PROTO_RESPONSE = 4, /* function -> agent -> host: one fragment of an answer */
    PROTO_ERROR = 5, /* function -> agent -> host: the invocation (or, without id, the connection) failed */
    PROTO_LOG = 6,   /* agent -> host: output of the function */
    PROTO_CHECKPOINT = 7, /* host -> agent -> function: a snapshot is about to be taken */
    PROTO_QUIESCED = 8,   /* function -> agent -> host: it may be taken (or not: failure) */
    PROTO_RESUME = 9,     /* host -> agent -> function: this is a clone, or the original goes on */
    PROTO_RESUMED = 10,   /* function -> agent -> host: ready for events (or not: failure) */
    PROTO_SHUTDOWN = 11,  /* host -> agent: power the guest off in order */
    PROTO_SECRET = 12,    /* host -> agent, before RESUME on the same connection */
    PROTO_STEP = 13,      /* agent -> host: one step of a resume is done (or failed, and it was the last) */
    PROTO_COLLECT = 14,   /* host -> agent: tell me what could betray a twin */
    PROTO_FACT = 15,      /* agent -> host: one such thing */
    PROTO_COLLECTED = 16, /* agent -> host: that was all (or: failure) */
};

struct proto_slice {
    const uint8_t *data;
    size_t size;
};

enum proto_state { /* of the function, in hello and init */
                   PROTO_STATE_STARTING = 1,
                   PROTO_STATE_READY = 2,
                   PROTO_STATE_FAILED = 3,
};

enum proto_stream { PROTO_STREAM_STDOUT = 1, PROTO_STREAM_STDERR = 2 };

/* Lambda's error object: errorType, errorMessage, stackTrace. */
struct proto_failure {
    struct proto_slice type;    /* 1..PROTO_ERROR_TYPE_MAX_BYTES, e.g. "Function.Crashed" */
    struct proto_slice message; /* 0..PROTO_ERROR_TEXT_MAX_BYTES */
    struct proto_slice stack[PROTO_STACK_MAX];
    size_t stack_count;
};

/* How something that was asked for ended. */
struct proto_end {
    uint64_t duration_us;
    struct proto_failure failure; /* type empty: it went well */
};

struct proto_message {
    enum proto_type type;
    union {
        struct {
            uint32_t version; /* PROTO_VERSION; a peer that gets another answers PROTO_ERROR and closes. With
                                 another, only this field is decoded and the rest is zero */
            struct proto_slice name; /* program and version, for logs */
            bool wants_logs;         /* client: send me the output outside my own invocations too */
            enum proto_state state;  /* agent: of its function; others send STARTING */
        } hello;
        struct {
            enum proto_state state;       /* READY or FAILED */
            uint64_t duration_us;         /* from spawn to the end of the function's init */
            struct proto_failure failure; /* when FAILED */
        } init;
        struct {
            struct proto_slice id;    /* 1..PROTO_ID_MAX_BYTES of [A-Za-z0-9._-], chosen by the client */
            struct proto_slice trace; /* 0..PROTO_TRACE_MAX_BYTES; first fragment only, else empty */
            uint32_t timeout_ms;      /* 1..PROTO_TIMEOUT_MAX_MS from receipt of the first fragment, which
                                         counts: that of later fragments is not looked at */
            uint32_t total_bytes;     /* of the whole payload; the same in every fragment */
            uint32_t offset_bytes;    /* of this fragment; fragments come in order, without gap */
            struct proto_slice body;  /* empty only when total_bytes is 0 */
        } invoke;
        struct {
            struct proto_slice id;
            uint32_t total_bytes;
            uint32_t offset_bytes;
            struct proto_slice body;
        } response;
        struct {
            struct proto_slice id; /* empty: the connection itself */
            struct proto_failure failure;
        } error;
        struct {
            struct proto_slice id; /* empty: outside any invocation */
            enum proto_stream stream;
            uint64_t dropped_bytes;  /* output lost before this line because nobody read it fast enough */
            struct proto_slice body; /* 1..PROTO_LOG_MAX_BYTES; empty only to report dropped_bytes */
        } log;
        struct {
            uint32_t timeout_ms; /* for the function's hooks; 1..PROTO_TIMEOUT_MAX_MS */
        } checkpoint;
        struct proto_end quiesced;
        struct {
            uint32_t timeout_ms;     /* for the function's hooks */
            uint64_t generation;     /* > 0; unique to this clone, and above all earlier ones */
            struct proto_slice seed; /* the next three are the agent's alone: left out towards the function */
            uint64_t realtime_ns;    /* the host's CLOCK_REALTIME */
            struct proto_slice clone_id; /* the VM generation id */
            struct proto_slice hostname; /* optional, and only with them */
            struct proto_slice network;  /* likewise: text, network.h; empty: the guest keeps what it has */
        } resume;
        struct proto_end resumed;
        struct {
            struct proto_slice name; /* as an id, not beginning with a dot: it becomes a file's */
            struct proto_slice body; /* 0..PROTO_SECRET_MAX_BYTES */
        } secret;
        struct {
            struct proto_slice name; /* as an id */
            uint64_t duration_us;
            struct proto_failure failure; /* type empty: it went well */
        } step;
        struct {
            struct proto_slice name; /* as an id */
            struct proto_slice body; /* 0..PROTO_FACT_MAX_BYTES */
        } fact;
        struct proto_end collected;
    } u;
};

/*
 * Encode into `frame` (capacity bytes), header included. The frame's size; -EINVAL for a field outside its
 * limits; -ENOSPC. A capacity of PROTO_FRAME_MAX_BYTES is enough for every valid message.
 */
int64_t proto_encode(const struct proto_message *message, uint8_t *frame, size_t capacity);

/*
 * The same without the bytes of the body, which end the frame: send `head` and then proto_body() from where
 * it is (one sendmsg, no copy). For the types that have a body a capacity of PROTO_HEAD_MAX_BYTES is enough;
 * the others come out whole.
 */
int64_t proto_encode_head(const struct proto_message *message, uint8_t *head, size_t capacity);
#define PROTO_HEAD_MAX_BYTES 512

/* The body of a message: of INVOKE, RESPONSE, LOG, SECRET and FACT; empty for the others. */
struct proto_slice proto_body(const struct proto_message *message);

/* Body size announced by a header: 1..PROTO_FRAME_MAX_BYTES - PROTO_HEADER_BYTES, or -EMSGSIZE. */
int64_t proto_body_size(const uint8_t header[PROTO_HEADER_BYTES]);

/* Decode one body. 0, or -EBADMSG with *why a static text naming the field and what is wrong with it. */
int proto_decode(const uint8_t *body, size_t size, struct proto_message *message, const char **why);

struct proto_slice proto_text(const char *text);
bool proto_slice_equal(struct proto_slice a, struct proto_slice b);

#endif
