/*
 * A bounded reader of DER (X.690), for what BearSSL does not tell of a certificate: who issued it under what
 * number, and what a revocation list holds. Nothing is copied; an item points into the bytes it was read of.
 * Definite lengths and tags below 31 only, which is all that X.509 uses. Fuzzed with its users.
 */
#ifndef AGENT_TLS_DER_H
#define AGENT_TLS_DER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_OID = 0x06,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_SEQUENCE = 0x30,
    DER_CONTEXT_0 = 0xa0,
};

struct der {
    const uint8_t *at;
    size_t size; /* left */
};

struct der_item {
    uint8_t tag;
    const uint8_t *whole; /* its header with it */
    size_t whole_size;
    struct der content;
};

/* The next item, whole. False, and nothing read: there is none, or it is not well formed. */
bool der_next(struct der *in, struct der_item *item);
/* The same when it has that tag. */
bool der_take(struct der *in, uint8_t tag, struct der_item *item);
/* Go into an item with that tag, of which perhaps only the beginning is here. */
bool der_enter(struct der *in, uint8_t tag);

#endif
