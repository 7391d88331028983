/* bootargs: what init makes of a command line, and that encode and decode agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "init/bootargs.h"

struct reports {
    int count;
    char what[81];
    char why[128];
};

static void note(void *context, const char *what, const char *why)
{
    struct reports *r = context;
    r->count++;
    assert_true(strlen(what) <= 80);
    snprintf(r->what, sizeof r->what, "%s", what);
    snprintf(r->why, sizeof r->why, "%s", why);
}

static struct reports decode(struct bootargs *args, const char *line)
{
    struct reports r = {0};
    bootargs_defaults(args);
    bootargs_decode(args, line, strlen(line), note, &r);
    return r;
}

static void assert_same(const struct bootargs *a, const struct bootargs *b)
{
    assert_string_equal(a->hostname, b->hostname);
    assert_string_equal(a->root, b->root);
    assert_string_equal(a->overlay, b->overlay);
    assert_string_equal(a->agent, b->agent);
    assert_int_equal(a->agent_restarts, b->agent_restarts);
    assert_int_equal(a->grace_ms, b->grace_ms);
    assert_int_equal(a->exit_port, b->exit_port);
    assert_string_equal(a->net, b->net);
}

static void defaults_hold_without_arguments(void **state)
{
    struct bootargs args;
    (void)state;
    struct reports r =
        decode(&args, "console=ttyS0 panic=-1 root=/dev/sda hostname=other rekindlex.root=vdq\n");
    assert_int_equal(r.count, 0);
    assert_string_equal(args.hostname, "rekindle");
    assert_string_equal(args.root, "vda");
    assert_string_equal(args.overlay, "tmpfs");
    assert_string_equal(args.agent, "/sbin/agent");
    assert_int_equal(args.agent_restarts, 3);
    assert_int_equal(args.grace_ms, 2000);
    assert_int_equal(args.exit_port, 0);
    assert_string_equal(args.net, "");
}

static void every_field_is_read(void **state)
{
    struct bootargs args;
    (void)state;
    struct reports r = decode(&args, "quiet rekindle.hostname=web-1 rekindle.root=vdb rekindle.overlay=vdc "
                                     "rekindle.agent=/opt/agent_2 rekindle.agent_restarts=100 "
                                     "rekindle.grace_ms=60000 rekindle.exit_port=0x510 "
                                     "rekindle.net=mac=02:00:00:00:00:01,address=2001:db8::2/64;mtu=1500 --");
    assert_int_equal(r.count, 0);
    assert_string_equal(args.hostname, "web-1");
    assert_string_equal(args.root, "vdb");
    assert_string_equal(args.overlay, "vdc");
    assert_string_equal(args.agent, "/opt/agent_2");
    assert_int_equal(args.agent_restarts, 100);
    assert_int_equal(args.grace_ms, 60000);
    assert_int_equal(args.exit_port, 0x510);
    assert_string_equal(args.net, "mac=02:00:00:00:00:01,address=2001:db8::2/64;mtu=1500");
}

static void the_last_of_two_counts(void **state)
{
    struct bootargs args;
    (void)state;
    decode(&args, "rekindle.hostname=a rekindle.hostname=b rekindle.exit_port=1296");
    assert_string_equal(args.hostname, "b");
    assert_int_equal(args.exit_port, 0x510);
}

static void bad_arguments_are_reported_and_ignored(void **state)
{
    static const char *const bad[] = {
        "rekindle.hostname=",
        "rekindle.hostname=-a",
        "rekindle.hostname=a-",
        "rekindle.hostname=a.b",
        "rekindle.hostname=\"a\"",
        "rekindle.root=/dev/vda",
        "rekindle.root=..",
        "rekindle.root=",
        "rekindle.overlay=-x",
        "rekindle.agent=sbin/agent",
        "rekindle.agent=/",
        "rekindle.agent=/a/",
        "rekindle.agent=/a$b",
        "rekindle.agent_restarts=101",
        "rekindle.agent_restarts=",
        "rekindle.agent_restarts=-1",
        "rekindle.agent_restarts=3x",
        "rekindle.agent_restarts=0x3",
        "rekindle.grace_ms=60001",
        "rekindle.grace_ms=99999999999999999999",
        "rekindle.exit_port=0xffff",
        "rekindle.exit_port=0x",
        "rekindle.exit_port=65536",
        "rekindle.exit_port=0x10000",
        "rekindle.net=mtu=1500%",
        "rekindle.net=\"mtu=1500\"",
        "rekindle.colour=red",
        "rekindle.hostname",
        "rekindle.",
        "rekindle.=",
        "rekindle.rootx=vdb",
        "rekindle.hostname=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    struct bootargs defaults;
    (void)state;
    bootargs_defaults(&defaults);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct bootargs args;
        char line[256];
        snprintf(line, sizeof line, "x %s y", bad[i]);
        struct reports r = decode(&args, line);
        if (r.count != 1)
            fail_msg("%s: %d reports", bad[i], r.count);
        assert_same(&args, &defaults);
        assert_memory_equal(r.what, bad[i], strlen(r.what));
        assert_true(strlen(r.why) > 0);
    }
}

static void what_is_reported_is_printable_and_bounded(void **state)
{
    struct bootargs args;
    char line[400];
    (void)state;
    memset(line, 'k', sizeof line);
    memcpy(line, "rekindle.\x1b[2J\x80", 14);
    line[sizeof line - 1] = '\0';
    struct reports r = decode(&args, line);
    assert_int_equal(r.count, 1);
    assert_int_equal(strlen(r.what), 80);
    for (const char *c = r.what; *c; c++)
        assert_true(*c > ' ' && *c < 0x7f);
}

static void a_hostname_of_63_bytes_fits(void **state)
{
    struct bootargs args;
    char line[128] = "rekindle.hostname=";
    (void)state;
    memset(line + strlen(line), 'h', 63);
    assert_int_equal(decode(&args, line).count, 0);
    assert_int_equal(strlen(args.hostname), 63);
}

static void a_net_of_1024_bytes_fits_and_no_more(void **state)
{
    struct bootargs args;
    struct bootargs back;
    char line[BOOTARGS_LINE_MAX] = "rekindle.net=";
    char again[BOOTARGS_LINE_MAX] = "";
    (void)state;
    memset(line + strlen(line), 'n', BOOTARGS_NET_MAX);
    assert_int_equal(decode(&args, line).count, 0);
    assert_int_equal(strlen(args.net), BOOTARGS_NET_MAX);
    assert_int_equal(bootargs_encode(&args, again, sizeof again), 0);
    assert_int_equal(decode(&back, again).count, 0);
    assert_same(&args, &back);
    line[strlen(line)] = 'n';
    struct reports r = decode(&args, line);
    assert_int_equal(r.count, 1);
    assert_string_equal(r.why, "value is longer than 1024 bytes");
    assert_string_equal(args.net, "");
    memset(args.net, 'n', sizeof args.net); /* not terminated */
    again[0] = '\0';
    assert_int_equal(bootargs_encode(&args, again, sizeof again), -EINVAL);
}

