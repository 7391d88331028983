/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing past U+10FFFF. Pure.
 */
#ifndef AGENT_PROTO_UTF8_H
#define AGENT_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes at the start of `text` that are whole, valid characters; `size` when all are. */
size_t utf8_valid_prefix(const void *text, size_t size);

/* Make any bytes fit for a text field: each byte that is not part of a valid character becomes '?'. */
void utf8_clean(void *text, size_t size);

#endif
