/* The heads and small answers of http.h. Nothing of the peer's goes into them but an id and a trace, which
 * the protocol has checked: an id has no special characters, and a trace is refused here if it could end a
 * field. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/http.h"

static int64_t print(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int64_t print(char *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(out, HTTP_REPLY_MAX_BYTES, format, arguments);
    va_end(arguments);
    return size < 0 || size >= HTTP_REPLY_MAX_BYTES ? -EINVAL : size;
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {202, "Accepted"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {413, "Content Too Large"},
        {417, "Expectation Failed"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Error";
}

int64_t http_write_continue(char *out)
{
    return print(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

int64_t http_write_next(char *out, const char *id, const char *trace, uint64_t deadline_unix_ms,
                        uint32_t size)
{
    for (const char *at = trace; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return -EINVAL;
    return print(out,
                 "HTTP/1.1 200 OK\r\n"
                 "Content-Type: application/json\r\n"
                 "Content-Length: %" PRIu32 "\r\n"
                 "Lambda-Runtime-Aws-Request-Id: %s\r\n"
                 "Lambda-Runtime-Deadline-Ms: %" PRIu64 "\r\n"
                 "%s%s%s\r\n",
                 size, id, deadline_unix_ms, *trace ? "Lambda-Runtime-Trace-Id: " : "", trace,
                 *trace ? "\r\n" : "");
}

int64_t http_write_accepted(char *out, int status)
{
    static const char body[] = "{\"status\":\"OK\"}\n";
    return print(out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                 status, reason(status), sizeof body - 1, body);
}

int64_t http_write_refusal(char *out, int status, const char *error_type, const char *text)
{
    static const char format[] = "{\"errorMessage\":\"%s\",\"errorType\":\"%s\"}\n";
    const size_t size = sizeof format - 1 - 4 + strlen(text) + strlen(error_type);
    return print(out,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                 "Connection: close\r\n\r\n"
                 "{\"errorMessage\":\"%s\",\"errorType\":\"%s\"}\n",
                 status, reason(status), size, text, error_type);
}
