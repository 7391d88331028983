/*
 * `hostvmm audit` as a whole, over clones that are none: the command starts itself as `restore`, and when
 * this program is started so it serves agents of a test's making.
 *
 * The `snapshot` names what the clones do: good, twin (a shared token), frozen (a shared fact), mute (tells
 * no drbg), late (a wrong clock), failing (its function fails), gone (restore ends at once).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/audit_facts.h"
#include "hostvmm/control/control.h"
#include "hostvmm/exit.h"
#include "tests/unit/control/fake.h"

/* ---- restore
 * ------------------------------------------------------------------------------------------------- */

static const char *manner;
static bool manner_is(const char *name)
{
    return strcmp(manner, name) == 0;
}

static void tell(struct fake *fake, const char *name, const void *data, size_t size)
{
    fake_send(fake, &(struct proto_message){.type = PROTO_FACT,
                                            .u.fact = {.name = proto_text(name), .body = {data, size}}});
}

static void tell_facts(struct fake *fake)
{
    struct timespec now;
    uint8_t value[16] = {0};
    for (unsigned i = 0; i < AUDIT_SOURCES; i++) {
        const char *name = audit_sources[i].name;
        (void)!getrandom(value, sizeof value, 0);
        if (manner_is("frozen") && strcmp(name, "boot_id") == 0)
            memset(value, 7, sizeof value);
        if (!manner_is("mute") || strcmp(name, "drbg") != 0)
            tell(fake, name, value, sizeof value);
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (manner_is("late"))
        ns -= 60000000000u;
    for (unsigned i = 0; i < 8; i++)
        value[i] = (uint8_t)(ns >> 8 * i);
    tell(fake, "realtime_ns", value, 8);
    tell(fake, "monotonic_ns", value, 8);
    fake_send(fake, &(struct proto_message){.type = PROTO_COLLECTED});
}

static void answer(struct fake *fake)
{
    uint32_t random[4];
    char text[160];
    (void)!getrandom(random, sizeof random, 0);
    const int size =
        snprintf(text, sizeof text, "{\"id\":\"%08x%08x%08x%08x\",\"build\":\"%s\"}", random[0], random[1],
                 random[2], random[3], manner_is("twin") ? "9d2f6c01b4e87a35c1" : "1.0");
    fake_log(fake, "audit", "the same line\n");
    if (manner_is("failing"))
        fake_error(fake, "audit", "Function.Crashed", "it did");
    else
        fake_response(fake, "audit", text, (uint32_t)size);
}

static void serve(int fd)
{
    static struct fake fake;
    struct proto_message message;
    char byte;
    fake.fd = fd;
    frame_reader_init(&fake.in);
    while (read(fd, &byte, 1) == 1 && byte != '\n')
        ;
    fake_send_bytes(&fake, "OK 1073741824\n", 14);
    fake_hello(&fake, PROTO_STATE_READY);
    while (fake_receive(&fake, &message)) {
        if (message.type == PROTO_INVOKE)
            answer(&fake);
        else if (message.type == PROTO_COLLECT)
            tell_facts(&fake);
    }
    fd_close(&fake.fd);
}

static void be_clone(const char *pattern, unsigned number)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.*s%u", (int)strlen(pattern) - 2, pattern,
                   number);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0)
        abort();
    for (;;)
        serve(accept(fd, NULL, NULL));
}

/* restore --snapshot MANNER --clones N --vsock DIR/%n --console none [further] */
static int be_restore(char **argv)
{
    manner = argv[3];
    if (manner_is("gone"))
        return HOSTVMM_EXIT_INPUT;
    const unsigned count = (unsigned)atoi(argv[5]);
    for (unsigned i = 1; i <= count; i++)
        if (fork() == 0)
            be_clone(argv[7], i);
    while (wait(NULL) > 0)
        ;
    return 0;
}

/* ---- tests
 * --------------------------------------------------------------------------------------------------- */

static char directory[64];
static char printed[16384];

static unsigned leftovers(void)
{
    unsigned count = 0;
    DIR *listing = opendir(directory);
    const struct dirent *entry;
    while (listing && (entry = readdir(listing)))
        count += strncmp(entry->d_name, "hostvmm-audit.", 14) == 0;
    if (listing)
        (void)closedir(listing);
    return count;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/audit-test.XXXXXX");
    return !mkdtemp(directory) || chdir(directory) < 0 || setenv("TMPDIR", directory, 1) < 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink("printed");
    (void)unlink("kept");
    (void)unlink("errors");
    return chdir("/") < 0 || rmdir(directory) < 0;
}

