/*
 * function_run(): the function's side of the channel (channel.h), one event at a time.
 *
 *     open -> HELLO -> init hook -> INIT -> ( INVOKE… -> handle hook -> RESPONSE… | ERROR
 *                                           | CHECKPOINT -> hooks -> QUIESCED
 *                                           | RESUME -> hooks -> RESUMED )* -> end of stream
 *
 * Everything blocks, on the caller's thread. The agent is trusted to keep the protocol but checked all the
 * same: what it should not say ends the process with the reason on stderr, never with a wrong answer.
 */
#include "agent/function/function.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/function/channel.h"
#include "agent/function/hooks.h"
#include "agent/function/local.h"
#include "agent/function/reply.h"
#include "agent/function/wire.h"
#include "agent/proto/utf8.h"

/* The event being put together or handled. */
struct inbox {
    struct payload_assembly assembly;
    char trace[PROTO_TRACE_MAX_BYTES + 1];
    uint64_t deadline_ns;
    uint8_t *data; /* owned; NULL when there was no memory for it */
    size_t capacity;
};

static struct wire wire;
static struct inbox inbox;
static struct function_reply reply;

static int channel_lost(int error, const char *what)
{
    log_error("the channel to the agent: %s (%s)", what, strerror(-error));
    return FUNCTION_EXIT_CHANNEL;
}

static void flush_output(void)
{
    fflush(stdout);
    fflush(stderr);
}

static int say_hello(void)
{
    char name[PROTO_NAME_MAX_BYTES + 1];
    snprintf(name, sizeof name, "%s", program_invocation_short_name);
    utf8_clean(name, strlen(name));
    const struct proto_message hello = {
        .type = PROTO_HELLO,
        .u.hello = {.version = PROTO_VERSION,
                    .name = proto_text(name[0] ? name : "function"),
                    .state = PROTO_STATE_STARTING},
    };
    return wire_send(&wire, &hello);
}

static int say_init(int result, uint64_t duration_ns)
{
    char text[64];
    struct proto_message init = {
        .type = PROTO_INIT,
        .u.init = {.state = PROTO_STATE_READY, .duration_us = duration_ns / 1000},
    };
    if (result != 0) {
        snprintf(text, sizeof text, "init returned %d", result);
        init.u.init.state = PROTO_STATE_FAILED;
        init.u.init.failure.type = proto_text(FUNCTION_ERROR_INIT);
        init.u.init.failure.message = proto_text(text);
    }
    return wire_send(&wire, &init);
}

static int say_answer(void)
{
    struct proto_message part = {.type = PROTO_RESPONSE, .u.response.id = proto_text(inbox.assembly.id)};
    static const uint8_t nothing;
    const void *data = reply.size > 0 ? reply.data : &nothing;
    uint32_t offset = 0;
    do { /* once for an empty answer */
        offset += payload_fragment(&part, data, (uint32_t)reply.size, offset);
        const int error = wire_send(&wire, &part);
        if (error)
            return error;
    } while (offset < reply.size);
    return 0;
}

static int say_error(void)
{
    const struct proto_message error = {
        .type = PROTO_ERROR,
        .u.error = {.id = proto_text(inbox.assembly.id),
                    .failure = {.type = proto_text(reply.error_type),
                                .message = proto_text(reply.error_text)}},
    };
    return wire_send(&wire, &error);
}

/* Room for the event whose first fragment is here. Without memory its bytes are counted and not kept. */
static void inbox_open(const struct proto_message *first)
{
    inbox.deadline_ns = clock_monotonic_ns() + first->u.invoke.timeout_ms * UINT64_C(1000000);
    const struct proto_slice trace = first->u.invoke.trace;
    if (trace.size > 0)
        memcpy(inbox.trace, trace.data, trace.size);
    inbox.trace[trace.size] = '\0';
    const size_t needed = inbox.assembly.total_bytes > 0 ? inbox.assembly.total_bytes : 1;
    if (inbox.data && needed <= inbox.capacity)
        return;
    free(inbox.data);
    inbox.data = malloc(needed);
    inbox.capacity = needed;
}

static void inbox_reset(void)
{
    payload_reset(&inbox.assembly);
    if (inbox.capacity > BUFFER_KEPT_BYTES) {
        free(inbox.data);
        inbox.data = NULL;
        inbox.capacity = 0;
    }
}

