/* See spawn.h. Every other descriptor of init is close-on-exec: that is what makes "exactly these" true. */
#include "init/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/handoff.h"

static void log_failure(const char *path, int error)
{
    struct stat info;
    const char *hint = "";
    if (error == -ENOENT && stat(path, &info) == 0)
        hint = ": it is there, but the loader it asks for is not; link it statically";
    else if (error == -ENOENT)
        hint = ": the image holds no agent; build it with rootfs/build.sh";
    else if (error == -EACCES)
        hint = ": it must be a regular file with execute permission";
    else if (error == -ENOEXEC)
        hint = ": it is no program for this processor";
    log_error("cannot start the agent %s: %s%s", path, strerror(-error), hint);
}

static int spawn_with(const struct bootargs *args, unsigned attempt, int agent_end, pid_t *agent)
{
    const char *path = args->agent;
    char attempt_text[sizeof HANDOFF_ENV_ATTEMPT + 16];
    char network_text[sizeof HANDOFF_ENV_NETWORK + 1 + sizeof args->net];
    snprintf(attempt_text, sizeof attempt_text, HANDOFF_ENV_ATTEMPT "=%u", attempt);
    snprintf(network_text, sizeof network_text, HANDOFF_ENV_NETWORK "=%s", args->net);
    char *const arguments[] = {(char *)(uintptr_t)path, NULL};
    char *const environment[] = {
        (char *)(uintptr_t)(HANDOFF_ENV_VERSION "=" HANDOFF_VERSION_TEXT),
        attempt_text,
        (char *)(uintptr_t) "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        (char *)(uintptr_t) "HOME=/",
        args->net[0] ? network_text : NULL,
        NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
    int error = posix_spawnattr_setflags(&attributes,
                                         POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (error == 0)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (error == 0)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, agent_end, HANDOFF_FD);
    if (error == 0)
        error = posix_spawn(agent, path, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

int spawn_agent(const struct bootargs *args, unsigned attempt, int *handoff_fd, pid_t *agent)
{
    int pair[2] = {-1, -1};
    int error = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        error = -errno;
    if (error == 0)
        error = fd_set_nonblock(pair[0]);
    if (error == 0)
        error = spawn_with(args, attempt, pair[1], agent);
    fd_close(&pair[1]);
    if (error) {
        fd_close(&pair[0]);
        log_failure(args->agent, error);
        return error;
    }
    *handoff_fd = pair[0];
    return 0;
}
