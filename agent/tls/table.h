/*
 * What the files of connections.h share: its table, and who does what.
 *
 *   connections.c   life: the manifest read, the table filled; settle; the one timer
 *   pool.c          upstreams kept ready, or bound to a local end; back-off
 *   line.c          an upstream each; who shakes hands first
 *   report.c        NAME.error and the log
 *   door.c          listening sockets
 *   local.c         local ends: from a function's connection to its end
 *   pump.c          bytes between a local end and its line, both ways
 *   ask.c           function_connect()'s question
 *   turn.c          around a snapshot: drain, undrain, forget, renew
 *
 * Two phases, as in session.h: handlers and callbacks note what happened (`dirty`), then table_leave settles
 * until nothing moves. So a callback that comes from within a call of ours changes nothing under its feet.
 * Lines that are done with are freed last, and never from within a callback of their own.
 */
#ifndef AGENT_TLS_TABLE_H
#define AGENT_TLS_TABLE_H

#include "agent/tls/connections.h"
#include "agent/tls/credentials.h"
#include "agent/tls/manifest.h"
#include "agent/tls/upstream.h"

#define TABLE_NS_PER_MS      UINT64_C(1000000)
#define TABLE_BACK_OFF_MS    100   /* after the first failure; doubled by each further one */
#define TABLE_BACK_OFF_LIMIT 10000 /* ms */
#define TABLE_SHORT_LIFE_MS  1000  /* a ready line that ends sooner counts as a failure */
#define TABLE_ACCEPT_WAIT_MS 100   /* after accept() found no descriptor or memory */
#define TABLE_DRAIN_TICK_MS  5     /* no event says that the function has read all: looked at this often */
#define TABLE_SAY_AGAIN_MS   60000 /* the same failure is logged again */
#define TABLE_DOORS          3     /* of a name: Unix, 127.0.0.1, ::1 */

struct pool;
struct local;

enum line_state {
    LINE_BEGUN,   /* until its handshake is done */
    LINE_OPEN,    /* ready, or in use */
    LINE_CLOSING, /* nobody's any more; close_notify is on its way */
    LINE_SPENT,   /* to be freed */
};

/* An upstream, and whose it is. */
struct line {
    struct upstream upstream;
    enum line_state state;
    struct line *next; /* of all lines */
    struct pool *pool;
    struct local *local; /* NULL: the pool's */
    bool held;           /* before its handshake (upstream_begin_held) */
    bool dirty;
    uint64_t opened_ns;
};

struct door {
    struct connections *connections;
    struct pool *pool; /* NULL: where function_connect() asks */
    int fd;            /* -1: none */
    bool is_tcp;
    struct loop_source source;
};

/* All of one name of the manifest. */
struct pool {
    struct connections *connections;
    const struct manifest_connection *wish;
    struct credentials credentials;
    struct upstream_sessions sessions;
    struct upstream_plan plan;
    struct line *leader;    /* shakes hands while the others are held */
    bool gives_no_sessions; /* this server: there is nothing to wait for */
    unsigned failures;      /* in a row */
    uint64_t retry_ns;      /* the pool is filled again from then on */
    bool has_error_file;
    char said[UPSTREAM_WHY_BYTES]; /* on the log */
    uint64_t said_ns;
    struct door doors[TABLE_DOORS];
};

enum local_state {
    LOCAL_FREE,
    LOCAL_ASKING, /* function_connect() has not said a whole name */
    LOCAL_SERVED, /* has a line, or will have one when the table serves again */
};

/* A connection of the function's. */
struct local {
    enum local_state state;
    struct connections *connections;
    struct pool *pool; /* NULL while asking */
    struct line *line; /* NULL: none now */
    int fd;
    struct loop_source source;
    bool is_tcp;
    bool owes_ok;            /* the answer to function_connect() */
    bool dirty;              /* to be looked at */
    bool ended;              /* the function sends nothing more than what is there */
    bool gone;               /* and reads nothing more */
    bool last_from_function; /* it has said what the server has not answered */
    unsigned kept;           /* bytes sent on, still in the socket's queue (pump.c) */
    uint64_t moved_ns;       /* when bytes last moved */
};

enum table_mode {
    TABLE_OFF,      /* no manifest */
    TABLE_SERVING,  /* as ever */
    TABLE_DRAINING, /* connections_drain, until no line is left */
    TABLE_STILL,    /* none is; nothing is looked at */
};

