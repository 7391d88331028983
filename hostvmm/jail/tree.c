/*
 * What is left of the file system. The root is a tmpfs of the jail's own, read-only; in it are the directories
 * of this VM's sockets and files, and those named with dir=, under their own names. Nothing in them can be
 * executed, gives a privilege, or is a device.
 *
 * They are found by their names before anything is given up, so that what is wrong with one is said in time,
 * and opened in the new mount namespace as who started us: a user without rights may not get there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/jail/parts.h"

/* What the tmpfs may hold: the directories on the way to those that appear. */
#define TREE_OPTIONS "mode=0755,size=64k,nr_inodes=256"
/* Where it is put together: a directory that any host has; it is hidden with all others. */
#define TREE_PLACE "/proc"

#ifndef MNT_DETACH
#define MNT_DETACH 2 /* not among what linux/mount.h has, which does not go with sys/mount.h */
#endif

/* ---- which directories ---- */

/* Directories that belong to everybody: what a VM may write there, others would trip over. */
static bool shared(const char *path)
{
    static const char *const places[] = {"/",    "/tmp",  "/var/tmp", "/run", "/var/run", "/dev/shm", "/dev",
                                         "/etc", "/home", "/root",    "/usr", "/var",     "/proc",    "/sys"};
    struct stat about, place;
    const char *home = getenv("HOME");
    if (stat(path, &about) < 0)
        return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (stat(places[i], &place) == 0 && place.st_dev == about.st_dev && place.st_ino == about.st_ino)
            return true;
    return home && stat(home, &place) == 0 && place.st_dev == about.st_dev && place.st_ino == about.st_ino;
}

static int add_bind(struct jail *jail, const char *path, bool whole)
{
    struct stat about;
    for (unsigned i = 0; i < jail->bind_count; i++)
        if (strcmp(jail->binds[i].path, path) == 0) {
            jail->binds[i].whole = jail->binds[i].whole || whole;
            return 0;
        }
    int error = stat(path, &about) < 0 ? -errno : 0;
    if (error == 0 && !S_ISDIR(about.st_mode))
        error = -ENOTDIR;
    if (error) {
        log_error("jail: %s: %s: the directory must be there before the VM", path, strerror(-error));
        return error;
    }
    if (shared(path)) {
        log_error(
            "jail: %s is not this VM's alone: make a directory for it, as `mkdir %s/vm-1`, and name its "
            "sockets and files there",
            path, path[1] ? path : "/run");
        return -EPERM;
    }
    if (jail->bind_count == JAIL_BINDS_MAX) {
        log_error("jail: %s: more than %d directories", path, JAIL_BINDS_MAX);
        return -ENOSPC;
    }
    struct jail_bind *bind = &jail->binds[jail->bind_count++];
    *bind = (struct jail_bind){.tree = -1, .whole = whole};
    memcpy(bind->path, path, strlen(path) + 1);
    return 0;
}

/* The directory that a file's name leads to. */
static int add_parent(struct jail *jail, const char *name, bool whole)
{
    char path[2 * PATH_MAX];
    const bool relative = name[0] != '/';
    const int size =
        snprintf(path, sizeof path, "%s%s%s", relative ? jail->home : "", relative ? "/" : "", name);
    if (size < 0 || (size_t)size >= PATH_MAX) {
        log_error("jail: %.100s...: a name too long", name);
        return -ENAMETOOLONG;
    }
    char *slash = strrchr(path, '/');
    slash[slash == path] = '\0';
    return add_bind(jail, path, whole);
}

int jail_tree_plan(struct jail *jail)
{
    const struct jail_needs *needs = jail->needs;
    int error = 0;
    jail->bind_count = 0;
    if (!getcwd(jail->home, sizeof jail->home))
        return -errno;
    for (unsigned i = 0; i < jail->plan->dir_count && error == 0; i++)
        error = add_bind(jail, jail->plan->dirs[i], true);
    for (unsigned i = 0; i < needs->socket_count && error == 0; i++)
        error = add_parent(jail, needs->sockets[i], false);
    for (unsigned i = 0; i < needs->file_count && error == 0; i++)
        error = add_parent(jail, needs->files[i], true);
    return error;
}

/* ---- getting hold of them ---- */

/* A mount of the directory alone: what is mounted below it does not come along. */
static int open_bind(struct jail_bind *bind)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                                MOUNT_ATTR_NOSYMFOLLOW,
                                    .propagation = MS_PRIVATE};
    bind->tree = (int)syscall(SYS_open_tree, AT_FDCWD, bind->path, OPEN_TREE_CLONE | O_CLOEXEC);
    if (bind->tree < 0 ||
        syscall(SYS_mount_setattr, bind->tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
        return -errno;
    return 0;
}

int jail_tree_open(struct jail *jail)
{
    if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    for (unsigned i = 0; i < jail->bind_count; i++) {
        const int error = open_bind(&jail->binds[i]);
        if (error == 0)
            continue;
        log_error("jail: %s cannot be made to appear: %s%s", jail->binds[i].path, strerror(-error),
                  error == -EINVAL ? ": other file systems are mounted below it" : "");
        return error;
    }
    return 0;
}

/* ---- the tree ---- */

/* Directories along `path`, below the working directory. */
static int make_path(const char *path)
{
    char at[PATH_MAX];
    const size_t size = strlen(path);
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(at, path + 1, i - 1);
        at[i - 1] = '\0';
        if (*at && mkdir(at, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* What the VM could not do there later is better known now. */
static int check_bind(const struct jail *jail, const struct jail_bind *bind)
{
    if (access(bind->path, W_OK | X_OK) == 0)
        return 0;
    log_error("jail: uid %u cannot write in %s: give it the directory: `chown %u:%u %s`", jail->uid,
              bind->path, jail->uid, jail->gid, bind->path);
    return -EACCES;
}

static int place_bind(struct jail_bind *bind)
{
    int error = make_path(bind->path);
    if (error == 0 &&
        syscall(SYS_move_mount, bind->tree, "", AT_FDCWD, bind->path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        error = -errno;
    if (error)
        log_error("jail: %s cannot be placed: %s", bind->path, strerror(-error));
    fd_close(&bind->tree);
    return error;
}

int jail_tree_enter(struct jail *jail)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (syscall(SYS_mount, "jail", TREE_PLACE, "tmpfs", flags, TREE_OPTIONS) < 0 || chdir(TREE_PLACE) < 0)
        return -errno;
    int error = 0;
    for (unsigned i = 0; i < jail->bind_count && error == 0; i++)
        error = place_bind(&jail->binds[i]);
    if (error)
        return error;
    if (syscall(SYS_pivot_root, ".", ".") < 0 || syscall(SYS_umount2, ".", MNT_DETACH) < 0 ||
        chdir("/") < 0 || syscall(SYS_mount, NULL, "/", NULL, flags | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return -errno;
    /* Names that are relative stay so where their directory is still there. */
    if (chdir(jail->home) < 0 && chdir("/") < 0)
        return -errno;
    return 0;
}

int jail_tree_check(const struct jail *jail)
{
    int error = 0;
    for (unsigned i = 0; i < jail->bind_count && error == 0; i++)
        error = check_bind(jail, &jail->binds[i]);
    return error;
}
