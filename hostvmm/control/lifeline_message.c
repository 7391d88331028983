/* See lifeline_message.h. Texts of the guest's are cut to fit and have no control characters: they end up in
 * logs and on terminals. */
#include "hostvmm/control/lifeline_message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What an exchange asks for and is answered with. */
static const struct {
    const char *name;
    enum proto_type answer;
} exchanges[] = {
    [LIFELINE_NONE] = {"nothing", PROTO_HELLO},
    [LIFELINE_CHECKPOINT] = {"checkpoint", PROTO_QUIESCED},
    [LIFELINE_RESUME] = {"resume", PROTO_RESUMED},
    [LIFELINE_COLLECT] = {"collect", PROTO_COLLECTED},
};

int lifeline_problem(struct lifeline *lifeline, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(lifeline->outcome.why, sizeof lifeline->outcome.why, format, arguments);
    va_end(arguments);
    return -EPROTO;
}

/* A slice as text: cut between characters of UTF-8, control characters replaced. */
static void copy_text(char *to, size_t capacity, struct proto_slice from)
{
    size_t size = from.size;
    if (size >= capacity) {
        size = capacity - 1;
        while (size > 0 && (from.data[size] & 0xc0) == 0x80)
            size--;
    }
    for (size_t i = 0; i < size; i++)
        to[i] = (char)(from.data[i] < 0x20 || from.data[i] == 0x7f ? '?' : from.data[i]);
    to[size] = '\0';
}

/* "type: message", with the step's name first when the message does not begin with it. */
static void tell_failure(struct lifeline_outcome *outcome, const struct proto_failure *failure)
{
    char type[64];
    char message[LIFELINE_WHY_BYTES - 64 - PROTO_NAME_MAX_BYTES - 8];
    const size_t step_bytes = strlen(outcome->step);
    copy_text(type, sizeof type, failure->type);
    copy_text(message, sizeof message, failure->message);
    const bool is_named = strncmp(message, outcome->step, step_bytes) == 0;
    (void)snprintf(outcome->why, sizeof outcome->why, "%s%s%s: %s", is_named ? "" : outcome->step,
                   is_named ? "" : ": ", type, message);
}

static int take_hello(struct lifeline *lifeline, const struct proto_message *message)
{
    if (lifeline->greeted)
        return lifeline_problem(lifeline, "the agent said hello twice");
    if (message->u.hello.version != PROTO_VERSION)
        return lifeline_problem(lifeline,
                                "the agent speaks version %" PRIu32 " of the protocol, this hostvmm version "
                                "%d: use an image of the same release",
                                message->u.hello.version, PROTO_VERSION);
    lifeline->greeted = true;
    return LIFELINE_GOES_ON;
}

static int take_step(struct lifeline *lifeline, const struct proto_message *message)
{
    struct lifeline_outcome *outcome = &lifeline->outcome;
    if (outcome->step[0])
        return lifeline_problem(lifeline, "the agent went on after its step %s had failed", outcome->step);
    if (message->u.step.failure.type.size > 0) {
        copy_text(outcome->step, sizeof outcome->step, message->u.step.name);
        tell_failure(outcome, &message->u.step.failure);
        return LIFELINE_GOES_ON;
    }
    if (outcome->step_count == LIFELINE_STEPS_MAX)
        return lifeline_problem(lifeline, "the agent reported more than %d steps", LIFELINE_STEPS_MAX);
    copy_text(outcome->steps[outcome->step_count].name, sizeof outcome->steps[0].name, message->u.step.name);
    outcome->steps[outcome->step_count++].duration_us = message->u.step.duration_us;
    return LIFELINE_GOES_ON;
}

static int take_fact(struct lifeline *lifeline, const struct proto_message *message)
{
    if (lifeline->fact_count++ == LIFELINE_FACTS_MAX)
        return lifeline_problem(lifeline, "the agent told more than %d facts", LIFELINE_FACTS_MAX);
    if (lifeline->fact)
        lifeline->fact(lifeline->context, message->u.fact.name, message->u.fact.body);
    return LIFELINE_GOES_ON;
}

static int take_end(struct lifeline *lifeline, const struct proto_end *end)
{
    struct lifeline_outcome *outcome = &lifeline->outcome;
    outcome->duration_us = end->duration_us;
    if (end->failure.type.size > 0) {
        tell_failure(outcome, &end->failure);
        outcome->error = -EREMOTEIO;
    } else if (outcome->step[0]) {
        return lifeline_problem(lifeline, "the agent says it resumed although its step %s had failed",
                                outcome->step);
    }
    return LIFELINE_ANSWERED;
}

/* What only an exchange under way may bring, once its request is out. */
static int take_answer(struct lifeline *lifeline, const struct proto_message *message)
{
    const bool is_asked = lifeline->exchange != LIFELINE_NONE && lifeline->asked &&
                          lifeline->request_sent == lifeline->request_bytes;
    if (is_asked && message->type == exchanges[lifeline->exchange].answer)
        return take_end(lifeline, message->type == PROTO_QUIESCED  ? &message->u.quiesced
                                  : message->type == PROTO_RESUMED ? &message->u.resumed
                                                                   : &message->u.collected);
    if (is_asked && lifeline->exchange == LIFELINE_RESUME && message->type == PROTO_STEP)
        return take_step(lifeline, message);
    if (is_asked && lifeline->exchange == LIFELINE_COLLECT && message->type == PROTO_FACT)
        return take_fact(lifeline, message);
    return lifeline_problem(lifeline, "the agent sent a message of type %d when asked for %s",
                            (int)message->type, exchanges[is_asked ? lifeline->exchange : 0].name);
}

int lifeline_take_frame(struct lifeline *lifeline, struct proto_slice body)
{
    struct proto_message message = {0};
    const char *why = "";
    if (proto_decode(body.data, body.size, &message, &why) < 0)
        return lifeline_problem(lifeline, "the agent sent a frame that is not valid: %s", why);
    if (message.type == PROTO_HELLO)
        return take_hello(lifeline, &message);
    if (message.type == PROTO_ERROR && message.u.error.id.size == 0) { /* it ends the connection */
        tell_failure(&lifeline->outcome, &message.u.error.failure);
        lifeline->outcome.error = -EREMOTEIO;
        return LIFELINE_ANSWERED;
    }
    if (!lifeline->greeted)
        return lifeline_problem(lifeline, "the agent did not begin with hello");
    if (message.type == PROTO_INIT || message.type == PROTO_LOG)
        return LIFELINE_GOES_ON;
    return take_answer(lifeline, &message);
}

void lifeline_tell_late(struct lifeline *lifeline)
{
    const struct lifeline_outcome *outcome = &lifeline->outcome;
    const char *last = outcome->step_count > 0 ? outcome->steps[outcome->step_count - 1].name : "";
    (void)lifeline_problem(lifeline, "the agent did not %s within %" PRIu32 " ms%s%s",
                           exchanges[lifeline->exchange].name, lifeline->limit_ms,
                           !lifeline->greeted ? "; it did not even say hello"
                           : *last            ? "; the last step it did: "
                                              : "",
                           lifeline->greeted ? last : "");
}
