/*
 * The file systems every guest has, from one table; see mounts.c.
 */
#ifndef INIT_MOUNTS_H
#define INIT_MOUNTS_H

/* /proc and /dev: needed to read the command line and to find the root device. 0 or -errno of a failure
 * that init cannot go on after; other failures are logged. */
int mounts_early(void);

/* Carry the early mounts over to a new root at `root`. 0 or -errno. */
int mounts_move(const char *root);

/* Everything else, in the final root. 0 or -errno, as mounts_early. */
int mounts_late(void);

#endif
