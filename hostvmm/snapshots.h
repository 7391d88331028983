/*
 * The snapshots of a running guest: the one that `hostvmm snapshot` takes when the function is ready, and
 * those that its operator asks for. What became of each is said and counted.
 */
#ifndef HOSTVMM_SNAPSHOTS_H
#define HOSTVMM_SNAPSHOTS_H

#include "hostvmm/snapshot/capture.h"

/* `code`: an exit code. */
typedef void snapshots_done(void *context, int code, const struct capture_result *result);

/* Of all that this guest's life has seen. */
struct snapshots_counts {
    uint64_t taken;
    uint64_t failed;
    uint64_t pause_ns; /* the guest stood still, in all */
    uint64_t last_pause_ns;
    uint64_t disk_bytes;
};

struct snapshots {
    struct capture capture;
    struct snapshots_counts counts;
    uint32_t hooks_ms;
    snapshots_done *done;
    void *context;
};

void snapshots_init(struct snapshots *snapshots, struct machine *machine, struct loop *loop,
                    uint32_t hooks_ms);
/* Take one; hooks_ms of `request` is ours. 0: `done` will be called, perhaps before this returns. -EBUSY one is
 * under way. */
int snapshots_take(struct snapshots *snapshots, const struct capture_request *request, snapshots_done *done,
                   void *context);
/* A result as an exit code. */
int snapshots_code(const struct capture_result *result);
void snapshots_fini(struct snapshots *snapshots);

#endif
