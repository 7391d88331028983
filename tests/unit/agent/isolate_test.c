/*
 * Namespaces, their reaper and their mounts, made on this machine in a mount namespace of the test's own. Needs
 * root, as the agent does in its guest; without it the tests are skipped, and say so.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/isolate.h"
#include "agent/resume/parts.h"

static bool may;
static struct isolate isolate;

/* What isolate_mounts.c takes from the resume, which is not here. */
int resume_mount_over(const char *path, const char *target, char *why)
{
    (void)why;
    return access(target, F_OK) < 0 || mount(path, target, NULL, MS_BIND, NULL) == 0 ? 0 : -errno;
}

static int set_up(void **state)
{
    (void)state;
    log_setup("isolate_test", LOG_LEVEL_ERROR, STDERR_FILENO);
    may =
        geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    /* A /run of its own, and a pts that may be missing on machines of tests. */
    may = may && mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") == 0 && access("/dev/pts", F_OK) == 0;
    return !may || isolate_init(&isolate, UINT64_C(16) << 20) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (may)
        isolate_fini(&isolate);
    return 0;
}

static void end_namespaces(void)
{
    isolate_kill(&isolate);
    const pid_t reaper = isolate.reaper;
    assert_true(reaper > 0);
    assert_int_equal(waitpid(reaper, NULL, 0), reaper);
    assert_true(isolate_is_over(&isolate, reaper));
    assert_int_equal(isolate.reaper, 0);
}

/* Run in new namespaces; what it returns is its exit code. The status as the agent gets it. */
static int inside(int (*act)(int fd), int fd)
{
    assert_int_equal(isolate_start(&isolate), 0);
    assert_int_equal(isolate_births(&isolate, true), 0);
    const pid_t child = fork();
    if (child == 0)
        _exit(isolate_join(&isolate) < 0 ? 99 : act(fd));
    assert_int_equal(isolate_births(&isolate, false), 0);
    assert_true(child > 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* By the list of processes: a name may also be a thread's, and a sanitizer has threads. */
static bool sees_only_its_own(void)
{
    DIR *directory = opendir("/proc");
    const struct dirent *entry;
    bool itself = false;
    bool others = false;
    while (directory && (entry = readdir(directory))) {
        const long pid = strtol(entry->d_name, NULL, 10);
        itself = itself || pid == 2;
        others = others || pid > 2;
    }
    if (directory)
        (void)closedir(directory);
    return itself && !others;
}

static int look_around(int fd)
{
    (void)fd;
    struct stat about;
    if (getpid() != 2 || getppid() != 0)
        return 1;
    if (open("/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EROFS)
        return 2;
    if (open("/tmp/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 ||
        open("/dev/shm/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0)
        return 3;
    if (open("/run/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EROFS)
        return 4;
    if (stat("/dev/null", &about) < 0 || !S_ISCHR(about.st_mode) || (about.st_mode & 0777) != 0666)
        return 5;
    if (access("/dev/mem", F_OK) == 0 || access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0)
        return 6;
    if (stat("/tmp", &about) < 0 || (about.st_mode & 07777) != 01777)
        return 7;
    return sees_only_its_own() ? 42 : 8;
}

static void a_child_sees_its_own_and_its_end_is_told_as_it_was(void **state)
{
    (void)state;
    if (!may)
        skip();
    int status = inside(look_around, -1);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    end_namespaces();
    assert_int_equal(access("/tmp/made", F_OK), -1);
}

static int die(int fd)
{
    (void)fd;
    (void)signal(SIGABRT, SIG_DFL);
    (void)raise(SIGABRT);
    return 0;
}

static void a_signal_ends_it_and_is_told(void **state)
{
    (void)state;
    if (!may)
        skip();
    const int status = inside(die, -1);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    end_namespaces();
}

/* Orphans that end at once: they are buried by nobody's work. Then one that does not end, holding `fd`. */
static int leave_orphans(int fd)
{
    int ends[2];
    if (pipe(ends) < 0)
        return 1;
    for (int i = 0; i < 20; i++)
        if (fork() == 0)
            _exit(fork() < 0);
    while (wait(NULL) > 0)
        ;
    close(ends[1]);
    char byte;
    if (read(ends[0], &byte, 1) != 0) /* the last of them is gone */
        return 2;
    if (fork() == 0)
        for (;;)
            pause();
    (void)fd; /* stays open in it */
    return 0;
}

static void what_it_leaves_ends_with_the_namespaces(void **state)
{
    (void)state;
    if (!may)
        skip();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const int status = inside(leave_orphans, ends[1]);
    assert_int_equal(status, 0);
    close(ends[1]);
    end_namespaces(); /* returns when the orphan is gone; it held the pipe open */
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
}

static void the_agents_children_are_its_own_again(void **state)
{
    (void)state;
    if (!may)
        skip();
    assert_int_equal(inside(look_around, -1) >> 8, 42);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        const pid_t own = getpid();
        _exit(write(ends[1], &own, sizeof own) == sizeof own ? 0 : 1);
    }
    pid_t told = 0;
    assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
    assert_int_equal(told, child);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[0]);
    close(ends[1]);
    end_namespaces();
}

static void a_reaper_that_cannot_be_made_is_an_error_and_is_buried(void **state)
{
    (void)state;
    if (!may)
        skip();
    assert_int_equal(rmdir(ISOLATE_DIRECTORY "/root"), 0);
    log_setup("isolate_test", LOG_LEVEL_ERROR, open("/dev/null", O_WRONLY | O_CLOEXEC));
    assert_int_equal(isolate_start(&isolate), -ENOENT);
    log_setup("isolate_test", LOG_LEVEL_ERROR, STDERR_FILENO);
    end_namespaces();
    assert_int_equal(mkdir(ISOLATE_DIRECTORY "/root", 0700), 0);
    assert_int_equal(inside(look_around, -1) >> 8, 42);
    end_namespaces();
}

static void the_bound_of_what_it_writes_is_half_of_its_memory(void **state)
{
    (void)state;
    if (!may)
        skip();
    assert_int_equal(isolate.scratch_bytes, 8u << 20);
    struct isolate large;
    assert_int_equal(isolate_init(&large, UINT64_C(64) << 30), 0);
    assert_int_equal(large.scratch_bytes, ISOLATE_SCRATCH_MAX_BYTES);
    isolate_fini(&large);
}

int main(int count, char **arguments)
{
    if (count == 1 && getpid() == 1 && strcmp(arguments[0], ISOLATE_REAPER) == 0)
        isolate_reap();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_sees_its_own_and_its_end_is_told_as_it_was),
        cmocka_unit_test(a_signal_ends_it_and_is_told),
        cmocka_unit_test(what_it_leaves_ends_with_the_namespaces),
        cmocka_unit_test(the_agents_children_are_its_own_again),
        cmocka_unit_test(a_reaper_that_cannot_be_made_is_an_error_and_is_buried),
        cmocka_unit_test(the_bound_of_what_it_writes_is_half_of_its_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
