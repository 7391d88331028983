/* See reply.h and function.h. */
#include "agent/function/reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/function/channel.h"
#include "agent/proto/utf8.h"

_Static_assert(FUNCTION_PAYLOAD_MAX_BYTES == PROTO_PAYLOAD_MAX_BYTES,
               "function.h states the protocol's limit");

void reply_fini(struct function_reply *reply)
{
    free(reply->data);
    *reply = (struct function_reply){0};
}

void reply_reset(struct function_reply *reply)
{
    if (reply->capacity > BUFFER_KEPT_BYTES)
        reply_fini(reply);
    reply->size = 0;
    reply->error = 0;
    reply->failed = false;
}

/* A buffer of at least `needed` bytes. */
static int grow(struct function_reply *reply, size_t needed)
{
    if (needed <= reply->capacity)
        return 0;
    size_t capacity = reply->capacity ? reply->capacity * 2 : 4096;
    while (capacity < needed)
        capacity *= 2;
    uint8_t *data = realloc(reply->data, capacity);
    if (!data)
        return reply->error = -ENOMEM;
    reply->data = data;
    reply->capacity = capacity;
    return 0;
}

/* Room for `size` more bytes of answer, and `spare` beyond. */
static int reserve(struct function_reply *reply, size_t size, size_t spare)
{
    if (reply->error)
        return reply->error;
    if (size > FUNCTION_PAYLOAD_MAX_BYTES - reply->size)
        return reply->error = -EFBIG;
    return grow(reply, reply->size + size + spare);
}

int function_reply_write(struct function_reply *reply, const void *data, size_t size)
{
    const int error = reserve(reply, size, 0);
    if (error || size == 0)
        return error;
    memcpy(reply->data + reply->size, data, size);
    reply->size += size;
    return 0;
}

int function_reply_printf(struct function_reply *reply, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list measured;
    va_copy(measured, arguments);
    const int length = vsnprintf(NULL, 0, format, measured);
    va_end(measured);
    const int error = length < 0 ? -EINVAL : reserve(reply, (size_t)length, 1);
    if (!error) {
        (void)vsnprintf((char *)reply->data + reply->size, (size_t)length + 1, format, arguments);
        reply->size += (size_t)length; /* the NUL is the spare byte: overwritten by what comes next */
    }
    va_end(arguments);
    return error;
}

static void fit_text(char *text, size_t limit)
{
    /* A text cut at the limit may end in half a character: leave that off. Then the rest of what is no text.
     */
    size_t size = strlen(text);
    if (size == limit) {
        for (size_t back = 1; back <= 3 && back <= size; back++) {
            const uint8_t byte = (uint8_t)text[size - back];
            if (byte < 0x80 || byte >= 0xC0) {
                if (utf8_valid_prefix(text + size - back, back) == 0)
                    size -= back;
                break;
            }
        }
        text[size] = '\0';
    }
    utf8_clean(text, size);
}

void function_reply_fail(struct function_reply *reply, const char *error_type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    reply->failed = true;
    snprintf(reply->error_type, sizeof reply->error_type, "%s",
             error_type && *error_type ? error_type : FUNCTION_ERROR_HANDLE);
    if (vsnprintf(reply->error_text, sizeof reply->error_text, format, arguments) < 0)
        reply->error_text[0] = '\0';
    va_end(arguments);
    fit_text(reply->error_type, PROTO_ERROR_TYPE_MAX_BYTES);
    fit_text(reply->error_text, PROTO_ERROR_TEXT_MAX_BYTES);
}

bool reply_conclude(struct function_reply *reply, int result)
{
    if (reply->failed)
        return false;
    if (reply->error == -EFBIG)
        function_reply_fail(reply, FUNCTION_ERROR_TOO_BIG, "the answer is larger than %d bytes",
                            FUNCTION_PAYLOAD_MAX_BYTES);
    else if (reply->error == -ENOMEM)
        function_reply_fail(reply, FUNCTION_ERROR_NO_SPACE, "no memory for more than %zu bytes of the answer",
                            reply->size);
    else if (result != 0)
        function_reply_fail(reply, FUNCTION_ERROR_HANDLE, "handle returned %d", result);
    return !reply->failed;
}
