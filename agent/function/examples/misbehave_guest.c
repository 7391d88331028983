/*
 * What misbehave does to the guest around it: takes all there is of something, or tries to get at what is not
 * the function's. Nothing here checks; the answer says how far it came, and the tests know how far it may.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/function/examples/misbehave.h"

/* ---- all there is ---------------------------------------------------------------------------------- */

/* NUMBER 1: in a child, while the function itself waits. */
int do_leak(struct call *call)
{
    static char *volatile block; /* volatile: a compiler may leave out what nobody can see */
    const pid_t child = call->number ? fork() : 0;
    while (child == 0) { /* touched, or it would cost nothing; never freed */
        block = malloc(1 << 20);
        if (!block)
            break;
        memset(block, 'x', 1 << 20);
    }
    for (;;) /* the address space ran out first: hold what there is */
        pause();
}

/* NUMBER more processes do the same. */
int do_spin(struct call *call)
{
    for (unsigned long i = 0; i < call->number; i++)
        if (fork() == 0)
            break;
    (void)!write(STDOUT_FILENO, "spinning\n", 9);
    for (volatile unsigned long turns = 0;; turns++)
        ;
    return 0;
}

/* One file in /tmp, until there is no space. It stays. */
int do_fill(struct call *call)
{
    static const char block[65536];
    const int fd = open("/tmp/fill", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsigned long long bytes = 0;
    ssize_t count = 0;
    while (fd >= 0 && (count = write(fd, block, sizeof block)) > 0)
        bytes += (unsigned long long)count;
    const int error = errno; /* of open or write: nothing came between */
    if (fd >= 0)
        close(fd);
    return function_reply_printf(call->reply, "filled %llu KiB: %s", bytes >> 10, strerror(error));
}

/* Empty files in /tmp, until there can be no more. They stay. */
int do_files(struct call *call)
{
    unsigned long made = 0;
    for (;; made++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/tmp/file-%lu", made);
        const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    return function_reply_printf(call->reply, "made %lu files: %s", made, strerror(errno));
}

/* As many as one process gets, in it and in NUMBER children, all at once; then the answer. */
int do_descriptors(struct call *call)
{
    int hold[2], full[2];
    if (pipe(hold) < 0 || pipe(full) < 0)
        return -errno;
    unsigned long children = 0;
    for (; children < call->number; children++) {
        const pid_t child = fork();
        if (child < 0)
            break;
        if (child > 0)
            continue;
        close(hold[1]);
        while (dup(hold[0]) >= 0)
            ;
        char byte = 0;
        (void)!write(full[1], &byte, 1);
        (void)!read(hold[0], &byte, 1); /* until the parent lets go */
        _exit(0);
    }
    for (unsigned long i = 0; i < children; i++) {
        char byte;
        (void)!read(full[0], &byte, 1);
    }
    unsigned long opened = 0;
    int last = -1, error = 0;
    while (error == 0) {
        const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        error = fd < 0 ? errno : 0;
        opened += fd >= 0;
        last = fd >= 0 ? fd : last;
    }
    close(last); /* one, for the answer */
    close(hold[1]);
    while (wait(NULL) > 0)
        ;
    return function_reply_printf(call->reply, "opened %lu beside %lu processes: %s", opened, children,
                                 strerror(error));
}

/* Memory of the kernel's: sockets with as much in them as they take, in it and in NUMBER children. */
int do_buffers(struct call *call)
{
    static const char block[65536];
    bool child = false;
    for (unsigned long i = 0; i < call->number && !child; i++)
        child = fork() == 0;
    unsigned long long bytes = 0;
    int pair[2];
    while (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0) {
        ssize_t count;
        while ((count = send(pair[0], block, sizeof block, 0)) > 0)
            bytes += (unsigned long long)count;
    }
    const int error = errno;
    if (child)
        pause();    /* until it is killed */
    close(pair[0]); /* one of the last whole pair, for the answer */
    return function_reply_printf(call->reply, "buffered %llu KiB: %s", bytes >> 10, strerror(error));
}

/* A child that writes to standard output for ever, also when the answer is out. */
int do_noise(struct call *call)
{
    static char block[4096];
    memset(block, 'n', sizeof block);
    const pid_t child = fork();
    while (child == 0)
        if (write(STDOUT_FILENO, block, sizeof block) < 0)
            _exit(0);
    return child < 0 ? -errno : function_reply_printf(call->reply, "noise by %d", (int)child);
}

/* Every process that it may, with a child to show that there was one. */
int do_killall(struct call *call)
{
    if (geteuid() == 0) { /* tried out by hand, it would be everything */
        function_reply_fail(call->reply, "Misbehave.Refused", "not as root");
        return 0;
    }
    const pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    const int result = kill(-1, SIGKILL);
    const int error = errno;
    int status = 0;
    const bool died = child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status);
    const int first = kill(1, SIGKILL) < 0 ? errno : 0;
    return function_reply_printf(call->reply, "all: %s, child: %s, process 1: %s",
                                 result < 0 ? strerror(error) : "sent", died ? "killed" : "lives",
                                 first ? strerror(first) : "sent");
}

/* ---- what is not its own --------------------------------------------------------------------------- */

int do_read(struct call *call)
{
    static char text[65536];
    const int fd = open(call->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
    const int error = errno;
    if (fd >= 0)
        close(fd);
    return size < 0 ? function_reply_printf(call->reply, "cannot read: %s", strerror(error))
                    : function_reply_write(call->reply, text, (size_t)size);
}

/* Open for writing, and make it if it is not there. */
int do_write(struct call *call)
{
    const int fd = open(call->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    const int error = errno;
    if (fd >= 0)
        close(fd);
    return function_reply_printf(call->reply, "%s", fd < 0 ? strerror(error) : "opened");
}

int do_list(struct call *call)
{
    DIR *listing = opendir(call->path);
    if (!listing)
        return function_reply_printf(call->reply, "cannot list: %s", strerror(errno));
    const struct dirent *entry;
    int error = 0;
    while (error == 0 && (entry = readdir(listing)))
        error = function_reply_printf(call->reply, "%s\n", entry->d_name);
    (void)closedir(listing);
    return error;
}

#define TEXT(text) ((long)(intptr_t)(text))

/* Ways out of what the function is given; the answer is how each of them failed. */
int do_escape(struct call *call)
{
    static const struct timespec epoch = {.tv_sec = 0};
    const struct {
        const char *name;
        long number, arguments[5];
    } ways[] = {
        {"vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}},
        {"packet", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
        {"raw", SYS_socket, {AF_INET, SOCK_RAW, 1}},
        {"io_uring", SYS_io_uring_setup, {1, 0, 0}},
        {"user namespace", SYS_unshare, {CLONE_NEWUSER, 0, 0}},
        {"mount", SYS_mount, {TEXT("none"), TEXT("/tmp"), TEXT("tmpfs"), 0, 0}},
        {"remount", SYS_mount, {TEXT("none"), TEXT("/"), 0, MS_REMOUNT | MS_BIND, 0}},
        {"unmount", SYS_umount2, {TEXT("/proc"), MNT_DETACH, 0}},
        {"device node", SYS_mknodat, {AT_FDCWD, TEXT("/tmp/node"), S_IFCHR | 0666, (long)makedev(1, 1), 0}},
        {"root", SYS_chroot, {TEXT("/tmp"), 0, 0}},
        {"become root", SYS_setuid, {0, 0, 0}},
        {"trace the first", SYS_ptrace, {PTRACE_SEIZE, 1, 0}},
        {"kill the first", SYS_kill, {1, SIGKILL, 0}},
        {"host name", SYS_sethostname, {TEXT("mine"), 4, 0}},
        {"clock", SYS_clock_settime, {CLOCK_REALTIME, TEXT(&epoch), 0}},
        {"priority", SYS_setpriority, {0, 0, -10}},
        {"ports", SYS_ioperm, {0x5f0, 1, 1}},
        {"reboot", SYS_reboot, {0xfee1dead, 672274793, 0x4321fedc}},
    };
    int error = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && error == 0; i++) {
        const long *at = ways[i].arguments;
        errno = 0;
        const long result = syscall(ways[i].number, at[0], at[1], at[2], at[3], at[4]);
        error = function_reply_printf(call->reply, "%s: %s\n", ways[i].name,
                                      result >= 0 ? "succeeded" : strerror(errno));
    }
    return error;
}
