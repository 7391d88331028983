/*
 * What the function sees of the guest's files. Its root is made in ISOLATE_DIRECTORY/root and becomes the
 * root; the rest is mounted from the old one, by paths relative to it, and then that is let go. So a link in
 * the image leads where it leads for the function.
 *
 *   /          the guest's root (image and overlay), read-only
 *   /proc      of its own pid namespace; of others' processes it shows none
 *   /sys       read-only, without the control groups
 *   /dev       the nodes of `nodes`, and no others
 *   /dev/shm   writable   } one tmpfs with a bound on bytes and files, which counts as the function's memory
 *   /tmp       writable   }
 *   /run       read-only: the agent's, with what is the function's (generation, secrets, connections)
 *
 * The root is a slave of the agent's: a file that the agent mounts over another of the image later on
 * (resolv.conf, with a clone's network) shows here too, and nothing goes the other way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/isolate.h"
#include "agent/resume/parts.h"

#define ROOT        ISOLATE_DIRECTORY "/root"
#define SCRATCH     ISOLATE_DIRECTORY "/scratch"
#define OLD_SCRATCH "run/agent/scratch" /* the same, from the old root */
#define STRICT      (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct {
    const char *path;
    unsigned major, minor;
} nodes[] = {
    {SCRATCH "/dev/null", 1, 3},   {SCRATCH "/dev/zero", 1, 5},    {SCRATCH "/dev/full", 1, 7},
    {SCRATCH "/dev/random", 1, 8}, {SCRATCH "/dev/urandom", 1, 9}, {SCRATCH "/dev/tty", 5, 0},
};

static const struct {
    const char *target, *path;
} links[] = {
    {"/proc/self/fd", SCRATCH "/dev/fd"},       {"/proc/self/fd/0", SCRATCH "/dev/stdin"},
    {"/proc/self/fd/1", SCRATCH "/dev/stdout"}, {"/proc/self/fd/2", SCRATCH "/dev/stderr"},
    {"pts/ptmx", SCRATCH "/dev/ptmx"},
};

static const struct {
    const char *path;
    mode_t mode;
} directories[] = {
    {SCRATCH "/tmp", 01777},    {SCRATCH "/shm", 01777},    {SCRATCH "/dev", 0755},
    {SCRATCH "/dev/pts", 0755}, {SCRATCH "/dev/shm", 0755},
};

/* From the old root to the new one. In their order: a mount below another follows it. */
static const struct bind {
    const char *source, *target;
    unsigned long flags;
} binds[] = {
    {"sys", "/sys", MS_RDONLY | STRICT},
    {"run", "/run", MS_RDONLY | STRICT},
    {OLD_SCRATCH "/dev", "/dev", MS_RDONLY | MS_NOSUID | MS_NOEXEC},
    {"dev/pts", "/dev/pts", MS_NOSUID | MS_NOEXEC},
    {OLD_SCRATCH "/shm", "/dev/shm", STRICT},
    {OLD_SCRATCH "/tmp", "/tmp", MS_NOSUID | MS_NODEV},
};

/* Files of the agent's that lie over others: where programs look for them. */
static const struct {
    const char *path, *target;
} files[] = {
    {"run/machine-id", "/etc/machine-id"},
    {"run/resolv.conf", "/etc/resolv.conf"},
    {"run/boot_id", "/proc/sys/kernel/random/boot_id"},
};

int isolate_mounts_prepare(void)
{
    static const char *const made[] = {ISOLATE_DIRECTORY, ROOT, SCRATCH};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (mkdir(made[i], 0700) < 0 && errno != EEXIST)
            return -errno;
    return mount(NULL, "/", NULL, MS_SHARED, NULL) < 0 ? -errno : 0;
}

static int fill_scratch(uint64_t bytes)
{
    char options[96];
    (void)snprintf(options, sizeof options, "mode=0755,size=%llu,nr_inodes=%llu", (unsigned long long)bytes,
                   (unsigned long long)(bytes / ISOLATE_SCRATCH_BYTES_PER_FILE));
    if (mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID, options) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if (mkdir(directories[i].path, directories[i].mode) < 0)
            return -errno;
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
            return -errno;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i].target, links[i].path) < 0)
            return -errno;
    return 0;
}

static int bind_place(const char *source, const char *target, unsigned long flags)
{
    if (mount(source, target, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL) < 0)
        return -errno;
    return 0;
}

/* The old root lies over the new one afterwards, and is the working directory. */
static int change_root(void)
{
    const int old_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC); /* of a child that executes soon */
    if (old_fd < 0 || chdir(ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || fchdir(old_fd) < 0)
        return -errno;
    return 0;
}

static int mount_all(const char **what)
{
    int error = 0;
    for (size_t i = 0; i < sizeof binds / sizeof *binds && error == 0; i++) {
        *what = binds[i].target;
        error = bind_place(binds[i].source, binds[i].target, binds[i].flags);
    }
    if (error)
        return error;
    *what = "/proc";
    return mount("proc", "/proc", "proc", STRICT, "hidepid=2") < 0 ? -errno : 0;
}

static int lay_files(const char **what)
{
    char why[RESUME_WHY_BYTES];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        *what = files[i].path;
        if (access(files[i].path, F_OK) < 0)
            continue; /* the image's own is in force */
        const int error = resume_mount_over(files[i].path, files[i].target, why);
        if (error)
            return error;
        /* Where the image has a link to the agent's file nothing was mounted, and there is nothing to set. */
        (void)mount(NULL, files[i].target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | STRICT, NULL);
    }
    return 0;
}

int isolate_mounts_enter(uint64_t scratch_bytes, const char **what)
{
    *what = "leave the agent's mounts";
    if (mount(NULL, "/", NULL, MS_SLAVE, NULL) < 0)
        return -errno;
    (void)umask(0);
    *what = "make /tmp and /dev";
    int error = fill_scratch(scratch_bytes);
    if (error)
        return error;
    *what = "make its root";
    error = bind_place("/", ROOT, MS_RDONLY | MS_NOSUID | MS_NODEV);
    if (error == 0)
        error = change_root();
    if (error == 0)
        error = mount_all(what);
    if (error == 0)
        error = lay_files(what);
    if (error)
        return error;
    (void)umask(022);
    *what = "let the old root go";
    return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -errno : 0;
}
