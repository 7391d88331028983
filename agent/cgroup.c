/* See cgroup.h. Files of cgroup v2: Linux Documentation/admin-guide/cgroup-v2.rst. */
#include "agent/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

uint64_t cgroup_memory_max(uint64_t total_bytes)
{
    uint64_t reserve = total_bytes / CGROUP_RESERVE_PART;
    if (reserve < CGROUP_RESERVE_MIN_BYTES)
        reserve = CGROUP_RESERVE_MIN_BYTES;
    /* A machine so small that the reserve is most of it: the function gets half. */
    if (reserve > total_bytes / 2)
        reserve = total_bytes / 2;
    return (total_bytes - reserve) & ~(uint64_t)4095;
}

static int write_file(const struct cgroup *cgroup, const char *name, const char *text)
{
    int fd = openat(cgroup->directory_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int error = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

/* The number after `key` in a flat keyed file; 0 when it is not there. */
static uint64_t keyed_value(const char *text, const char *key)
{
    const size_t size = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, key, size) == 0 && line[size] == ' ')
            return strtoull(line + size + 1, NULL, 10);
    }
    return 0;
}

static ssize_t read_text(int fd, char *text, size_t capacity)
{
    const ssize_t n = pread(fd, text, capacity - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

void cgroup_refresh(struct cgroup *cgroup)
{
    char text[256];
    if (read_text(cgroup->events_fd, text, sizeof text) <= 0)
        return;
    cgroup->populated = keyed_value(text, "populated") != 0;
    cgroup->frozen = keyed_value(text, "frozen") != 0;
}

static void on_events(void *context, uint32_t events)
{
    (void)events;
    cgroup_refresh(context);
}

static int set_limits(struct cgroup *cgroup, bool lenient)
{
    struct sysinfo info;
    if (sysinfo(&info) < 0)
        return -errno;
    cgroup->memory_max_bytes = cgroup_memory_max((uint64_t)info.totalram * info.mem_unit);
    char memory_max[32], pids_max[16];
    (void)snprintf(memory_max, sizeof memory_max, "%" PRIu64, cgroup->memory_max_bytes);
    (void)snprintf(pids_max, sizeof pids_max, "%d", CGROUP_PIDS_MAX);
    const struct {
        const char *name, *value;
        bool optional;
    } limits[] = {
        {"memory.max", memory_max, lenient},
        {"memory.swap.max", "0", true}, /* a kernel without swap has no such file, and needs none */
        {"memory.oom.group", "1", lenient},
        {"pids.max", pids_max, lenient},
        {"cpu.weight", CGROUP_CPU_WEIGHT, true}, /* without it a spinning function slows the agent down */
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const int error = write_file(cgroup, limits[i].name, limits[i].value);
        if (error == 0 || (error == -ENOENT && limits[i].optional)) {
            if (error && lenient)
                log_warn("no %s here: the function runs without that limit", limits[i].name);
            continue;
        }
        log_error("cgroup: cannot write %s to %s: %s; are the memory and pids controllers enabled?",
                  limits[i].value, limits[i].name, strerror(-error));
        return error;
    }
    return 0;
}

int cgroup_init(struct cgroup *cgroup, struct loop *loop, const char *path, bool lenient)
{
    *cgroup = (struct cgroup){.loop = loop,
                              .directory_fd = -1,
                              .leaf_fd = -1,
                              .events_fd = -1,
                              .freeze_fd = -1,
                              .source = {.fd = -1}};
    int error = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    if (error == 0) {
        cgroup->directory_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        error = cgroup->directory_fd < 0 ? -errno : 0;
    }
    if (error == 0) {
        cgroup->events_fd = openat(cgroup->directory_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        error = cgroup->events_fd < 0 ? -errno : 0;
    }
    if (error == 0) /* where there is none, freezing fails */
        cgroup->freeze_fd = openat(cgroup->directory_fd, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
    if (error)
        log_error("cgroup: cannot use %s: %s; is cgroup2 mounted there?", path, strerror(-error));
    if (error == 0)
        error = set_limits(cgroup, lenient);
    if (error == 0)
        error = loop_add(loop, &cgroup->source, cgroup->events_fd, EPOLLPRI, on_events, cgroup);
    if (error)
        cgroup_fini(cgroup);
    else
        cgroup_refresh(cgroup);
    return error;
}

void cgroup_fini(struct cgroup *cgroup)
{
    cgroup_remove_leaf(cgroup);
    loop_remove(cgroup->loop, &cgroup->source);
    fd_close(&cgroup->freeze_fd);
    fd_close(&cgroup->events_fd);
    fd_close(&cgroup->directory_fd);
}

/* Unique among the agents of this boot, so that nothing of an earlier one is met. */
static void leaf_name(char *name, size_t capacity, unsigned number)
{
    (void)snprintf(name, capacity, "%d-%u", (int)getpid(), number);
}

int cgroup_next_leaf(struct cgroup *cgroup)
{
    char name[32];
    cgroup_remove_leaf(cgroup);
    leaf_name(name, sizeof name, ++cgroup->leaves);
    if (mkdirat(cgroup->directory_fd, name, 0755) < 0)
        return -errno;
    cgroup->leaf_fd = openat(cgroup->directory_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return cgroup->leaf_fd < 0 ? -errno : 0;
}

void cgroup_remove_leaf(struct cgroup *cgroup)
{
    char name[32];
    if (cgroup->leaf_fd < 0)
        return;
    fd_close(&cgroup->leaf_fd);
    leaf_name(name, sizeof name, cgroup->leaves);
    if (unlinkat(cgroup->directory_fd, name, AT_REMOVEDIR) < 0)
        log_warn("cannot remove the cgroup of the last function process: %s", strerror(errno));
}

int cgroup_kill(struct cgroup *cgroup)
{
    return write_file(cgroup, "cgroup.kill", "1");
}

int cgroup_freeze(struct cgroup *cgroup, bool freeze)
{
    const int error = pwrite(cgroup->freeze_fd, freeze ? "1" : "0", 1, 0) < 0 ? -errno : 0;
    cgroup_refresh(cgroup);
    return error;
}

uint64_t cgroup_oom_kills(const struct cgroup *cgroup)
{
    int fd = openat(cgroup->directory_fd, "memory.events", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* without the memory controller nothing is killed by its limit */
    char text[512];
    const uint64_t count = read_text(fd, text, sizeof text) > 0 ? keyed_value(text, "oom_kill") : 0;
    fd_close(&fd);
    return count;
}
