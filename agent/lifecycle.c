/* See lifecycle.h, where the machine is drawn. A pair that is not in the table is LIFECYCLE_IMPOSSIBLE. */
#include "agent/lifecycle.h"

static const struct lifecycle_step table[LIFECYCLE_STATE_COUNT][LIFECYCLE_EVENT_COUNT] = {
    [LIFECYCLE_DOWN] =
        {
            [LIFECYCLE_START] = {LIFECYCLE_STARTING, LIFECYCLE_SPAWN},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPED, LIFECYCLE_HALT},
        },
    [LIFECYCLE_STARTING] =
        {
            [LIFECYCLE_INIT_READY] = {LIFECYCLE_READY, LIFECYCLE_ANNOUNCE},
            [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_INIT},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
        },
    [LIFECYCLE_READY] =
        {
            [LIFECYCLE_INVOKE] = {LIFECYCLE_RUNNING, LIFECYCLE_BEGIN},
            [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_IDLE},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
        },
    [LIFECYCLE_RUNNING] =
        {
            [LIFECYCLE_ANSWERED] = {LIFECYCLE_READY, LIFECYCLE_FINISH},
            [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_FAIL_EVENT},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_ABORT},
        },
    [LIFECYCLE_ENDING] =
        {
            [LIFECYCLE_FAILED] = {LIFECYCLE_ENDING, LIFECYCLE_NOTHING},
            [LIFECYCLE_GONE] = {LIFECYCLE_DOWN, LIFECYCLE_BURY},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_TERMINATE},
        },
    [LIFECYCLE_STOPPING] =
        {
            [LIFECYCLE_FAILED] = {LIFECYCLE_STOPPING, LIFECYCLE_NOTHING},
            [LIFECYCLE_GONE] = {LIFECYCLE_STOPPED, LIFECYCLE_HALT},
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPING, LIFECYCLE_NOTHING},
        },
    [LIFECYCLE_STOPPED] =
        {
            [LIFECYCLE_STOP] = {LIFECYCLE_STOPPED, LIFECYCLE_NOTHING},
        },
};

static const char *const state_names[LIFECYCLE_STATE_COUNT] = {
    [LIFECYCLE_DOWN] = "down",       [LIFECYCLE_STARTING] = "starting", [LIFECYCLE_READY] = "ready",
    [LIFECYCLE_RUNNING] = "running", [LIFECYCLE_ENDING] = "ending",     [LIFECYCLE_STOPPING] = "stopping",
    [LIFECYCLE_STOPPED] = "stopped",
};

static const char *const event_names[LIFECYCLE_EVENT_COUNT] = {
    [LIFECYCLE_START] = "start",       [LIFECYCLE_INIT_READY] = "init-ready", [LIFECYCLE_INVOKE] = "invoke",
    [LIFECYCLE_ANSWERED] = "answered", [LIFECYCLE_FAILED] = "failed",         [LIFECYCLE_GONE] = "gone",
    [LIFECYCLE_STOP] = "stop",
};

struct lifecycle_step lifecycle_step(enum lifecycle_state state, enum lifecycle_event event)
{
    const struct lifecycle_step step = table[state][event];
    if (step.action == LIFECYCLE_IMPOSSIBLE)
        return (struct lifecycle_step){.next = state, .action = LIFECYCLE_IMPOSSIBLE};
    return step;
}

const char *lifecycle_state_name(enum lifecycle_state state)
{
    return state_names[state];
}

const char *lifecycle_event_name(enum lifecycle_event event)
{
    return event_names[event];
}
