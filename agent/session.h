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
#include "agent/resume.h"
#include "agent/tls/connections.h"

#define SESSION_INIT_LIMIT_MS   10000
#define SESSION_STOP_GRACE_MS   1000 /* less than init gives us */
#define SESSION_KILL_AGAIN_MS   1000
#define SESSION_EXIT_LINGER_MS  1000 /* between the end of the channel and that of the process, either way */
#define SESSION_FREEZE_LIMIT_MS 2000
#define SESSION_DRAIN_LIMIT_MS  5000
#define SESSION_DRAIN_LINGER_MS 1000 /* after its deadline a drain is over at once */

struct invocation {
    struct client *owner;            /* NULL: it is gone */
    char id[PROTO_ID_MAX_BYTES + 1]; /* empty: no invocation */
    uint32_t timeout_ms;
    uint64_t deadline_ns;
    struct payload_assembly event;  /* how much of it the function has been given */
    struct payload_assembly answer; /* how much of it the owner has been given */
};

/* What is under way around a snapshot: session_checkpoint.c, session_resume.c. */
struct snapshot {
    struct client *asker; /* of the checkpoint; NULL: gone, or none */
    uint64_t asked_ns;
    uint64_t checkpoint_deadline_ns;
    uint32_t checkpoint_timeout_ms;

    bool drained; /* the connections held for the function are closed */

    struct client *resumer; /* of the resume; NULL: gone, or none */
    uint32_t hooks_timeout_ms;
    bool due;      /* the steps are taken when nothing is left of the process in hand */
    bool starting; /* they are done; the start of a fresh process is the last */
    const char *step_name;
    uint64_t step_started_ns;
    struct resume_order order;

    const struct client *secrets_of; /* who has given these for its resume to come */
    unsigned secret_count;
};

struct session {
    struct loop *loop;
    struct process *process;
    struct parent *parent;
    uint32_t init_limit_ms;

    enum lifecycle_state state;
    uint64_t state_limit_ns;  /* when the state has lasted too long */
    uint64_t linger_limit_ns; /* when half an end (exit or end of channel) is taken for a whole one */
    bool failure_is_told;     /* `failure`, by the function itself: passed on as it is */
    bool restart;             /* as soon as the old process is gone, without waiting for a request */
    bool exiting;             /* SIGTERM: exit when the function is gone */

    struct channel function;
    uint16_t api_port;         /* of the HTTP form; 0: any that is free */
    bool greeted;              /* its HELLO has come (native) */
    bool holding;              /* `held` waits for room at the owner */
    struct proto_message held; /* from the function */
    struct output output;
    uint64_t started_ns;
    uint64_t served; /* invocations since it started */
    struct invocation current;

    struct snapshot snapshot;
    const char *given_up_path; /* a file that says it for later agents of this guest; NULL: none */

    const char *connections_directory; /* of agent/tls/connections.h; NULL: none are held */

    enum proto_state init_state; /* as last told; STARTING until the first init has ended */
    uint64_t init_duration_us;

    uint64_t arrivals;

    int timer_fd;
    struct loop_source timer_source;
    uint64_t armed_ns;
    bool progress; /* something moved: settle once more */

    struct client clients[PROTO_CONNECTIONS_MAX];

    /* What is large and seldom written comes last, so that a resume writes few pages: each is copied for each
     * clone. */
    struct backlog backlog;                      /* of output that no client got */
    struct failure failure;                      /* why FAILED */
    struct failure init_failure;                 /* as last told, with init_state */
    char connections_why[CONNECTIONS_WHY_BYTES]; /* they cannot be: no process is started; empty: they can */
    struct resume_secret secrets[RESUME_SECRETS_MAX], order_secrets[RESUME_SECRETS_MAX]; /* of `snapshot` */
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

/* The function is not fit to go on: as is said, because its process has ended, or as it said itself. */
void session_fail(struct session *session, const struct failure *failure);
void session_fail_ended(struct session *session);
void session_fail_told(struct session *session, const struct proto_failure *failure);

/* What several of the session's files do to the function. */
void session_spawn(struct session *session);
/* Kill what is left of it; its last output goes out, and its channels close. */
void session_kill_function(struct session *session);
/* The same, and its invocation fails with session->failure. */
void session_fail_event(struct session *session);
void session_freeze(struct session *session);
/* How long the state may last from now on. */
void session_limit_state(struct session *session, uint32_t limit_ms);
void session_no_limits(struct session *session);

/* A client is closed: when the invocation in hand is its, that ends, and the function with it. */
void session_client_gone(struct session *session, struct client *client, bool broke_off);

/* event.c: an INVOKE held by `client`. */
enum session_take event_take(struct session *session, struct client *client);
bool event_is_uploading(const struct session *session);
bool event_is_first_in_line(const struct session *session, const struct client *client);
/* Is the function, which is ready, really waiting for what it is given next? */
bool event_function_waits(struct session *session);
/* Fail a request that waits; every one. */
void event_fail_one(struct session *session, struct client *client, const struct failure *failure);
void event_fail_waiting(struct session *session, const struct failure *failure);

/* answer.c: what the function has said, and whether it has ended. True when something was taken. */
bool answer_pump(struct session *session);

/* session_checkpoint.c: a CHECKPOINT held by `client`; its refusal; QUIESCED of the function's; it is frozen;
 * the end of the checkpoint under way, if there is one, told to who asked. */
enum session_take checkpoint_take(struct session *session, struct client *client);
void checkpoint_refuse(struct session *session, struct client *client, const struct failure *failure);
void checkpoint_take_quiesced(struct session *session, const struct proto_end *end);
void checkpoint_froze(struct session *session);
void checkpoint_end(struct session *session, const struct failure *failure);

/* session_resume.c: messages held by `client`; RESUMED of the function's; its fresh process has started or
 * not; the end of the resume under way; forget secrets that were given for a resume to come. */
enum session_take resume_take(struct session *session, struct client *client);
void resume_take_secret(struct session *session, struct client *client);
void resume_take_collect(struct session *session, struct client *client);
void resume_take_resumed(struct session *session, const struct proto_end *end);
void resume_started(struct session *session, const struct failure *failure);
void resume_end(struct session *session, const struct failure *failure);
/* Has an agent before this one given this clone up? Then so is this one. */
bool resume_was_given_up(struct session *session);
void resume_wipe_secrets(struct session *session);

/* What these two do for an action of the lifecycle; false when it is not theirs. */
bool checkpoint_act(struct session *session, enum lifecycle_action action);
bool resume_act(struct session *session, enum lifecycle_action action);

/* session_limits.c: what has lasted too long; and when to look again. */
void session_check_limits(struct session *session);
void session_arm_timer(struct session *session);

#endif