/* In a process of its own: it takes over signals and children. `signal_after_ms` > 0: send it SIGTERM then.
 */
static int audit(const char *name, const char *option, const char *value, bool interrupt)
{
    char events[4096];
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, directory, IN_CREATE) >= 0);
    const pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"audit",
                        "--snapshot",
                        (char *)(uintptr_t)name,
                        "--clones",
                        "5",
                        "--batch",
                        "3",
                        (char *)(uintptr_t)option,
                        (char *)(uintptr_t)value,
                        NULL};
        if (!freopen("printed", "w", stdout) || !freopen("errors", "w", stderr))
            abort();
        log_setup("audit", LOG_LEVEL_ERROR, 2);
        const int code = control_audit_main(option ? value ? 9 : 8 : 7, argv);
        (void)fflush(stdout);
        _exit(waitpid(-1, NULL, WNOHANG) >= 0 ? 99 : code); /* no child may be left */
    }
    int status;
    if (interrupt) {
        while (leftovers() == 0)
            assert_true(read(watch, events, sizeof events) > 0);
        assert_int_equal(kill(pid, SIGTERM), 0);
    }
    fd_close(&watch);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    const int64_t size = fd_read_file("printed", printed, sizeof printed - 1);
    printed[size > 0 ? size : 0] = '\0';
    assert_int_equal(leftovers(), 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_good_clones(void **state)
{
    (void)state;
    static uint8_t kept[4096];
    assert_int_equal(audit("good", "--keep-random", "kept", false), HOSTVMM_EXIT_OK);
    assert_non_null(strstr(printed, "drbg                    5           0  unique"));
    const int64_t size = fd_read_file("kept", kept, sizeof kept);
    assert_in_range(size, 5 * 5 * 16, 5 * 5 * 32); /* five sources of five clones */
    assert_int_equal(audit("good", "--json", NULL, false), HOSTVMM_EXIT_OK);
    assert_non_null(strstr(printed, "{\"clones\":5,\"good\":true"));
}

static void test_twins(void **state)
{
    (void)state;
    assert_int_equal(audit("twin", NULL, NULL, false), HOSTVMM_EXIT_HOST);
    assert_non_null(
        strstr(printed, "9d2f6c01b4e87a35c1 (18 bytes, some 72 bits) in 5 clones: clone 1 answer"));
    assert_int_equal(audit("frozen", NULL, NULL, false), HOSTVMM_EXIT_HOST);
    assert_non_null(strstr(printed, "DUPLICATES, as in clones 1 and 2"));
}

static void test_echo_is_no_twin(void **state)
{
    (void)state;
    FILE *event = fopen("kept", "w");
    assert_non_null(event);
    (void)fputs("build 9d2f6c01b4e87a35c1", event);
    assert_int_equal(fclose(event), 0);
    assert_int_equal(audit("twin", "--event", "kept", false), HOSTVMM_EXIT_OK);
}

static void test_missing_and_late(void **state)
{
    (void)state;
    assert_int_equal(audit("mute", NULL, NULL, false), HOSTVMM_EXIT_HOST);
    assert_non_null(strstr(printed, "MISSING"));
    assert_int_equal(audit("late", NULL, NULL, false), HOSTVMM_EXIT_HOST);
    assert_non_null(strstr(printed, "OUT OF BOUNDS"));
}

static void test_failures(void **state)
{
    (void)state;
    assert_int_equal(audit("failing", NULL, NULL, false), HOSTVMM_EXIT_FUNCTION);
    assert_int_equal(audit("gone", NULL, NULL, false), HOSTVMM_EXIT_HOST);
    assert_int_equal(audit("good", "--event", "/nowhere", false), HOSTVMM_EXIT_INPUT);
    assert_int_equal(audit("good", "--batch", "0", false), HOSTVMM_EXIT_USAGE);
    assert_int_equal(audit("good", "surplus", NULL, false), HOSTVMM_EXIT_USAGE);
}

static void test_signal_leaves_nothing(void **state)
{
    (void)state;
    const int code = audit("good", NULL, NULL, true);
    assert_int_equal(code, HOSTVMM_EXIT_SIGNAL + SIGTERM);
}

int main(int argc, char **argv)
{
    if (argc > 7 && strcmp(argv[1], "restore") == 0)
        return be_restore(argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_good_clones),      TEST(test_twins),    TEST(test_echo_is_no_twin),
        TEST(test_missing_and_late), TEST(test_failures), TEST(test_signal_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
