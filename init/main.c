/*
 * init: PID 1 of the guest.
 *
 * Runs from the initramfs as /init, or straight from the image as /sbin/init; either way it stays PID 1 for
 * the guest's whole life and ends only by powering off. Whatever fails is said on the console and reported to
 * the VMM as a reason (bootargs.h); nothing here exits, waits without a limit or lets the kernel panic.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "init/bootargs.h"
#include "init/halt.h"
#include "init/mounts.h"
#include "init/report.h"
#include "init/root.h"
#include "init/supervise.h"
#include "init/system.h"

static void report_ignored(void *context, const char *what, const char *why)
{
    (void)context;
    log_warn("ignored boot argument %s: %s", what, why);
}

/* Arguments over their defaults, and the first sign of life. */
static void read_arguments(struct bootargs *args)
{
    char line[BOOTARGS_LINE_MAX];
    bootargs_defaults(args);
    const int64_t size = fd_read_file("/proc/cmdline", line, sizeof line);
    if (size < 0)
        log_warn("cannot read /proc/cmdline: %s: using the defaults", strerror((int)-size));
    else
        bootargs_decode(args, line, (size_t)size, report_ignored, NULL);
    const int error = report_open(args->exit_port);
    if (error)
        log_warn("cannot use the VMM's port 0x%x: %s: the VMM will not learn how this boot went",
                 (unsigned)args->exit_port, strerror(-error));
    report_stage(GUEST_STAGE_PID1);
}

static enum guest_exit boot(struct bootargs *args, int *writable_fd)
{
    const int early = mounts_early();
    system_console();
    read_arguments(args);
    if (early)
        return GUEST_EXIT_INIT_FAILED;

    const enum guest_exit reason = root_enter(args, writable_fd);
    if (reason != GUEST_EXIT_ORDERLY)
        return reason;
    if (mounts_late() != 0)
        return GUEST_EXIT_INIT_FAILED;
    system_hostname(args->hostname);
    system_loopback_up();
    return supervise(args);
}

int main(void)
{
    sigset_t all;
    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL); /* first: nothing may end PID 1 */
    log_setup("init", LOG_LEVEL_INFO, STDERR_FILENO);
    if (getpid() != 1) {
        log_error("this is the guest's PID 1; started by hand it does nothing");
        return 2;
    }
    (void)reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del arrives as SIGINT, and halts in order */

    struct bootargs args;
    int writable_fd = -1;
    const enum guest_exit reason = boot(&args, &writable_fd);
    halt_power_off(reason, writable_fd);
}
