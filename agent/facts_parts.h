/* What the files of the facts offer to facts.c. 0 or -errno, and in `why` (RESUME_WHY_BYTES) what failed. */
#ifndef AGENT_FACTS_PARTS_H
#define AGENT_FACTS_PARTS_H

#include <stddef.h>
#include <stdint.h>

#define FACTS_RANDOM_BYTES 32
#define FACTS_CONNECTIONS  8

/* facts_net.c */
struct facts_tcp {
    uint32_t sequences[FACTS_CONNECTIONS];
    uint16_t ports[FACTS_CONNECTIONS];
};
/* -EPERM: who runs this may not look at sequence numbers. */
int facts_tcp_draw(struct facts_tcp *facts, char *why);

/* facts_process.c */
/* The vDSO's getrandom. -ENOSYS: there is none. */
int facts_vdso_random(uint8_t out[FACTS_RANDOM_BYTES], char *why);
/* AT_RANDOM of a process that is started for it, and ended before it runs. */
int facts_at_random(uint8_t out[16], char *why);

#endif
