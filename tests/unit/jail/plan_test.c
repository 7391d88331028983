/* The items of --jail. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/jail/jail.h"

static struct jail_plan plan;
static char why[JAIL_WHY_BYTES];

static void takes(const char *text)
{
    if (jail_parse(&plan, text, why) != 0)
        fail_msg("%s: refused: %s", text, why);
    assert_true(plan.on);
}

static void refuses(const char *text, const char *reason)
{
    why[0] = '\0';
    assert_int_equal(jail_parse(&plan, text, why), -EINVAL);
    if (!strstr(why, reason))
        fail_msg("%s: '%s' does not say '%s'", text, why, reason);
}

static void default_has_nothing_set(void **state)
{
    (void)state;
    static const struct jail_plan nothing = {.on = true};
    memset(&plan, 0xa5, sizeof plan);
    takes("default");
    assert_memory_equal(&plan, &nothing, sizeof plan);
}

static void items_are_taken(void **state)
{
    (void)state;
    takes("uid=1000,gid=100,cgroup=/machine/vm.1,cpu=150,memory=300,pids=12,files=256,io=8:16/1048576/"
          "4096,dir=/srv/a,"
          "dir=/srv/b");
    assert_int_equal(plan.uid, 1000);
    assert_int_equal(plan.gid, 100);
    assert_string_equal(plan.cgroup, "machine/vm.1");
    assert_int_equal(plan.cpu_percent, 150);
    assert_int_equal(plan.memory_mib, 300);
    assert_int_equal(plan.pids, 12);
    assert_int_equal(plan.files, 256);
    assert_string_equal(plan.io, "8:16 rbps=1048576 wbps=4096");
    assert_int_equal(plan.dir_count, 2);
    assert_string_equal(plan.dirs[1], "/srv/b");
    takes("cgroup=none");
    assert_true(plan.no_cgroup);
    assert_string_equal(plan.cgroup, "");
}

static void ids_count_with_clones(void **state)
{
    (void)state;
    takes("uid=70000+%n,gid=500");
    jail_for_clone(&plan, 7);
    assert_int_equal(plan.uid, 70007);
    assert_int_equal(plan.gid, 500);
    jail_for_clone(&plan, 7); /* once is enough */
    assert_int_equal(plan.uid, 70007);
    takes("uid=70000");
    jail_for_clone(&plan, 7);
    assert_int_equal(plan.uid, 70000);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    refuses("", "want an item");
    refuses("uid=1,", "want an item");
    refuses(",uid=1", "want an item");
    refuses("uid=0", "above 0");
    refuses("uid=4294967295", "above 0");
    refuses("uid=-1", "above 0");
    refuses("uid=1+%m", "above 0");
    refuses("uid=+%n", "above 0");
    refuses("gid=18446744073709551617", "above 0");
    refuses("cgroup=a/../b", "without . and ..");
    refuses("cgroup=..", "without . and ..");
    refuses("cgroup=", "cgroup v2 mount");
    refuses("cpu=0", "percent");
    refuses("cpu=1e3", "percent");
    refuses("memory=15", "MiB");
    refuses("pids=3", "threads");
    refuses("files=63", "descriptors");
    refuses("io=8:0/1", "MAJOR:MINOR");
    refuses("io=8:0/4096/4095", "MAJOR:MINOR");
    refuses("io=8/4096/4096", "MAJOR:MINOR");
    refuses("dir=relative", "absolute");
    refuses("dir=/a,dir=/b,dir=/c,dir=/d,dir=/e,dir=/f,dir=/g,dir=/h,dir=/i", "at most 8");
    refuses("default,uid=1", "want default, or");
    refuses("uids=1", "want default, or");
    refuses("ui", "want default, or");
}

static void long_items_are_refused(void **state)
{
    (void)state;
    char text[JAIL_PATH_MAX + 64];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text, "dir=/", 5);
    refuses(text, "longer than any item");
    text[4 + JAIL_PATH_MAX] = '\0';
    takes(text);
    text[4 + JAIL_PATH_MAX] = 'x';
    text[5 + JAIL_PATH_MAX] = '\0';
    refuses(text, "absolute");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_has_nothing_set), cmocka_unit_test(items_are_taken),
        cmocka_unit_test(ids_count_with_clones),   cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(long_items_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
