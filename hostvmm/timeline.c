/*
 * See timeline.h. A stage's duration runs from the one before it that was reached; the last ones, a function
 * that is ready or has failed, are alternatives.
 */
#include "hostvmm/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define PATH_BYTES 4096

struct step {
    const char *name;
    enum guest_stage stage;
};

static const struct step steps[] = {
    {"kernel", GUEST_STAGE_PID1},
    {"init", GUEST_STAGE_AGENT_SPAWNED},
    {"agent", GUEST_STAGE_AGENT_LISTENING},
    {"function", GUEST_STAGE_FUNCTION_READY},
    {"function", GUEST_STAGE_FUNCTION_FAILED},
};

#define STEP_COUNT (sizeof steps / sizeof steps[0])

void timeline_begin(struct timeline *timeline)
{
    *timeline = (struct timeline){.start_ns = clock_monotonic_ns()};
}

void timeline_mark(struct timeline *timeline, enum guest_stage stage)
{
    uint64_t none = 0;
    (void)__atomic_compare_exchange_n(&timeline->stage_ns[stage], &none, clock_monotonic_ns(), 0,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

uint64_t timeline_stage(const struct timeline *timeline, enum guest_stage stage)
{
    return __atomic_load_n(&timeline->stage_ns[stage], __ATOMIC_SEQ_CST);
}

void timeline_opened(struct timeline *timeline)
{
    timeline->opened_ns = clock_monotonic_ns();
}

void timeline_built(struct timeline *timeline, uint64_t kvm_ns, uint64_t created_ns)
{
    timeline->kvm_ns = kvm_ns;
    timeline->created_ns = created_ns;
    timeline->built_ns = clock_monotonic_ns();
}

void timeline_entered(struct timeline *timeline, uint64_t first_exit_ns)
{
    timeline->first_exit_ns = first_exit_ns;
}

void timeline_restored(struct timeline *timeline, uint64_t connected_ns)
{
    timeline->connected_ns = connected_ns;
    timeline->unique_ns = clock_monotonic_ns();
}

void timeline_resume_step(struct timeline *timeline, const char *name, uint64_t duration_us)
{
    if (timeline->step_count == TIMELINE_STEPS_MAX)
        return;
    (void)snprintf(timeline->steps[timeline->step_count].name, TIMELINE_NAME_BYTES, "%s", name);
    timeline->steps[timeline->step_count++].duration_us = duration_us;
}

uint64_t timeline_restore_ns(const struct timeline *timeline)
{
    return timeline->unique_ns - timeline->start_ns;
}

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0.0;
}

void timeline_text(const struct timeline *timeline, enum guest_stage last, char *text, size_t size)
{
    int used =
        snprintf(text, size, "%.1f ms: vmm %.1f", ms(timeline->start_ns, timeline_stage(timeline, last)),
                 ms(timeline->start_ns, timeline->running_ns));
    uint64_t before = timeline->running_ns;
    for (size_t i = 0; i < STEP_COUNT && used > 0 && (size_t)used < size; i++) {
        const uint64_t at = timeline_stage(timeline, steps[i].stage);
        if (at == 0 || steps[i].stage > last)
            continue;
        used += snprintf(text + used, size - (size_t)used, ", %s %.1f", steps[i].name, ms(before, at));
        before = at;
    }
}

static unsigned long long us(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (to_ns - from_ns + 500) / 1000 : 0;
}

/* One number more of the JSON object that is being written. */
static int put(char *text, size_t size, int used, const char *name, unsigned long long value)
{
    if (used < 0 || (size_t)used >= size)
        return used;
    return used + snprintf(text + used, size - (size_t)used, "%s  \"%s_us\": %llu", used > 2 ? ",\n" : "",
                           name, value);
}

static int put_boot(const struct timeline *timeline, char *text, size_t size, int used)
{
    uint64_t before = timeline->running_ns;
    uint64_t ready = 0;
    used = put(text, size, used, "vmm", us(timeline->start_ns, timeline->running_ns));
    for (size_t i = 0; i < STEP_COUNT; i++) {
        const uint64_t at = timeline_stage(timeline, steps[i].stage);
        if (at == 0)
            continue;
        used = put(text, size, used, steps[i].name, us(before, at));
        before = at;
        if (steps[i].stage == GUEST_STAGE_FUNCTION_READY)
            ready = at;
    }
    return ready ? put(text, size, used, "ready", us(timeline->start_ns, ready)) : used;
}

static int put_restore(const struct timeline *timeline, char *text, size_t size, int used)
{
    used = put(text, size, used, "open", us(timeline->start_ns, timeline->opened_ns));
    used = put(text, size, used, "files", us(timeline->opened_ns, timeline->kvm_ns));
    used = put(text, size, used, "vm", us(timeline->kvm_ns, timeline->created_ns));
    used = put(text, size, used, "devices", us(timeline->created_ns, timeline->built_ns));
    used = put(text, size, used, "load", us(timeline->built_ns, timeline->running_ns));
    if (timeline->first_exit_ns)
        used = put(text, size, used, "first_exit", us(timeline->start_ns, timeline->first_exit_ns));
    if (!timeline->unique_ns)
        return used;
    used = put(text, size, used, "connected", us(timeline->start_ns, timeline->connected_ns));
    used = put(text, size, used, "ready", us(timeline->start_ns, timeline->unique_ns));
    for (unsigned i = 0; i < timeline->step_count; i++) {
        char name[TIMELINE_NAME_BYTES + 8];
        (void)snprintf(name, sizeof name, "resume_%s", timeline->steps[i].name);
        used = put(text, size, used, name, timeline->steps[i].duration_us);
    }
    return used;
}

/* The moments themselves, for whoever measures from before the process or between two of them. */
static int put_moments(const struct timeline *timeline, char *text, size_t size, int used)
{
    const struct {
        const char *name;
        uint64_t ns;
    } moments[] = {
        {"start", timeline->start_ns},   {"opened", timeline->opened_ns},
        {"kvm", timeline->kvm_ns},       {"created", timeline->created_ns},
        {"built", timeline->built_ns},   {"running", timeline->running_ns},
        {"unique", timeline->unique_ns}, {"first_exit", timeline->first_exit_ns},
    };
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++)
        if (moments[i].ns && used > 0 && (size_t)used < size)
            used += snprintf(text + used, size - (size_t)used, ",\n  \"%s_ns\": %llu", moments[i].name,
                             (unsigned long long)moments[i].ns);
    return used;
}

