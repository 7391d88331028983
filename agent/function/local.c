/* See local.h. */
#include "agent/function/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/function/channel.h"

#define LOCAL_TIMEOUT_NS                                                                                     \
    (PROTO_TIMEOUT_MAX_MS * UINT64_C(1000000)) /* told to the function; nobody enforces it */

/* All of stdin: a count, -EFBIG, or -errno. */
static int64_t read_event(uint8_t *data, size_t limit)
{
    size_t size = 0;
    for (;;) {
        uint8_t beyond;
        const size_t room = limit - size;
        const ssize_t n = room > 0 ? read(STDIN_FILENO, data + size, room) : read(STDIN_FILENO, &beyond, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return (int64_t)size;
        if (room == 0)
            return -EFBIG;
        size += (size_t)n;
    }
}

static void print_json_text(const char *text)
{
    fputc('"', stderr);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(stderr, "\\%c", c);
        else if (c < 0x20)
            fprintf(stderr, "\\u%04x", c);
        else
            fputc(c, stderr);
    }
    fputc('"', stderr);
}

static int serve_one(const struct function *function, const uint8_t *data, size_t size)
{
    static struct function_reply reply;
    const struct function_event event = {.request_id = "local",
                                         .trace_id = "",
                                         .deadline_ns = clock_monotonic_ns() + LOCAL_TIMEOUT_NS,
                                         .data = data,
                                         .size = size};
    const int answered = reply_conclude(&reply, function->handle(function->context, &event, &reply));
    fflush(stdout);
    int code = FUNCTION_EXIT_OK;
    if (answered) {
        const int error = fd_write_all(STDOUT_FILENO, reply.data, reply.size);
        if (error) {
            log_error("writing the answer to standard output: %s", strerror(-error));
            code = FUNCTION_EXIT_INIT;
        }
    } else {
        fputs("{\"errorType\":", stderr);
        print_json_text(reply.error_type);
        fputs(",\"errorMessage\":", stderr);
        print_json_text(reply.error_text);
        fputs("}\n", stderr);
        code = FUNCTION_EXIT_INIT;
    }
    reply_fini(&reply);
    return code;
}

int local_run(const struct function *function)
{
    log_info("no agent here (" FUNCTION_ENV_FD
             " is not set): local mode, the event comes from standard input%s",
             isatty(STDIN_FILENO) ? "; end it with Ctrl-D" : "");
    const int result = function->init ? function->init(function->context) : 0;
    if (result != 0) {
        log_error("init returned %d", result);
        return FUNCTION_EXIT_INIT;
    }
    uint8_t *data = malloc(FUNCTION_PAYLOAD_MAX_BYTES);
    const int64_t size = data ? read_event(data, FUNCTION_PAYLOAD_MAX_BYTES) : -ENOMEM;
    int code = FUNCTION_EXIT_INIT;
    if (size == -EFBIG)
        log_error("the event on standard input is larger than %d bytes", FUNCTION_PAYLOAD_MAX_BYTES);
    else if (size < 0)
        log_error("reading the event from standard input: %s", strerror((int)-size));
    else
        code = serve_one(function, data, (size_t)size);
    free(data);
    return code;
}