/* A checkpoint or a resume: its hooks, and how they ended. */
static int serve_hooks(const struct function *function, const struct proto_message *message)
{
    const bool restores = message->type == PROTO_RESUME;
    const uint64_t start_ns = clock_monotonic_ns();
    char why[HOOKS_WHY_BYTES] = "";
    flush_output(); /* what it has printed so far is the original's, and not each clone's */
    const int result = restores ? hooks_after_restore(function, message->u.resume.generation, why)
                                : hooks_before_checkpoint(function, why);
    flush_output();
    struct proto_end end = {.duration_us = (clock_monotonic_ns() - start_ns) / 1000};
    if (result != 0) {
        end.failure.type = proto_text(restores ? FUNCTION_ERROR_RESTORE : FUNCTION_ERROR_CHECKPOINT);
        end.failure.message = proto_text(why);
    }
    const struct proto_message answer =
        restores ? (struct proto_message){.type = PROTO_RESUMED, .u.resumed = end}
                 : (struct proto_message){.type = PROTO_QUIESCED, .u.quiesced = end};
    return wire_send(&wire, &answer);
}

/* A whole event into the inbox. 1; 0 when the agent closed the channel instead; -errno with *why. */
static int receive_event(const struct function *function, const char **why)
{
    struct proto_message message;
    for (;;) {
        const int got = wire_receive(&wire, &message, why);
        if (got <= 0) {
            const bool halfway = inbox.assembly.id[0] != '\0';
            if (got == 0 && halfway)
                *why = "closed in the middle of an event";
            return got == 0 && halfway ? -EPIPE : got;
        }
        const bool between = inbox.assembly.id[0] == '\0';
        if (between && (message.type == PROTO_CHECKPOINT || message.type == PROTO_RESUME)) {
            const int error = serve_hooks(function, &message);
            if (error) {
                *why = "saying how the hooks ended failed";
                return error;
            }
            continue;
        }
        if (message.type != PROTO_INVOKE) {
            *why = "a message that an agent does not send to a function";
            return -EPROTO;
        }
        if (between) {
            if (payload_begin(&inbox.assembly, &message, why) < 0)
                return -EPROTO;
            inbox_open(&message);
        }
        const int step = payload_add(&inbox.assembly, &message, inbox.data, why);
        if (step < 0 || step == PAYLOAD_COMPLETE)
            return step;
    }
}

/* Handle the event in the inbox and answer. 0 or -errno of the channel. */
static int serve_event(const struct function *function)
{
    int result = 0;
    if (inbox.data) {
        const struct function_event event = {.request_id = inbox.assembly.id,
                                             .trace_id = inbox.trace,
                                             .deadline_ns = inbox.deadline_ns,
                                             .data = inbox.data,
                                             .size = inbox.assembly.total_bytes};
        result = function->handle(function->context, &event, &reply);
    } else {
        function_reply_fail(&reply, FUNCTION_ERROR_NO_SPACE, "no memory for an event of %u bytes",
                            (unsigned)inbox.assembly.total_bytes);
    }
    const int answered = reply_conclude(&reply, result);
    flush_output();
    const int error = answered ? say_answer() : say_error();
    inbox_reset();
    reply_reset(&reply);
    return error;
}

static int serve(const struct function *function)
{
    for (;;) {
        const char *why = NULL;
        const int got = receive_event(function, &why);
        if (got == 0)
            return FUNCTION_EXIT_OK;
        if (got < 0)
            return channel_lost(got, why);
        const int error = serve_event(function);
        if (error)
            return channel_lost(error, "sending the answer failed");
    }
}

int function_run(const struct function *function)
{
    log_setup(program_invocation_short_name, LOG_LEVEL_INFO, 2);
    int error = wire_open(&wire);
    if (error == -ENOENT)
        return local_run(function);
    if (error) {
        log_error(FUNCTION_ENV_FD "='%s' is not the number of a stream socket: it is for the agent to set",
                  getenv(FUNCTION_ENV_FD));
        return FUNCTION_EXIT_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a pipe would be block-buffered: lines would come late, or be lost */
    error = say_hello();
    if (error)
        return channel_lost(error, "sending hello failed");
    const uint64_t start_ns = clock_monotonic_ns();
    const int result = function->init ? function->init(function->context) : 0;
    flush_output();
    error = say_init(result, clock_monotonic_ns() - start_ns);
    if (error)
        return channel_lost(error, "sending init failed");
    const int code = result == 0 ? serve(function) : FUNCTION_EXIT_INIT;
    flush_output();
    free(inbox.data);
    inbox = (struct inbox){0};
    reply_fini(&reply);
    return code;
}
