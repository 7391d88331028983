/* One request to a running hostvmm through its control socket (OPERATOR.md), by a command of this program. */
#ifndef HOSTVMM_CONTROL_ASK_H
#define HOSTVMM_CONTROL_ASK_H

#include <stddef.h>
#include <stdint.h>

/*
 * Send `line` (its newline included) and read the answer, without its newline, as a string. 0; -ENOBUFS it is
 * longer than `capacity`; -ETIMEDOUT, -errno: all said on standard error.
 */
int control_ask(const char *socket_path, const char *line, size_t size, uint64_t wait_ms, char *answer,
                size_t capacity);

#endif
