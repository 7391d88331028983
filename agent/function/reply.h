/*
 * struct function_reply, opaque in function.h: the answer as it grows, or the failure that replaces it.
 * Internal to agent/function.
 */
#ifndef AGENT_FUNCTION_REPLY_H
#define AGENT_FUNCTION_REPLY_H

#include <stdbool.h>

#include "agent/function/function.h"
#include "agent/proto/limits.h"

struct function_reply {
    uint8_t *data; /* owned */
    size_t size;
    size_t capacity;
    int error; /* of a write; sticks */
    bool failed;
    char error_type[PROTO_ERROR_TYPE_MAX_BYTES + 1];
    char error_text[PROTO_ERROR_TEXT_MAX_BYTES + 1];
};

/* Ready for the next event. Keeps a small buffer, gives back a large one: an idle function stays small. */
void reply_reset(struct function_reply *reply);
void reply_fini(struct function_reply *reply);

/* What the invocation came to, once handle returned `result`: turns its failures into error_type and
 * error_text. True for an answer. */
bool reply_conclude(struct function_reply *reply, int result);

/* Let go of a buffer larger than this between events. */
#define BUFFER_KEPT_BYTES 65536

#endif
