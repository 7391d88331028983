/*
 * In place of agent/tls/upstream.h's and credentials.h's files: upstreams in memory. The test is the server:
 * it opens, fails and ends them, gives bytes and sees those that were sent.
 */
#ifndef TESTS_UNIT_TLS_FAKE_UPSTREAM_H
#define TESTS_UNIT_TLS_FAKE_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tls/upstream.h"

enum { FAKE_MAX = 256, FAKE_BYTES = 1 << 20 };

/* One that was begun, in order; kept after its end. */
struct fake {
    struct upstream *upstream; /* NULL: fini'd */
    const char *name;          /* of the manifest's */
    bool held;                 /* and not released */
    bool closed, abandoned, fini;
    bool fini_in_order; /* it was CLOSED then */
    bool resumes;       /* a session was there when its handshake began */
    bool noisy;         /* upstream_is_quiet says no */
    size_t room;        /* bytes that upstream_write still takes */
    uint8_t *sent;      /* what it took */
    size_t sent_size;
    uint8_t *given; /* what the server says */
    size_t given_start, given_end;
    int abandoned_sends; /* bytes written after upstream_abandon: never */
};

extern struct fake fakes[FAKE_MAX];
extern int fake_count;
extern int fake_begin_error;     /* the next begins fail with it */
extern bool fake_gives_sessions; /* each handshake leaves one */
extern bool fake_answers_close;  /* the server's close_notify comes with ours */
extern int fake_stack_wipes;
extern bool fake_trust_fails;

void fake_reset(void);
int fake_alive(void); /* not fini'd */

/* What the server does. Each tells the owner. */
void fake_open(struct fake *fake);
void fake_fail(struct fake *fake, int error, const char *why);
void fake_give(struct fake *fake, const void *data, size_t size);
void fake_end(struct fake *fake);    /* close_notify */
void fake_closed(struct fake *fake); /* answers ours */
void fake_add_room(struct fake *fake, size_t room);

#endif
