/*
 * Mounts: one const table, in the order they are made.
 *
 * The early rows are mounted in whatever root the kernel gave us and moved into the final one; the others are
 * mounted there. A required row that fails ends the boot; any other is reported and the boot goes on. A mount
 * point that is missing is made, which works wherever the root is writable.
 */
#include "init/mounts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

struct mount_row {
    const char *type;
    const char *target;
    unsigned long flags;
    const char *options;
    bool early;
    bool required;
};

#define STRICT (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct mount_row rows[] = {
    {.type = "proc", .target = "/proc", .flags = STRICT, .early = true, .required = true},
    {.type = "devtmpfs",
     .target = "/dev",
     .flags = MS_NOSUID | MS_NOEXEC,
     .options = "mode=0755",
     .early = true,
     .required = true},
    {.type = "sysfs", .target = "/sys", .flags = STRICT, .required = true},
    {.type = "devpts",
     .target = "/dev/pts",
     .flags = MS_NOSUID | MS_NOEXEC,
     .options = "mode=0620,gid=5,ptmxmode=0666"},
    {.type = "tmpfs", .target = "/dev/shm", .flags = STRICT, .options = "mode=1777"},
    {.type = "tmpfs",
     .target = "/run",
     .flags = MS_NOSUID | MS_NODEV,
     .options = "mode=0755",
     .required = true},
    {.type = "tmpfs",
     .target = "/tmp",
     .flags = MS_NOSUID | MS_NODEV,
     .options = "mode=1777",
     .required = true},
    {.type = "cgroup2", .target = "/sys/fs/cgroup", .flags = STRICT, .required = true},
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

/* What programs expect in /dev beside the nodes the kernel makes. */
static const struct {
    const char *target;
    const char *name;
} links[] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

static const char *const controllers[] = {"+memory", "+pids", "+cpu", "+io"};

static int mount_row(const struct mount_row *row)
{
    (void)mkdir(row->target, 0755); /* exists in most images; where it cannot be made, mount says so */
    if (mount(row->type, row->target, row->type, row->flags, row->options) == 0)
        return 0;
    if (errno == EBUSY && row->early) /* the kernel mounted it: CONFIG_DEVTMPFS_MOUNT */
        return 0;
    const int error = -errno;
    log_write(row->required ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "cannot mount %s on %s: %s%s", row->type,
              row->target, strerror(-error),
              error == -ENODEV   ? ": the kernel lacks it; see kernel-config"
              : error == -ENOENT ? ": the image has no such directory; make it with rootfs/build.sh"
                                 : "");
    return row->required ? error : 0;
}

static int mount_rows(bool early)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const int error = rows[i].early == early ? mount_row(&rows[i]) : 0;
        if (error)
            return error;
    }
    return 0;
}

int mounts_early(void)
{
    const int error = mount_rows(true);
    for (size_t i = 0; error == 0 && i < sizeof links / sizeof links[0]; i++)
        if (symlink(links[i].target, links[i].name) < 0 && errno != EEXIST)
            log_warn("cannot make %s: %s", links[i].name, strerror(errno));
    return error;
}

int mounts_move(const char *root)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char target[64];
        if (!rows[i].early)
            continue;
        snprintf(target, sizeof target, "%s%s", root, rows[i].target);
        (void)mkdir(target, 0755);
        if (mount(rows[i].target, target, NULL, MS_MOVE, NULL) < 0) {
            const int error = -errno;
            log_error("cannot move %s into the image: %s: it needs that directory; make it with "
                      "rootfs/build.sh",
                      rows[i].target, strerror(-error));
            return error;
        }
    }
    return 0;
}

int mounts_late(void)
{
    const int error = mount_rows(false);
    for (size_t i = 0; error == 0 && i < sizeof controllers / sizeof controllers[0]; i++) {
        /* One at a time: a kernel without one still has the others. */
        const int failed = fd_write_file("/sys/fs/cgroup/cgroup.subtree_control", controllers[i]);
        if (failed)
            log_warn("cannot enable cgroup controller %s: %s", controllers[i] + 1, strerror(-failed));
    }
    return error;
}
