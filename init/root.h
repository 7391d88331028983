/*
 * The root file system: find it, mount it read-only, lay the writable layer over it, move into it.
 */
#ifndef INIT_ROOT_H
#define INIT_ROOT_H

#include "init/bootargs.h"

/*
 * Enter the root that `args` names, with /proc and /dev (mounts_early) carried over. Everything that fails is
 * logged with what to do about it. GUEST_EXIT_ORDERLY when done, else the reason to power off with.
 * `*writable_fd` becomes a handle on the writable layer's file system for unmount_all when that layer is a
 * drive, -1 otherwise.
 */
enum guest_exit root_enter(const struct bootargs *args, int *writable_fd);

#endif
