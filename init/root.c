/*
 * The root file system. Two ways lead here:
 *
 *   from the initramfs   / is the kernel's ramfs and holds just /init; the image is on args->root and is
 *                        mounted on /run/image;
 *   straight             the kernel was given root= and init=, / already is the image, mounted read-only.
 *
 *   /run/image     the image (first way)           lower layer
 *   /run/writable  tmpfs or ext4, upper + work     upper layer
 *   /run/root      the overlay                     becomes /
 *
 * With overlay=none the image itself becomes /. The old root stays below, unreachable; overlayfs holds its
 * own references to its layers. The point of no return is enter(): a failure after it has nowhere to go back
 * to, and powers off like every other.
 */
#include "init/root.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "init/image.h"
#include "init/mounts.h"

/* Drives are probed before PID 1 starts; this covers kernels that probe them in the background. */
#define DEVICE_WAIT_MS 1000

#define AT_IMAGE       "/run/image"
#define AT_WRITABLE    "/run/writable"
#define AT_ROOT        "/run/root"

/* statfs(2): file systems that live in memory, as the initramfs does. */
#define MAGIC_RAMFS 0x858458f6u
#define MAGIC_TMPFS 0x01021994u

struct drive {
    char path[BOOTARGS_VALUE_MAX + sizeof "/dev/"];
    struct image_verdict verdict;
};

static bool in_initramfs(void)
{
    struct statfs root;
    if (statfs("/", &root) < 0)
        return false;
    const unsigned type = (unsigned)root.f_type;
    return type == MAGIC_RAMFS || type == MAGIC_TMPFS;
}

/* Wait until the node exists, woken by each new node in /dev, at most DEVICE_WAIT_MS. */
static int device_wait(const char *path)
{
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE | IN_ONLYDIR) < 0)
        fd_close(&watch); /* then it is there now or not at all */
    const uint64_t start_ns = clock_monotonic_ns();
    int error = 0;
    while (access(path, F_OK) < 0) {
        error = -errno;
        const uint64_t waited_ms = (clock_monotonic_ns() - start_ns) / 1000000;
        if (error != -ENOENT || watch < 0 || waited_ms >= DEVICE_WAIT_MS)
            break;
        struct pollfd ready = {.fd = watch, .events = POLLIN};
        (void)poll(&ready, 1, (int)(DEVICE_WAIT_MS - waited_ms));
        char events[512];
        while (read(watch, events, sizeof events) > 0)
            continue;
        error = 0;
    }
    fd_close(&watch);
    return error;
}

