/*
 * See restore.h. The snapshot is read, checked and parsed once; a clone is a child that goes on from there,
 * so many clones cost little more than their VMs. The parent only waits, and passes signals on.
 */
#include "hostvmm/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/logs.h"
#include "hostvmm/run.h"
#include "hostvmm/snapshot/snapshot.h"

static struct snapshot snapshot; /* large */
static struct prefetch prefetch; /* large */

/* Texts of one clone's own, for as long as the process runs. */
static struct {
    char console[CONFIG_PATH_MAX + 1];
    char control[CONFIG_PATH_MAX + 1];
    char timeline[CONFIG_PATH_MAX + 1];
    char log[CONFIG_PATH_MAX + 1];
    char metrics[CONFIG_PATH_MAX + 1];
    char hostname[CONFIG_NAME_MAX + 1];
    char log_name[32];
} own = {.log_name = "hostvmm"};

static int expand(const char **text, unsigned clone, char *to, size_t capacity)
{
    if (!*text)
        return 0;
    const int error = config_expand(*text, clone, to, capacity);
    if (error)
        log_error("%s: too long with %%n replaced", *text);
    *text = to;
    return error;
}

static int expand_in_place(char *text, unsigned clone, size_t capacity)
{
    char expanded[CONFIG_PATH_MAX + 1];
    const char *from = text;
    const int error = expand(&from, clone, expanded, capacity);
    if (error == 0)
        memcpy(text, expanded, strlen(expanded) + 1);
    return error;
}

/* Replace %n by the clone's number in every name. */
static int make_own(struct config *config, unsigned clone)
{
    int error = expand(&config->console_path, clone, own.console, sizeof own.console);
    if (error == 0)
        error = expand(&config->control, clone, own.control, sizeof own.control);
    if (error == 0)
        error = expand(&config->timeline, clone, own.timeline, sizeof own.timeline);
    if (error == 0)
        error = expand(&config->log, clone, own.log, sizeof own.log);
    if (error == 0)
        error = expand(&config->metrics, clone, own.metrics, sizeof own.metrics);
    if (error == 0)
        error = expand(&config->hostname, clone, own.hostname, sizeof own.hostname);
    if (error == 0)
        error = expand_in_place(config->vsock_path, clone, sizeof config->vsock_path);
    for (unsigned i = 0; i < config->drive_count && error == 0; i++)
        error = expand_in_place(config->drives[i].path, clone, sizeof config->drives[i].path);
    if (config->jail)
        jail_for_clone(config->jail, clone);
    for (unsigned i = 0; i < config->net_count && error == 0; i++) {
        error = config_net_parse(&config->nets[i], config->nets[i].text, clone, config->net_why);
        if (error)
            log_error("--net %s: %s", config->nets[i].text, config->net_why);
    }
    return error;
}

static int run_clone(struct config *config, const struct timeline *timeline, unsigned clone)
{
    if (make_own(config, clone))
        return HOSTVMM_EXIT_USAGE;
    return logs_begin(config, own.log_name) ? HOSTVMM_EXIT_HOST : run_guest(config, timeline, &snapshot);
}

/* In the child: it must not outlive us, and standard input cannot be everybody's. */
static void become_clone(const struct config *config, pid_t parent, unsigned clone, const sigset_t *before)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(HOSTVMM_EXIT_HOST);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0)
        _exit(HOSTVMM_EXIT_HOST);
    (void)snprintf(own.log_name, sizeof own.log_name, "hostvmm clone %u", clone);
    if (logs_begin(config, own.log_name))
        _exit(HOSTVMM_EXIT_HOST);
    (void)sigprocmask(SIG_SETMASK, before, NULL);
}

static int start_clones(struct config *config, const struct timeline *timeline, pid_t *clones,
                        const sigset_t *before)
{
    const pid_t parent = getpid();
    for (unsigned i = 0; i < config->clones; i++) {
        clones[i] = fork();
        if (clones[i] == 0) {
            become_clone(config, parent, i + 1, before);
            exit(run_clone(config, timeline, i + 1));
        }
        if (clones[i] < 0) {
            log_error("clone %u cannot be started: %s", i + 1, strerror(errno));
            clones[i] = 0;
            return HOSTVMM_EXIT_HOST;
        }
    }
    return 0;
}

static void signal_clones(const struct config *config, const pid_t *clones, int number)
{
    for (unsigned i = 0; i < config->clones; i++)
        if (clones[i] > 0)
            (void)kill(clones[i], number);
}

/* Every child that has ended. The first exit code that is not 0, of `code` and theirs. */
static int reap(const struct config *config, pid_t *clones, unsigned *left, int code)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        const int ended = WIFEXITED(status) ? WEXITSTATUS(status) : HOSTVMM_EXIT_SIGNAL + WTERMSIG(status);
        for (unsigned i = 0; i < config->clones; i++) {
            if (clones[i] != pid)
                continue;
            clones[i] = 0;
            (*left)--;
            if (ended && ended <= HOSTVMM_EXIT_SIGNAL)
                log_error("clone %u ended with exit code %d", i + 1, ended);
        }
        code = code ? code : ended;
    }
    return code;
}

static int supervise(struct config *config, const struct timeline *timeline)
{
    sigset_t wanted;
    sigset_t before;
    unsigned left = 0;
    pid_t *clones = calloc(config->clones, sizeof *clones);
    if (!clones)
        return HOSTVMM_EXIT_HOST;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &wanted, &before);
    int code = start_clones(config, timeline, clones, &before);
    if (code)
        signal_clones(config, clones, SIGKILL);
    for (unsigned i = 0; i < config->clones; i++)
        left += clones[i] > 0;
    while (left > 0) {
        siginfo_t info;
        const int number = sigwaitinfo(&wanted, &info);
        if (number > 0 && number != SIGCHLD)
            signal_clones(config, clones, number);
        code = reap(config, clones, &left, code);
    }
    free(clones);
    return code;
}

/* Advice: a clone needs none. */
static void read_prefetch(void)
{
    char why[PREFETCH_WHY_BYTES];
    int directory = open(snapshot.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = directory < 0 ? -errno
                                    : prefetch_read(&prefetch, directory, snapshot.id,
                                                    snapshot.machine.memory_bytes / GUEST_PAGE_BYTES, why);
    if (error == 0)
        snapshot.prefetch = &prefetch;
    else if (directory >= 0 && error != -ENOENT)
        log_warn("snapshot %s: %s; clones start more slowly", snapshot.path, why);
    fd_close(&directory);
}

int restore_clones(struct config *config, struct timeline *timeline)
{
    char why[SNAPSHOT_WHY_BYTES];
    int error = snapshot_open(&snapshot, config->snapshot, why);
    if (error == 0 && config->verify)
        error = snapshot_verify(&snapshot, why);
    if (error) {
        log_error("snapshot %s: %s", config->snapshot, why);
        snapshot_close(&snapshot);
        return HOSTVMM_EXIT_INPUT;
    }
    if (!config->rehearse)
        read_prefetch();
    timeline_opened(timeline);
    const int code = config->clones > 1 && !config->rehearse ? supervise(config, timeline)
                                                             : run_clone(config, timeline, 1);
    snapshot_close(&snapshot);
    return code;
}
