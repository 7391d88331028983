/*
 * Stands in for the agent and behaves as the name it is started by says (bootarg agent=/function/NAME): one
 * program, so that an image can hold every behaviour init must cope with.
 *
 * Prints "stand-in: ..." lines on the console. What it prints is checked by tests/integration/init-qemu.sh.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/handoff.h"

extern char **environ;

static void say(char word)
{
    if (write(HANDOFF_FD, &word, 1) != 1)
        printf("stand-in: cannot say a word: %s\n", strerror(errno));
}

static _Noreturn void wait_for_term(void)
{
    for (;;)
        pause(); /* SIGTERM is at its default and ends this */
}

static int halt(void)
{
    say(HANDOFF_LISTENING);
    say(HANDOFF_FUNCTION_READY);
    say(HANDOFF_HALT);
    wait_for_term();
}

/* A variable's value, "" without one. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static int crash(void)
{
    printf("stand-in: attempt %s\n", variable(HANDOFF_ENV_ATTEMPT));
    raise(SIGSEGV);
    return 0;
}

static int leave(void)
{
    return 7;
}

static int refuse(void)
{
    return HANDOFF_EXIT_VERSION;
}

/* Crashes once, leaving a child that holds on; asks to halt when started again in an empty guest. */
static int recover(void)
{
    static const char note[] = "/run/stand-in-child";
    int child = 0;
    if (strcmp(variable(HANDOFF_ENV_ATTEMPT), "0") == 0) {
        child = fork();
        if (child == 0)
            wait_for_term();
        FILE *file = fopen(note, "w");
        if (file) {
            fprintf(file, "%d", child);
            fclose(file);
        }
        return 1;
    }
    FILE *file = fopen(note, "r");
    if (!file || fscanf(file, "%d", &child) != 1)
        return 2;
    fclose(file);
    printf("stand-in: last one's child is %s\n", kill(child, 0) < 0 && errno == ESRCH ? "gone" : "there");
    return halt();
}

static int stubborn(void)
{
    signal(SIGTERM, SIG_IGN);
    return halt();
}

/* Asks to halt and crashes at once: the word came first and counts. */
static int last_word(void)
{
    say(HANDOFF_HALT);
    raise(SIGKILL);
    return 0;
}

static int chatter(void)
{
    for (int i = 0; i < 1000; i++)
        say((char)('0' + i % 10));
    return halt();
}

static int silent(void)
{
    close(HANDOFF_FD); /* must not keep init busy, nor end anything */
    printf("stand-in: silent\n");
    fflush(stdout);
    kill(1, SIGTERM);
    wait_for_term();
}

/* Leaves a hundred orphans that have ended; says how many are zombies when init has had its turn. */
static int orphans(void)
{
    for (int i = 0; i < 100; i++)
        if (fork() == 0) {
            if (fork() == 0)
                _exit(0);
            _exit(0);
        }
    while (wait(NULL) > 0)
        continue;
    /* Each orphan that init reaps leaves /proc; those it does not stay for ever. The time limit is the
     * test's. */
    int left = -1;
    for (int turn = 0; turn < 1000 && left != 0; turn++) {
        DIR *proc = opendir("/proc");
        left = 0;
        for (struct dirent *entry; proc && (entry = readdir(proc)) != NULL;) {
            char path[300];
            char text[256] = "";
            snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
            FILE *file = atoi(entry->d_name) > 1 ? fopen(path, "r") : NULL;
            if (!file)
                continue;
            if (fgets(text, sizeof text, file) && strstr(text, ") Z 1 "))
                left++;
            fclose(file);
        }
        if (proc)
            closedir(proc);
    }
    printf("stand-in: %d orphans unreaped\n", left);
    return halt();
}

/* A tree of processes deaf to SIGTERM, some stopped. */
static int crowd(void)
{
    signal(SIGTERM, SIG_IGN);
    for (int i = 0; i < 20; i++)
        if (fork() == 0) {
            if (i % 2)
                raise(SIGSTOP);
            wait_for_term();
        }
    return halt();
}

static int scribble(void)
{
    FILE *file = fopen("/scribble", "a+");
    int lines = 0;
    if (file) {
        fputs("line\n", file);
        fflush(file);
        rewind(file);
        for (int c; (c = getc(file)) != EOF;)
            lines += c == '\n';
        fclose(file);
    }
    printf("stand-in: / is %s, %d lines\n", file ? "writable" : strerror(errno), lines);
    return halt();
}

/* ---- inspect: what agent/handoff.h promises
 * ------------------------------------------------------------------- */