static void the_line_need_not_be_terminated(void **state)
{
    struct bootargs args;
    const char line[] = {'r', 'e', 'k', 'i', 'n', 'd', 'l', 'e', '.', 'r', 'o', 'o', 't', '=', 'v', 'd', 'b'};
    (void)state;
    bootargs_defaults(&args);
    bootargs_decode(&args, line, sizeof line, NULL, NULL);
    assert_string_equal(args.root, "vdb");
    bootargs_decode(&args, line, 0, NULL, NULL);
    bootargs_decode(&args, line, 9, NULL, NULL); /* "rekindle." and nothing more, with no one to tell */
    assert_string_equal(args.root, "vdb");
}

static void encode_writes_what_differs(void **state)
{
    struct bootargs args;
    char line[BOOTARGS_LINE_MAX] = "console=ttyS0";
    (void)state;
    bootargs_defaults(&args);
    assert_int_equal(bootargs_encode(&args, line, sizeof line), 0);
    assert_string_equal(line, "console=ttyS0");
    strcpy(args.overlay, "none");
    args.exit_port = 0x510;
    args.agent_restarts = 0;
    assert_int_equal(bootargs_encode(&args, line, sizeof line), 0);
    assert_string_equal(line, "console=ttyS0 rekindle.overlay=none rekindle.agent_restarts=0 "
                              "rekindle.exit_port=0x510");
    struct bootargs back;
    assert_int_equal(decode(&back, line).count, 0);
    assert_same(&args, &back);
}

static void encode_into_an_empty_line_needs_no_space(void **state)
{
    struct bootargs args;
    char line[64] = "";
    (void)state;
    bootargs_defaults(&args);
    args.grace_ms = 5;
    assert_int_equal(bootargs_encode(&args, line, sizeof line), 0);
    assert_string_equal(line, "rekindle.grace_ms=5");
}

static void encode_refuses_and_leaves_the_line(void **state)
{
    struct bootargs args;
    char line[32] = "quiet";
    (void)state;
    bootargs_defaults(&args);
    strcpy(args.hostname, "not a label");
    assert_int_equal(bootargs_encode(&args, line, sizeof line), -EINVAL);
    bootargs_defaults(&args);
    args.agent_restarts = 101;
    assert_int_equal(bootargs_encode(&args, line, sizeof line), -EINVAL);
    bootargs_defaults(&args);
    memset(args.agent, 'a', sizeof args.agent); /* not terminated */
    assert_int_equal(bootargs_encode(&args, line, sizeof line), -EINVAL);
    bootargs_defaults(&args);
    strcpy(args.hostname, "a");
    strcpy(args.root, "vdz");
    assert_int_equal(bootargs_encode(&args, line, sizeof line), -ENOSPC);
    assert_string_equal(line, "quiet");
    memset(line, 'x', sizeof line); /* not terminated on entry */
    assert_int_equal(bootargs_encode(&args, line, sizeof line), -ENOSPC);
}

static void encode_fills_the_line_exactly(void **state)
{
    struct bootargs args;
    char line[20] = "";
    (void)state;
    bootargs_defaults(&args);
    strcpy(args.root, "vdzz");
    assert_int_equal(bootargs_encode(&args, line, 18), -ENOSPC); /* "rekindle.root=vdzz" is 18 bytes */
    args.root[3] = '\0';
    assert_int_equal(bootargs_encode(&args, line, 17), -ENOSPC);
    assert_int_equal(bootargs_encode(&args, line, 18), 0);
    assert_string_equal(line, "rekindle.root=vdz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_without_arguments),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(the_last_of_two_counts),
        cmocka_unit_test(bad_arguments_are_reported_and_ignored),
        cmocka_unit_test(what_is_reported_is_printable_and_bounded),
        cmocka_unit_test(a_hostname_of_63_bytes_fits),
        cmocka_unit_test(a_net_of_1024_bytes_fits_and_no_more),
        cmocka_unit_test(the_line_need_not_be_terminated),
        cmocka_unit_test(encode_writes_what_differs),
        cmocka_unit_test(encode_into_an_empty_line_needs_no_space),
        cmocka_unit_test(encode_refuses_and_leaves_the_line),
        cmocka_unit_test(encode_fills_the_line_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
