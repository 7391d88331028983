/*
 * What this guest would draw now, for `hostvmm audit` to compare between clones: one fact a source of
 * randomness, identity or time. Runs when a client asks (COLLECT), never by itself, so that nothing here
 * leaves its marks in a snapshot.
 *
 *   getrandom         32 bytes of getrandom(2)
 *   getrandom_vdso    32 bytes of the vDSO's; left out where the kernel has none
 *   dev_urandom       32 bytes of /dev/urandom
 *   kernel_uuid       /proc/sys/kernel/random/uuid, as text without its newline
 *   boot_id           /proc/sys/kernel/random/boot_id, the same way
 *   machine_id        /etc/machine-id, the same way; left out where there is none
 *   hostname          as text
 *   generation        8 bytes
 *   at_random         the 16 bytes the kernel gave a process started for this fact (AT_RANDOM); left out
 * where the agent may not trace one tcp_isn           initial sequence numbers of 8 new connections on the
 * loopback: 32 bytes; left out where the agent may not see them tcp_ports         source ports of 8 more: 16
 * bytes; the same way drbg              32 bytes of the agent's own generator realtime_ns CLOCK_REALTIME, 8
 * bytes monotonic_ns      CLOCK_MONOTONIC, 8 bytes Integers are little-endian. A fact is at most
 * PROTO_FACT_MAX_BYTES long.
 */
#ifndef AGENT_FACTS_H
#define AGENT_FACTS_H

#include "agent/proto/proto.h"

/* How a fact is handed on; `name` and `body` live until it returns. */
typedef void facts_tell(void *context, struct proto_slice name, struct proto_slice body);

/*
 * Tell every fact, in the order above. 0; -errno and in `why` (RESUME_WHY_BYTES of resume.h) what could not
 * be found out: those before it have been told.
 */
int facts_collect(facts_tell *tell, void *context, char *why);

#endif
