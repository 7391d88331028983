/* Internal to agent/function: see unique.c. */
#ifndef AGENT_FUNCTION_UNIQUE_H
#define AGENT_FUNCTION_UNIQUE_H

#include "agent/function/generation.h"

/* The page in the file `path`, read-only; NULL when there is none, or it is of another layout. */
const struct generation_page *generation_map(const char *path);

#endif
