/* `hostvmm restore`: clones of one snapshot, each a process of its own. */
#ifndef HOSTVMM_RESTORE_H
#define HOSTVMM_RESTORE_H

#include "hostvmm/config.h"
#include "hostvmm/timeline.h"

/* The process's exit code: 0, or that of the first clone that ended with another. */
int restore_clones(struct config *config, struct timeline *timeline);

#endif
