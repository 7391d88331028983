/*
 * The encoding of a snapshot's state: CBOR (RFC 8949), field by field, each under its name.
 *
 * Writer and reader go through the fields in one fixed order, so that a save function and the load function
 * below it read as mirror images. A map has a known number of fields; keys are text. Integers and heads are
 * in their shortest form. FORMAT.md lists every field.
 *
 * Both are sticky: after the first failure everything else does nothing, reads give zeros, and the caller
 * looks once at the end. The reader's `why` then names the field by its path and what is wrong with it:
 * "vcpus[1].lapic: 1020 bytes, 1024 wanted". The reader never allocates and never recurses; its input may be
 * anything.
 */
#ifndef HOSTVMM_SNAPSHOT_CODEC_H
#define HOSTVMM_SNAPSHOT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_DEPTH_MAX     8
#define STATE_KEY_MAX_BYTES 32
#define STATE_WHY_BYTES     192
#define STATE_MAX_BYTES     (16u << 20) /* of a whole state */

/* ---- writing: into a buffer that grows ----------------------------------------------------------------- */

struct state_writer {
    uint8_t *data; /* allocated */
    size_t size_bytes;
    size_t capacity_bytes;
    bool failed; /* no memory, or too large */
};

void state_writer_init(struct state_writer *out);
void state_writer_fini(struct state_writer *out);

/* `key` is NULL for the elements of an array and for the outermost map. */
void state_put_map(struct state_writer *out, const char *key, unsigned fields);
void state_put_array(struct state_writer *out, const char *key, unsigned elements);
void state_put_uint(struct state_writer *out, const char *key, uint64_t value);
void state_put_bool(struct state_writer *out, const char *key, bool value);
void state_put_bytes(struct state_writer *out, const char *key, const void *data, size_t size);
void state_put_text(struct state_writer *out, const char *key, const char *text);
/* The same bytes as an array: their number, then pairs of zeros to skip and bytes that follow; zeros at the
 * end need no pair. KVM's structures are mostly zeros, and each byte of a state costs every restore its
 * digest. */
void state_put_sparse(struct state_writer *out, const char *key, const void *data, size_t size);
/* Whole fields that another writer has made. */
void state_put_fields(struct state_writer *out, const struct state_writer *fields);

/* ---- reading ------------------------------------------------------------------------------------------- */

struct state_reader {
    const uint8_t *data;
    size_t size_bytes;
    size_t at;
    bool failed;
    char why[STATE_WHY_BYTES];
    /* where we are, for `why` */
    struct {
        const char *key; /* NULL: an element */
        unsigned index;  /* of the next element, when this is an array */
        unsigned left;   /* fields or elements that are still to come */
        bool array;
    } path[STATE_DEPTH_MAX];
    unsigned depth;
};

void state_reader_init(struct state_reader *in, const void *data, size_t size);

/* Every state_get_map and state_get_array is closed by a state_end, when all in it has been read. */
void state_get_map(struct state_reader *in, const char *key, unsigned fields);
/* The number of elements, at most `max`; 0 after a failure. */
unsigned state_get_array(struct state_reader *in, const char *key, unsigned max);
void state_end(struct state_reader *in);

uint64_t state_get_uint(struct state_reader *in, const char *key, uint64_t min, uint64_t max);
bool state_get_bool(struct state_reader *in, const char *key);
/* Exactly `size` bytes. */
void state_get_bytes(struct state_reader *in, const char *key, void *to, size_t size);
/* What state_put_sparse wrote: from `min` to `max` bytes. How many, and no byte beyond them is touched; 0
 * after a failure, `to` is zeros then. */
size_t state_get_sparse(struct state_reader *in, const char *key, void *to, size_t min, size_t max);
/* At most `max` bytes where they are; NULL after a failure, or when there are none. */
const uint8_t *state_get_span(struct state_reader *in, const char *key, size_t max, size_t *size);
/* UTF-8 without NUL, ended with one here; `capacity` includes it. */
void state_get_text(struct state_reader *in, const char *key, char *to, size_t capacity);

/* The value just read of `key` cannot be: fail as the reader itself would. */
void state_refuse(struct state_reader *in, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* All of it was read, and nothing failed. 0, or -EBADMSG with `why`. */
int state_reader_finish(struct state_reader *in);

#endif
