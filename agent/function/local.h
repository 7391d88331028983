/* Local mode of function_run (function.h): one event from stdin, its answer to stdout. Internal. */
#ifndef AGENT_FUNCTION_LOCAL_H
#define AGENT_FUNCTION_LOCAL_H

#include "agent/function/reply.h"

/* Returns the exit code. */
int local_run(const struct function *function);

#endif
