/*
 * The way in: see jail.h. Three processes have a part in it, as a pid namespace is only for the children of
 * the one that makes it:
 *
 *   caller ---fork---> the one between ---fork---> process 1 of the jail, which returns from jail_enter
 *   = keeper           (ends at once)              a child of the keeper's from then on
 *
 * Whatever is given up before the second fork is given up by both.
 */
#include "hostvmm/jail/jail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/jail/parts.h"

#define NOBODY       65534u
#define PIDS_OWN     8u    /* the loop, the maker of threads, KVM's own workers, and some to spare */
#define FILES_OWN    1536u /* a connection each of vsock's 1024, and the machine's own */
#define POWERLESS    (SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE | SECURE_ALL_LOCKS)
#define KEEP_SESSION 1u /* KEYCTL_JOIN_SESSION_KEYRING */

/* ---- descriptors ---- */

static int to_null(int fd, int flags)
{
    int null = open("/dev/null", flags | O_CLOEXEC);
    if (null < 0)
        return -errno;
    const int error = dup2(null, fd) < 0 ? -errno : 0;
    fd_close(&null);
    return error;
}

/* What hostvmm opened is close-on-exec; what is not was open when it started, and nobody here knows it. */
static int close_inherited(void)
{
    DIR *directory = opendir("/proc/self/fd");
    const struct dirent *entry;
    if (!directory)
        return -errno;
    while ((entry = readdir(directory))) {
        const int fd = (int)strtol(entry->d_name, NULL, 10);
        const int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && !(flags & FD_CLOEXEC))
            (void)close(fd);
    }
    (void)closedir(directory);
    /* The console has descriptors of its own by now, but for the terminal's settings. */
    int error = isatty(STDIN_FILENO) ? 0 : to_null(STDIN_FILENO, O_RDONLY);
    if (error == 0)
        error = to_null(STDOUT_FILENO, O_WRONLY);
    return error;
}

/* ---- namespaces ---- */

static int leave_group(void)
{
    return setpgid(0, 0) < 0 ? -errno : 0;
}

static int drop_groups(const struct jail *jail)
{
    if (!jail->privileged)
        return 0; /* not this user's to do; the user namespace denies any change */
    return setgroups(0, NULL) < 0 ? -errno : 0;
}

/* Others' keys are found through the session's keyring. */
static int leave_keyring(void)
{
    return syscall(SYS_keyctl, KEEP_SESSION, NULL) < 0 && errno != ENOSYS ? -errno : 0;
}

static int new_namespaces(int flags)
{
    return unshare(flags) < 0 ? -errno : 0;
}

static int new_user_namespace(const struct jail *jail)
{
    const int error = new_namespaces(CLONE_NEWUSER);
    return error ? error : jail_tell(jail, JAIL_WORD_USER, 0);
}

static int no_further_user_namespaces(void)
{
    return fd_write_file("/proc/sys/user/max_user_namespaces", "0");
}

/* Only process 1 comes out of here, when the keeper knows of it. */
static int become_first(const struct jail *jail)
{
    int ends[2];
    char byte = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    const pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child > 0) {
        if (jail_tell(jail, JAIL_WORD_CHILD, child) || write(ends[1], &byte, 1) != 1)
            _exit(HOSTVMM_EXIT_HOST);
        _exit(HOSTVMM_EXIT_OK);
    }
    (void)close(ends[1]);
    const ssize_t n = read(ends[0], &byte, 1);
    (void)close(ends[0]);
    return n == 1 ? 0 : -ECONNRESET;
}

static int open_pagemap(const struct jail *jail)
{
    if (!jail->needs->pagemap_fd)
        return 0;
    *jail->needs->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return *jail->needs->pagemap_fd < 0 ? -errno : 0;
}

static int forget_names(void)
{
    return sethostname("", 0) < 0 || setdomainname("", 0) < 0 ? -errno : 0;
}

/* ---- rights ---- */

static int become_user(const struct jail *jail)
{
    return setresgid(jail->gid, jail->gid, jail->gid) < 0 || setresuid(jail->uid, jail->uid, jail->uid) < 0
               ? -errno
               : 0;
}

static int set_limits(const struct jail *jail)
{
    const struct {
        int which;
        uint64_t most;
    } limits[] = {
        {RLIMIT_NOFILE, jail->plan->files ? jail->plan->files : FILES_OWN},
        {RLIMIT_NPROC, jail->pids},
        {RLIMIT_FSIZE, jail->needs->file_bytes},
        {RLIMIT_CORE, 0},
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_RTPRIO, 0},
        {RLIMIT_NICE, 0},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit now;
        if (getrlimit(limits[i].which, &now) < 0)
            return -errno;
        now.rlim_max = limits[i].most < now.rlim_max ? (rlim_t)limits[i].most : now.rlim_max;
        now.rlim_cur = now.rlim_max;
        if (setrlimit(limits[i].which, &now) < 0)
            return -errno;
    }
    return 0;
}

