/*
 * Any value, and case distinctions, for the harnesses.
 *
 * Eva keeps an interval for each variable and no relation between two. What holds only by a relation (offset
 * + size within a buffer) it sees when one of the two is a single number: the harness then goes through that
 * one's values in a loop, and leaves everything else free. The loop is a proof by cases, not a sample: all
 * values within the stated bound are gone through.
 */
#ifndef TESTS_PROOF_BOUNDS_H
#define TESTS_PROOF_BOUNDS_H

#include <__fc_builtin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define any_u64(from, to) Frama_C_unsigned_long_long_interval(from, to)
#define any_u32(from, to) ((uint32_t)Frama_C_unsigned_int_interval(from, to))
#define any_u16(from, to) ((uint16_t)Frama_C_unsigned_int_interval(from, to))
#define any_bool()        ((bool)Frama_C_interval(0, 1))
#define any_bytes(at, n)  Frama_C_make_unknown((char *)(at), (n))

#endif
