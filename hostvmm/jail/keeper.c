/*
 * The keeper: the process that called jail_enter, which stays outside with the rights it had, and does what
 * needs them. It reads nothing but words of one kind from the jail, and only until the jailed is in:
 *
 *   jailed                                  keeper
 *   in a user namespace of its own    ->    writes its uid and gid, puts it into its cgroup
 *   has made process 1 of the jail    ->    waits for the end of the one between, and has process 1 as its child
 *   process 1 has given up the rest   ->    says that it is there to be kept by
 *
 * After that it forwards signals, waits for the end, removes cgroup and sockets, and ends with the code of the
 * jailed. When the keeper dies the kernel kills the jailed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/jail/parts.h"

struct keeper {
    const struct jail *jail;
    pid_t between; /* ends when it has made process 1 */
    pid_t child;   /* process 1; 0: not yet */
    int channel;
    struct jail_cgroup cgroup;
    sigset_t signals;
    bool terminal; /* it was ours, and is the jailed one's while that lives */
};

/* ---- what the jailed asks for ---- */

static int put_map(pid_t pid, const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fd_write_file(path, text);
}

/* One uid and one gid, the same inside and outside. */
static int map_ids(const struct keeper *keeper)
{
    char text[64];
    const struct jail *jail = keeper->jail;
    (void)snprintf(text, sizeof text, "%u %u 1", jail->uid, jail->uid);
    int error = put_map(keeper->between, "uid_map", text);
    if (error == 0)
        error = put_map(keeper->between, "setgroups", "deny");
    (void)snprintf(text, sizeof text, "%u %u 1", jail->gid, jail->gid);
    if (error == 0)
        error = put_map(keeper->between, "gid_map", text);
    if (error)
        log_error("jail: uid %u and gid %u cannot be had in a user namespace: %s%s", jail->uid, jail->gid,
                  strerror(-error),
                  jail->privileged ? "" : ": only root can be given another uid than its own");
    return error;
}

static int serve(struct keeper *keeper, const struct jail_message *message)
{
    int status;
    switch (message->word) {
    case JAIL_WORD_USER: {
        int error = map_ids(keeper);
        if (error == 0)
            error = jail_cgroup_put(&keeper->cgroup, keeper->between);
        return error;
    }
    case JAIL_WORD_CHILD: /* the one between ends when it has the answer */
        keeper->child = message->pid;
        return 0;
    case JAIL_WORD_IN:
        while (waitpid(keeper->between, &status, 0) < 0 && errno == EINTR)
            continue;
        return status == 0 ? 0 : -ECHILD;
    case JAIL_WORD_OK:
        break;
    }
    return -EPROTO;
}

