/*
 * The guest's counters, written into the file of /metrics unasked: a line every so often while the guest is there,
 * besides those that FlushMetrics asks for.
 */
#ifndef HOSTVMM_CONTROL_API_FLUSH_H
#define HOSTVMM_CONTROL_API_FLUSH_H

#include <pthread.h>
#include <stdbool.h>

#include "hostvmm/control/api/model.h"

#define FLUSH_EVERY_MS 60000u /* as Firecracker's */

struct flush {
    struct api *api;
    unsigned every_ms;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t over_now;
    bool begun, over;
};

/* From now on, by a thread of its own. 0 or -errno. */
int flush_begin(struct flush *flush, struct api *api, unsigned every_ms);
/* Waits for a line that is being written; without the API's lock. After a flush_begin that failed, too. */
void flush_end(struct flush *flush);

#endif
