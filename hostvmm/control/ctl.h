/*
 * hostvmm ctl: a client of the control API (API.md), for people and scripts. ctl.c has the command line,
 * ctl_words.c turns words into requests, ctl_http.c carries one request and its answer.
 */
#ifndef HOSTVMM_CONTROL_CTL_H
#define HOSTVMM_CONTROL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hostvmm/control/ctl_answer.h"

#define CTL_HEADER_BYTES   288
#define CTL_REQUEST_FIELDS 3

struct ctl_request {
    const char *method;
    const char *resource; /* with its slash */
    const void *body;     /* may be NULL */
    size_t body_bytes;
    const char *accept;                                /* NULL: application/json */
    bool is_raw;                                       /* the body is bytes, not JSON */
    char fields[CTL_REQUEST_FIELDS][CTL_HEADER_BYTES]; /* whole header lines; empty: none */
};

/* An answer that has come whole. */
struct ctl_reply {
    struct ctl_answer answer;
    char *data; /* malloc'ed */
    const char *body;
    size_t body_bytes;
};

/*
 * One request to the API's socket, and its answer; ctl_reply_fini whatever comes out. 0, or -errno, told:
 * -ETIMEDOUT, -EPROTO (what answers there is no control API), or what connect or the connection said.
 */
int ctl_exchange(const char *api_sock, const struct ctl_request *request, uint64_t deadline_ns,
                 struct ctl_reply *reply);
void ctl_reply_fini(struct ctl_reply *reply);

/* What the command line says. */
struct ctl {
    const char *api_sock;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    const char *out;
    const char *mem;
    const char *event;
    const char *path;
    const char *clone;
    const char *trace;
    uint32_t target_mib;
    uint32_t limit_ms; /* of an invocation; 0: the server's own */
    bool is_diff;
    bool is_checkpoint;
    bool wants_logs;
    bool is_prometheus;
    unsigned given; /* a bit for each option above, by enum ctl_option */
};

enum ctl_option {
    CTL_OUT = 1,
    CTL_MEM = 2,
    CTL_DIFF = 4,
    CTL_CHECKPOINT = 8,
    CTL_EVENT = 16,
    CTL_PATH = 32,
    CTL_TARGET = 64,
    CTL_CLONE = 128,
    CTL_LIMIT = 256,
    CTL_LOGS = 512,
    CTL_PROMETHEUS = 1024,
    CTL_TRACE = 2048,
};

/* A word for people, or NULL. */
struct ctl_word {
    const char *name;
    unsigned options;                                    /* it may have */
    unsigned needed;                                     /* it must have */
    unsigned names;                                      /* further words it takes: 0 or 1 */
    int (*run)(const struct ctl *ctl, const char *name); /* the exit code */
};
const struct ctl_word *ctl_word_named(const char *name);

/* Print the answer's body, or tell its fault. The exit code. */
int ctl_tell(const struct ctl_reply *reply);
/* Send, and ctl_tell. The exit code. */
int ctl_send(const struct ctl *ctl, const struct ctl_request *request);

#endif
