/*
 * The end of the guest: nothing lost, then power off.
 */
#ifndef INIT_HALT_H
#define INIT_HALT_H

#include "init/bootargs.h"

/*
 * Write everything back, unmount what can be unmounted, make the rest read-only, report `reason` and power
 * off. `writable_fd` is root_enter's. No other process may be running. Bounded; does not return.
 */
_Noreturn void halt_power_off(enum guest_exit reason, int writable_fd);

#endif
