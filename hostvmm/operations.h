/*
 * What the requests of control/OPERATOR.md do to the guest, and the guest's standing still.
 *
 *   not started --resume--> running --pause, snapshot then=pause--> paused --resume--> running
 *        (a restored one that has not started counts as paused)
 *
 * The operator has a loop of its own, which is a source of the main one. While the guest stands still only the
 * former turns: no device that is served on the main loop touches guest memory, its clients wait, and nothing
 * has to know of it. A VM that nobody operates has none of this.
 *
 * Main thread. Owner: run.c.
 */
#ifndef HOSTVMM_OPERATIONS_H
#define HOSTVMM_OPERATIONS_H

#include <stdbool.h>

#include "agent/base/loop.h"
#include "hostvmm/config.h"
#include "hostvmm/control/operator.h"
#include "hostvmm/machine.h"
#include "hostvmm/metrics.h"
#include "hostvmm/snapshots.h"
#include "hostvmm/timeline.h"

/* What of the guest's life is its owner's. */
struct operations_guest {
    /* Begun with --paused: let it run. 0, or -errno, logged. */
    int (*start)(void *context);
    /* Why it cannot be paused or saved now; NULL: it can. */
    const char *(*busy)(void *context);
    void (*shutdown)(void *context); /* as SIGTERM does */
    /* At once; `code` is for the process. */
    void (*stop)(void *context, int code);
    loop_handler *on_signal; /* of signal_fd */
};

struct operations {
    const struct config *config;
    struct machine *machine;
    struct snapshots *snapshots;
    struct timeline *timeline;
    const struct uniqueness *uniqueness; /* of a clone */
    const struct operations_guest *guest;
    void *context;
    int signal_fd; /* watched here, too, while the guest stands still */

    struct operator_server server;
    struct loop loop;
    struct loop_source nested; /* it, in the main loop */
    struct loop_source signals;
    bool open;
    bool started;      /* vCPUs run, or have run */
    bool paused;       /* they were made to stand still */
    bool pause_wanted; /* at the end of this turn */
    bool resume_asked; /* by the request in hand */
    bool stops;        /* the guest does not outlive the snapshot under way */
};

/* Before anything else; makes operations_fini safe. The fields above the server are the caller's to set. */
void operations_init(struct operations *operations);
/* Serve what the configuration asks for. 0 or -errno, logged. */
int operations_open(struct operations *operations, struct loop *main_loop);
void operations_fini(struct operations *operations);

/* The vCPUs have started. */
void operations_started(struct operations *operations);
/* Whether the guest stands still, or is to: then operations_stand, between two turns of the main loop. */
bool operations_stands(const struct operations *operations);
/* Serve the operator and signals alone, until the guest goes on or has ended. 0 or -errno. */
int operations_stand(struct operations *operations);
/* Let a paused guest go on, to do as it is asked. False: it has never run. */
bool operations_go_on(struct operations *operations);

/* The counters into the file that the configuration names, if it does. Also of a guest that nobody operates. */
void operations_write_metrics(const struct operations *operations);

/* ---- operations_status.c, operations_devices.c: answers as JSON members ---- */

const char *operations_state(const struct operations *operations);
/* What to answer: code 0 and text (allocated; NULL: none), or an exit code and the reason. */
struct operations_reply {
    int code;
    const char *why;
    char *text;
};
struct operations_reply operations_drive(struct machine *machine, const struct operator_request *request);
struct operations_reply operations_net(struct machine *machine, const struct operator_request *request);
struct operations_reply operations_entropy(struct machine *machine, const struct operator_request *request);
struct operations_reply operations_balloon(struct machine *machine, const struct operator_request *request);

/* Allocated text, NULL: no memory. */
char *operations_status(const struct operations *operations);

#endif