/* What is on the drive. Logs what is wrong with it; 0 when it can be mounted. */
static int drive_open(struct drive *drive, const char *name, const char *argument)
{
    uint8_t head[IMAGE_PROBE_BYTES];
    snprintf(drive->path, sizeof drive->path, "/dev/%s", name);
    int error = device_wait(drive->path);
    int fd = error ? -1 : open(drive->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (error == 0 && fd < 0)
        error = -errno;
    if (error) {
        log_error("no drive %s: %s: attach one to the VM, or name another with " BOOTARGS_PREFIX "%s=",
                  drive->path, strerror(-error), argument);
        return error;
    }
    const ssize_t size = pread(fd, head, sizeof head, 0);
    const off_t device_bytes = lseek(fd, 0, SEEK_END);
    error = size < 0 || device_bytes < 0 ? -errno : 0;
    fd_close(&fd);
    if (error) {
        log_error("cannot read drive %s: %s", drive->path, strerror(-error));
        return error;
    }
    drive->verdict = image_identify(head, (size_t)size, (uint64_t)device_bytes);
    switch (drive->verdict.kind) {
    case IMAGE_EROFS:
    case IMAGE_SQUASHFS:
    case IMAGE_EXT4:
        return 0;
    case IMAGE_BLANK:
        log_error("drive %s is blank: make a file system on it first (%s)", drive->path,
                  strcmp(argument, "root") == 0 ? "rootfs/build.sh" : "mkfs.ext4 -F FILE");
        break;
    case IMAGE_EMPTY:
        log_error("drive %s is empty: %llu bytes", drive->path, (unsigned long long)device_bytes);
        break;
    case IMAGE_TRUNCATED:
        log_error("drive %s is truncated: its %s needs %llu bytes and the drive has %llu; build or copy the "
                  "image again",
                  drive->path, drive->verdict.file_system, (unsigned long long)drive->verdict.wanted_bytes,
                  (unsigned long long)device_bytes);
        break;
    case IMAGE_UNKNOWN:
        log_error("drive %s holds no file system known here: want erofs, squashfs or ext4", drive->path);
        break;
    }
    return -EMEDIUMTYPE;
}

static int mount_drive(const struct drive *drive, const char *target, unsigned long flags)
{
    if (mount(drive->path, target, drive->verdict.file_system, flags | MS_NODEV | MS_NOSUID | MS_NOATIME,
              NULL) == 0)
        return 0;
    const int error = -errno;
    log_error("cannot mount %s (%s): %s%s", drive->path, drive->verdict.file_system, strerror(-error),
              error == -ENODEV                      ? ": the kernel lacks that file system"
              : error == -EACCES || error == -EROFS ? ": the drive is read-only; attach it writable"
                                                    : ": the kernel's messages may say more");
    return error;
}

/* The file system of the upper layer on AT_WRITABLE. */
static int mount_writable(const struct bootargs *args, int *writable_fd)
{
    if (strcmp(args->overlay, "tmpfs") == 0) {
        if (mount("tmpfs", AT_WRITABLE, "tmpfs", MS_NODEV | MS_NOSUID, "mode=0700") == 0)
            return 0;
        const int error = -errno;
        log_error("cannot mount a tmpfs for the writable layer: %s", strerror(-error));
        return error;
    }
    struct drive drive;
    int error = drive_open(&drive, args->overlay, "overlay");
    if (error)
        return error;
    if (drive.verdict.kind != IMAGE_EXT4) {
        log_error("drive %s holds %s, which cannot be the writable layer: make an ext4 on it (mkfs.ext4 -F "
                  "FILE)",
                  drive.path, drive.verdict.file_system);
        return -EMEDIUMTYPE;
    }
    error = mount_drive(&drive, AT_WRITABLE, 0);
    if (error)
        return error;
    *writable_fd = open(AT_WRITABLE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *writable_fd < 0 ? -errno : 0;
}

static int mount_overlay(const struct bootargs *args, bool initramfs, int *writable_fd)
{
    /* The straight way has no writable place yet: the scaffold stands on a tmpfs of its own. */
    if (!initramfs && mount("tmpfs", "/run", "tmpfs", MS_NODEV | MS_NOSUID, "mode=0700") < 0) {
        log_error("cannot mount a tmpfs on /run: %s: does the image have that directory?", strerror(errno));
        return -errno;
    }
    (void)mkdir(AT_WRITABLE, 0700);
    (void)mkdir(AT_ROOT, 0755);
    int error = mount_writable(args, writable_fd);
    if (error)
        return error;
    static const char *const layers[] = {AT_WRITABLE "/upper", AT_WRITABLE "/work"};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        if (mkdir(layers[i], 0755) < 0 && errno != EEXIST) {
            log_error("cannot make %s: %s: is the writable drive full?", layers[i], strerror(errno));
            return -errno;
        }
    const char *options =
        initramfs ? "lowerdir=" AT_IMAGE ",upperdir=" AT_WRITABLE "/upper,workdir=" AT_WRITABLE "/work"
                  : "lowerdir=/,upperdir=" AT_WRITABLE "/upper,workdir=" AT_WRITABLE "/work";
    if (mount("overlay", AT_ROOT, "overlay", MS_NODEV | MS_NOSUID | MS_NOATIME, options) < 0) {
        error = -errno;
        log_error("cannot mount the overlay: %s%s", strerror(-error),
                  error == -ENODEV ? ": the kernel lacks overlayfs" : ": the kernel's messages may say more");
        return error;
    }
    return 0;
}

/* Make the file system at `root` the root of this process and of all to come. */
static enum guest_exit enter(const char *root, bool initramfs)
{
    if (mounts_move(root) != 0)
        return GUEST_EXIT_INIT_FAILED;
    if (initramfs)
        (void)unlink("/init"); /* its pages go when they are no longer mapped */
    /* The point of no return. */
    if (chdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
        log_error("cannot move into the root file system: %s", strerror(errno));
        return GUEST_EXIT_INIT_FAILED;
    }
    return GUEST_EXIT_ORDERLY;
}

enum guest_exit root_enter(const struct bootargs *args, int *writable_fd)
{
    const bool initramfs = in_initramfs();
    const bool overlay = strcmp(args->overlay, "none") != 0;
    *writable_fd = -1;

    if (initramfs) {
        struct drive drive;
        (void)mkdir("/run", 0755);
        (void)mkdir(AT_IMAGE, 0755);
        if (drive_open(&drive, args->root, "root") != 0 || mount_drive(&drive, AT_IMAGE, MS_RDONLY) != 0)
            return GUEST_EXIT_NO_ROOT;
    }
    if (overlay && mount_overlay(args, initramfs, writable_fd) != 0)
        return GUEST_EXIT_NO_OVERLAY;
    if (!initramfs && !overlay)
        return GUEST_EXIT_ORDERLY; /* already there */
    return enter(overlay ? AT_ROOT : AT_IMAGE, initramfs);
}
