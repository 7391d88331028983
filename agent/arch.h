/* What the agent needs of the processor: one file agent/arch_<arch>.c implements every hook here. */
#ifndef AGENT_ARCH_H
#define AGENT_ARCH_H

#include <linux/audit.h>

#include "agent/confine.h"

/* The system calls of this architecture, as seccomp sees them: its name, and a number above all of them. */
#define ARCH_AUDIT        AUDIT_ARCH_X86_64
#define ARCH_CALLS_END    0x40000000u /* x32's begin here */
#define ARCH_REFUSALS_MAX 8

/* What a function may not ask of this architecture alone; at most ARCH_REFUSALS_MAX. */
const struct confine_refusal *arch_refusals(size_t *count);

#endif
