/*
 * What went wrong, in words for the caller: one table of every error the agent itself gives.
 *
 * A `struct failure` keeps its own copy of a failure (Lambda's errorType, errorMessage, stackTrace), so that
 * it outlives the frame it came in.
 */
#ifndef AGENT_FAILURE_H
#define AGENT_FAILURE_H

#include "agent/proto/proto.h"

/*
 * For functions that make a `struct failure` on their stack and lie on the way of a resume: it is larger than
 * three pages, and in its callers' frames it would spread what a clone writes of its stack, page after page,
 * where nothing fails.
 */
#define FAILURE_APART __attribute__((noinline, cold))

enum failure_kind {
    FAILURE_CRASHED,
    FAILURE_EXITED,
    FAILURE_TIMED_OUT,
    FAILURE_OUT_OF_MEMORY,
    FAILURE_TOO_LARGE,
    FAILURE_BAD_RESPONSE,
    FAILURE_BAD_CHANNEL,
    FAILURE_CHANNEL_CLOSED,
    FAILURE_INIT,
    FAILURE_NOT_STARTED,
    FAILURE_BUSY,
    FAILURE_FULL,
    FAILURE_BAD_REQUEST,
    FAILURE_BAD_MESSAGE,
    FAILURE_BAD_VERSION,
    FAILURE_NOT_QUIESCED,
    FAILURE_NOT_RESUMED,
    FAILURE_SHUTTING_DOWN,
    FAILURE_INTERNAL,
    FAILURE_KIND_COUNT,
};

struct failure {
    size_t type_bytes;
    size_t message_bytes;
    size_t stack_count;
    size_t stack_bytes[PROTO_STACK_MAX];
    char type[PROTO_ERROR_TYPE_MAX_BYTES];
    char message[PROTO_ERROR_TEXT_MAX_BYTES];
    char stack[PROTO_STACK_MAX][PROTO_STACK_ENTRY_MAX_BYTES];
};

/* A failure of the agent's: the table's text, then the detail. A detail with an empty format is left out. */
void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A failure that came in a frame. */
void failure_copy(struct failure *failure, const struct proto_failure *from);

/* The failure as a message carries it. Its slices point into `failure`. */
struct proto_failure failure_view(const struct failure *failure);

/* "Task timed out after 3.00 seconds", as Lambda says it. */
void failure_set_timed_out(struct failure *failure, uint32_t timeout_ms, const char *where);

/* "Type: message" for the log, cut to `capacity`. */
const char *failure_text(const struct failure *failure, char *text, size_t capacity);

#endif