/* Until the jailed is in, or has failed, which it has logged. */
static void see_it_in(struct keeper *keeper)
{
    struct jail_message message;
    const struct jail_message answer = {.word = JAIL_WORD_OK};
    bool in = false;
    while (!in && recv(keeper->channel, &message, sizeof message, 0) == (ssize_t)sizeof message) {
        if (serve(keeper, &message))
            break;
        in = message.word == JAIL_WORD_IN;
        if (in && keeper->terminal)
            (void)tcsetpgrp(STDIN_FILENO, keeper->child);
        if (send(keeper->channel, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
            break;
    }
    /* The channel stays open: its end tells the jailed of ours. */
    if (!in)
        fd_close(&keeper->channel);
}

/* ---- the jailed lives ---- */

static int code_of(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    const int number = WTERMSIG(status);
    if (number == SIGSYS)
        log_error("the jail: hostvmm made a system call that its filter does not know, and was killed; the "
                  "kernel's log may say which");
    else
        log_error("the jail: hostvmm was ended by signal %d (%s)", number, strsignal(number));
    return HOSTVMM_EXIT_SIGNAL + number;
}

/* Signals until the child has ended. The exit code. */
static int keep(struct keeper *keeper)
{
    int status;
    for (;;) {
        const pid_t last = keeper->child > 0 ? keeper->child : keeper->between;
        const pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended == last || (ended < 0 && errno == ECHILD))
            return ended < 0 ? HOSTVMM_EXIT_HOST : code_of(status);
        if (ended > 0)
            continue;
        const int number = sigwaitinfo(&keeper->signals, NULL);
        if (number > 0 && number != SIGCHLD)
            (void)kill(last, number);
    }
}

static void remove_sockets(const struct jail_needs *needs)
{
    struct stat about;
    for (unsigned i = 0; i < needs->socket_count; i++)
        if (lstat(needs->sockets[i], &about) == 0 && S_ISSOCK(about.st_mode))
            (void)unlink(needs->sockets[i]);
}

/* Of what was opened for the VM the keeper holds nothing. */
static void let_go(const struct keeper *keeper)
{
    const int keep[] = {keeper->channel, keeper->cgroup.parent, keeper->cgroup.own};
    for (int fd = STDERR_FILENO + 1; fd < 65536; fd++) { /* few are open; close_range takes runs */
        int next = 65536;
        bool kept = false;
        for (unsigned i = 0; i < sizeof keep / sizeof *keep; i++) {
            kept = kept || keep[i] == fd;
            if (keep[i] > fd && keep[i] < next)
                next = keep[i];
        }
        if (kept)
            continue;
        (void)syscall(SYS_close_range, fd, next == 65536 ? ~0u : (unsigned)next - 1, 0);
        fd = next - 1;
    }
}

__attribute__((noreturn)) static void keeper_run(struct keeper *keeper)
{
    (void)prctl(PR_SET_NAME, "hostvmm-keeper");
    keeper->terminal = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
    let_go(keeper);
    see_it_in(keeper);
    const int code = keep(keeper);
    if (keeper->terminal)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    if (code > HOSTVMM_EXIT_SIGNAL) /* it had no time to do so itself */
        remove_sockets(keeper->jail->needs);
    jail_cgroup_remove(&keeper->cgroup);
    _exit(code);
}

/* ---- the jailed one's side ---- */

int jail_tell(const struct jail *jail, enum jail_word word, pid_t pid)
{
    const struct jail_message message = {.word = word, .pid = pid};
    struct jail_message answer;
    if (send(jail->channel, &message, sizeof message, MSG_NOSIGNAL) < 0)
        return -errno;
    return recv(jail->channel, &answer, sizeof answer, 0) == (ssize_t)sizeof answer ? 0 : -ECONNRESET;
}

int jail_keeper(struct jail *jail)
{
    struct keeper keeper = {.jail = jail};
    int ends[2];
    int error = jail_cgroup_make(&keeper.cgroup, jail);
    if (error == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        error = -errno;
    if (error) {
        jail_cgroup_remove(&keeper.cgroup);
        return error;
    }
    sigset_t before;
    sigemptyset(&keeper.signals);
    sigaddset(&keeper.signals, SIGCHLD);
    sigaddset(&keeper.signals, SIGINT);
    sigaddset(&keeper.signals, SIGTERM);
    sigaddset(&keeper.signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &keeper.signals, &before);
    (void)signal(SIGTTOU, SIG_IGN); /* the terminal comes back from a group that is not in front */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    keeper.between = fork();
    if (keeper.between > 0) {
        (void)close(ends[1]);
        keeper.channel = ends[0];
        keeper_run(&keeper);
    }
    error = keeper.between < 0 ? -errno : 0;
    if (error) {
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
    } else { /* the others stay blocked: process 1 of a namespace loses what it does not wait for */
        sigemptyset(&before);
        sigaddset(&before, SIGCHLD);
        (void)sigprocmask(SIG_UNBLOCK, &before, NULL);
    }
    (void)close(ends[0]);
    jail->channel = ends[1];
    if (error)
        (void)close(ends[1]);
    fd_close(&keeper.cgroup.own);
    fd_close(&keeper.cgroup.parent);
    return error;
}
