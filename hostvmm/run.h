/* `hostvmm run`, `snapshot` and each clone of `restore`: one guest to its end. */
#ifndef HOSTVMM_RUN_H
#define HOSTVMM_RUN_H

#include "hostvmm/config.h"
#include "hostvmm/machine.h"
#include "hostvmm/timeline.h"

/* The process's exit code (exit.h). `timeline` was begun at main's first line; `snapshot` is open, or NULL to
 * boot. Once per process. */
int run_guest(const struct config *config, const struct timeline *timeline, struct snapshot *snapshot);

/* Where --jail is given: open what cannot be opened from inside, and go in. Every file of the machine is open,
 * and there is no VM yet. 0 (in the process that goes on), or an exit code. */
int run_enter_jail(struct machine *machine, const struct config *config);

/* The exit code for a guest that has ended, logged where it is not 0. `stop_signal`: that we stopped it for;
 * 0: none. */
int run_exit_code(const struct machine *machine, int stop_signal);

#endif
