/*
 * The bytes an invocation takes and gives: the event read whole from a file or standard input, the answer
 * written to standard output or, all or nothing, to a file.
 */
#ifndef HOSTVMM_CONTROL_OUTPUT_H
#define HOSTVMM_CONTROL_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Read `path`, or standard input for "-", of at most `limit` bytes. *data is malloc'ed: free() it. 0, -EFBIG
 * when there is more, -EISDIR, -ENOMEM, or what open or read reported.
 */
int event_read(const char *path, size_t limit, uint8_t **data, size_t *size);

/*
 * Write to standard output ("-"), or to a file by a temporary name in the same directory and a rename, so
 * that the file holds the whole answer or what it held before. 0 or -errno.
 */
int answer_write(const char *path, const void *data, size_t size);

#endif
