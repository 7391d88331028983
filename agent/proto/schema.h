/*
 * The shapes of the messages, as tables: one row a field, in ascending order of key. Internal to agent/proto.
 *
 * Encoder and decoder walk the same rows, so they cannot disagree. A field that is optional is left out when
 * it is zero or empty, and refused when it is present with such a value: a message has one encoding. The
 * tables bound depth and number of items by themselves: the decoder asks for the next item it can use and
 * never descends into anything else.
 */
#ifndef AGENT_PROTO_SCHEMA_H
#define AGENT_PROTO_SCHEMA_H

#include "agent/proto/proto.h"

/* One meaning a key in every message; all fit one byte. 20..22 are free. The body is last in its map, so that
 * a frame ends with its bytes (proto_encode_head). */
enum proto_key {
    PROTO_KEY_TYPE = 0,
    PROTO_KEY_VERSION = 1, /* first after the type: readable whatever else a later version adds */
    PROTO_KEY_ID = 2,
    PROTO_KEY_TRACE = 3,
    PROTO_KEY_TIMEOUT = 4,
    PROTO_KEY_TOTAL = 5,
    PROTO_KEY_OFFSET = 6,
    PROTO_KEY_FAILURE = 7,
    PROTO_KEY_STREAM = 8,
    PROTO_KEY_DROPPED = 9,
    PROTO_KEY_STATE = 10,
    PROTO_KEY_DURATION = 11,
    PROTO_KEY_NAME = 12,
    PROTO_KEY_WANTS_LOGS = 13,
    PROTO_KEY_GENERATION = 14,
    PROTO_KEY_SEED = 15,
    PROTO_KEY_REALTIME = 16,
    PROTO_KEY_CLONE_ID = 17,
    PROTO_KEY_HOSTNAME = 18,
    PROTO_KEY_NETWORK = 19,
    PROTO_KEY_BODY = 23,
    /* in the map of a failure */
    PROTO_KEY_FAILURE_TYPE = 0,
    PROTO_KEY_FAILURE_MESSAGE = 1,
    PROTO_KEY_FAILURE_STACK = 2,
};

enum field_kind {
    FIELD_UINT32, /* also our enums */
    FIELD_UINT64,
    FIELD_BOOL,
    FIELD_TEXT,
    FIELD_ID,      /* text of [A-Za-z0-9._-] */
    FIELD_NETWORK, /* text of the characters that network.h names */
    FIELD_BYTES,
    FIELD_FAILURE, /* a nested map */
    FIELD_STACK,   /* array of text, in a failure */
};

enum field_fault {
    FAULT_MISSING,
    FAULT_KIND,
    FAULT_LIMITS,
    FAULT_TEXT,       /* not UTF-8, or a character an id may not have */
    FAULT_INDEFINITE, /* length */
    FAULT_LONG_FORM,  /* not the shortest encoding */
    FAULT_TRUNCATED,
    FAULT_MALFORMED, /* not CBOR */
    FAULT_COUNT,
};

struct field {
    uint8_t key;
    uint8_t kind; /* enum field_kind */
    bool optional;
    uint16_t offset;   /* in struct proto_message, or in struct proto_failure */
    uint64_t min, max; /* of the value, the length in bytes, or the number of entries */
    const char *why[FAULT_COUNT];
};

struct shape {
    const struct field *fields;
    size_t count;
    const char *why_unknown;
    const char *why_order;
    const char *why_key[FAULT_COUNT]; /* what is wrong with a key itself */
};

/* NULL for a type that is none. */
const struct shape *schema_of(unsigned type);

extern const struct shape schema_failure;
extern const char *const schema_why_type[FAULT_COUNT];
extern const char *const schema_why_stack_entry[FAULT_COUNT];

/* What the tables cannot say: rules between fields. NULL, or a static text saying which is broken. */
const char *schema_broken_rule(const struct proto_message *message);

bool schema_id_valid(struct proto_slice id);
bool schema_network_valid(struct proto_slice network);

#endif
