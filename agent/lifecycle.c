/* See lifecycle.h, where the machine is drawn. A pair that is not in the table is LIFECYCLE_IMPOSSIBLE. */
#include "agent/lifecycle.h"

static const struct lifecycle_step table[LIFECYCLE_STATE_COUNT][LIFECYCLE_EVENT_COUNT] =
    {
        [LIFECYCLE_DOWN] =
            {
                [LIFECYCLE_START] = {LIFECYCLE_STARTING, LIFECYCLE_SPAWN},
                [LIFECYCLE_RESUME] = {LIFECYCLE_RENEWING, LIFECYCLE_STEP},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPED, LIFECYCLE_HALT},
            },
        [LIFECYCLE_STARTING] =
            {
                [LIFECYCLE_INIT_READY] = {LIFECYCLE_READY, LIFECYCLE_ANNOUNCE},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_INIT},
                [LIFECYCLE_RESUME] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_READY] =
            {
                [LIFECYCLE_INVOKE] = {LIFECYCLE_RUNNING, LIFECYCLE_BEGIN},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_IDLE},
                [LIFECYCLE_CHECKPOINT] = {LIFECYCLE_QUIESCING, LIFECYCLE_QUIESCE},
                [LIFECYCLE_RESUME] = {LIFECYCLE_HOLDING, LIFECYCLE_HOLD},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_RUNNING] =
            {
                [LIFECYCLE_ANSWERED] = {LIFECYCLE_READY, LIFECYCLE_FINISH},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_EVENT},
                [LIFECYCLE_RESUME] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE_EVENT},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_ABORT},
            },
        [LIFECYCLE_QUIESCING] =
            {
                [LIFECYCLE_QUIESCED] = {LIFECYCLE_DRAINING, LIFECYCLE_DRAIN},
                [LIFECYCLE_DECLINED] = {LIFECYCLE_READY, LIFECYCLE_TELL_DECLINED},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_QUIESCE},
                [LIFECYCLE_RESUME] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_DRAINING] =
            {
                [LIFECYCLE_DRAINED] = {LIFECYCLE_FREEZING, LIFECYCLE_FREEZE},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_QUIESCE},
                [LIFECYCLE_RESUME] = {LIFECYCLE_HOLDING, LIFECYCLE_HOLD},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_FREEZING] =
            {
                [LIFECYCLE_FROZE] = {LIFECYCLE_FROZEN, LIFECYCLE_TELL_QUIESCED},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_QUIESCE},
                [LIFECYCLE_RESUME] = {LIFECYCLE_HOLDING, LIFECYCLE_HOLD},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        [LIFECYCLE_FROZEN] =
            {
                [LIFECYCLE_CHECKPOINT] = {LIFECYCLE_FROZEN, LIFECYCLE_TELL_QUIESCED},
                [LIFECYCLE_RESUME] = {LIFECYCLE_STEPPING, LIFECYCLE_STEP},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        [LIFECYCLE_HOLDING] =
            {
                [LIFECYCLE_FROZE] = {LIFECYCLE_STEPPING, LIFECYCLE_STEP},
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE},
                [LIFECYCLE_RESUME] = {LIFECYCLE_HOLDING, LIFECYCLE_HOLD},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        /* STEPPING and RENEWING last no longer than the steps, which are taken in one go. */
        [LIFECYCLE_STEPPING] =
            {
                [LIFECYCLE_STEPPED] = {LIFECYCLE_RESUMING, LIFECYCLE_THAW},
                [LIFECYCLE_FAILED] = {LIFECYCLE_UNRESUMED, LIFECYCLE_FAIL_RESUME},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        [LIFECYCLE_RENEWING] =
            {
                [LIFECYCLE_STEPPED] = {LIFECYCLE_STARTING, LIFECYCLE_RENEW},
                [LIFECYCLE_FAILED] = {LIFECYCLE_UNRESUMED, LIFECYCLE_FAIL_RESUME},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        [LIFECYCLE_RESUMING] =
            {
                [LIFECYCLE_RESUMED] = {LIFECYCLE_READY, LIFECYCLE_TELL_RESUMED},
                [LIFECYCLE_FAILED] = {LIFECYCLE_UNRESUMED, LIFECYCLE_FAIL_RESUME},
                [LIFECYCLE_RESUME] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_UNRESUMED] =
            {
                [LIFECYCLE_FAILED] = {LIFECYCLE_UNRESUMED, LIFECYCLE_NOTHING},
                [LIFECYCLE_RESUME] = {LIFECYCLE_UNRESUMED, LIFECYCLE_REFUSE_RESUME},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_CUT},
            },
        [LIFECYCLE_ENDING] =
            {
                [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_NOTHING},
                [LIFECYCLE_RESUME] = {LIFECYCLE_ENDING, LIFECYCLE_REPLACE},
                [LIFECYCLE_GONE] = {LIFECYCLE_DOWN, LIFECYCLE_BURY},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
            },
        [LIFECYCLE_STOPPING] =
            {
                [LIFECYCLE_FAILED] = {LIFECYCLE_STOPPING, LIFECYCLE_NOTHING},
                [LIFECYCLE_RESUME] = {LIFECYCLE_STOPPING, LIFECYCLE_REFUSE_RESUME},
                [LIFECYCLE_GONE] = {LIFECYCLE_STOPPED, LIFECYCLE_HALT},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_NOTHING},
            },
        [LIFECYCLE_STOPPED] =
            {
                [LIFECYCLE_RESUME] = {LIFECYCLE_STOPPED, LIFECYCLE_REFUSE_RESUME},
                [LIFECYCLE_STOP] = {LIFECYCLE_STOPPED, LIFECYCLE_NOTHING},
            },
};