struct connections {
    enum table_mode mode;
    struct loop *loop;
    uid_t user;
    gid_t group;
    char function_directory[256];
    char directory[256];
    struct manifest manifest;
    struct pool pools[MANIFEST_MAX];
    struct door ask;
    struct line *lines;
    struct local locals[CONNECTIONS_LOCAL_MAX];
    unsigned local_count;
    bool doors_open; /* accepting */
    uint64_t accept_retry_ns;

    uint64_t drain_deadline_ns;
    connections_drained *drained; /* NULL: told, or nobody asked */
    void *drained_context;

    unsigned depth;    /* of table_enter */
    bool from_line;    /* within a callback of an upstream's */
    bool progress;     /* settle once more */
    bool later;        /* come back in the loop's next turn */
    uint64_t armed_ns; /* LOOP_TIMER_NEVER: not */
    int timer_fd;
    struct loop_source timer;
    int turn_fd; /* an eventfd: the loop's next turn */
    struct loop_source turn;
};

/* ---- connections.c */

void table_enter(struct connections *connections);
void table_leave(struct connections *connections);

/* ---- pool.c */

/* A line of this pool for a local end: a ready one, one that is getting ready, or a new one. The local end is
 * looked at when it is open, and reset when there is none to be had. */
void pool_bind(struct pool *pool, struct local *local);
/* Make up the number of ready ones, renew the old ones. */
void pool_fill(struct pool *pool, uint64_t now_ns);
/* When pool_fill is to be called next. */
uint64_t pool_next_ns(const struct pool *pool);
/* An attempt failed: the next comes later. Those that fail together count once. */
void pool_back_off(struct pool *pool);
unsigned pool_count_spare(const struct pool *pool);

/* ---- line.c */

/* NULL: no memory. One that fails at once is looked at next. */
struct line *line_begin(struct pool *pool);
/* The pool's, not a local end's. */
bool line_is_spare(const struct line *line, const struct pool *pool);
/* A line has changed. */
void line_look(struct line *line);
/* It is nobody's: end it in order, or at once. */
void line_close(struct line *line);
void line_spend(struct line *line);
/* Its local end is gone before it was used: the pool's again, when that has room. */
void line_give_back(struct line *line);
/* Free the spent ones. */
void line_sweep(struct connections *connections);

/* ---- report.c */

/* A line, or the attempt at one, failed. */
void report_failure(struct pool *pool, int error, const char *why);
void report_success(struct pool *pool);
/* Whatever an earlier life has left. */
void report_forget(struct pool *pool);

/* ---- door.c */

int door_open_all(struct connections *connections, char *why);
void door_close_all(struct connections *connections);
void door_pause(struct connections *connections);
/* Unless all places are taken, or this is not the time. */
void door_resume(struct connections *connections);

/* ---- local.c */

/* Take over the descriptor. `pool` NULL: it will say. */
void local_begin(struct connections *connections, struct pool *pool, int fd, bool is_tcp);
/* Begin, or stop, to look at its socket. */
void local_attach(struct local *local);
void local_detach(struct local *local);
/* Something happened to it or its line. */
void local_look(struct local *local);
/* Nothing is half-sent or half-read: connections.h. */
bool local_is_idle(struct local *local);
/* The ends of it: end of stream; reset, or "error" to function_connect(). Its line, if any, is let go too. */
void local_finish(struct local *local);
void local_fail(struct local *local, int error, const char *why);
/* When it is to be looked at though nothing happens. */
uint64_t local_next_ns(const struct local *local);
/* Has the function ended it, with nothing left to be sent? */
bool local_is_deserted(struct local *local);

/* ---- pump.c */

enum pump_result {
    PUMP_WAITS, /* for either side */
    PUMP_MORE,  /* there is more to do, after others had their turn */
    PUMP_BROKEN /* the local end */
};

/* Bytes both ways as far as they go. */
enum pump_result pump_run(struct local *local);
/* Bytes from the function that have not been sent on. */
bool pump_has_input(struct local *local);
/* Take the kept byte out of the socket. */
void pump_drop_kept(struct local *local);
void pump_wipe(void);

/* ---- ask.c */

void ask_look(struct local *local);
/* Its answers; the second says why there is no line. */
bool ask_say_ok(struct local *local);
void ask_say_error(struct local *local, int error, const char *why);

/* ---- turn.c */

/* While TABLE_DRAINING. */
void turn_look(struct connections *connections, uint64_t now_ns);
/* After it: is there anything left of which only looking tells that it is over? */
bool turn_waits_for_function(const struct connections *connections);

#endif
