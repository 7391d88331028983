/*
 * What of keys outlives an engine: the last session, the stack below those who handled them, and the
 * processor's registers. See upstream.h, engine.h.
 */
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "agent/tls/engine.h"
#include "agent/tls/upstream.h"

/* BearSSL's deepest: RSA with its private key, some 12 KiB of numbers; and what calls it. */
#define STACK_BYTES 32768
/* Of a record: AES's widest schedule, ChaCha20's state, and what is around them. */
#define RECORD_STACK_BYTES 6144
#define WAIT_NS            100000
#define WAIT_TRIES         20

void upstream_sessions_clear(struct upstream_sessions *sessions)
{
    explicit_bzero(sessions, sizeof *sessions);
}

__attribute__((noinline)) static void wipe_all(void)
{
    uint8_t below[STACK_BYTES];
    explicit_bzero(below, sizeof below);
}

__attribute__((noinline)) static void wipe_some(void)
{
    uint8_t below[RECORD_STACK_BYTES];
    explicit_bzero(below, sizeof below);
}

void engine_wipe_stack(bool is_open)
{
    if (is_open)
        wipe_some();
    else
        wipe_all();
}

/* The kernel saves the registers of one who waits, over those that it saved before: wait, until we have. */
static void have_registers_saved(void)
{
    const struct timespec moment = {.tv_nsec = WAIT_NS};
    struct rusage before, after;
    if (getrusage(RUSAGE_THREAD, &before) < 0)
        return;
    for (int tries = 0; tries < WAIT_TRIES; tries++) {
        (void)nanosleep(&moment, NULL);
        if (getrusage(RUSAGE_THREAD, &after) < 0 || after.ru_nvcsw > before.ru_nvcsw)
            return;
    }
}

void upstream_wipe_stack(void)
{
    wipe_all();
    engine_wipe_registers();
    have_registers_saved();
}