static bool mounted(const char *type, const char *target)
{
    char line[512];
    char wanted[128];
    bool found = false;
    snprintf(wanted, sizeof wanted, " %s %s ", target, type);
    FILE *mounts = fopen("/proc/self/mounts", "r");
    while (mounts && fgets(line, sizeof line, mounts))
        found = found || strstr(line, wanted);
    if (mounts)
        fclose(mounts);
    return found;
}

static void claim(const char *what, bool holds)
{
    printf("stand-in: %s %s\n", holds ? "ok" : "NOT OK", what);
}

static bool file_is(const char *path, const char *wanted)
{
    char text[256] = "";
    FILE *file = fopen(path, "r");
    const bool good = file && fgets(text, sizeof text, file) && strcmp(text, wanted) == 0;
    if (file)
        fclose(file);
    if (!good)
        printf("stand-in: %s holds %s\n", path, text);
    return good;
}

static bool signals_are_fresh(void)
{
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (int i = 1; i < NSIG; i++) {
        struct sigaction action;
        if (sigismember(&blocked, i) == 1)
            return false;
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            return false;
    }
    return true;
}

static bool descriptors_are(int last)
{
    for (int fd = 0; fd < 1024; fd++)
        if ((fcntl(fd, F_GETFD) >= 0) != (fd <= last))
            return false;
    return true;
}

static bool same_file(int fd, const char *path)
{
    struct stat one, other;
    return fstat(fd, &one) == 0 && stat(path, &other) == 0 && one.st_rdev == other.st_rdev;
}

static bool loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP);
    if (fd >= 0)
        close(fd);
    return up;
}

static int inspect(void)
{
    char name[128] = "";
    char directory[128] = "";
    int variables = 0;
    claim("descriptors 0 to 3 and no other", descriptors_are(HANDOFF_FD));
    claim("stdin is /dev/null", same_file(0, "/dev/null"));
    claim("stdout is the console", same_file(1, "/dev/console") && same_file(2, "/dev/console"));
    claim("close-on-exec is off", fcntl(HANDOFF_FD, F_GETFD) == 0);
    claim("signals at their defaults, none blocked", signals_are_fresh());
    claim("a session of its own", getsid(0) == getpid());
    claim("child of PID 1", getppid() == 1);
    claim("working directory /", getcwd(directory, sizeof directory) && strcmp(directory, "/") == 0);
    while (environ[variables])
        variables++;
    claim("four variables", variables == 4 && getenv("PATH") && strcmp(variable("HOME"), "/") == 0);
    claim("handoff version", strcmp(variable(HANDOFF_ENV_VERSION), HANDOFF_VERSION_TEXT) == 0);
    claim("attempt 0", strcmp(variable(HANDOFF_ENV_ATTEMPT), "0") == 0);
    claim("/proc", mounted("proc", "/proc"));
    claim("/sys", mounted("sysfs", "/sys"));
    claim("/dev", mounted("devtmpfs", "/dev"));
    claim("/dev/pts", mounted("devpts", "/dev/pts"));
    claim("/dev/shm", mounted("tmpfs", "/dev/shm"));
    claim("/run", mounted("tmpfs", "/run"));
    claim("/tmp", mounted("tmpfs", "/tmp"));
    claim("/sys/fs/cgroup", mounted("cgroup2", "/sys/fs/cgroup"));
    claim("overlay on /", mounted("overlay", "/"));
    claim("controllers", file_is("/sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids\n"));
    claim("/dev/fd", access("/dev/fd/3", F_OK) == 0);
    gethostname(name, sizeof name);
    printf("stand-in: host name %s\n", name);
    claim("loopback is up", loopback_up());
    claim("the initramfs is out of reach", access("/init", F_OK) < 0 && access("/run/image", F_OK) < 0);
    return halt();
}

static const struct {
    const char *name;
    int (*run)(void);
} behaviours[] = {
    {"halt", halt},       {"crash", crash},         {"leave", leave},     {"refuse", refuse},
    {"recover", recover}, {"stubborn", stubborn},   {"chatter", chatter}, {"silent", silent},
    {"orphans", orphans}, {"last-word", last_word}, {"crowd", crowd},     {"scribble", scribble},
    {"inspect", inspect},
};

int main(int count, char **arguments)
{
    const char *name = count > 0 && strrchr(arguments[0], '/') ? strrchr(arguments[0], '/') + 1 : "";
    setvbuf(stdout, NULL, _IOLBF, 512); /* the console is no terminal of ours, but is read as one */
    for (size_t i = 0; i < sizeof behaviours / sizeof behaviours[0]; i++)
        if (strcmp(behaviours[i].name, name) == 0)
            return behaviours[i].run();
    printf("stand-in: no behaviour called %s\n", name);
    return 127;
}
