/*
 * One message of every type and shape, with its whole frame in hex: the examples of PROTOCOL.md. The unit
 * tests hold codec and page to them; the seed corpus of the fuzz target is made of them.
 */
#ifndef TESTS_UNIT_PROTO_SAMPLES_H
#define TESTS_UNIT_PROTO_SAMPLES_H

#include "agent/proto/proto.h"

struct sample {
    const char *name;
    const char *hex;
    struct proto_message message;
};

extern const struct sample samples[];
extern const size_t sample_count;

#endif
