/*
 * libFuzzer target: the example keepalive's reader of responses. Whatever a server sends and then ends with
 * comes to an answer within its limits or to an error that says why; a response of which something came is
 * never repeated. The example is a part of this file, without its main.
 */
#define main keepalive_main
int keepalive_main(void);
#include "agent/function/examples/keepalive.c"
#undef main

#include <stdlib.h>

#include "agent/function/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct keepalive self;
    static struct function_reply reply;
    int ends[2];
    if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 0;
    if (size > 0 && send(ends[1], data, size, MSG_NOSIGNAL) != (ssize_t)size)
        abort();
    (void)shutdown(ends[1], SHUT_WR);
    self = (struct keepalive){.fd = ends[0]};
    const struct function_event event = {
        .request_id = "r", .trace_id = "", .deadline_ns = UINT64_MAX, .data = "x", .size = 1};
    reply_reset(&reply);
    const bool answered = reply_conclude(&reply, handle(&self, &event, &reply));
    if (!answered && (reply.error_type[0] == '\0' || reply.error_text[0] == '\0'))
        abort();
    if (answered && (reply.size > BODY_BYTES + 128 || size == 0))
        abort();
    if (self.reconnects != (size == 0)) /* repeated when nothing came, and only then */
        abort();
    hang_up(&self);
    (void)close(ends[1]);
    return 0;
}
