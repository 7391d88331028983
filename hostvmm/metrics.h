/*
 * The counters of a running guest, read by name. They are kept where things happen, each by one writer without
 * a locked instruction, and cost nothing else until somebody asks: no thread, no timer, no table in memory.
 *
 * Two forms of one table (metrics_table.c):
 *
 *   JSON         {"process":{"uptime_us":...},"vcpu_0":{"exits_io":...},"drive_rootfs":{...},...}
 *   Prometheus   rekindle_vcpu_exits_total{vcpu="0",kind="io"} ...      (text format 0.0.4, HELP and TYPE)
 *
 * Main thread.
 */
#ifndef HOSTVMM_METRICS_H
#define HOSTVMM_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hostvmm/device/virtio/balloon.h"
#include "hostvmm/machine.h"
#include "hostvmm/snapshots.h"
#include "hostvmm/timeline.h"

/* What is worked out when somebody asks. */
struct metrics_process {
    uint64_t uptime_ns;
    uint64_t cpu_ns;          /* of all threads, user and system */
    uint64_t minor_faults;    /* pages found in memory, guest RAM's among them */
    uint64_t major_faults;    /* pages that had to be read */
    uint64_t resident_bytes;  /* the most there were */
    uint64_t restored;        /* 1: a clone */
    uint64_t ready_ns;        /* from the start of the process; 0: not yet */
    uint64_t first_exit_ns;   /* the same */
    uint64_t console_dropped; /* bytes */
};

struct metrics_balloon {
    uint64_t target_pages, actual_pages;
    uint64_t inflated, deflated, reported, hinted;
    uint64_t discarded_bytes, discard_failures;
};

struct metrics {
    struct machine *machine;
    const struct timeline *timeline;
    const struct snapshots *snapshots;
    struct metrics_process process;
    struct metrics_balloon balloon;
    struct timeline_phase phases[TIMELINE_PHASES_MAX];
    unsigned phase_count;
    uint64_t scratch; /* of a value that is no 64-bit counter where it is kept */
};

/* Look at everything once. The three parts are the caller's, and stay where they are. */
void metrics_look(struct metrics *metrics, struct machine *machine, const struct timeline *timeline,
                  const struct snapshots *snapshots);
/* One JSON object, in one line without a newline / the text form of Prometheus. */
void metrics_json(struct metrics *metrics, FILE *out);
void metrics_prometheus(struct metrics *metrics, FILE *out);
/* Into a file, beside it and renamed: Prometheus when its name ends in .prom, else JSON. 0 or -errno. */
int metrics_write(struct metrics *metrics, const char *path);

/* ---- between metrics.c and metrics_table.c ---- */

enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE };
enum metrics_unit { METRICS_PLAIN, METRICS_NS /* Prometheus: seconds */, METRICS_US /* the same */ };

struct metrics_row {
    const char *name;   /* in JSON */
    const char *family; /* in Prometheus, behind rekindle_ */
    const char *label;  /* one more, such as kind="io"; NULL: none */
    const char *help;
    enum metrics_kind kind;
    enum metrics_unit unit;
    size_t offset; /* of a uint64_t in what `at` gives */
};

#define METRICS_NAME_BYTES 64

struct metrics_group {
    const char *name; /* in JSON; a group of several has _NAME behind it */
    unsigned (*count)(const struct metrics *metrics);
    /* The i-th of them; with its name, for a group of several, and Prometheus's labels (METRICS_NAME_BYTES). */
    const void *(*at)(struct metrics *metrics, unsigned i, char *name, char *labels);
    const struct metrics_row *rows; /* those of one family follow each other */
    unsigned row_count;
};

extern const struct metrics_group metrics_groups[];
extern const unsigned metrics_group_count;

#endif