static const char *const state_names[LIFECYCLE_STATE_COUNT] = {
    [LIFECYCLE_DOWN] = "down",           [LIFECYCLE_STARTING] = "starting",
    [LIFECYCLE_READY] = "ready",         [LIFECYCLE_RUNNING] = "running",
    [LIFECYCLE_QUIESCING] = "quiescing", [LIFECYCLE_DRAINING] = "draining",
    [LIFECYCLE_FREEZING] = "freezing",   [LIFECYCLE_FROZEN] = "frozen",
    [LIFECYCLE_HOLDING] = "holding",     [LIFECYCLE_STEPPING] = "stepping",
    [LIFECYCLE_RENEWING] = "renewing",   [LIFECYCLE_RESUMING] = "resuming",
    [LIFECYCLE_UNRESUMED] = "unresumed", [LIFECYCLE_ENDING] = "ending",
    [LIFECYCLE_STOPPING] = "stopping",   [LIFECYCLE_STOPPED] = "stopped",
};

static const char *const event_names[LIFECYCLE_EVENT_COUNT] = {
    [LIFECYCLE_START] = "start",       [LIFECYCLE_INIT_READY] = "init-ready",
    [LIFECYCLE_INVOKE] = "invoke",     [LIFECYCLE_ANSWERED] = "answered",
    [LIFECYCLE_FAILED] = "failed",     [LIFECYCLE_CHECKPOINT] = "checkpoint",
    [LIFECYCLE_QUIESCED] = "quiesced", [LIFECYCLE_DECLINED] = "declined",
    [LIFECYCLE_DRAINED] = "drained",   [LIFECYCLE_FROZE] = "froze",
    [LIFECYCLE_RESUME] = "resume",     [LIFECYCLE_STEPPED] = "stepped",
    [LIFECYCLE_RESUMED] = "resumed",   [LIFECYCLE_GONE] = "gone",
    [LIFECYCLE_STOP] = "stop",
};

struct lifecycle_step lifecycle_step(enum lifecycle_state state, enum lifecycle_event event)
{
    const struct lifecycle_step step = table[state][event];
    if (step.action == LIFECYCLE_IMPOSSIBLE)
        return (struct lifecycle_step){.next = state, .action = LIFECYCLE_IMPOSSIBLE};
    return step;
}

bool lifecycle_listens(enum lifecycle_state state)
{
    return state == LIFECYCLE_STARTING || state == LIFECYCLE_READY || state == LIFECYCLE_RUNNING ||
           state == LIFECYCLE_QUIESCING || state == LIFECYCLE_DRAINING || state == LIFECYCLE_RESUMING;
}

const char *lifecycle_state_name(enum lifecycle_state state)
{
    return state_names[state];
}

const char *lifecycle_event_name(enum lifecycle_event event)
{
    return event_names[event];
}
