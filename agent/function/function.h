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
    /* Before a snapshot, between two events: let go of what must not be cloned (connections, keys, ids). 0;
     * anything else: no snapshot is taken, and the function goes on. May be NULL. */
    int (*before_checkpoint)(void *context);
    /* In each clone, and in the original when that goes on, before the next event: make anew what must be
     * unique. `generation` counts up and differs from the last. 0; anything else: this clone never serves.
     * May be NULL. */
    int (*after_restore)(void *context, uint64_t generation);
    void *context;
};

/* Serve events until the agent ends us. Returns the exit code for main(). */
int function_run(const struct function *function);

/*
 * Hooks around a snapshot for what a function is made of: a library registers its own, in main or init, and
 * needs to know nothing of the function's table. Up to FUNCTION_HOOKS_MAX of each kind. 0, -ENOSPC, -EINVAL.
 *
 * Before a checkpoint the last comes first: the table's before_checkpoint, which may still use every library;
 * then the registered ones, from the last to the first. After a restore the first comes first: the registered
 * ones in their order, then the table's after_restore, which finds every library at work again. All run on
 * the thread of function_run, within the time the host gives them together; past it the function is killed
 * (checkpoint) or the clone given up (restore).
 *
 * The first hook that fails ends its row. When that is before a checkpoint, every restore hook is called with
 * the generation as it was, so that what has been let go of is taken up again.
 *
 * The kernel's random pool, clock and TCP connections, the hostname and the ids of the machine are the
 * agent's: they are in order before any hook runs. In local mode no hook is called.
 */
#define FUNCTION_HOOKS_MAX 32
int function_on_checkpoint(int (*hook)(void *context), void *context);
int function_on_restore(int (*hook)(void *context, uint64_t generation), void *context);

/* The generation of this clone, from /run/generation (generation.h): a load from memory, cheap enough before
 * each use of what must be unique. 0 where there is no such page, as outside of a guest. Thread-safe. */
uint64_t function_generation(void);

/*
 * Fill `to` with random bytes that no other clone gets: 0, or -errno (ENOSYS: a kernel before 3.17).
 *
 * Each call asks the kernel (getrandom, the system call). Nothing is kept in this process between calls, so
 * there is nothing that a snapshot could copy; and the agent gives the kernel's pool a seed of this clone's
 * own before the function runs again. A generator that keeps a buffer or a state in the process (a libc's
 * random(), a TLS library's, one of your own) is copied with it: seed such a one in init, and again in
 * after_restore. Outside of a guest these are the machine's own random bytes; there, snapshots taken by
 * others are on you.
 */
int function_random(void *to, size_t size);

/*
 * A connection that the function's manifest names (CONNECTIONS.md): a descriptor of a stream socket,
 * blocking, close-on-exec. The agent carries what passes to the server in TLS; the descriptor carries on over
 * a new connection in every clone, unless it had a request or response half-way when the snapshot was taken:
 * then it is reset (ECONNRESET), as when the server is lost.
 *
 * Waits until the server has been reached or has not: -errno with the reason in `why` (`why_bytes`; may be
 * NULL), such as "orders: server's certificate expired on 2025-01-31". -EINVAL: no connection can be named
 * so; -ENOENT: the manifest names none of that name; -ENOTSUP: there is no manifest, or the program was
 * started by hand, without an agent. Thread-safe.
 */
int function_connect(const char *name, char *why, size_t why_bytes);

#endif
