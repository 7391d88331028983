/*
 * resume-steps: a guest's PID 1 that takes every step of a resume on itself and looks at what came of it.
 *
 * Run as /init of an initramfs. One line on the console for each check, "ok NAME" or "not ok NAME: reason",
 * and
 * "# N ok, N not ok" at the end, then power-off. The steps are the agent's own (agent/resume.h), linked in.
 */
#include "tests/guest/resume-steps.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agent/facts.h"
#include "agent/function/generation.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static char reason_text[256];
static char kernels_boot_id[64];
static struct resume_secret secrets[2];

const char *reason(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason_text, sizeof reason_text, format, args);
    va_end(args);
    return reason_text;
}

const char *failed(const char *what)
{
    return reason("%s: %s", what, strerror(errno));
}

uint64_t now_ns(int clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

const char *run_step(const char *name, const struct resume_order *order)
{
    static char why[RESUME_WHY_BYTES];
    for (const struct resume_step *step = resume_steps; step->name; step++)
        if (strcmp(step->name, name) == 0)
            return step->run(resume_get(), order, why) == 0 ? NULL : reason("step %s: %s", name, why);
    return reason("no step %s", name);
}

static bool slurp(const char *path, char text[64])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t count = fd < 0 ? -1 : read(fd, text, 63);
    if (fd >= 0)
        close(fd);
    text[count > 0 ? count : 0] = '\0';
    return count > 0;
}

