/*
 * What of keys outlives an engine: the last session, and the stack below those who handled them. See
 * upstream.h.
 */
#include <stdint.h>
#include <string.h>

#include "agent/tls/upstream.h"

/* BearSSL's deepest: RSA with its private key, some 12 KiB of numbers; and what calls it. */
#define STACK_BYTES 32768

void upstream_sessions_clear(struct upstream_sessions *sessions)
{
    explicit_bzero(sessions, sizeof *sessions);
}

__attribute__((noinline)) void upstream_wipe_stack(void)
{
    uint8_t below[STACK_BYTES];
    explicit_bzero(below, sizeof below);
}
