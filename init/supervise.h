/*
 * PID 1's life: start the agent, reap, restart it, halt in order.
 */
#ifndef INIT_SUPERVISE_H
#define INIT_SUPERVISE_H

#include "init/bootargs.h"

/* Supervise the agent until everything has ended. Returns the reason to power off with. All signals must be
 * blocked. */
enum guest_exit supervise(const struct bootargs *args);

#endif
