/*
 * See timeline.h. A stage's duration runs from the one before it that was reached; the last ones, a function
 * that is ready or has failed, are alternatives.
 */
#include "hostvmm/timeline.h"

#include <errno.h>
#include <fcntl.h>
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

static void format_json(const struct timeline *timeline, char *text, size_t size)
{
    int used = snprintf(text, size, "{\n  \"vmm_us\": %llu", us(timeline->start_ns, timeline->running_ns));
    uint64_t before = timeline->running_ns;
    uint64_t ready = 0;
    for (size_t i = 0; i < STEP_COUNT && used > 0 && (size_t)used < size; i++) {
        const uint64_t at = timeline_stage(timeline, steps[i].stage);
        if (at == 0)
            continue;
        used +=
            snprintf(text + used, size - (size_t)used, ",\n  \"%s_us\": %llu", steps[i].name, us(before, at));
        before = at;
        if (steps[i].stage == GUEST_STAGE_FUNCTION_READY)
            ready = at;
    }
    if (ready && used > 0 && (size_t)used < size)
        used += snprintf(text + used, size - (size_t)used, ",\n  \"ready_us\": %llu",
                         us(timeline->start_ns, ready));
    if (used > 0 && (size_t)used < size)
        (void)snprintf(text + used, size - (size_t)used, "\n}\n");
}

int timeline_write(const struct timeline *timeline, const char *path)
{
    char text[512];
    char beside[PATH_BYTES];
    if ((size_t)snprintf(beside, sizeof beside, "%s.%d", path, (int)getpid()) >= sizeof beside)
        return -ENAMETOOLONG;
    format_json(timeline, text, sizeof text);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int error = fd_write_all(fd, text, strlen(text));
    fd_close(&fd);
    if (error == 0 && rename(beside, path) < 0)
        error = -errno;
    if (error)
        (void)unlink(beside);
    return error;
}
