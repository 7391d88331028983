/* A state shown to people and to programs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/snapshot/codec.h"
#include "hostvmm/snapshot/dump.h"

static struct state_writer out;

static int setup(void **state)
{
    (void)state;
    static const uint8_t bytes[30] = {0xab, 0xcd};
    state_writer_init(&out);
    state_put_map(&out, NULL, 5);
    state_put_uint(&out, "number", 70000);
    state_put_text(&out, "text", "say \"hello\"");
    state_put_array(&out, "empty", 0);
    state_put_array(&out, "list", 2);
    for (unsigned i = 0; i < 2; i++) {
        state_put_map(&out, NULL, 1);
        state_put_bool(&out, "flag", i == 1);
    }
    state_put_bytes(&out, "bytes", bytes, sizeof bytes);
    return out.failed ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    state_writer_fini(&out);
    return 0;
}

static int shown(int (*dump)(FILE *, const uint8_t *, size_t), size_t size, char **text)
{
    size_t bytes;
    FILE *to = open_memstream(text, &bytes);
    assert_non_null(to);
    const int result = dump(to, out.data, size);
    assert_int_equal(fclose(to), 0);
    return result;
}

static void people_see_a_line_for_each_field(void **state)
{
    (void)state;
    char *text = NULL;
    assert_int_equal(shown(dump_text, out.size_bytes, &text), 0);
    assert_string_equal(text, "number 70000\n"
                              "text \"say \\\"hello\\\"\"\n"
                              "empty \n"
                              "list \n"
                              "  [0] \n"
                              "    flag false\n"
                              "  [1] \n"
                              "    flag true\n"
                              "bytes abcd00000000000000000000000000000000000000000000... (30 bytes)\n");
    free(text);
}

static void programs_get_json(void **state)
{
    (void)state;
    char *text = NULL;
    assert_int_equal(shown(dump_json, out.size_bytes, &text), 0);
    assert_string_equal(text, "{\"number\":70000,\"text\":\"say \\\"hello\\\"\",\"empty\":[],"
                              "\"list\":[{\"flag\":false},{\"flag\":true}],"
                              "\"bytes\":\"abcd00000000000000000000000000000000000000000000000000000000\"}");
    free(text);
}

static void what_ends_early_is_told(void **state)
{
    (void)state;
    for (size_t size = 1; size < out.size_bytes; size++) {
        char *text = NULL;
        assert_int_equal(shown(dump_text, size, &text), -EBADMSG);
        assert_non_null(strstr(text, "the rest is no state"));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(people_see_a_line_for_each_field, setup, teardown),
        cmocka_unit_test_setup_teardown(programs_get_json, setup, teardown),
        cmocka_unit_test_setup_teardown(what_ends_early_is_told, setup, teardown),
    };
    return cmocka_run_group_tests_name("snapshot dump", tests, NULL, NULL);
}
