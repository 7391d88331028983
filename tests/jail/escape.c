/*
 * Goes into the jail as hostvmm does, and tries to get out.
 *
 *   escape all ROOM [ITEMS]   every way out (escapes.c), each in a jail of its own: once behind the walls alone, that is
 *                             without a filter, and once with the main thread's
 *   escape every              for each role every system call that is not its: each must kill. Outside of a jail, as what
 *                             is tried is the filter
 *   escape list ROLE          the calls that a role has, by number, a line each
 *
 * Prints a line `ok NAME: what stopped it` or `not ok NAME: why` each. ROOM is a directory that the jail shows.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/jail/filter.h"
#include "tests/jail/escape.h"

#define OUT        200 /* exit codes of who tries: it is out; else an errno that met it */
#define KILLED     (128 + SIGSYS)
#define CALLS_LAST 520u /* past the last that any kernel has */
#define JAILED_UID 65534u

static const char *const role_names[JAIL_ROLES] = {"main", "vcpu", "blk", "net", "spawn"};
static struct outside outside;

__attribute__((noreturn)) static void die(const char *what)
{
    printf("not ok escape: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- what is outside ---- */

static int listen_at(const void *address, socklen_t size, int family)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, address, size) < 0 || listen(fd, 8) < 0)
        die("listening");
    return fd;
}

static void make_listeners(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof here;
    const int fd = listen_at(&here, sizeof here, AF_INET);
    if (getsockname(fd, (struct sockaddr *)&here, &size) < 0)
        die("getsockname");
    outside.port = ntohs(here.sin_port);
    const int length = snprintf(outside.abstract, sizeof outside.abstract, "escape-%d", (int)getpid());
    memcpy(name.sun_path + 1, outside.abstract, (size_t)length);
    (void)listen_at(&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length), AF_UNIX);
}

static void make_file(const char *name, const char *text, mode_t mode)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", outside.room, name);
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchmod(fd, mode) < 0)
        die(path);
    (void)close(fd);
}

static void make_link(const char *name, const char *to)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", outside.room, name);
    (void)unlink(path);
    if (symlink(to, path) < 0)
        die(path);
}

/* Waits to be harmed, as a process of the user that the jail has. */
static void make_sibling(void)
{
    outside.sibling = fork();
    if (outside.sibling == 0) {
        if (geteuid() == 0 && (setgid(JAILED_UID) < 0 || setuid(JAILED_UID) < 0))
            _exit(1);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)prctl(PR_SET_DUMPABLE, 1);
        for (;;)
            (void)pause();
    }
    if (outside.sibling < 0)
        die("fork");
}

static void make_outside(const char *room)
{
    char above[sizeof outside.room], real[PATH_MAX];
    if (!realpath(room, real) || strlen(real) >= sizeof above)
        die(room);
    memcpy(outside.room, real, strlen(real) + 1);
    memcpy(above, real, strlen(real) + 1);
    *strrchr(above, '/') = '\0';
    make_file("../secret", "secret", 0666);
    (void)snprintf(outside.secret, sizeof outside.secret, "%s/secret", above);
    make_file("file", "file", 0666);
    make_file("program", "#!/bin/true\n", 0777);
    make_link("link", outside.secret);
    make_link("above", above);
    outside.open = open(outside.secret, O_RDWR); /* not close-on-exec: as an ill-mannered parent leaves it */
    outside.key = (int)syscall(SYS_add_key, "user", "jail-test", "secret", 6, -3);
    make_listeners();
    make_sibling();
}

/* ---- trying ---- */

__attribute__((noreturn)) static void try(const struct escape *escape, const char *items, bool filtered)
{
    char why[JAIL_WHY_BYTES], socket_path[300];
    static struct jail_plan plan;
    const char *const sockets[] = {socket_path};
    const struct jail_needs needs = {.memory_bytes = 64 << 20,
                                     .file_bytes = 64 << 20,
                                     .threads = 2,
                                     .sockets = sockets,
                                     .socket_count = 1,
                                     .files = sockets,
                                     .file_count = 1};
    (void)snprintf(socket_path, sizeof socket_path, "%s/vm.sock", outside.room);
    if (jail_parse(&plan, items, why)) {
        printf("not ok %s: %s\n", escape->name, why);
        _exit(OUT);
    }
    outside.keeper = getpid();
    if (jail_enter(&plan, &needs))
        _exit(OUT);
    if (filtered)
        jail_thread(JAIL_MAIN);
    const int error = escape->try(&outside);
    syscall(SYS_exit_group, error == 0 ? OUT : error);
    __builtin_unreachable();
}

static int attempt(const struct escape *escape, const char *items, bool filtered)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0)
        try(escape, items, filtered);
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *text_of(int code, char text[64])
{
    (void)snprintf(text, 64, "%s",
                   code == KILLED ? "killed"
                   : code == OUT  ? "OUT"
                   : code == 0    ? "no end of its own"
                                  : strerror(code));
    return text;
}

