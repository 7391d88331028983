/*
 * The snapshots of a running guest: the one that `hostvmm snapshot` takes when the function is ready, and
 * those that are asked for through the control socket.
 */
#ifndef HOSTVMM_SNAPSHOTS_H
#define HOSTVMM_SNAPSHOTS_H

#include "hostvmm/control/operator.h"
#include "hostvmm/snapshot/capture.h"

/* One has been taken that the guest does not outlive, or could not be. Then `code` is for the process. */
typedef void snapshots_stop(void *context, int code);

struct snapshots {
    struct capture capture;
    struct operator_server control;
    bool listening;
    uint32_t hooks_ms;
    bool stops; /* the one under way ends the guest */
    snapshots_stop *stop;
    void *context;
};

void snapshots_init(struct snapshots *snapshots, struct machine *machine, struct loop *loop,
                    uint32_t hooks_ms, snapshots_stop *stop, void *context);
/* Serve the control socket at `path`. 0 or -errno, logged. */
int snapshots_listen(struct snapshots *snapshots, const char *path);
/* Take the one that ends the guest; `stop` will be called. */
void snapshots_take_last(struct snapshots *snapshots, const char *out);
void snapshots_fini(struct snapshots *snapshots);

#endif
