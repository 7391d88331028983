/*
 * The contract of a native function: fill a table, hand it to function_run().
 *
 * function_run() speaks to the agent over an inherited socket; the function sees none of it. One invocation
 * at a time, all hooks on the calling thread. Standard output and error are streamed to the host, labelled
 * with the request. A function that crashes, exits, hangs past its deadline or runs out of memory is reported
 * to the caller and restarted.
 *
 * Local mode, for developers: a program started by hand, without an agent, says so on standard error, reads
 * one event from standard input to its end, and writes the answer to standard output. An error goes to
 * standard error as Lambda's JSON object, with exit code 1:
 *
 *     $ build/functions/wordcount/bootstrap <event.txt
 *
 * A program links libfunction.a and nothing else.
 */
#ifndef FUNCTION_H
#define FUNCTION_H

#include <stddef.h>
#include <stdint.h>

#define FUNCTION_PAYLOAD_MAX_BYTES 6291556 /* event or answer */

struct function_event {
    const char *request_id; /* NUL-terminated, at most 64 bytes */
    const char *trace_id;   /* NUL-terminated, may be empty */
    uint64_t deadline_ns;   /* CLOCK_MONOTONIC; past it the process is killed */
    const void *data;       /* the event, not NUL-terminated */
    size_t size;
};

struct function_reply; /* where handle puts its answer */

/* Append to the answer. 0, -EFBIG past FUNCTION_PAYLOAD_MAX_BYTES, -ENOMEM. A failure sticks, so an answer is
 * never sent in part: whatever handle returns, the invocation fails with Function.ResponseSizeTooLarge or
 * Function.OutOfMemory, unless function_reply_fail says something else. */
int function_reply_write(struct function_reply *reply, const void *data, size_t size);
int function_reply_printf(struct function_reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Fail this invocation, with Lambda's errorType (cut at 128 bytes) and errorMessage (at 4096; bytes that are
 * not UTF-8 become '?'); anything written to the answer is dropped. The function goes on. */
void function_reply_fail(struct function_reply *reply, const char *error_type, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct function {
    /* Once, before the first event; what is set up here is in the snapshot. 0, or anything else to fail. May
     * be NULL. */
    int (*init)(void *context);
    /* For each event. 0, or anything else: answered as an error of type "Function.Error" unless the reply has
     * failed already. */
    int (*handle)(void *context, const struct function_event *event, struct function_reply *reply);
    /* Before a snapshot: let go of what must not be cloned. 0 or fail. May be NULL. */
    int (*before_checkpoint)(void *context);
    /* In each clone, before its first event; `generation` counts up and differs from the last. 0 or fail. May
     * be NULL. */
    int (*after_restore)(void *context, uint64_t generation);
    void *context;
};

/* Serve events until the agent ends us. Returns the exit code for main(). */
int function_run(const struct function *function);

#endif
