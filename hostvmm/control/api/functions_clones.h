/*
 * The clones of the API: `hostvmm restore` processes beside the guest, one each, so that each is operated and
 * ended on its own. A clone's number counts on as long as the server runs: it is its id, and the %n of its
 * names. All with the API's lock, but where it says otherwise.
 *
 *   started -> runs -> (asked to end ->) has ended, and is listed with its exit code until it is deleted
 */
#ifndef HOSTVMM_CONTROL_API_FUNCTIONS_CLONES_H
#define HOSTVMM_CONTROL_API_FUNCTIONS_CLONES_H

#include <sys/types.h>

#include "hostvmm/control/api/functions.h"

#define CLONES_MAX           1024 /* listed at a time */
#define CLONES_ANSWER_BYTES  16384
#define CLONES_ASK_MS        500u   /* a clone that does not tell its state within this is left for later */
#define CLONES_END_MS        10000u /* to power off in order; killed then */
#define CLONES_ARGUMENTS_MAX 64

struct clone {
    struct clone *next; /* the newest last */
    uint32_t number;
    pid_t pid;  /* 0: it has ended, with `code` */
    int pid_fd; /* readable when it has ended; -1 then */
    int code;
    uint64_t started_ns; /* CLOCK_MONOTONIC */
    uint64_t started_ms; /* since 1970 */
    uint64_t ended_ns;   /* 0: not yet */
    bool is_ending;      /* it was asked to */
    bool is_unique;      /* it once told how it became so */
    char *snapshot_path;
    char *vsock_path;
    char *control_path;
};

/* What POST /clones asks for: texts of the request's, %n not yet replaced. */
struct clones_wish {
    const char *snapshot_path;
    const char *vsock_path;
    const char *control_path; /* NULL: the vsock's with ".control" */
    const char *hostname;
    const char *jail;
    const json_t *net;
    const json_t *drives;
    const json_t *secrets;
    uint32_t count;
    uint32_t resume_limit_ms; /* 0: the program's own */
    uint32_t hooks_limit_ms;
};

/* A command line in the making: texts of its own, in order. */
struct clones_line {
    char *words[CLONES_ARGUMENTS_MAX + 1];
    unsigned count;
    int error; /* sticky: -ENOMEM, -E2BIG, -ENAMETOOLONG */
};

/* functions_wish.c: the body taken and checked. 0, or -EINVAL with the response filled in. */
int clones_wish_take(struct clones_wish *wish, const json_t *body, struct api_response *response);
/* The command line for the clone with this number. clones_line_fini whatever comes out. */
void clones_line_make(struct clones_line *line, const struct clones_wish *wish, uint32_t number);
void clones_line_fini(struct clones_line *line);
/* `text` with each %n replaced, malloc'ed; NULL with *error set. */
char *clones_expand(const char *text, uint32_t number, int *error);

/* functions_ask.c: a line to the Unix socket of a running hostvmm (OPERATOR.md); without the lock. Its answer
 * for the caller to json_decref, or NULL when it gives none in time. */
json_t *clones_ask(const char *control_path, const char *line, uint32_t limit_ms);

/* What `status` tells of how a clone became unique, as GET /resume-steps and /clones give it; NULL: it was
 * booted, or is not there yet. A new reference. */
json_t *functions_resume_of(const json_t *status);

#endif
