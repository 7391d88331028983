/* --balloon and --huge-pages: what is taken, and what is refused by saying what is wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "hostvmm/config.h"

static struct config config;
static char why[256];

/* Parse a command line of words that blanks part. */
static enum config_result parse(enum config_command command, const char *line)
{
    static char text[256];
    char *argv[16] = {"run"};
    char *rest = text;
    int argc = 1;
    assert_true(strlen(line) < sizeof text);
    memcpy(text, line, strlen(line) + 1);
    for (char *word; argc < 16 && (word = strsep(&rest, " "));)
        argv[argc++] = word;
    why[0] = '\0';
    memset(&config, 0, sizeof config);
    return config_parse(&config, command, argc, argv, why, sizeof why);
}

static void expect_refused(enum config_command command, const char *line, const char *text)
{
    assert_int_equal(parse(command, line), CONFIG_BAD);
    assert_non_null(strstr(why, text));
}

static void without_the_option_there_is_none(void **state)
{
    (void)state;
    assert_int_equal(parse(CONFIG_RUN, "--kernel k"), CONFIG_OK);
    assert_false(config.balloon.on);
    assert_false(config.huge_pages);
}

static void words_come_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(parse(CONFIG_RUN, "--kernel k --balloon target=0"), CONFIG_OK);
    assert_true(config.balloon.on);
    assert_int_equal(config.balloon.target_mib, 0);
    assert_false(config.balloon.deflate_on_oom || config.balloon.free_page_reporting ||
                 config.balloon.free_page_hinting || config.balloon.stats_s);
    assert_int_equal(parse(CONFIG_SNAPSHOT, "--kernel k --out o --balloon "
                                            "target=64,stats=65535,hinting,deflate-on-oom,reporting"),
                     CONFIG_OK);
    assert_int_equal(config.balloon.target_mib, 64);
    assert_int_equal(config.balloon.stats_s, 65535);
    assert_true(config.balloon.deflate_on_oom && config.balloon.free_page_reporting &&
                config.balloon.free_page_hinting);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "64",
                                        "target=",
                                        "target=x",
                                        "target=-1",
                                        "reporting",
                                        "target=1,",
                                        "target=1,stats=0",
                                        "target=1,stats=65536",
                                        "target=1,stats=",
                                        "target=1,reportin",
                                        "target=4294967296",
                                        "target=1,target=2"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char line[96];
        (void)snprintf(line, sizeof line, "--kernel k --balloon=%s", wrong[i]);
        expect_refused(CONFIG_RUN, line, "want");
    }
    expect_refused(CONFIG_RUN, "--kernel k --balloon target=1 --balloon target=1", "once");
}

static void both_fit_the_memory(void **state)
{
    (void)state;
    assert_int_equal(parse(CONFIG_RUN, "--kernel k --balloon target=256 --memory 256"), CONFIG_OK);
    expect_refused(CONFIG_RUN, "--kernel k --balloon target=257 --memory 256", "--memory");
    expect_refused(CONFIG_RUN, "--kernel k --balloon target=129", "--memory");
    assert_int_equal(parse(CONFIG_RUN, "--kernel k --huge-pages --memory 64"), CONFIG_OK);
    assert_true(config.huge_pages);
    expect_refused(CONFIG_RUN, "--kernel k --memory 65 --huge-pages", "2 MiB");
}

static void a_clone_has_what_its_guest_had(void **state)
{
    (void)state;
    expect_refused(CONFIG_RESTORE, "--snapshot s --balloon target=1", "booted");
    expect_refused(CONFIG_RESTORE, "--snapshot s --huge-pages", "booted");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_option_there_is_none), cmocka_unit_test(words_come_in_any_order),
        cmocka_unit_test(what_makes_no_sense_is_refused),   cmocka_unit_test(both_fit_the_memory),
        cmocka_unit_test(a_clone_has_what_its_guest_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
