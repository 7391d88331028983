/*
 * The agent's one session: a function, the invocation it has in hand, and the clients that wait for it.
 *
 * Everything happens on the loop's thread, in two phases. Handlers only note what happened (bytes read, a
 * process reaped, a timer); then session_settle takes all that can be taken, until nothing moves:
 *
 *      function's frames -> answer.c      clients' frames -> client.c -> event.c      time limits
 *              \________________________________|___________________________________/
 *                                    session_step: lifecycle.h
 *
 * So no handler calls into another, and closing a client or killing the function is safe anywhere.
 *
 * Memory is bounded by the structures here: an event or answer is never held whole, only the frame that waits
 * for room on the other side.
 */
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

#include "agent/backlog.h"
#include "agent/base/loop.h"
#include "agent/channel.h"
#include "agent/client.h"
#include "agent/failure.h"
#include "agent/lifecycle.h"
#include "agent/output.h"
#include "agent/parent.h"
#include "agent/process.h"

#define SESSION_INIT_LIMIT_MS  10000
#define SESSION_STOP_GRACE_MS  1000 /* less than init gives us */
#define SESSION_KILL_AGAIN_MS  1000
#define SESSION_EXIT_LINGER_MS 1000 /* between the end of the channel and that of the process, either way */

struct invocation {
    struct client *owner;            /* NULL: it is gone */
    char id[PROTO_ID_MAX_BYTES + 1]; /* empty: no invocation */
    uint32_t timeout_ms;
    uint64_t deadline_ns;
    struct payload_assembly event;  /* how much of it the function has been given */
    struct payload_assembly answer; /* how much of it the owner has been given */
};

struct session {
    struct loop *loop;
    struct process *process;
    struct parent *parent;
    uint32_t init_limit_ms;

    enum lifecycle_state state;
    uint64_t state_limit_ns;  /* when the state has lasted too long */
    uint64_t linger_limit_ns; /* when half an end (exit or end of channel) is taken for a whole one */
    struct failure failure;   /* why FAILED */
    bool failure_is_told;     /* by the function itself: passed on as it is */
    bool restart;             /* as soon as the old process is gone, without waiting for a request */
    bool exiting;             /* SIGTERM: exit when the function is gone */

    struct channel function;
    uint16_t api_port;         /* of the HTTP form; 0: any that is free */
    bool greeted;              /* its HELLO has come (native) */
    bool holding;              /* `held` waits for room at the owner */
    struct proto_message held; /* from the function */
    struct output output;
    struct backlog backlog; /* of output that no client got */
    uint64_t started_ns;
    uint64_t served; /* invocations since it started */
    struct invocation current;

    enum proto_state init_state; /* as last told; STARTING until the first init has ended */
    uint64_t init_duration_us;
    struct failure init_failure;

    struct client clients[PROTO_CONNECTIONS_MAX];
    uint64_t arrivals;

    int timer_fd;
    struct loop_source timer_source;
    uint64_t armed_ns;
    bool progress; /* something moved: settle once more */
};

enum session_take { SESSION_TAKEN, SESSION_LATER };

int session_init(struct session *session, struct loop *loop, struct process *process, struct parent *parent);
void session_fini(struct session *session);

/* Start the function for the first time, when nothing of an earlier agent's is left. */
void session_start(struct session *session);

/* Take over a client's connection; one too many is refused. */
void session_accept(struct session *session, int fd);

/* Shut down: the guest, when a client has asked for it; only the agent, on init's SIGTERM. */
void session_stop(struct session *session, bool by_init);

/* Wait for one batch of events (loop_run_once) and settle. */
int session_run_once(struct session *session, int timeout_ms);
void session_settle(struct session *session);

/* ---- between the session's files ---- */

void session_step(struct session *session, enum lifecycle_event event);

/* The function is not fit to go on; in the second case it said so itself. */
void session_fail(struct session *session, const struct failure *failure);
void session_fail_told(struct session *session, const struct proto_failure *failure);

/* A client is closed: when the invocation in hand is its, that ends, and the function with it. */
void session_client_gone(struct session *session, struct client *client);

/* event.c: an INVOKE held by `client`. */
enum session_take event_take(struct session *session, struct client *client);
bool event_is_uploading(const struct session *session);
/* Fail a request that waits; every one. */
void event_fail_one(struct session *session, struct client *client, const struct failure *failure);
void event_fail_waiting(struct session *session, const struct failure *failure);

/* answer.c: what the function has said, and whether it has ended. True when something was taken. */
bool answer_pump(struct session *session);

/* session_limits.c: what has lasted too long; and when to look again. */
void session_check_limits(struct session *session);
void session_arm_timer(struct session *session);

#endif