static bool stopped(int code)
{
    return code == KILLED || (code > 0 && code < 128);
}

static int try_all(const char *items)
{
    int bad = 0;
    for (size_t i = 0; i < escape_count; i++) {
        char walls_text[64], filter_text[64];
        const int walls = attempt(&escapes[i], items, false);
        const int filtered = attempt(&escapes[i], items, true);
        /* Out of the walls alone is allowed where only a filter can help; dead of a filter that is not there is not. */
        const bool good = stopped(filtered) && walls != KILLED && (escapes[i].filter_only || stopped(walls));
        printf("%s %s: walls: %s; filter: %s\n", good ? "ok" : "not ok", escapes[i].name,
               text_of(walls, walls_text), text_of(filtered, filter_text));
        bad += !good;
    }
    if (kill(outside.sibling, 0) < 0 || waitpid(outside.sibling, NULL, WNOHANG) != 0) {
        printf("not ok the sibling: it is gone\n");
        bad++;
    }
    (void)kill(outside.sibling, SIGKILL);
    return bad;
}

/* ---- every call ---- */

static const struct jail_rule *rule_of(unsigned call, enum jail_role role)
{
    size_t count;
    const struct jail_rule *rules = jail_rules(&count);
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; i < count; i++)
            if (rules[i].call == call && jail_rule_holds(&rules[i], role))
                return &rules[i];
        rules = jail_arch_rules(&count);
    }
    return NULL;
}

/*
 * Make it with arguments that harm nobody: descriptors that are none, pointers to nothing. 0: it was killed; else what
 * it returned. The page tells: to end is itself a call that some roles lack, and die of.
 */
static int call_once(unsigned call, enum jail_role role, volatile int *returned)
{
    int status = 0;
    *returned = 0;
    const pid_t child = fork();
    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || jail_filter_install(role))
            _exit(OUT);
        const long result = syscall((long)call, -1, 0, 0, 0, 0, 0);
        *returned = result < 0 ? errno : -1;
        _exit(OUT);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    return *returned || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ? *returned : -1;
}

/* uretprobe and uprobe: from Linux 6.14 on no filter is asked about them, as the kernel's own trampolines make them;
 * from elsewhere they fail. */
static bool past_all_filters(unsigned call, int came_back)
{
#ifdef __x86_64__
    return (call == 335 || call == 336) && came_back != 0;
#else
    (void)call, (void)came_back;
    return false;
#endif
}

static int try_every(void)
{
    volatile int *returned = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int bad = 0;
    if (returned == MAP_FAILED)
        die("mmap");
    for (unsigned role = 0; role < JAIL_ROLES; role++) {
        unsigned killed = 0, refused = 0, listed = 0, wrong = 0;
        for (unsigned call = 0; call < CALLS_LAST; call++) {
            const struct jail_rule *rule = rule_of(call, role);
            if (rule && rule->check != JAIL_REFUSED) {
                listed++;
                continue;
            }
            const int came_back = call_once(call, role, returned);
            if (came_back != (rule ? (int)rule->value : 0) && !past_all_filters(call, came_back)) {
                printf("not ok %s: call %u went through\n", role_names[role], call);
                wrong++;
            } else if (rule) {
                refused++;
            } else {
                killed++;
            }
        }
        /* Another ABI's numbers: x32's read. */
        if (call_once(jail_arch_calls_end, role, returned) != 0) {
            printf("not ok %s: another ABI's call went through\n", role_names[role]);
            wrong++;
        }
        printf("%s every_%s: %u listed, %u kill, %u are refused\n", wrong || listed == 0 ? "not ok" : "ok",
               role_names[role], listed, killed, refused);
        bad += (int)wrong;
    }
    return bad;
}

static int list(const char *name)
{
    for (unsigned role = 0; role < JAIL_ROLES; role++)
        for (unsigned call = 0; call < CALLS_LAST && strcmp(role_names[role], name) == 0; call++) {
            const struct jail_rule *rule = rule_of(call, role);
            const bool own =
                rule && (rule->roles >> role & 1); /* what threads get from their maker is theirs */
            if (own && rule->check != JAIL_REFUSED)
                printf("%u\n", call);
        }
    return 0;
}

int main(int argc, char **argv)
{
    const struct rlimit none = {0, 0};
    (void)setvbuf(stdout, NULL, _IONBF, 0); /* children share it */
    (void)setrlimit(RLIMIT_CORE, &none);
    log_setup("escape", LOG_LEVEL_WARN, 2);
    if (argc >= 3 && strcmp(argv[1], "all") == 0) {
        make_outside(argv[2]);
        return try_all(argc > 3 ? argv[3] : "default") > 0;
    }
    if (argc == 2 && strcmp(argv[1], "every") == 0)
        return try_every() > 0;
    if (argc == 3 && strcmp(argv[1], "list") == 0)
        return list(argv[2]);
    fprintf(stderr, "usage: escape all ROOM [ITEMS] | every | list ROLE\n");
    return 2;
}
