/* See failure.h. Types are those of agent/proto/errors.h; a text says what was wrong and what follows from
 * it. */
#include "agent/failure.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/proto/errors.h"

struct failure_row {
    const char *type;
    const char *text; /* empty: the detail says it all */
};

static const struct failure_row rows[FAILURE_KIND_COUNT] = {
    [FAILURE_CRASHED] = {PROTO_ERROR_CRASHED, "the function was ended by "},
    [FAILURE_EXITED] = {PROTO_ERROR_EXITED, "the function exited by itself: "},
    [FAILURE_TIMED_OUT] = {PROTO_ERROR_TIMED_OUT, ""},
    [FAILURE_OUT_OF_MEMORY] = {PROTO_ERROR_OUT_OF_MEMORY, "the function ran out of memory"},
    [FAILURE_TOO_LARGE] = {PROTO_ERROR_TOO_LARGE, "the function's answer is too large: "},
    [FAILURE_BAD_RESPONSE] = {PROTO_ERROR_BAD_RESPONSE,
                              "the function gave an answer that was not asked for: "},
    [FAILURE_BAD_CHANNEL] = {PROTO_ERROR_BAD_CHANNEL, "the function broke the protocol: "},
    [FAILURE_CHANNEL_CLOSED] = {PROTO_ERROR_BAD_CHANNEL,
                                "the function closed its channel to the agent without exiting"},
    [FAILURE_INIT] = {PROTO_ERROR_INIT, "the function's init failed: "},
    [FAILURE_NOT_STARTED] = {PROTO_ERROR_INIT, "the function could not be started: "},
    [FAILURE_BUSY] = {PROTO_ERROR_BUSY, "another invocation was under way: the event was not given to the "
                                        "function, and may be sent again: "},
    [FAILURE_FULL] = {PROTO_ERROR_BUSY, "the agent serves as many clients as it can: close one first: "},
    [FAILURE_BAD_REQUEST] = {PROTO_ERROR_BAD_REQUEST, "the event was not taken: "},
    [FAILURE_BAD_MESSAGE] = {PROTO_ERROR_BAD_MESSAGE,
                             "the message is not valid here, the connection is closed: "},
    [FAILURE_BAD_VERSION] = {PROTO_ERROR_BAD_VERSION, "the agent speaks another version of the protocol: "},
    [FAILURE_NOT_QUIESCED] = {PROTO_ERROR_NOT_QUIESCED, ""},
    [FAILURE_NOT_RESUMED] = {PROTO_ERROR_NOT_RESUMED, ""},
    [FAILURE_SHUTTING_DOWN] = {PROTO_ERROR_SHUTTING_DOWN, "the guest is shutting down"},
    [FAILURE_INTERNAL] = {PROTO_ERROR_INTERNAL, "the agent failed: "},
};

static size_t copy_text(char *to, size_t capacity, const void *from, size_t size)
{
    const size_t count = size < capacity ? size : capacity;
    if (count > 0)
        memcpy(to, from, count);
    return count;
}

void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...)
{
    const struct failure_row *row = &rows[kind];
    char detail[1024] = "";
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(detail, sizeof detail, format, arguments); /* longer details are cut */
    va_end(arguments);
    failure->stack_count = 0;
    failure->type_bytes = copy_text(failure->type, sizeof failure->type, row->type, strlen(row->type));
    failure->message_bytes =
        copy_text(failure->message, sizeof failure->message, row->text, strlen(row->text));
    failure->message_bytes +=
        copy_text(failure->message + failure->message_bytes, sizeof failure->message - failure->message_bytes,
                  detail, strlen(detail));
}

void failure_copy(struct failure *failure, const struct proto_failure *from)
{
    failure->type_bytes = copy_text(failure->type, sizeof failure->type, from->type.data, from->type.size);
    failure->message_bytes =
        copy_text(failure->message, sizeof failure->message, from->message.data, from->message.size);
    failure->stack_count = from->stack_count < PROTO_STACK_MAX ? from->stack_count : PROTO_STACK_MAX;
    for (size_t i = 0; i < failure->stack_count; i++)
        failure->stack_bytes[i] =
            copy_text(failure->stack[i], sizeof failure->stack[i], from->stack[i].data, from->stack[i].size);
}

static struct proto_slice slice(const char *text, size_t size)
{
    return (struct proto_slice){.data = (const uint8_t *)text, .size = size};
}

struct proto_failure failure_view(const struct failure *failure)
{
    struct proto_failure view = {
        .type = slice(failure->type, failure->type_bytes),
        .message = slice(failure->message, failure->message_bytes),
        .stack_count = failure->stack_count,
    };
    for (size_t i = 0; i < failure->stack_count; i++)
        view.stack[i] = slice(failure->stack[i], failure->stack_bytes[i]);
    return view;
}

void failure_set_timed_out(struct failure *failure, uint32_t timeout_ms, const char *where)
{
    failure_set(failure, FAILURE_TIMED_OUT, "Task timed out after %" PRIu32 ".%02" PRIu32 " seconds%s",
                timeout_ms / 1000, timeout_ms % 1000 / 10, where);
}

const char *failure_text(const struct failure *failure, char *text, size_t capacity)
{
    (void)snprintf(text, capacity, "%.*s: %.*s", (int)failure->type_bytes, failure->type,
                   (int)failure->message_bytes, failure->message);
    return text;
}