static void format_json(const struct timeline *timeline, char *text, size_t size)
{
    int used = snprintf(text, size, "{\n");
    used =
        timeline->opened_ns ? put_restore(timeline, text, size, used) : put_boot(timeline, text, size, used);
    if (timeline->opened_ns)
        used = put_moments(timeline, text, size, used);
    if (used > 0 && (size_t)used < size)
        (void)snprintf(text + used, size - (size_t)used, "\n}\n");
}

static bool is_picture(const char *path)
{
    const size_t size = strlen(path);
    return size > 4 && strcmp(path + size - 4, ".svg") == 0;
}

static int write_whole(const struct timeline *timeline, bool as_picture, int *fd)
{
    char text[4096];
    if (!as_picture) {
        format_json(timeline, text, sizeof text);
        return fd_write_all(*fd, text, strlen(text));
    }
    FILE *out = fdopen(*fd, "w");
    if (!out)
        return -errno;
    *fd = -1; /* the stream's */
    timeline_svg(timeline, out);
    const bool failed = ferror(out);
    return fclose(out) ? -errno : failed ? -EIO : 0;
}

int timeline_write(const struct timeline *timeline, const char *path)
{
    char beside[PATH_BYTES];
    if ((size_t)snprintf(beside, sizeof beside, "%s.%d", path, (int)getpid()) >= sizeof beside)
        return -ENAMETOOLONG;
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int error = write_whole(timeline, is_picture(path), &fd);
    fd_close(&fd);
    if (error == 0 && rename(beside, path) < 0)
        error = -errno;
    if (error)
        (void)unlink(beside);
    return error;
}
