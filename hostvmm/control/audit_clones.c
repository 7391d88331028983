/*
 * See audit_clones.h. `restore` keeps its clones from outliving it, and orphans become our children: so
 * killing it and waiting until no child is left ends them all. What the signal handler needs is made before
 * it can run, and it calls only what a handler may.
 */
#include "hostvmm/control/audit_clones.h"

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

#define ARGUMENTS_MAX 64
#define TOLD_BYTES    4096
#define PARENT_MAX    60

static struct {
    pid_t restore; /* 0: none */
    char directory[88];
    char log[104];
    char sockets[AUDIT_BATCH_MAX + 1][104]; /* [1..count] */
    unsigned count;
} batch;

static const int ending[] = {SIGINT, SIGTERM, SIGHUP};

/* Safe in a signal handler. */
static void clean_up(void)
{
    if (batch.restore > 0)
        (void)kill(batch.restore, SIGKILL);
    while (batch.restore > 0 && (waitpid(-1, NULL, 0) > 0 || errno == EINTR))
        ;
    batch.restore = 0;
    if (!batch.directory[0])
        return;
    for (unsigned i = 1; i <= batch.count; i++)
        (void)unlink(batch.sockets[i]);
    (void)unlink(batch.log);
    (void)rmdir(batch.directory);
    batch.directory[0] = '\0';
}

static void on_signal(int number)
{
    clean_up();
    _exit(HOSTVMM_EXIT_SIGNAL + number);
}

static void ending_set(sigset_t *set)
{
    sigemptyset(set);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        sigaddset(set, ending[i]);
}

int audit_clones_prepare(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    ending_set(&action.sa_mask);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        if (sigaction(ending[i], &action, NULL) < 0)
            return -errno;
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

static int make_directory(unsigned count)
{
    char directory[sizeof batch.directory];
    const char *parent = getenv("TMPDIR");
    if (!parent || strlen(parent) > PARENT_MAX || !*parent) /* a socket's path has little room */
        parent = "/tmp";
    (void)snprintf(directory, sizeof directory, "%s/hostvmm-audit.XXXXXX", parent);
    if (!mkdtemp(directory))
        return -errno;
    (void)snprintf(batch.log, sizeof batch.log, "%s/log", directory);
    for (unsigned i = 1; i <= count; i++)
        (void)snprintf(batch.sockets[i], sizeof batch.sockets[i], "%s/%u", directory, i);
    batch.count = count;
    memcpy(batch.directory, directory, sizeof directory);
    return 0;
}

static void become_restore(const char *program, char *const *arguments, pid_t parent, const sigset_t *before)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int log = open(batch.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (getppid() != parent || log < 0 || null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 ||
        dup2(log, 2) < 0)
        _exit(HOSTVMM_EXIT_HOST);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        (void)signal(ending[i], SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, before, NULL);
    (void)execv(program, arguments);
    _exit(HOSTVMM_EXIT_HOST);
}

int audit_clones_start(const char *program, const char *snapshot, unsigned count, char *const *further)
{
    char number[16];
    char socket[104];
    char *arguments[ARGUMENTS_MAX] = {"hostvmm",   "restore", "--snapshot", (char *)(uintptr_t)snapshot,
                                      "--clones",  number,    "--vsock",    socket,
                                      "--console", "none"};
    unsigned used = 10;
    sigset_t blocked;
    sigset_t before;
    for (; *further && used < ARGUMENTS_MAX - 1; further++)
        arguments[used++] = *further;
    if (*further || count > AUDIT_BATCH_MAX)
        return -E2BIG;
    ending_set(&blocked);
    (void)sigprocmask(SIG_BLOCK, &blocked, &before);
    int error = make_directory(count);
    if (error == 0) {
        (void)snprintf(number, sizeof number, "%u", count);
        (void)snprintf(socket, sizeof socket, "%s/%%n", batch.directory);
        const pid_t parent = getpid();
        const pid_t pid = fork();
        if (pid == 0)
            become_restore(program, arguments, parent, &before);
        error = pid < 0 ? -errno : 0;
        batch.restore = pid > 0 ? pid : 0;
    }
    if (error)
        clean_up();
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return error;
}

const char *audit_clones_socket(unsigned clone)
{
    return batch.sockets[clone];
}

bool audit_clones_alive(void)
{
    siginfo_t about = {.si_pid = 0};
    return batch.restore > 0 &&
           waitid(P_PID, (id_t)batch.restore, &about, WEXITED | WNOHANG | WNOWAIT) == 0 && about.si_pid == 0;
}

void audit_clones_tell(void)
{
    char text[TOLD_BYTES];
    int fd = open(batch.log, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)lseek(fd, -(off_t)sizeof text, SEEK_END); /* of a shorter one: from its beginning */
    ssize_t n = read(fd, text, sizeof text);
    fd_close(&fd);
    if (n > 0)
        (void)fd_write_all(2, text, (size_t)n);
}

void audit_clones_end(void)
{
    sigset_t blocked;
    sigset_t before;
    ending_set(&blocked);
    (void)sigprocmask(SIG_BLOCK, &blocked, &before);
    clean_up();
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}
