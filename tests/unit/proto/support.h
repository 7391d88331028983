/* What the tests of the codec share. Every failure here fails the running test. */
#ifndef TESTS_UNIT_PROTO_SUPPORT_H
#define TESTS_UNIT_PROTO_SUPPORT_H

#include "tests/unit/proto/samples.h"

size_t from_hex(const char *hex, uint8_t *out);

const struct sample *sample(const char *name);

/* `size` bytes of 'x'; at most a frame's worth. */
struct proto_slice filled(size_t size);

/* Both decode from an exact allocation, so that the sanitizer sees a byte read past it. */
void decode_good(const uint8_t *body, size_t size, struct proto_message *message);
void decode_refused(const uint8_t *body, size_t size, const char *expected);

#endif