/* Run `body` in a process of this user; its exit code. */
static int as_user(unsigned id, int (*body)(void))
{
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        if (setgid(id) < 0 || setuid(id) < 0)
            _exit(100);
        _exit(body());
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- checks, in the order of a guest's life ---- */

static const char *check_first_life(void)
{
    const struct resume_places places = {.generation = GENERATION_PATH,
                                         .machine_id = "/run/machine-id",
                                         .boot_id = "/run/boot_id",
                                         .secrets = "/run/secrets"};
    char text[64];
    if (!slurp(BOOT_ID, kernels_boot_id))
        return failed(BOOT_ID);
    if (resume_begin_life(resume_get(), &places, 1) != 0)
        return "resume_begin_life failed";
    if (resume_generation(resume_get()) != 1)
        return "the first generation is not 1";
    if (!slurp("/etc/machine-id", text) || strlen(text) != 33 || strspn(text, "0123456789abcdef") != 32)
        return reason("/etc/machine-id holds '%s'", text);
    if (!slurp(BOOT_ID, text) || strlen(text) != 37 || strcmp(text, kernels_boot_id) == 0)
        return reason("boot_id is '%s'", text);
    return NULL;
}

static const char *check_clock(void)
{
    struct resume_order order = {.realtime_ns = UINT64_C(2000000000000000000)};
    order.received_ns = now_ns(CLOCK_MONOTONIC) - 5000000; /* 5 ms ago */
    const char *why = run_step("clock", &order);
    if (why)
        return why;
    /* Read between two readings of the other clock: this guest may lose the processor at any point. */
    const uint64_t offset = order.realtime_ns - order.received_ns;
    const uint64_t least = now_ns(CLOCK_MONOTONIC) + offset;
    const uint64_t shown = now_ns(CLOCK_REALTIME);
    const uint64_t most = now_ns(CLOCK_MONOTONIC) + offset;
    if (shown + 1000000 < least || shown > most + 1000000)
        return reason("the clock is off by %lld ns", (long long)(shown - least));
    order.realtime_ns = 0; /* Linux refuses a time before the guest's start */
    why = run_step("clock", &order);
    return why && strstr(why, "clock_settime") ? NULL : "a time in 1970 was not refused by name of the call";
}

static const char *check_identity(void)
{
    struct resume_order order = {.hostname = "clone-7"};
    char machine[64], boot[64], other[64];
    slurp("/etc/machine-id", machine);
    slurp(BOOT_ID, boot);
    const char *why = run_step("identity", &order);
    if (why)
        return why;
    if (gethostname(other, sizeof other) < 0 || strcmp(other, "clone-7") != 0)
        return reason("the host name is %s", other);
    if (!slurp("/etc/machine-id", other) || strlen(other) != 33 || strcmp(machine, other) == 0)
        return reason("machine-id is still '%s'", other);
    if (!slurp(BOOT_ID, other) || strlen(other) != 37 || strcmp(boot, other) == 0 || other[14] != '4')
        return reason("boot_id is '%s'", other);
    order.hostname[0] = '\0';
    why = run_step("identity", &order);
    if (why)
        return why;
    return gethostname(other, sizeof other) == 0 && strcmp(other, "clone-7") == 0 ? NULL
                                                                                  : "the name was not kept";
}

static int read_secret(void)
{
    char text[64];
    if (!slurp("/run/secrets/db.password", text) || strcmp(text, "hunter2") != 0)
        return 1;
    if (open("/run/secrets/db.password", O_WRONLY | O_CLOEXEC) >= 0)
        return 2;
    if (open("/run/secrets", O_RDONLY | O_CLOEXEC) >= 0 || mkdir("/run/secrets/x", 0755) == 0)
        return 3;
    return 0;
}

static int no_secret(void)
{
    char text[64];
    return slurp("/run/secrets/db.password", text) || errno != EACCES;
}

static const char *check_secrets(void)
{
    const struct resume_order order = {.secrets = secrets, .secret_count = 2};
    secrets[0] = (struct resume_secret){.name = "db.password", .data = "hunter2", .size = 7};
    secrets[1] = (struct resume_secret){.name = "empty"};
    const char *why = run_step("secrets", &order);
    if (why)
        return why;
    const int code = as_user(1000, read_secret);
    if (code)
        return reason("the function's user: %d", code);
    if (as_user(1001, no_secret) != 0)
        return "another user reads a secret";
    secrets[0] = (struct resume_secret){.name = "token", .data = "t", .size = 1};
    why = run_step("secrets", &order);
    if (why)
        return why;
    if (access("/run/secrets/db.password", F_OK) == 0 || access("/run/secrets/token", F_OK) < 0)
        return "the old secrets are there, or the new ones are not";
    strcpy(secrets[0].name, "../x");
    why = run_step("secrets", &order);
    return why && access("/run/secrets/token", F_OK) == 0 ? NULL : "a name with a slash was taken";
}

/* The function's side: mapped read-only, waiting on the futex word. */
static int wait_for_generation(void)
{
    int fd = open(GENERATION_PATH, O_RDONLY | O_CLOEXEC);
    struct generation_page *page = mmap(NULL, GENERATION_FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || page == MAP_FAILED || open(GENERATION_PATH, O_RDWR | O_CLOEXEC) >= 0)
        return 1;
    while (__atomic_load_n(&page->generation, __ATOMIC_ACQUIRE) == 1)
        syscall(SYS_futex, &page->futex, FUTEX_WAIT, 1, NULL, NULL, 0);
    return page->generation == 9 && page->magic == GENERATION_MAGIC && page->clone_id[15] == 0xee ? 0 : 2;
}

static const char *check_generation(void)
{
    struct resume_order order = {.generation = 9, .clone_id = {[15] = 0xee}};
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    struct inotify_event event;
    int status = -1;
    if (inotify_add_watch(watch, GENERATION_PATH, IN_MODIFY) < 0)
        return failed("inotify");
    const pid_t child = fork();
    if (child == 0)
        _exit(setgid(1000) < 0 || setuid(1000) < 0 ? 100 : wait_for_generation());
    const char *why = run_step("generation", &order);
    if (why)
        return why;
    waitpid(child, &status, 0);
    if (status != 0)
        return reason("the one who waits ended with 0x%x", (unsigned)status);
    if (read(watch, &event, sizeof event) != sizeof event || event.mask != IN_MODIFY)
        return failed("no event of inotify");
    close(watch);
    order.generation = 2;
    why = run_step("generation", &order);
    if (why)
        return why;
    return resume_generation(resume_get()) == 10 ? NULL : "the generation did not grow by one";
}

static unsigned told;

static void tell(void *context, struct proto_slice name, struct proto_slice body)
{
    (void)context;
    printf("# fact %.*s %zu bytes\n", (int)name.size, (const char *)name.data, body.size);
    told++;
}

static const char *check_facts(void)
{
    static char why[RESUME_WHY_BYTES];
    told = 0;
    if (facts_collect(tell, NULL, why) != 0)
        return why;
    return told == 14 ? NULL : reason("%u facts of 14", told);
}

static const char *check_forget(void)
{
    static char why[RESUME_WHY_BYTES];
    const struct resume_order order = {.seed = {1}};
    if (resume_forget(resume_get(), why) != 0)
        return why;
    if (access("/run/secrets/token", F_OK) == 0)
        return "a secret is still there";
    if (facts_collect(tell, NULL, why) != -EAGAIN)
        return "the generator still gives bytes";
    return run_step("entropy", &order);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    const char *(*check)(void);
} checks[] = {
    {"first_life", check_first_life},
    {"key_of_tcp", check_key_of_tcp},
    {"clock", check_clock},
    {"connections", check_connections},
    {"connections_ipv6", check_connections_ipv6},
    {"many_connections", check_many_connections},
    {"identity", check_identity},
    {"secrets", check_secrets},
    {"generation", check_generation},
    {"facts", check_facts},
    {"forget", check_forget},
};

static void prepare(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    static const char *const mounts[][2] = {{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/run", "tmpfs"}};
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        mkdir(mounts[i][0], 0755);
        mount(mounts[i][1], mounts[i][0], mounts[i][1], MS_NOSUID, NULL);
    }
    int console = open("/dev/console", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && console >= 0; fd++)
        dup2(console, fd);
    setvbuf(stdout, NULL, _IOLBF, 0);
    mkdir("/etc", 0755);
    close(open("/etc/machine-id", O_CREAT | O_WRONLY | O_CLOEXEC, 0444));
    chmod("/run", 0755);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ioctl(fd, SIOCSIFFLAGS, &lo);
    close(fd);
}

int main(void)
{
    unsigned good = 0, bad = 0;
    prepare();
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const char *why = checks[i].check();
        if (!why)
            good++, printf("ok %s\n", checks[i].name);
        else
            bad++, printf("not ok %s: %s\n", checks[i].name, why);
    }
    printf("# %u ok, %u not ok\n", good, bad);
    tcdrain(1);
    reboot(RB_POWER_OFF);
    return 1;
}