static int drop_bounding(void)
{
    for (unsigned long capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            return -errno;
    return 0;
}

/* uid 0, should it ever be had again, means nothing. */
static int lock_root(void)
{
    return prctl(PR_SET_SECUREBITS, POWERLESS, 0, 0, 0) < 0 ? -errno : 0;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

static int set_flag(int option, unsigned long value)
{
    return prctl(option, value, 0, 0, 0) < 0 ? -errno : 0;
}

/* From here the keeper's death is ours. It is there when it has answered, and when its end of the channel is
 * still open after that was set. */
static int bind_to_keeper(struct jail *jail)
{
    char byte;
    int error = jail_tell(jail, JAIL_WORD_IN, 0);
    if (error == 0)
        error = set_flag(PR_SET_PDEATHSIG, SIGKILL);
    if (error == 0 && (recv(jail->channel, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN))
        error = -ECONNRESET;
    fd_close(&jail->channel);
    return error;
}

/* ---- the list ---- */

/* Whether it is given up; the reason is logged. */
static bool dropped(const char *what, int error)
{
    if (error == 0)
        return true;
    if (error == -ECONNRESET)
        log_error("jail: %s: refused", what);
    else
        log_error("jail: %s: %s: this host does not offer it", what, strerror(-error));
    return false;
}

/* What a host may be without. */
static bool optional(int error)
{
    (void)error;
    return true;
}

static bool give_up(struct jail *jail)
{
    return dropped("descriptors of others", close_inherited()) &&
           dropped("supplementary groups", drop_groups(jail)) &&
           dropped("the session's keys", leave_keyring()) &&
           dropped("a user namespace", new_user_namespace(jail)) &&
           optional(no_further_user_namespaces()) && /* where /proc/sys can be written */
           dropped("mount, network, IPC, UTS, cgroup and pid namespaces",
                   new_namespaces(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
                                  CLONE_NEWPID)) &&
           dropped("a process 1", become_first(jail)) && /* from here on as process 1 */
           dropped("a map of its own pages", open_pagemap(jail)) &&
           dropped("the caller's process group", leave_group()) &&
           dropped("the host's name", forget_names()) &&
           dropped("directories of the VM", jail_tree_open(jail)) &&
           dropped("uid and gid", become_user(jail)) && dropped("an empty root", jail_tree_enter(jail)) &&
           dropped("resource limits", set_limits(jail)) && dropped("the bounding set", drop_bounding()) &&
           dropped("root's powers", lock_root()) && dropped("capabilities", drop_capabilities()) &&
           dropped("new privileges", set_flag(PR_SET_NO_NEW_PRIVS, 1)) &&
           dropped("directories that it can write", jail_tree_check(jail)) &&
           optional(jail_landlock(jail)) && /* where the kernel has it */
           dropped("core dumps and tracers", set_flag(PR_SET_DUMPABLE, 0)) &&
           dropped("a keeper", bind_to_keeper(jail)) && dropped("a maker of threads", jail_threads_begin());
}

/* Whose uid and gid it will be. */
static int choose_ids(struct jail *jail)
{
    const struct jail_plan *plan = jail->plan;
    const uint32_t uid = (uint32_t)geteuid();
    const uint32_t gid = (uint32_t)getegid();
    jail->privileged = uid == 0;
    jail->uid = plan->uid ? plan->uid : uid ? uid : NOBODY;
    jail->gid = plan->gid ? plan->gid : uid ? gid : jail->uid;
    if (jail->privileged || (jail->uid == uid && jail->gid == gid))
        return 0;
    log_error("jail: uid %u and gid %u: only root can choose them; leave them out for %u and %u", jail->uid,
              jail->gid, uid, gid);
    return -EPERM;
}

int jail_enter(const struct jail_plan *plan, const struct jail_needs *needs)
{
    static struct jail jail; /* large */
    if (!plan->on)
        return 0;
    jail.plan = plan;
    jail.needs = needs;
    jail.pids = plan->pids ? plan->pids : needs->threads + PIDS_OWN;
    if (choose_ids(&jail) || jail_tree_plan(&jail))
        return HOSTVMM_EXIT_INPUT;
    const int error = jail_keeper(&jail);
    if (error)
        log_error("jail: no keeper: %s", strerror(-error));
    if (error || !give_up(&jail))
        return HOSTVMM_EXIT_HOST;
    log_info("jailed as uid %u, gid %u, with %u director%s%s", jail.uid, jail.gid, jail.bind_count,
             jail.bind_count == 1 ? "y" : "ies", jail.landlocked ? ", Landlock" : "");
    return 0;
}
