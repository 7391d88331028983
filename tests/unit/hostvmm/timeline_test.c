/* A timeline's phases, and its picture: well-formed, whole, and unmoved by what a guest calls its steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/timeline.h"

#define MS UINT64_C(1000000)

static struct timeline boot(void)
{
    struct timeline timeline = {.start_ns = 5 * MS, .running_ns = 6 * MS};
    timeline.stage_ns[GUEST_STAGE_PID1] = 50 * MS;
    timeline.stage_ns[GUEST_STAGE_AGENT_SPAWNED] = 60 * MS;
    timeline.stage_ns[GUEST_STAGE_AGENT_LISTENING] = 62 * MS;
    timeline.stage_ns[GUEST_STAGE_FUNCTION_READY] = 70 * MS;
    return timeline;
}

static struct timeline restore(void)
{
    struct timeline timeline = {
        .start_ns = 1 * MS,
        .opened_ns = 2 * MS,
        .kvm_ns = 3 * MS,
        .created_ns = 4 * MS,
        .built_ns = 5 * MS,
        .running_ns = 6 * MS,
        .connected_ns = 5 * MS, /* asked for before the vCPUs ran */
        .unique_ns = 10 * MS,
    };
    timeline_resume_step(&timeline, "entropy", 100);
    timeline_resume_step(&timeline, "hooks", 900);
    return timeline;
}

static void test_phases_of_a_boot(void **state)
{
    (void)state;
    struct timeline_phase phases[TIMELINE_PHASES_MAX];
    struct timeline timeline = boot();
    static const char *const names[] = {"vmm", "kernel", "init", "agent", "function"};
    static const uint64_t ms[] = {1, 44, 10, 2, 8};
    assert_int_equal(timeline_phases(&timeline, phases), 5);
    uint64_t at = timeline.start_ns;
    for (unsigned i = 0; i < 5; i++) {
        assert_string_equal(phases[i].name, names[i]);
        assert_int_equal(phases[i].from_ns, at);
        assert_int_equal(phases[i].duration_ns, ms[i] * MS);
        at += phases[i].duration_ns;
    }
    timeline.stage_ns[GUEST_STAGE_AGENT_SPAWNED] = 0; /* not told: the next has its time */
    assert_int_equal(timeline_phases(&timeline, phases), 4);
    assert_string_equal(phases[2].name, "agent");
    assert_int_equal(phases[2].duration_ns, 12 * MS);
    timeline = (struct timeline){.start_ns = 5 * MS};
    assert_int_equal(timeline_phases(&timeline, phases), 0);
}

static void test_phases_of_a_restore(void **state)
{
    (void)state;
    struct timeline_phase phases[TIMELINE_PHASES_MAX];
    struct timeline timeline = restore();
    assert_int_equal(timeline_phases(&timeline, phases), 6);
    assert_string_equal(phases[5].name, "unique");
    assert_int_equal(phases[5].from_ns, 6 * MS);
    timeline.connected_ns = 8 * MS;
    assert_int_equal(timeline_phases(&timeline, phases), 7);
    assert_string_equal(phases[5].name, "reach");
    assert_int_equal(phases[6].duration_ns, 2 * MS);
    timeline.unique_ns = 0; /* it never was */
    assert_int_equal(timeline_phases(&timeline, phases), 6);
}

/* Every tag is closed by its own, attributes are quoted, and nothing that XML reserves stands bare. */
static void check_xml(const char *text)
{
    const char *open[16];
    unsigned depth = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '&')
            fail_msg("a bare & in %.40s", at);
        if (*at != '<')
            continue;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        unsigned quotes = 0;
        for (const char *in = at + 1; in < end; in++) {
            quotes += *in == '"';
            assert_true(*in != '<');
        }
        assert_int_equal(quotes % 2, 0);
        if (at[1] == '/') {
            assert_true(depth > 0);
            depth--;
            const size_t size = strcspn(open[depth], " >");
            assert_memory_equal(open[depth], at + 2, size);
        } else if (end[-1] != '/') {
            assert_true(depth < 16);
            open[depth++] = at + 1;
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}

static char *picture(const struct timeline *timeline)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    timeline_svg(timeline, out);
    assert_int_equal(fclose(out), 0);
    check_xml(text);
    return text;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in %s", part, text);
}

static void test_pictures(void **state)
{
    (void)state;
    struct timeline timeline = boot();
    char *text = picture(&timeline);
    expect(text, "Boot of a guest");
    expect(text, ">kernel<");
    expect(text, "44.0 ms");
    free(text);
    timeline = restore();
    text = picture(&timeline);
    expect(text, "Restore of a clone");
    expect(text, ">entropy<");
    expect(text, "ready in 9.00 ms");
    free(text);
    timeline = (struct timeline){.start_ns = 5}; /* nothing was reached */
    text = picture(&timeline);
    expect(text, "not ready");
    free(text);
}

static void test_what_a_guest_calls_its_steps(void **state)
{
    (void)state;
    struct timeline timeline = restore();
    timeline_resume_step(&timeline, "</svg><a b=\"&\xff\n", UINT64_MAX / 2);
    for (unsigned i = 0; i < TIMELINE_STEPS_MAX; i++)
        timeline_resume_step(&timeline, "long", 1000000);
    char *text = picture(&timeline);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_null(strstr(text, "width=\"-"));
    free(text);
}

static void test_the_name_says_what_is_written(void **state)
{
    (void)state;
    struct timeline timeline = boot();
    char directory[] = "/tmp/timeline-test.XXXXXX";
    char path[64];
    char text[32] = "";
    assert_non_null(mkdtemp(directory));
    static const struct {
        const char *name;
        const char *first;
    } files[] = {{"t.svg", "<svg"}, {"t.json", "{\n"}, {"svg", "{\n"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, files[i].name);
        assert_int_equal(timeline_write(&timeline, path), 0);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_true(fread(text, 1, sizeof text - 1, file) > 0);
        (void)fclose(file);
        assert_memory_equal(text, files[i].first, strlen(files[i].first));
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(directory), 0); /* and nothing beside them */
    assert_true(timeline_write(&timeline, "/nowhere/at/all.svg") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases_of_a_boot),
        cmocka_unit_test(test_phases_of_a_restore),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_what_a_guest_calls_its_steps),
        cmocka_unit_test(test_the_name_says_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
