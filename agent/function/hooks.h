/* The hooks around a snapshot, in their order (function.h). Internal to agent/function. */
#ifndef AGENT_FUNCTION_HOOKS_H
#define AGENT_FUNCTION_HOOKS_H

#include "agent/function/function.h"

#define HOOKS_WHY_BYTES 128

/* 0, or what the hook that failed returned, with `why` (HOOKS_WHY_BYTES) naming it. */
int hooks_before_checkpoint(const struct function *function, char *why);
int hooks_after_restore(const struct function *function, uint64_t generation, char *why);

/* Forget what was registered, for tests. */
void hooks_reset(void);

#endif
