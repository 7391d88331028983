/*
 * Start the agent the way agent/handoff.h promises it.
 */
#ifndef INIT_SPAWN_H
#define INIT_SPAWN_H

#include <sys/types.h>

#include "init/bootargs.h"

/*
 * Start the agent that `args` names, and hand it their network; `attempt` is the number of restarts before
 * it. On success `*handoff_fd` is init's end of the socket pair (non-blocking, close-on-exec) and `*agent`
 * the child. 0; or -errno, logged, when there is no such program or it cannot run.
 */
int spawn_agent(const struct bootargs *args, unsigned attempt, int *handoff_fd, pid_t *agent);

#endif
