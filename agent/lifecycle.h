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
 * Around a snapshot (PROTOCOL.md, "Across a snapshot"), from READY and back to it:
 *
 *            CHECKPOINT              QUIESCED             DRAINED             FROZE            RESUME
 *      READY ----------> QUIESCING ----------> DRAINING ---------> FREEZING -------> FROZEN --------+
 *        | ^                 |   DECLINED          | RESUME            | RESUME                     v
 *        | +-----------------+                     v                   v          FROZE          STEPPING
 *        +------------------------- RESUME ---> HOLDING <--------------+ ------------------------> |   |
 *                  RESUMED                               STEPPED                                   |   |
 *      READY <----------------- RESUMING <---------------------------------------------------------+   |
 *                                   |                    FAILED                                        |
 *                                   +---------------------------------> UNRESUMED <--------------------+
 *
 *      DOWN -- RESUME --> RENEWING -- STEPPED --> STARTING      (FAILED --> UNRESUMED)
 *
 * A RESUME in any other state with a process finds it half-way through something of the original's: ENDING,
 * and from DOWN as drawn. FROZEN, and UNRESUMED, wait for a client and for nothing else. UNRESUMED is for
 * good: nothing leaves it but STOP, and the function's process, if there is one, never runs again.
 *
 * The function has a process from STARTING until GONE, which says that the process has been reaped and its
 * cgroup is empty; so there is never a second one beside it. FAILED is everything that makes a process unfit
 * to get another event: it ended, broke the protocol, ran out of its time, or was answering a client that is
 * gone.
 */
#ifndef AGENT_LIFECYCLE_H
#define AGENT_LIFECYCLE_H

#include <stdbool.h>

enum lifecycle_state {
    LIFECYCLE_DOWN,      /* no process */
    LIFECYCLE_STARTING,  /* spawned; its init is running */
    LIFECYCLE_READY,     /* waiting for an event */
    LIFECYCLE_RUNNING,   /* has an event, or part of one, in hand */
    LIFECYCLE_QUIESCING, /* runs its hooks before a snapshot */
    LIFECYCLE_DRAINING,  /* they have ended well; the connections held for it are being closed */
    LIFECYCLE_FREEZING,  /* they are; waiting until it is frozen */
    LIFECYCLE_FROZEN,    /* the snapshot may be taken; waiting for a resume */
    LIFECYCLE_HOLDING,  /* this is a clone, and the function knew nothing of it: waiting until it is frozen */
    LIFECYCLE_STEPPING, /* frozen, while the agent's steps are taken */
    LIFECYCLE_RENEWING, /* the same without a process: a fresh one follows */
    LIFECYCLE_RESUMING, /* thawed; runs its hooks after the restore */
    LIFECYCLE_UNRESUMED, /* a step failed, or a hook: frozen, or ended, for good */
    LIFECYCLE_ENDING,    /* killed; waiting until nothing of it is left */
    LIFECYCLE_STOPPING,  /* asked to end, because the guest shuts down */
    LIFECYCLE_STOPPED,   /* for good */
    LIFECYCLE_STATE_COUNT,
};

enum lifecycle_event {
    LIFECYCLE_START,
    LIFECYCLE_INIT_READY,
    LIFECYCLE_INVOKE,
    LIFECYCLE_ANSWERED,
    LIFECYCLE_FAILED,
    LIFECYCLE_CHECKPOINT,
    LIFECYCLE_QUIESCED,
    LIFECYCLE_DECLINED, /* a hook was against the snapshot; the function goes on */
    LIFECYCLE_DRAINED,
    LIFECYCLE_FROZE,
    LIFECYCLE_RESUME,
    LIFECYCLE_STEPPED, /* every step went well */
    LIFECYCLE_RESUMED,
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
    LIFECYCLE_QUIESCE,    /* ask the function to run its hooks */
    LIFECYCLE_DRAIN,      /* its connections, before it is frozen: it may be using them */
    LIFECYCLE_FREEZE,
    LIFECYCLE_TELL_QUIESCED,
    LIFECYCLE_TELL_DECLINED,
    LIFECYCLE_FAIL_QUIESCE, /* kill, and start again; tell who asked for the checkpoint */
    LIFECYCLE_HOLD,         /* freeze, for the steps */
    LIFECYCLE_STEP,         /* take the steps */
    LIFECYCLE_THAW,         /* and ask the function to run its hooks */
    LIFECYCLE_RENEW,        /* start a fresh process */
    LIFECYCLE_TELL_RESUMED,
    LIFECYCLE_REPLACE,       /* kill: the steps are taken when nothing is left, and a fresh process follows */
    LIFECYCLE_REPLACE_EVENT, /* the same, and tell the owner of the invocation */
    LIFECYCLE_FAIL_RESUME,   /* freeze what there is; tell who asked, and whoever waits */
    LIFECYCLE_REFUSE_RESUME,
    LIFECYCLE_BURY,      /* forget the process */
    LIFECYCLE_TERMINATE, /* ask the process to end; kill it when its grace is over */
    LIFECYCLE_ABORT,     /* the same, and tell the owner of the invocation */
    LIFECYCLE_CUT,       /* kill: it is not to run again, not even to end */
    LIFECYCLE_HALT,      /* the last process is gone: tell init, or exit */
    LIFECYCLE_ACTION_COUNT,
};

struct lifecycle_step {
    enum lifecycle_state next;
    enum lifecycle_action action;
};

struct lifecycle_step lifecycle_step(enum lifecycle_state state, enum lifecycle_event event);

/* Is what the function says to be heard? It has a process that runs. */
bool lifecycle_listens(enum lifecycle_state state);

const char *lifecycle_state_name(enum lifecycle_state state);
const char *lifecycle_event_name(enum lifecycle_event event);

#endif
