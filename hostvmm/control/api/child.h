/*
 * Processes of the server: the guest's hostvmm, and those beside it (api_spawn).
 *
 * All are started by one thread, the main one, because what a process is told when its parent dies is bound
 * to the thread that made it. Handlers ask that thread; child_run is its loop:
 *
 *   wish (handler) -> wake -> spawn -> answered
 *   signal -> passed on to the guest        guest's standard error -> ours, its first error kept
 *   guest ended -> its exit code is ours, unless it was still starting: then it is the handler's to tell
 *
 * The guest is operated through a socket pair (OPERATOR.md), one line after the other.
 */
#ifndef HOSTVMM_CONTROL_API_CHILD_H
#define HOSTVMM_CONTROL_API_CHILD_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_CONTROL_FD 3 /* where the guest's process finds its end */
#define CHILD_SAID_BYTES 512
#define CHILD_ANSWER_MAX (256u << 10)
#define CHILD_TIMEOUT_MS 300000u /* a snapshot of a large guest takes its time */

/* What a handler asks the main thread for. */
struct child_wish {
    const char *const *arguments; /* behind the program's name, ended by NULL */
    bool guest;                   /* it is to be operated, and its standard error is ours to pass on */
    bool wants_out;               /* its standard output comes back */
    bool done;
    pid_t pid; /* or -errno */
    int fd;    /* to operate the guest, or the other's standard output */
};

struct child {
    const char *program;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    int wake; /* eventfd: there is a wish, or the end */
    struct child_wish *wish;
    bool served;   /* wishes are answered: until child_run ends */
    bool starting; /* a handler waits to see whether the guest comes up */
    bool stopping; /* a signal was passed on to it: whatever it was doing, its end is ours */
    bool ended;    /* it has, with this code, and nobody has been told yet */
    int code;
    pid_t pid;                   /* of the guest; 0: none */
    int pidfd;                   /* the loop's own */
    int errors;                  /* the loop's own: the guest's standard error */
    int fd;                      /* the handlers' own: to operate it; -1: none */
    bool broken;                 /* an answer failed: the line is of no use any more */
    char said[CHILD_SAID_BYTES]; /* its first error */
    char line[CHILD_SAID_BYTES]; /* of its errors, not whole yet */
    size_t line_bytes;
};

int child_init(struct child *child, const char *program);
void child_fini(struct child *child);

/* ---- the main thread ---- */

/* Serve wishes and signals (of this signalfd) until the guest ends or a signal ends it all; its exit code. */
int child_run(struct child *child, int signal_fd);
/* Have child_run end with this code; any thread. */
void child_stop(struct child *child, int code);

/* ---- handlers ---- */

/* Start the guest with these arguments behind the program's name, ended by NULL; it is `starting` then. 0, or
 * -errno. */
int child_start(struct child *child, const char *const *arguments);
/* It is up: from now on its end is ours. */
void child_started(struct child *child);
/* It is to end, or has: wait until it is gone. Its exit code; `said` (CHILD_SAID_BYTES) its first error. There
 * is no guest then, as before child_start. */
int child_failed(struct child *child, char *said);

/* One line there, without newline, one back. 0 with the answer; -EPIPE it is gone, -ETIMEDOUT, -EPROTO,
 * -ENOTCONN there is none. */
int child_ask(struct child *child, const char *line, json_t **answer);

/* A process beside it. The pid, which is the caller's to wait for, or -errno. `out` may be NULL. */
pid_t child_beside(struct child *child, const char *const *arguments, int *out);

#endif
