/*
 * When each stage of a boot was reached. Times are CLOCK_MONOTONIC, told from the first line of main().
 */
#ifndef HOSTVMM_TIMELINE_H
#define HOSTVMM_TIMELINE_H

#include <stddef.h>
#include <stdint.h>

#include "init/bootargs.h"

struct timeline {
    uint64_t start_ns;                      /* main's first line */
    uint64_t running_ns;                    /* the vCPUs start */
    uint64_t stage_ns[GUEST_STAGE_MAX + 1]; /* atomic: first time each stage was reported; 0: not yet */
};

void timeline_begin(struct timeline *timeline);
/* The guest reports a stage. Any thread. Only the first time counts. */
void timeline_mark(struct timeline *timeline, enum guest_stage stage);
uint64_t timeline_stage(const struct timeline *timeline, enum guest_stage stage);

/* "71.3 ms: vmm 1.2, kernel 48.0, ..." up to `last`, FUNCTION_READY or FUNCTION_FAILED. */
void timeline_text(const struct timeline *timeline, enum guest_stage last, char *text, size_t size);
/* One JSON object of numbers, written beside `path` and renamed. Stages not reached are left out. 0 or
 * -errno. */
int timeline_write(const struct timeline *timeline, const char *path);

#endif
