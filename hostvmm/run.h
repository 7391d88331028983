/* `hostvmm run`: one guest from boot to its end. */
#ifndef HOSTVMM_RUN_H
#define HOSTVMM_RUN_H

#include "hostvmm/config.h"
#include "hostvmm/timeline.h"

/* The process's exit code (exit.h). `timeline` was begun at main's first line. Once per process. */
int run_guest(const struct config *config, const struct timeline *timeline);

#endif
