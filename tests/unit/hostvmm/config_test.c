/* The command lines of `run`, `snapshot` and `restore`, and the timeline they print. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostvmm/config.h"
#include "hostvmm/timeline.h"

#define ARGUMENTS_MAX 48

static struct config config;
static char why[256];

static enum config_result parse_list(enum config_command command, const char *name, const char *first,
                                     va_list arguments)
{
    char *argv[ARGUMENTS_MAX] = {(char *)(uintptr_t)name};
    int argc = 1;
    for (const char *text = first; text && argc < ARGUMENTS_MAX - 1; text = va_arg(arguments, const char *))
        argv[argc++] = (char *)(uintptr_t)text;
    why[0] = '\0';
    memset(&config, 0, sizeof config);
    return config_parse(&config, command, argc, argv, why, sizeof why);
}

/* Parse "run" and the given arguments, the last of which is NULL. */
static enum config_result parse(const char *first, ...)
{
    va_list arguments;
    va_start(arguments, first);
    const enum config_result result = parse_list(CONFIG_RUN, "run", first, arguments);
    va_end(arguments);
    return result;
}

static enum config_result parse_snapshot(const char *first, ...)
{
    va_list arguments;
    va_start(arguments, first);
    const enum config_result result = parse_list(CONFIG_SNAPSHOT, "snapshot", first, arguments);
    va_end(arguments);
    return result;
}

static enum config_result parse_restore(const char *first, ...)
{
    va_list arguments;
    va_start(arguments, first);
    const enum config_result result = parse_list(CONFIG_RESTORE, "restore", first, arguments);
    va_end(arguments);
    return result;
}

static void defaults_hold(void **state)
{
    (void)state;
    assert_int_equal(parse("--kernel", "k", NULL), CONFIG_OK);
    assert_string_equal(config.kernel, "k");
    assert_null(config.rootfs);
    assert_null(config.initrd);
    assert_int_equal(config.cpus, 1);
    assert_int_equal(config.memory_mib, 128);
    assert_int_equal(config.console, CONSOLE_AUTO);
    assert_true(config.rng);
    assert_false(config.vsock);
    assert_int_equal(config.drive_count, 0);
    assert_string_equal(config.bootargs.hostname, "rekindle");
}

static void every_option_is_taken(void **state)
{
    (void)state;
    assert_int_equal(parse("--kernel=k", "--rootfs", "r", "--initrd", "i", "--cpus", "32", "--memory=16",
                           "--drive", "a,ro,id=scratch", "--drive", "b", "--vsock", "/run/v,cid=77",
                           "--console", "log", "--bootarg", "hostname=alpha", "--bootarg", "grace_ms=100",
                           "--cmdline", "quiet x=y", "--timeline", "t", "--no-rng", NULL),
                     CONFIG_OK);
    assert_string_equal(config.rootfs, "r");
    assert_string_equal(config.initrd, "i");
    assert_int_equal(config.cpus, 32);
    assert_int_equal(config.memory_mib, 16);
    assert_int_equal(config.drive_count, 2);
    assert_string_equal(config.drives[0].path, "a");
    assert_string_equal(config.drives[0].id, "scratch");
    assert_true(config.drives[0].read_only);
    assert_string_equal(config.drives[1].path, "b");
    assert_string_equal(config.drives[1].id, "drive2");
    assert_false(config.drives[1].read_only);
    assert_string_equal(config.vsock_path, "/run/v");
    assert_int_equal(config.vsock_cid, 77);
    assert_int_equal(config.console, CONSOLE_FILE);
    assert_string_equal(config.console_path, "log");
    assert_string_equal(config.bootargs.hostname, "alpha");
    assert_int_equal(config.bootargs.grace_ms, 100);
    assert_string_equal(config.cmdline, "quiet x=y");
    assert_string_equal(config.timeline, "t");
    assert_false(config.rng);
    assert_int_equal(parse("--kernel", "k", "--vsock", "p", NULL), CONFIG_OK);
    assert_int_equal(config.vsock_cid, 3);
}

static void help_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(parse("--help", NULL), CONFIG_HELP);
    assert_int_equal(parse("--cpus", "2", "-h", NULL), CONFIG_HELP);
}

