/*
 * When each stage of a boot, or each step of a restore, was reached. Times are CLOCK_MONOTONIC, told from the
 * first line of main().
 */
#ifndef HOSTVMM_TIMELINE_H
#define HOSTVMM_TIMELINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "init/bootargs.h"

#define TIMELINE_STEPS_MAX  24
#define TIMELINE_NAME_BYTES 32

/* A step of the agent's, as it measured it. */
struct timeline_step {
    char name[TIMELINE_NAME_BYTES];
    uint64_t duration_us;
};

struct timeline {
    uint64_t start_ns;                      /* main's first line */
    uint64_t opened_ns;                     /* restore: the snapshot was read and checked; 0: a boot */
    uint64_t kvm_ns;                        /* restore: its files are open, KVM comes next */
    uint64_t created_ns;                    /* restore: VM, memory and vCPUs exist */
    uint64_t built_ns;                      /* restore: and devices */
    uint64_t running_ns;                    /* the vCPUs start */
    uint64_t stage_ns[GUEST_STAGE_MAX + 1]; /* atomic: first time each stage was reported; 0: not yet */
    uint64_t first_exit_ns;                 /* restore: a vCPU first came back from the guest */
    uint64_t connected_ns;                  /* restore: hostvmm spoke to the agent */
    uint64_t unique_ns; /* restore: the agent said that the clone is unique and its function runs */
    struct timeline_step steps[TIMELINE_STEPS_MAX];
    unsigned step_count;
};

void timeline_begin(struct timeline *timeline);
/* The guest reports a stage. Any thread. Only the first time counts. */
void timeline_mark(struct timeline *timeline, enum guest_stage stage);
uint64_t timeline_stage(const struct timeline *timeline, enum guest_stage stage);

/* Restore: the snapshot is open; the machine exists; a vCPU has left the guest; the clone is unique. With
 * what came before. */
void timeline_opened(struct timeline *timeline);
void timeline_built(struct timeline *timeline, uint64_t kvm_ns, uint64_t created_ns);
void timeline_entered(struct timeline *timeline, uint64_t first_exit_ns);
void timeline_restored(struct timeline *timeline, uint64_t connected_ns);
void timeline_resume_step(struct timeline *timeline, const char *name, uint64_t duration_us);
/* From main's first line to the unique clone. */
uint64_t timeline_restore_ns(const struct timeline *timeline);

/* "71.3 ms: vmm 1.2, kernel 48.0, ..." up to `last`, FUNCTION_READY or FUNCTION_FAILED. */
void timeline_text(const struct timeline *timeline, enum guest_stage last, char *text, size_t size);
/* One JSON object of numbers, or a picture when the name ends in .svg, written beside `path` and renamed. Stages
 * not reached are left out. 0 or -errno. */
int timeline_write(const struct timeline *timeline, const char *path);

/* ---- timeline_phases.c, timeline_svg.c ---- */

#define TIMELINE_PHASES_MAX 8

/* From one moment to the next of those that were reached: without gaps, in order. */
struct timeline_phase {
    const char *name; /* a word */
    const char *what; /* happens in it, for people */
    uint64_t from_ns; /* CLOCK_MONOTONIC */
    uint64_t duration_ns;
};

unsigned timeline_phases(const struct timeline *timeline, struct timeline_phase phases[TIMELINE_PHASES_MAX]);
/* Whole, in itself: no script, no font, nothing from elsewhere. */
void timeline_svg(const struct timeline *timeline, FILE *out);

#endif
