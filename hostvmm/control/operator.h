/*
 * hostvmm's side of OPERATOR.md: the socket and the inherited connection through which a running guest is
 * operated. This room takes lines and gives lines; what a request does is its owner's (hostvmm/operations.h).
 *
 * Mode 0600; up to 4 clients beside the inherited one. One request is in hand at a time, the others wait in
 * the order they came. A client that goes away takes its waiting request along, but not one that is in hand.
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
#define OPERATOR_NAME_MAX_BYTES 64 /* of request= and id= */
#define OPERATOR_RATE_MAX_BYTES 63
#define OPERATOR_CLIENTS_MAX    4
#define OPERATOR_WHY_BYTES      256

enum operator_verb {
    OPERATOR_SNAPSHOT,
    OPERATOR_PAUSE,
    OPERATOR_RESUME,
    OPERATOR_STATUS,
    OPERATOR_METRICS,
    OPERATOR_SHUTDOWN,
    OPERATOR_KILL,
    OPERATOR_DRIVE,
    OPERATOR_NET,
    OPERATOR_ENTROPY,
    OPERATOR_BALLOON,
    OPERATOR_LOG,
    OPERATOR_VERBS,
};

enum operator_word {
    OPERATOR_OUT,
    OPERATOR_PARENT,
    OPERATOR_CHECKPOINT,
    OPERATOR_THEN,
    OPERATOR_ID,
    OPERATOR_PATH,
    OPERATOR_BANDWIDTH,
    OPERATOR_OPERATIONS,
    OPERATOR_RX_BANDWIDTH,
    OPERATOR_RX_OPERATIONS,
    OPERATOR_TX_BANDWIDTH,
    OPERATOR_TX_OPERATIONS,
    OPERATOR_TARGET,
    OPERATOR_STATS,
    OPERATOR_HINTING,
    OPERATOR_LEVEL,
    OPERATOR_FORMAT,
    OPERATOR_REQUEST,
    OPERATOR_WORDS,
};

/* A request that keeps to the table of verbs: the words its verb knows, each at most once, each of its kind (a
 * choice, a number within its range, an absolute path, a name; of a rate, the characters). */
struct operator_request {
    enum operator_verb verb;
    uint16_t at[OPERATOR_WORDS];            /* where each word's value begins in `text`; 0: not given */
    char text[OPERATOR_LINE_MAX_BYTES + 1]; /* values end with NUL */
};

/* A request's line, without its newline: pure. 0, or -EINVAL and in `why` (OPERATOR_WHY_BYTES) the reason, in
 * ASCII. */
int operator_parse(const char *line, size_t size, struct operator_request *request, char *why);
/* A word's value; NULL: it was not given. */
const char *operator_value(const struct operator_request *request, enum operator_word word);
/* Whether the word was given with this value. */
bool operator_says(const struct operator_request *request, enum operator_word word, const char *value);
/* Of a word that is a number. `otherwise` when it was not given. */
uint64_t operator_number(const struct operator_request *request, enum operator_word word, uint64_t otherwise);
const char *operator_verb_name(enum operator_verb verb);

struct operator_ops {
    /* From the loop: answer with operator_answer, within this call or later. `request` is valid until then. */
    void (*request)(void *context, const struct operator_request *request);
    /* The other end of the inherited connection has closed it: nobody operates the guest any more. */
    void (*hung_up)(void *context);
};

struct operator_client {
    struct operator_server *owner;
    struct loop_source source;
    int fd;           /* -1: free */
    bool stays;       /* the inherited connection: request after request */
    bool skips;       /* the rest of a line that was too long */
    uint64_t arrival; /* of its whole request, for the order; 0 until then */
    size_t used;
    char line[OPERATOR_LINE_MAX_BYTES + 1];
};

struct operator_server {
    struct loop *loop;
    struct listen_place place;
    struct loop_source listener;
    const struct operator_ops *ops;
    void *context;
    uint64_t arrivals;
    bool busy;                                            /* a request is in hand ... */
    bool dispatching;                                     /* ... or being handed over */
    struct operator_client *asker;                        /* of it; NULL when it went away */
    struct operator_request request;                      /* it */
    struct operator_client clients[OPERATOR_CLIENTS_MAX]; /* of the socket */
    struct operator_client inherited;
};

void operator_init(struct operator_server *server, struct loop *loop, const struct operator_ops *ops,
                   void *context);
/* Listen at `path`: errors as listen_open's, or loop_add's. */
int operator_open(struct operator_server *server, const char *path);
/* Serve the connection `fd`, owned from here on also on failure. 0; -ENOTSOCK, -ENOTCONN, -EPROTOTYPE it is no
 * connected stream socket, -errno. */
int operator_adopt(struct operator_server *server, int fd);
/* Hang up on all; the socket's file is removed. */
void operator_fini(struct operator_server *server);

/*
 * The request in hand is done. `ok`: `text` has JSON members without braces (may be empty), such as
 * "\"pause_ns\":5"; pause_ns, checkpoint_us and disk_bytes are shown to people. Else the reason, in UTF-8,
 * and `code`, an exit code. The next request may be handed over within this call.
 */
void operator_answer(struct operator_server *server, bool ok, int code, const char *text);

#endif