/* Each is refused, and the message names the option and what is wanted. */
static void bad_values_are_refused_with_the_range(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"--cpus", "0", "1 to 32"},
        {"--cpus", "33", "1 to 32"},
        {"--cpus", "2x", "1 to 32"},
        {"--cpus", "", "1 to 32"},
        {"--cpus", "-1", "1 to 32"},
        {"--cpus", "18446744073709551617", "1 to 32"},
        {"--memory", "15", "16 to 524288"},
        {"--memory", "524289", "16 to 524288"},
        {"--memory", "128M", "16 to 524288"},
        {"--kernel", "", "path"},
        {"--drive", "", "path"},
        {"--drive", ",ro", "path"},
        {"--drive", "a,rw", "FILE[,ro]"},
        {"--drive", "a,", "FILE[,ro]"},
        {"--drive", "a,id=", "FILE[,ro]"},
        {"--drive", "a,id=a b", "letters"},
        {"--drive", "a,id=123456789012345678901", "1 to 20"},
        {"--drive", "a,bandwidth=", "SIZE/REFILL_MS"},
        {"--drive", "a,bandwidth=0/1", "SIZE/REFILL_MS"},
        {"--drive", "a,operations=5", "SIZE/REFILL_MS"},
        {"--rng-rate", "", "bandwidth=LIMIT"},
        {"--rng-rate", "bandwidth=1/1,", "bandwidth=LIMIT"},
        {"--rng-rate", "bandwidth=1/0", "SIZE/REFILL_MS"},
        {"--rootfs-rate", "operations=1/1,ro", "bandwidth=LIMIT"},
        {"--vsock", "", "path"},
        {"--vsock", "p,cid=2", "3 to 4294967294"},
        {"--vsock", "p,cid=4294967295", "3 to 4294967294"},
        {"--vsock", "p,cid=", "3 to"},
        {"--vsock", "p,other", "PATH[,cid=N]"},
        {"--console", "", "stdio"},
        {"--bootarg", "nosuch=1", "unknown key"},
        {"--bootarg", "hostname", "no value"},
        {"--bootarg", "hostname=-bad", "letters"},
        {"--bootarg", "hostname=a b", "blanks"},
        {"--bootarg", "exit_port=1", "exit_port"},
        {"--cmdline", "a\nb", "one line"},
        {"--nosuch", "1", "unknown argument"},
        {"kernel", "k", "unknown argument"},
        {"--", "k", "unknown argument"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (parse("--kernel", "k", cases[i][0], cases[i][1], NULL) != CONFIG_BAD)
            fail_msg("%s '%s' was taken", cases[i][0], cases[i][1]);
        if (!strstr(why, cases[i][2]) || !strstr(why, cases[i][0]))
            fail_msg("%s '%s': message '%s' lacks '%s'", cases[i][0], cases[i][1], why, cases[i][2]);
    }
    assert_int_equal(parse("--cpus", "1", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "--kernel is missing"));
    /* The name of the root image's drive is free when there is none. */
    assert_int_equal(parse("--kernel", "k", "--drive", "a,id=rootfs", "--rootfs", "r", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "--drive a: want another id"));
    assert_int_equal(parse("--kernel", "k", "--drive", "a,id=rootfs", NULL), CONFIG_OK);
    assert_int_equal(parse("--kernel", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "needs a value"));
    assert_int_equal(parse("--kernel", "k", "--no-rng=1", NULL), CONFIG_BAD);
    assert_int_equal(parse("--kernel", "k", "--vsock", "a", "--vsock", "b", NULL), CONFIG_BAD);
}

