/*
 * The clones of an audit: some at once, as children of one `hostvmm restore` in a private directory. Ending
 * them leaves no process and no file, also when a signal ends the audit. One batch at a time, one a process.
 */
#ifndef HOSTVMM_CONTROL_AUDIT_CLONES_H
#define HOSTVMM_CONTROL_AUDIT_CLONES_H

#include <stdbool.h>

#define AUDIT_BATCH_MAX 64

/* Once, before the first batch: SIGINT, SIGTERM and SIGHUP end the clones, and the process with 128 + signal.
 */
int audit_clones_prepare(void);
/* Restore `count` clones of `snapshot` with these further arguments (NULL at their end) by `program`. 0 or
 * -errno. */
int audit_clones_start(const char *program, const char *snapshot, unsigned count, char *const *further);
/* The vsock socket of clone 1..count of the batch. */
const char *audit_clones_socket(unsigned clone);
/* Whether `restore` has not ended. */
bool audit_clones_alive(void);
/* What they said last goes to standard error. */
void audit_clones_tell(void);
void audit_clones_end(void);

#endif
