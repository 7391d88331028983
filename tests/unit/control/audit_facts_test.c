/* Facts of synthetic clones: what is shared, missing or late is told; what is as it should be is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/audit_report.h"

#define NOW UINT64_C(1767225600000000000)

static struct audit_facts facts;
static struct audit_tokens tokens;

static int setup(void **state)
{
    (void)state;
    audit_facts_init(&facts);
    audit_tokens_init(&tokens, "", 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    audit_facts_fini(&facts);
    audit_tokens_fini(&tokens);
    return 0;
}

static int add(uint32_t clone, const char *name, const void *data, size_t size)
{
    return audit_facts_add(&facts, clone, proto_text(name), (struct proto_slice){data, size}, NOW,
                           NOW + 1000);
}

static void add_clock(uint32_t clone, const char *name, uint64_t value)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
    assert_int_equal(add(clone, name, bytes, 8), 0);
}

/* Everything a good clone tells, but for the source `without`. */
static void add_clone(uint32_t clone, const char *without)
{
    for (unsigned i = 0; i < AUDIT_SOURCES; i++) {
        char value[40];
        (void)snprintf(value, sizeof value, "%u of %u", i, (unsigned)clone);
        if (!without || strcmp(audit_sources[i].name, without) != 0)
            assert_int_equal(add(clone, audit_sources[i].name, value, strlen(value)), 0);
    }
    add_clock(clone, "realtime_ns", NOW + 500);
    add_clock(clone, "monotonic_ns", 1000000 * (uint64_t)clone);
    assert_int_equal(add(clone, "something_new", "x", 1), 0);
}

static char *json(uint32_t clones)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    const bool good = audit_facts_judge(&facts, clones);
    audit_report_json(out, &facts, &tokens, clones, good);
    audit_report_people(out, &facts, &tokens, clones);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void expect(uint32_t clones, const char *in_json, const char *to_people)
{
    char *text = json(clones);
    if (!strstr(text, in_json) || !strstr(text, to_people))
        fail_msg("%s\nhas no '%s' or '%s'", text, in_json, to_people);
    free(text);
}

static void test_all_different(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 1000; i++)
        add_clone(i, NULL);
    expect(1000, "{\"clones\":1000,\"good\":true,", "drbg                 1000           0  unique");
    assert_int_equal(facts.monotonic_most_ns - facts.monotonic_least_ns, 999000000);
}

static void test_shared_value(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 10; i++) {
        add_clone(i, "boot_id");
        assert_int_equal(add(i, "boot_id", i == 3 || i == 9 ? "same" : (char[]){'a', (char)i, 0}, 2), 0);
    }
    expect(10, "\"name\":\"boot_id\",\"compared\":10,\"missing\":0,\"duplicates\":1,\"pair\":[3,9]",
           "DUPLICATES, as in clones 3 and 9");
    assert_int_equal(facts.columns[4].duplicates, 1);
}

static void test_missing_value(void **state)
{
    (void)state;
    add_clone(1, "drbg");
    add_clone(2, NULL);
    expect(2, "\"good\":false", "MISSING");
}

static void test_optional_value(void **state)
{
    (void)state;
    add_clone(1, "getrandom_vdso");
    add_clone(2, "getrandom_vdso");
    expect(2, "\"good\":true", "missing (it may be)");
}

static void test_clone_that_told_nothing(void **state)
{
    (void)state;
    add_clone(1, NULL);
    expect(2, "\"good\":false", "MISSING");
}

static void test_wall_clock(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 3; i++)
        add_clone(i, NULL);
    for (uint32_t i = 4; i <= 5; i++)
        for (unsigned j = 0; j < AUDIT_SOURCES; j++)
            assert_int_equal(add(i, audit_sources[j].name, &i, sizeof i), 0);
    add_clock(4, "realtime_ns", NOW - 49000000);
    add_clock(5, "realtime_ns", NOW + 51001000);
    add_clock(4, "monotonic_ns", 1);
    add_clock(5, "monotonic_ns", 1);
    expect(5, "\"out_of_bounds\":1,\"worst_ns\":51000000", "OUT OF BOUNDS");
}

static void test_what_no_clone_may_tell(void **state)
{
    (void)state;
    add_clone(1, NULL);
    assert_int_equal(add(1, "drbg", "again", 5), -EPROTO);
    assert_int_equal(add(1, "realtime_ns", "short", 5), -EPROTO);
    assert_int_equal(add(1, "monotonic_ns", "", 0), -EPROTO);
}

static void test_findings_in_the_report(void **state)
{
    (void)state;
    static const char twin[] = "a line\nid=9d2f6c01b4e87a35c1\n";
    add_clone(1, NULL);
    add_clone(2, NULL);
    assert_int_equal(audit_tokens_add(&tokens, 1, AUDIT_ANSWER, twin, sizeof twin - 1), 0);
    assert_int_equal(audit_tokens_add(&tokens, 2, AUDIT_OUTPUT, twin, sizeof twin - 1), 0);
    expect(2,
           "\"first\":{\"clone\":1,\"in\":\"answer\",\"offset\":10},\"second\":{\"clone\":2,\"in\":"
           "\"output\",\"line\":2}",
           "9d2f6c01b4e87a35c1 (18 bytes, some 72 bits) in 2 clones: clone 1 answer offset 10, clone 2 "
           "output line 2");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_all_different),           TEST(test_shared_value),
        TEST(test_missing_value),           TEST(test_optional_value),
        TEST(test_clone_that_told_nothing), TEST(test_wall_clock),
        TEST(test_what_no_clone_may_tell),  TEST(test_findings_in_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