static void limits_are_taken(void **state)
{
    (void)state;
    assert_int_equal(parse("--kernel=k", "--drive", "a,bandwidth=10M/1000/4K,id=x,operations=none,ro",
                           "--drive", "b", "--rootfs-rate", "operations=100/50", "--rng-rate",
                           "bandwidth=1K/100,operations=7/1", "--net",
                           "none,tx-bandwidth=1G/1,rx-operations=2/3", NULL),
                     CONFIG_OK);
    const struct config_drive *drive = &config.drives[0];
    assert_true(drive->rate.bandwidth && drive->rate.operations && drive->read_only);
    assert_int_equal(drive->rate.limits.bandwidth.size, 10 << 20);
    assert_int_equal(drive->rate.limits.bandwidth.refill_ms, 1000);
    assert_int_equal(drive->rate.limits.bandwidth.burst, 4096);
    assert_int_equal(drive->rate.limits.operations.size, 0);
    assert_false(config.drives[1].rate.bandwidth || config.drives[1].rate.operations);
    assert_false(config.root_rate.bandwidth);
    assert_int_equal(config.root_rate.limits.operations.size, 100);
    assert_int_equal(config.rng_rate.limits.operations.size, 7);
    assert_int_equal(config.rng_rate.limits.bandwidth.size, 1024);
    assert_true(config.nets[0].tx_rate.bandwidth && config.nets[0].rx_rate.operations);
    assert_false(config.nets[0].tx_rate.operations || config.nets[0].rx_rate.bandwidth);
    assert_int_equal(config.nets[0].rx_rate.limits.operations.refill_ms, 3);
    assert_int_equal(parse("--kernel=k", "--drive", "a,id=x", "--drive", "b,id=x", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "no other drive has"));
    assert_int_equal(parse_restore("--snapshot=s", "--drive", "a,id=rootfs,bandwidth=1/1", "--rng-rate",
                                   "operations=none", NULL),
                     CONFIG_OK);
}

static void drives_have_a_limit(void **state)
{
    (void)state;
    char *argv[2 * (CONFIG_DRIVES_MAX + 1) + 3] = {(char *)"run", (char *)"--kernel=k"};
    int argc = 2;
    for (unsigned i = 0; i < CONFIG_DRIVES_MAX; i++) {
        argv[argc++] = (char *)"--drive";
        argv[argc++] = (char *)"f";
    }
    memset(&config, 0, sizeof config);
    assert_int_equal(config_parse(&config, CONFIG_RUN, argc, argv, why, sizeof why), CONFIG_OK);
    memset(&config, 0, sizeof config);
    argv[argc++] = (char *)"--drive";
    argv[argc++] = (char *)"f";
    assert_int_equal(config_parse(&config, CONFIG_RUN, argc, argv, why, sizeof why), CONFIG_BAD);
    assert_non_null(strstr(why, "15"));
}

static void each_command_has_its_own_options(void **state)
{
    (void)state;
    assert_int_equal(parse_snapshot("--kernel=k", "--out", "s", "--cpu", "baseline", NULL), CONFIG_OK);
    assert_string_equal(config.out, "s");
    assert_true(config.cpu_baseline);
    assert_int_equal(parse_snapshot("--kernel=k", NULL), CONFIG_BAD);
    assert_string_equal(why, "--out is missing; `hostvmm snapshot --help` lists all options");
    assert_int_equal(parse("--kernel=k", "--out", "s", NULL), CONFIG_BAD);
    assert_string_equal(why, "unknown argument --out; `hostvmm run --help` lists them");
    assert_int_equal(parse_restore("--snapshot", "s", "--kernel", "k", NULL), CONFIG_BAD);
    assert_int_equal(parse_restore("--vsock", "v", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "--snapshot is missing"));
    assert_int_equal(parse("--kernel=k", "--cpu", "486", NULL), CONFIG_BAD);
    assert_non_null(strstr(why, "want host or baseline"));
}

static void a_restore_says_what_is_the_clones_own(void **state)
{
    (void)state;
    assert_int_equal(parse_restore("--snapshot", "s", "--clones", "8", "--hostname", "web-%n", "--secret",
                                   "key=/k", "--secret", "other=/o=p", "--drive", "d-%n,id=overlay",
                                   "--hooks-limit", "500", "--resume-limit", "900000", "--verify", NULL),
                     CONFIG_OK);
    assert_int_equal(config.clones, 8);
    assert_string_equal(config.hostname, "web-%n");
    assert_int_equal(config.secret_count, 2);
    assert_string_equal(config.secrets[1].name, "other");
    assert_string_equal(config.secrets[1].path, "/o=p");
    assert_string_equal(config.drives[0].id, "overlay");
    assert_int_equal(config.hooks_ms, 500);
    assert_true(config.verify);
    static const char *const bad[][2] = {
        {"--clones", "0"},      {"--clones", "10001"}, {"--secret", "key"},       {"--secret", "=/k"},
        {"--secret", "a/b=/k"}, {"--secret", ".a=/k"}, {"--hostname", "a b"},     {"--hostname", ""},
        {"--hooks-limit", "0"}, {"--secret", "key="},  {"--resume-limit", "1e3"}, {"--vsock", "v,cid=4"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse_restore("--snapshot", "s", bad[i][0], bad[i][1], NULL), CONFIG_BAD);
        assert_non_null(strstr(why, "want "));
    }
}

