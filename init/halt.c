/*
 * Power-off. The part that touches file systems runs in a child, because a drive that no longer answers would
 * hold it without limit and PID 1 never waits without one: past FLUSH_LIMIT_S the power goes off all the
 * same.
 *
 * The writable layer's file system is not visible in the mount table (overlayfs holds it), so it is made
 * read-only through the handle kept since it was mounted: that leaves an ext4 clean, with no journal to
 * replay.
 */
#include "init/halt.h"

#include <errno.h>
#include <linux/mount.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "init/report.h"

#define FLUSH_LIMIT_S    10
#define MOUNTS_MAX_BYTES 32768
#define MOUNTS_MAX       256

static char mounts_text[MOUNTS_MAX_BYTES + 1];

/* /proc/self/mounts writes space, tab, newline and backslash as three octal digits. In place. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
            in[3] <= '7') {
            *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

/* The mount points in mounts_text, in the order they were mounted. Their number. */
static unsigned mount_points(char *points[MOUNTS_MAX])
{
    unsigned count = 0;
    char *rest = mounts_text;
    char *line;
    while (count < MOUNTS_MAX && (line = strsep(&rest, "\n")) != NULL) {
        (void)strsep(&line, " "); /* source */
        char *point = strsep(&line, " ");
        if (point && point[0] == '/') {
            unescape(point);
            points[count++] = point;
        }
    }
    return count;
}

static void unmount_all(void)
{
    char *points[MOUNTS_MAX];
    const int64_t size = fd_read_file("/proc/self/mounts", mounts_text, MOUNTS_MAX_BYTES);
    if (size < 0) {
        log_warn("cannot read the mount table: %s", strerror((int)-size));
        return;
    }
    mounts_text[size] = '\0';
    for (unsigned i = mount_points(points); i-- > 0;) {
        /* What is in use, the root above all, is made read-only instead; what cannot be is in memory. */
        if (umount2(points[i], UMOUNT_NOFOLLOW) < 0)
            (void)mount(NULL, points[i], NULL, MS_REMOUNT | MS_RDONLY, NULL);
    }
}

static void make_read_only(int fs_fd)
{
    int context = (int)syscall(SYS_fspick, fs_fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    int error = context < 0 ? -errno : 0;
    if (error == 0 && (syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
                       syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0))
        error = -errno;
    if (error)
        log_warn("cannot make the writable drive read-only: %s: its journal is replayed at the next mount",
                 strerror(-error));
    fd_close(&context);
}

static void flush(int writable_fd)
{
    const pid_t child = fork();
    if (child <= 0) {
        /* The child; or init itself when there is no memory for one. */
        sync();
        unmount_all();
        if (writable_fd >= 0)
            make_read_only(writable_fd);
        (void)tcdrain(STDERR_FILENO); /* the last words leave through a slow line */
        if (child == 0)
            _exit(0);
        return;
    }
    const struct timespec limit = {.tv_sec = FLUSH_LIMIT_S};
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    const uint64_t start_ns = clock_monotonic_ns();
    while (waitpid(child, NULL, WNOHANG) == 0) {
        if (clock_monotonic_ns() - start_ns >= (uint64_t)FLUSH_LIMIT_S * 1000000000u) {
            log_error("a drive did not take its data within %d s: powering off without it", FLUSH_LIMIT_S);
            return;
        }
        (void)sigtimedwait(&ended, NULL, &limit);
    }
}

_Noreturn void halt_power_off(enum guest_exit reason, int writable_fd)
{
    flush(writable_fd);
    report_reason(reason);
    (void)reboot(RB_POWER_OFF);
    /* Reached when the kernel refuses, which it does to PID 1 only when built without power-off. */
    log_error("cannot power off: %s: trying to restart", strerror(errno));
    (void)reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
