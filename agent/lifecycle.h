/*
 * The life of the function, as a pure state machine: what is, what happens, what is next, what to do.
 *
 *                 START              INIT_READY            INVOKE
 *      DOWN ----------------> STARTING --------> READY ------------> RUNNING
 *        ^                        |                ^ |                 | |
 *        |                        |                | +--- FAILED ---+  | |
 *        |                        |                +--- ANSWERED ---|--+ |
 *        |         GONE           v              FAILED             v    |
 *        +--------------------- ENDING <-----------------------------+---+
 *
 *      any of them -- STOP --> STOPPING -- GONE --> STOPPED       (DOWN goes to STOPPED at once)
 *
 * The function has a process from STARTING until GONE, which says that the process has been reaped and its
 * cgroup is empty; so there is never a second one beside it. FAILED is everything that makes a process unfit
 * to get another event: it ended, broke the protocol, ran out of its time, or was answering a client that is
 * gone.
 *
 * A checkpoint will put its states between READY and RUNNING (READY -> quiescing -> frozen -> resuming ->
 * READY): the only state in which nobody waits for the function and it waits for us.
 */
#ifndef AGENT_LIFECYCLE_H
#define AGENT_LIFECYCLE_H

enum lifecycle_state {
    LIFECYCLE_DOWN,     /* no process */
    LIFECYCLE_STARTING, /* spawned; its init is running */
    LIFECYCLE_READY,    /* waiting for an event */
    LIFECYCLE_RUNNING,  /* has an event, or part of one, in hand */
    LIFECYCLE_ENDING,   /* killed; waiting until nothing of it is left */
    LIFECYCLE_STOPPING, /* asked to end, because the guest shuts down */
    LIFECYCLE_STOPPED,  /* for good */
    LIFECYCLE_STATE_COUNT,
};

enum lifecycle_event {
    LIFECYCLE_START,
    LIFECYCLE_INIT_READY,
    LIFECYCLE_INVOKE,
    LIFECYCLE_ANSWERED,
    LIFECYCLE_FAILED,
    LIFECYCLE_GONE,
    LIFECYCLE_STOP,
    LIFECYCLE_EVENT_COUNT,
};

enum lifecycle_action {
    LIFECYCLE_IMPOSSIBLE, /* a mistake of the agent's own: nothing changes */
    LIFECYCLE_NOTHING,
    LIFECYCLE_SPAWN,
    LIFECYCLE_ANNOUNCE,   /* tell the clients and init that the function is ready */
    LIFECYCLE_BEGIN,      /* the invocation */
    LIFECYCLE_FINISH,     /* the invocation */
    LIFECYCLE_FAIL_INIT,  /* kill; tell the clients, init, and whoever waits */
    LIFECYCLE_FAIL_IDLE,  /* kill; nobody is owed an answer */
    LIFECYCLE_FAIL_EVENT, /* kill; tell the owner of the invocation */
    LIFECYCLE_BURY,       /* forget the process */
    LIFECYCLE_TERMINATE,  /* ask the process to end; kill it when its grace is over */
    LIFECYCLE_ABORT,      /* the same, and tell the owner of the invocation */
    LIFECYCLE_HALT,       /* the last process is gone: tell init, or exit */
};

struct lifecycle_step {
    enum lifecycle_state next;
    enum lifecycle_action action;
};

struct lifecycle_step lifecycle_step(enum lifecycle_state state, enum lifecycle_event event);

const char *lifecycle_state_name(enum lifecycle_state state);
const char *lifecycle_event_name(enum lifecycle_event event);

#endif
