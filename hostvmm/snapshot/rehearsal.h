/*
 * Which pages a clone touches before it is ready, found out by restoring one (FORMAT.md, "prefetch").
 *
 * The parent, that made the snapshot, runs `hostvmm restore --rehearse` on it twice and waits. In the first
 * child RAM is mapped as in any clone: the pages that are the clone's own at the end were written. In the
 * second, which finds these in the file that the first wrote, RAM is empty and watched (userfaultfd): a page
 * is brought in when somebody touches it, and alone. (It cannot tell who writes: KVM asks for a page that is
 * not there as if it were to be written.) When the clone is ready its pages are written down, and it is
 * thrown away.
 *
 * Whatever goes wrong costs later clones speed, and nothing else.
 */
#ifndef HOSTVMM_SNAPSHOT_REHEARSAL_H
#define HOSTVMM_SNAPSHOT_REHEARSAL_H

#include <pthread.h>
#include <stdbool.h>

#include "hostvmm/config.h"
#include "hostvmm/snapshot/snapshot.h"
#include "hostvmm/vm.h"

#define REHEARSAL_LIMIT_S 60u /* of the whole */

/* The parent's part: run them for the snapshot `config->out`. What it has to say is logged. */
void rehearsal_run(const struct config *config);

/* ---- the child's part ---- */

struct rehearsal {
    struct vm *vm;
    const struct snapshot *snapshot;
    int fault_fd; /* userfaultfd; -1: not watched */
    int stop_fd;
    uint64_t *touched; /* a bit a page by offset in RAM; NULL: not known; the thread's while it runs */
    uint64_t *written; /* what an earlier rehearsal found */
    bool started;
    pthread_t thread; /* serves the faults of all others */
};

/* Before anything else; makes rehearsal_fini safe. */
void rehearsal_init(struct rehearsal *rehearsal);
/* The VM is made from the snapshot, and nothing of its memory was touched. 0 or -errno, logged. */
int rehearsal_begin(struct rehearsal *rehearsal, struct vm *vm, const struct snapshot *snapshot);
/* Its state is loaded, and nothing has run. */
void rehearsal_loaded(struct rehearsal *rehearsal);
/* The clone is ready: stop it for good and write its pages down. 0 or -errno, logged. */
int rehearsal_record(struct rehearsal *rehearsal);
/* The vCPUs do not run. */
void rehearsal_fini(struct rehearsal *rehearsal);

#endif
