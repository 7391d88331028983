/*
 * Text from elsewhere, written so that it can do no harm where it lands: JSON strings, and lines for a
 * terminal. Input is bounded by its caller.
 */
#ifndef HOSTVMM_CONTROL_TEXT_H
#define HOSTVMM_CONTROL_TEXT_H

#include <stddef.h>
#include <stdio.h>

struct control_failure;

/* `text` as a JSON string, quotes included. `text` is UTF-8; it passes unchanged but for what JSON escapes.
 */
void text_json(FILE *out, const char *text);

/* {"errorType":...,"errorMessage":...,"stackTrace":[...]}: Lambda's error object. */
void text_json_failure(FILE *out, const struct control_failure *failure);

/*
 * `size` bytes as lines, each after `prefix` and ended with a newline. Control characters other than tab come
 * out as \xNN, so that a function's output cannot drive the reader's terminal or fake a line.
 */
void text_lines(FILE *out, const char *prefix, const void *data, size_t size);

#endif