static void a_clones_number_is_put_in(void **state)
{
    (void)state;
    char text[12];
    assert_int_equal(config_expand("a-%n-%n%", 17, text, sizeof text), 0);
    assert_string_equal(text, "a-17-17%");
    assert_int_equal(config_expand("", 1, text, sizeof text), 0);
    assert_string_equal(text, "");
    assert_int_equal(config_expand("12345678901", 1, text, sizeof text), 0);
    assert_int_equal(config_expand("123456789012", 1, text, sizeof text), -ENAMETOOLONG);
    assert_int_equal(config_expand("1234567890%n", 100, text, sizeof text), -ENAMETOOLONG);
}

static struct timeline example(void)
{
    struct timeline timeline = {.start_ns = 1000000, .running_ns = 2200000};
    timeline.stage_ns[GUEST_STAGE_PID1] = 50200000;
    timeline.stage_ns[GUEST_STAGE_AGENT_SPAWNED] = 56300000;
    timeline.stage_ns[GUEST_STAGE_AGENT_LISTENING] = 66200000;
    timeline.stage_ns[GUEST_STAGE_FUNCTION_READY] = 72300000;
    return timeline;
}

static void the_timeline_reads_well(void **state)
{
    (void)state;
    struct timeline timeline = example();
    char text[160];
    timeline_text(&timeline, GUEST_STAGE_FUNCTION_READY, text, sizeof text);
    assert_string_equal(text, "71.3 ms: vmm 1.2, kernel 48.0, init 6.1, agent 9.9, function 6.1");
    timeline.stage_ns[GUEST_STAGE_FUNCTION_READY] = 0;
    timeline.stage_ns[GUEST_STAGE_FUNCTION_FAILED] = 72300000;
    timeline_text(&timeline, GUEST_STAGE_FUNCTION_FAILED, text, sizeof text);
    assert_non_null(strstr(text, "function 6.1"));
}

static void only_the_first_report_of_a_stage_counts(void **state)
{
    (void)state;
    struct timeline timeline;
    timeline_begin(&timeline);
    assert_true(timeline.start_ns > 0);
    assert_int_equal(timeline_stage(&timeline, GUEST_STAGE_PID1), 0);
    timeline_mark(&timeline, GUEST_STAGE_PID1);
    const uint64_t first = timeline_stage(&timeline, GUEST_STAGE_PID1);
    assert_true(first >= timeline.start_ns);
    timeline_mark(&timeline, GUEST_STAGE_PID1);
    assert_int_equal(timeline_stage(&timeline, GUEST_STAGE_PID1), first);
}

static void the_timeline_file_is_json_put_in_place_whole(void **state)
{
    (void)state;
    char directory[] = "/tmp/timeline-XXXXXX";
    char path[64];
    char text[512] = {0};
    const struct timeline timeline = example();
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/t.json", directory);
    assert_int_equal(timeline_write(&timeline, path), 0);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, "{\n  \"vmm_us\": 1200,\n  \"kernel_us\": 48000,\n  \"init_us\": 6100,\n"
                              "  \"agent_us\": 9900,\n  \"function_us\": 6100,\n  \"ready_us\": 71300\n}\n");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0); /* so nothing else was left there */
    assert_true(timeline_write(&timeline, "/nonexistent/t.json") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold),
        cmocka_unit_test(every_option_is_taken),
        cmocka_unit_test(help_is_asked_for),
        cmocka_unit_test(bad_values_are_refused_with_the_range),
        cmocka_unit_test(drives_have_a_limit),
        cmocka_unit_test(limits_are_taken),
        cmocka_unit_test(each_command_has_its_own_options),
        cmocka_unit_test(a_restore_says_what_is_the_clones_own),
        cmocka_unit_test(a_clones_number_is_put_in),
        cmocka_unit_test(the_timeline_reads_well),
        cmocka_unit_test(only_the_first_report_of_a_stage_counts),
        cmocka_unit_test(the_timeline_file_is_json_put_in_place_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
