/*
 * Where hostvmm's own messages go and in which form (`--log FILE`, `--log-level L`, `--log-format text|json`),
 * and for whose request they are. Without any of it they are as agent/base/log.h has them.
 *
 * JSON: one object a line, {"time":RFC 3339 in UTC,"level":"error|warning|info|debug","program":...,
 * ["request":...,]"message":...}.
 */
#ifndef HOSTVMM_LOGS_H
#define HOSTVMM_LOGS_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/log.h"
#include "hostvmm/config.h"

/* Before other threads start; again with another configuration. `program` must outlive the process. A clone's
 * file, with %n in its name, is opened when that is replaced. 0, or -errno with a message logged. */
int logs_begin(const struct config *config, const char *program);
/* What this thread logs is for the request of this name, which is kept, not copied; NULL: for none. */
void logs_request(const char *name);
/* "error", "warning", "info" or "debug". */
bool logs_level(const char *name, enum log_level *level);

/* One message in JSON with its newline: pure. `time` is the text of it. The size; what does not fit is cut out
 * of the message. `to` has LOGS_JSON_BYTES. */
#define LOGS_JSON_BYTES 8192
size_t logs_json(char *to, const char *time, enum log_level level, const char *program, const char *request,
                 const char *message);

#endif
