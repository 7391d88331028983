/* See metrics.h: the two forms. JSON goes through each thing's numbers, Prometheus through each number's
 * things, as it wants all of a family together. */
#include "hostvmm/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/control/text.h"

#define PATH_BYTES 4096

static uint64_t timeval_ns(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

static uint64_t since(const struct timeline *timeline, uint64_t at_ns)
{
    return at_ns > timeline->start_ns ? at_ns - timeline->start_ns : 0;
}

/* vCPU threads count them. */
static uint64_t dropped_by(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    const uint64_t dropped = console->dropped_bytes;
    pthread_mutex_unlock(&console->lock);
    return dropped;
}

static void look_at_process(struct metrics *metrics)
{
    const struct timeline *timeline = metrics->timeline;
    const uint64_t ready =
        metrics->machine->origin ? timeline->unique_ns : timeline_stage(timeline, GUEST_STAGE_FUNCTION_READY);
    struct rusage used = {0};
    (void)getrusage(RUSAGE_SELF, &used);
    metrics->process = (struct metrics_process){
        .uptime_ns = since(timeline, clock_monotonic_ns()),
        .cpu_ns = timeval_ns(used.ru_utime) + timeval_ns(used.ru_stime),
        .minor_faults = (uint64_t)used.ru_minflt,
        .major_faults = (uint64_t)used.ru_majflt,
        .resident_bytes = (uint64_t)used.ru_maxrss * 1024u,
        .restored = metrics->machine->origin != NULL,
        .ready_ns = since(timeline, ready),
        .first_exit_ns =
            since(timeline, __atomic_load_n(&metrics->machine->vm.first_exit_ns, __ATOMIC_RELAXED)),
        .console_dropped = dropped_by(&metrics->machine->console),
    };
}

static void look_at_balloon(struct metrics *metrics)
{
    struct virtio_balloon_view view;
    if (!metrics->machine->has_balloon)
        return;
    virtio_balloon_look(&metrics->machine->balloon, &view);
    metrics->balloon = (struct metrics_balloon){
        .target_pages = view.target_pages,
        .actual_pages = view.actual_pages,
        .inflated = view.inflated_pages,
        .deflated = view.deflated_pages,
        .reported = view.reported_pages,
        .hinted = view.hinted_pages,
        .discarded_bytes = view.discarded_bytes,
        .discard_failures = view.discard_failures,
    };
}

void metrics_look(struct metrics *metrics, struct machine *machine, const struct timeline *timeline,
                  const struct snapshots *snapshots)
{
    metrics->machine = machine;
    metrics->timeline = timeline;
    metrics->snapshots = snapshots;
    look_at_process(metrics);
    look_at_balloon(metrics);
    metrics->phase_count = timeline_phases(timeline, metrics->phases);
}

static uint64_t value_of(const struct metrics_row *row, const void *at)
{
    return __atomic_load_n((const uint64_t *)(const void *)((const char *)at + row->offset),
                           __ATOMIC_RELAXED);
}

/* ---- JSON ---- */

void metrics_json(struct metrics *metrics, FILE *out)
{
    const char *comma = "";
    (void)putc('{', out);
    for (unsigned g = 0; g < metrics_group_count; g++) {
        const struct metrics_group *group = &metrics_groups[g];
        for (unsigned i = 0; i < group->count(metrics); i++) {
            char name[METRICS_NAME_BYTES] = "";
            char labels[METRICS_NAME_BYTES] = "";
            char whole[METRICS_NAME_BYTES + 16];
            const void *at = group->at(metrics, i, name, labels);
            (void)snprintf(whole, sizeof whole, "%s%s%s", group->name, name[0] ? "_" : "", name);
            (void)fputs(comma, out);
            text_json(out, whole);
            for (unsigned r = 0; r < group->row_count; r++)
                (void)fprintf(out, "%s\"%s\":%" PRIu64, r ? "," : ":{", group->rows[r].name,
                              value_of(&group->rows[r], at));
            (void)putc('}', out);
            comma = ",";
        }
    }
    (void)putc('}', out);
}

/* ---- Prometheus ---- */

static void put_value(FILE *out, const struct metrics_row *row, uint64_t value)
{
    const uint64_t unit = row->unit == METRICS_NS ? 1000000000u : 1000000u;
    const int digits = row->unit == METRICS_NS ? 9 : 6;
    if (row->unit == METRICS_PLAIN)
        (void)fprintf(out, " %" PRIu64 "\n", value);
    else
        (void)fprintf(out, " %" PRIu64 ".%0*" PRIu64 "\n", value / unit, digits, value % unit);
}

static void put_sample(FILE *out, const struct metrics_row *row, const char *labels, uint64_t value)
{
    const bool any = labels[0] || row->label;
    (void)fprintf(out, "rekindle_%s%s%s%s%s%s", row->family, any ? "{" : "", labels,
                  labels[0] && row->label ? "," : "", row->label ? row->label : "", any ? "}" : "");
    put_value(out, row, value);
}

void metrics_prometheus(struct metrics *metrics, FILE *out)
{
    for (unsigned g = 0; g < metrics_group_count; g++) {
        const struct metrics_group *group = &metrics_groups[g];
        const unsigned count = group->count(metrics);
        for (unsigned first = 0, last = 0; count > 0 && first < group->row_count; first = last) {
            const struct metrics_row *row = &group->rows[first];
            for (last = first; last < group->row_count; last++)
                if (strcmp(group->rows[last].family, row->family) != 0)
                    break;
            (void)fprintf(out, "# HELP rekindle_%s %s\n# TYPE rekindle_%s %s\n", row->family, row->help,
                          row->family, row->kind == METRICS_COUNTER ? "counter" : "gauge");
            for (unsigned i = 0; i < count; i++) {
                char name[METRICS_NAME_BYTES] = "";
                char labels[METRICS_NAME_BYTES] = "";
                const void *at = group->at(metrics, i, name, labels);
                for (unsigned r = first; r < last; r++)
                    put_sample(out, &group->rows[r], labels, value_of(&group->rows[r], at));
            }
        }
    }
}

/* ---- the file ---- */

static bool ends_in(const char *text, const char *end)
{
    const size_t size = strlen(text);
    return size >= strlen(end) && strcmp(text + size - strlen(end), end) == 0;
}

int metrics_write(struct metrics *metrics, const char *path)
{
    char beside[PATH_BYTES];
    if ((size_t)snprintf(beside, sizeof beside, "%s.%d", path, (int)getpid()) >= sizeof beside)
        return -ENAMETOOLONG;
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    int error = out ? 0 : -errno;
    if (!out) {
        fd_close(&fd);
        return error;
    }
    if (ends_in(path, ".prom")) {
        metrics_prometheus(metrics, out);
    } else {
        metrics_json(metrics, out);
        (void)putc('\n', out);
    }
    error = ferror(out) ? -EIO : 0;
    if (fclose(out) && error == 0)
        error = -errno;
    if (error == 0 && rename(beside, path) < 0)
        error = -errno;
    if (error)
        (void)unlink(beside);
    return error;
}
