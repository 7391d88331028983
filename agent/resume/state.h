/* What the agent keeps of this guest's identity: seen by resume.c, and by facts.c, which reports of it. */
#ifndef AGENT_RESUME_STATE_H
#define AGENT_RESUME_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/drbg.h"
#include "agent/resume/parts.h"

#define RESUME_PLACE_BYTES 256

struct resume {
    bool in_guest;
    uint64_t generation; /* 0 before resume_begin_life */
    struct resume_page page;
    int host_clock; /* -1: KVM offers none */
    struct drbg drbg;
    char machine_id[RESUME_PLACE_BYTES];
    char boot_id[RESUME_PLACE_BYTES];
    char secrets[RESUME_PLACE_BYTES];
};

#endif
