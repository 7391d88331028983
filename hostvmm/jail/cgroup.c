/*
 * A cgroup (v2) for one VM, below its caller's or the one that cgroup= names: hostvmm-PID. The keeper makes it,
 * puts the process in before that gives up its rights, and removes it when it has ended.
 *
 * A keeper that is killed leaves one behind. Each keeper holds a lock on its own, so the next one that is made
 * beside it finds the dead by their locks, and removes them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/jail/parts.h"

#define PREFIX         "hostvmm-"
#define TEXT_BYTES     65536
#define MAKE_ATTEMPTS  16
#define CPU_PERIOD_US  100000u
#define MEMORY_OWN_MIB 64u /* hostvmm, what waits in its buffers, the page cache of its drives */

/* ---- where ---- */

/* The mount point of cgroup v2, as mountinfo has it. */
static int find_mount(char path[PATH_MAX])
{
    static char text[TEXT_BYTES];
    const int64_t size = fd_read_file("/proc/self/mountinfo", text, sizeof text - 1);
    if (size < 0)
        return (int)size;
    text[size] = '\0';
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *tail = strstr(line, " - cgroup2 ");
        if (tail && sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1)
            return 0;
    }
    return -ENOENT;
}

/* The caller's own: the line that begins with "0::". */
static int find_own(char path[PATH_MAX])
{
    static char text[TEXT_BYTES];
    const int64_t size = fd_read_file("/proc/self/cgroup", text, sizeof text - 1);
    if (size < 0)
        return (int)size;
    text[size] = '\0';
    for (const char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "0::", 3) == 0) {
            (void)snprintf(path, PATH_MAX, "%s", line + 3);
            return 0;
        }
    return -ENOENT;
}

static int open_parent(const struct jail_plan *plan, char path[2 * PATH_MAX])
{
    char mount[PATH_MAX];
    char own[PATH_MAX];
    int error = find_mount(mount);
    if (error == 0 && !plan->cgroup[0])
        error = find_own(own);
    if (error) {
        log_error(
            "jail: this host has no cgroup v2 mounted: mount one, or say cgroup=none and do without limits");
        return error;
    }
    (void)snprintf(path, 2 * PATH_MAX, "%s/%s", mount, plan->cgroup[0] ? plan->cgroup : own + 1);
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    error = -errno;
    log_error("jail: cgroup %s: %s: make it first, or name another with cgroup=", path, strerror(-error));
    return error;
}

/* ---- files of a cgroup ---- */

static int put_text(int directory, const char *name, const char *text)
{
    int fd = openat(directory, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int error = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

static int put_number(int directory, const char *name, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return put_text(directory, name, text);
}

/* ---- those of dead keepers ---- */

static void remove_if_dead(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(parent, name, AT_REMOVEDIR) == 0)
        log_info("jail: removed the cgroup %s, whose keeper is gone", name);
    fd_close(&fd);
}

static void sweep(int parent)
{
    const int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if (strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) == 0)
            remove_if_dead(parent, entry->d_name);
    if (directory)
        (void)closedir(directory);
}

/* ---- making ---- */

/* Which controllers the children get: all that are wanted, or none and the reason. */
static int enable(int parent, const struct jail_plan *plan, const char *path)
{
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "+memory +pids%s%s", plan->cpu_percent ? " +cpu" : "",
                   plan->io[0] ? " +io" : "");
    const int error = put_text(parent, "cgroup.subtree_control", wanted);
    if (error == 0)
        return 0;
    const char *advice = "it does not have them: enable them in the cgroup above it";
    if (error == -EBUSY)
        advice = "processes are in it: name an empty one with cgroup=";
    else if (error == -EACCES || error == -EPERM || error == -EROFS)
        advice = "it is not this user's: have one delegated and name it with cgroup=";
    log_error("jail: cgroup %s cannot limit children (%s): %s: %s, or say cgroup=none and do without limits",
              path, wanted, strerror(-error), advice);
    return error;
}

/* A directory of our own, under lock. One that was swept away before the lock is made again. */
static int make_own(struct jail_cgroup *cgroup)
{
    for (unsigned i = 0; i < MAKE_ATTEMPTS; i++) {
        struct stat mine, there;
        (void)snprintf(cgroup->name, sizeof cgroup->name, PREFIX "%d.%u", (int)getpid(), i);
        if (mkdirat(cgroup->parent, cgroup->name, 0755) < 0) {
            if (errno == EEXIST)
                continue;
            return -errno;
        }
        cgroup->own = openat(cgroup->parent, cgroup->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (cgroup->own < 0)
            continue;
        if (flock(cgroup->own, LOCK_EX) == 0 && fstat(cgroup->own, &mine) == 0 &&
            fstatat(cgroup->parent, cgroup->name, &there, 0) == 0 && mine.st_ino == there.st_ino)
            return 0;
        fd_close(&cgroup->own);
    }
    return -EAGAIN;
}

static int limit(const struct jail_cgroup *cgroup, const struct jail *jail)
{
    const struct jail_plan *plan = jail->plan;
    const uint64_t mib = 1024 * 1024;
    const uint64_t own = jail->needs->memory_bytes + jail->needs->memory_bytes / 32 + MEMORY_OWN_MIB * mib;
    const uint64_t memory = plan->memory_mib ? plan->memory_mib * mib : own;
    char cpu[48];
    int error = put_number(cgroup->own, "memory.max", memory);
    if (error == 0)
        error = put_number(cgroup->own, "pids.max", jail->pids);
    if (error == 0 && plan->cpu_percent) {
        (void)snprintf(cpu, sizeof cpu, "%llu %u",
                       (unsigned long long)plan->cpu_percent * CPU_PERIOD_US / 100, CPU_PERIOD_US);
        error = put_text(cgroup->own, "cpu.max", cpu);
    }
    if (error == 0 && plan->io[0])
        error = put_text(cgroup->own, "io.max", plan->io);
    (void)put_text(cgroup->own, "memory.oom.group", "1"); /* of one process, all the same */
    if (error)
        log_error("jail: cgroup %s takes not these limits: %s: is the block device of io= there?",
                  cgroup->name, strerror(-error));
    return error;
}

int jail_cgroup_make(struct jail_cgroup *cgroup, const struct jail *jail)
{
    char path[2 * PATH_MAX];
    cgroup->parent = cgroup->own = -1;
    if (jail->plan->no_cgroup)
        return 0;
    const int parent = open_parent(jail->plan, path);
    if (parent < 0)
        return parent;
    cgroup->parent = parent;
    sweep(parent);
    int error = enable(parent, jail->plan, path);
    if (error)
        return error;
    error = make_own(cgroup);
    if (error) {
        log_error(
            "jail: no cgroup can be made in %s: %s: have one delegated and name it with cgroup=, or say "
            "cgroup=none and do without limits",
            path, strerror(-error));
        return error;
    }
    return limit(cgroup, jail);
}

int jail_cgroup_put(const struct jail_cgroup *cgroup, pid_t pid)
{
    return cgroup->own < 0 ? 0 : put_number(cgroup->own, "cgroup.procs", (uint64_t)pid);
}

void jail_cgroup_remove(struct jail_cgroup *cgroup)
{
    if (cgroup->own >= 0) {
        (void)put_text(cgroup->own, "cgroup.kill", "1");
        if (unlinkat(cgroup->parent, cgroup->name, AT_REMOVEDIR) < 0)
            log_warn("jail: cgroup %s cannot be removed: %s", cgroup->name, strerror(errno));
    }
    fd_close(&cgroup->own);
    fd_close(&cgroup->parent);
}
