/*
 * The socket by which a running guest's hostvmm is asked for a snapshot (`--control PATH`).
 *
 * A client sends one line of words separated by TAB, reads one line of JSON, and is hung up on:
 *
 *     snapshot  out=/a/path  [parent=/a/path]  [checkpoint=yes|no]  [then=run|stop]
 *     {"ok":true,...}
 *     {"ok":false,"error":"for people","code":N}        code: an exit code (exit.h)
 *
 * Mode 0600; up to 4 clients. One request is in hand at a time, the others wait in the order they came. A
 * client that goes away takes its waiting request along, but not one that is in hand.
 */
#ifndef HOSTVMM_CONTROL_OPERATOR_H
#define HOSTVMM_CONTROL_OPERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "hostvmm/listen.h"

#define OPERATOR_LINE_MAX_BYTES 8192 /* without its newline */
#define OPERATOR_PATH_MAX_BYTES 1023
#define OPERATOR_CLIENTS_MAX    4
#define OPERATOR_WHY_BYTES      160

struct operator_snapshot {
    char out[OPERATOR_PATH_MAX_BYTES + 1];    /* absolute */
    char parent[OPERATOR_PATH_MAX_BYTES + 1]; /* absolute; empty: a full snapshot */
    bool checkpoint;                          /* with the agent's consent */
    bool stop;                                /* the guest does not go on */
};

/* A request's line, without its newline: pure. 0, or -EINVAL and in `why` (OPERATOR_WHY_BYTES) the reason, in
 * ASCII. */
int operator_parse(const char *line, size_t size, struct operator_snapshot *request, char *why);

/* From the loop: answer with operator_answer, within this call or later. */
typedef void operator_on_snapshot(void *context, const struct operator_snapshot *request);

struct operator_client {
    struct operator_server *owner;
    struct loop_source source;
    int fd;           /* -1: free */
    uint64_t arrival; /* of its whole request, for the order; 0 until then */
    struct operator_snapshot request;
    size_t used;
    char line[OPERATOR_LINE_MAX_BYTES + 1];
};

struct operator_server {
    struct loop *loop;
    struct listen_place place;
    struct loop_source listener;
    operator_on_snapshot *on_snapshot;
    void *context;
    uint64_t arrivals;
    bool busy;                     /* a request is in hand ... */
    bool dispatching;              /* ... or being handed over */
    struct operator_client *asker; /* of the request in hand; NULL when it went away */
    struct operator_client clients[OPERATOR_CLIENTS_MAX];
};

void operator_init(struct operator_server *server, struct loop *loop);
/* Listen at `path`: errors as listen_open's, or loop_add's. */
int operator_open(struct operator_server *server, const char *path, operator_on_snapshot *on_snapshot,
                  void *context);
/* Hang up on all; the socket's file is removed. */
void operator_fini(struct operator_server *server);

/*
 * The request in hand is done. `ok`: `text` has JSON members without braces (may be empty), such as
 * "\"pause_ns\":5"; pause_ns, checkpoint_us and disk_bytes are shown to people. Else the reason, in UTF-8,
 * and `code`, an exit code. The next request may be handed over within this call.
 */
void operator_answer(struct operator_server *server, bool ok, int code, const char *text);

#endif
