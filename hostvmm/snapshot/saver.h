/*
 * Writing a snapshot (FORMAT.md): into a directory with a temporary name beside the wanted one, fsynced,
 * renamed. Whatever interrupts it, there is a whole snapshot or none.
 *
 *   saver_begin      before the VM is paused: the directory
 *   saver_memory     paused: RAM, all of it or what changed since the parent
 *   (machine_save    paused: the parts)
 *   saver_finish     the VM may run again: digests, manifest, fsync, rename
 *   saver_fini       always; removes what is not finished
 *
 * 0 or -errno with `why` (SNAPSHOT_WHY_BYTES).
 */
#ifndef HOSTVMM_SNAPSHOT_SAVER_H
#define HOSTVMM_SNAPSHOT_SAVER_H

#include "hostvmm/snapshot/snapshot.h"

struct saver {
    struct snapshot made; /* the caller fills in machine and consented before saver_finish */
    char name[256];       /* the wanted one, below `above` */
    char partial[280];
    int above;     /* the directory it is made in */
    int directory; /* the temporary one, locked; -1: none */
    int memory;
    uint64_t *changed; /* a bit a page: in this snapshot's own memory file; NULL: every page */
    const struct snapshot *parent;
};

int saver_begin(struct saver *saver, const char *path, char *why);

/*
 * Write RAM. With `changed` (a bit a page, the saver's from here on, from malloc) only those pages and, where
 * that keeps the runs few, some between them; then `parent` is an open snapshot that has the rest, and stays
 * open until saver_finish. `present`, if not NULL, leaves out pages that are known to be zero.
 */
int saver_memory(struct saver *saver, const struct guest_memory *memory, const uint64_t *present,
                 uint64_t *changed, const struct snapshot *parent, char *why);

int saver_finish(struct saver *saver, const struct state_writer *parts, char *why);
void saver_fini(struct saver *saver);

/* ---- layers.c: which page is found where ------------------------------------------------------------------
 */

/* Make `made`'s layers and runs from the parent's and the changed pages, which may become more. -ENOMEM, or
 * -ENAMETOOLONG. `above` is the absolute directory that the new snapshot will be in. */
int layers_of_diff(struct snapshot *made, const struct snapshot *parent, uint64_t *changed,
                   const char *above);
void layers_of_full(struct snapshot *made);

#endif
