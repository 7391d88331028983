/*
 * A state's body for people or as JSON, whatever fields it has. The bytes come from a file whose digest was
 * right, and are still checked: what is not CBOR as codec.h writes it ends the output with a remark.
 */
#ifndef HOSTVMM_SNAPSHOT_DUMP_H
#define HOSTVMM_SNAPSHOT_DUMP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* One line a field, indented; long byte strings are cut. 0, or -EBADMSG. */
int dump_text(FILE *out, const uint8_t *data, size_t size);
/* One JSON value: byte strings in hex, whole. 0, or -EBADMSG, and what was written is no JSON. */
int dump_json(FILE *out, const uint8_t *data, size_t size);

#endif
