/*
 * The way up of the boot contract (bootargs.h): reason and stage bytes to the VMM. Does nothing when the VMM
 * has no port, or before report_open.
 */
#ifndef INIT_REPORT_H
#define INIT_REPORT_H

#include <stdint.h>

#include "init/bootargs.h"

/* Start reporting to `port` (0: there is none). 0 or -errno. */
int report_open(uint16_t port);

void report_stage(enum guest_stage stage);
void report_reason(enum guest_exit reason);

#endif
