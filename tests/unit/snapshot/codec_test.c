/* The state's encoding: what is written is read, and everything else is refused by name. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/snapshot/codec.h"

struct sample {
    uint64_t number;
    bool flag;
    uint8_t bytes[5];
    char text[8];
    uint64_t elements[3];
    unsigned element_count;
    uint64_t inner[2];
};

static void sample_save(const struct sample *sample, struct state_writer *out)
{
    state_put_map(out, NULL, 6);
    state_put_uint(out, "number", sample->number);
    state_put_bool(out, "flag", sample->flag);
    state_put_bytes(out, "bytes", sample->bytes, sizeof sample->bytes);
    state_put_text(out, "text", sample->text);
    state_put_array(out, "elements", sample->element_count);
    for (unsigned i = 0; i < sample->element_count; i++)
        state_put_uint(out, NULL, sample->elements[i]);
    state_put_array(out, "maps", 2);
    for (unsigned i = 0; i < 2; i++) {
        state_put_map(out, NULL, 1);
        state_put_uint(out, "inner", sample->inner[i]);
    }
}

static int sample_load(struct sample *sample, const void *data, size_t size, char *why)
{
    struct state_reader in;
    state_reader_init(&in, data, size);
    state_get_map(&in, NULL, 6);
    sample->number = state_get_uint(&in, "number", 1, 1000000);
    sample->flag = state_get_bool(&in, "flag");
    state_get_bytes(&in, "bytes", sample->bytes, sizeof sample->bytes);
    state_get_text(&in, "text", sample->text, sizeof sample->text);
    sample->element_count = state_get_array(&in, "elements", 3);
    for (unsigned i = 0; i < sample->element_count; i++)
        sample->elements[i] = state_get_uint(&in, NULL, 0, UINT64_MAX);
    state_end(&in);
    const unsigned maps = state_get_array(&in, "maps", 2);
    for (unsigned i = 0; i < maps; i++) {
        state_get_map(&in, NULL, 1);
        sample->inner[i] = state_get_uint(&in, "inner", 0, 9);
        state_end(&in);
    }
    state_end(&in);
    state_end(&in);
    const int error = state_reader_finish(&in);
    memcpy(why, in.why, sizeof in.why);
    return error;
}

static const struct sample whole = {.number = 70000,
                                    .flag = true,
                                    .bytes = {1, 2, 3, 4, 5},
                                    .text = "text",
                                    .elements = {0, 24, UINT64_MAX},
                                    .element_count = 3,
                                    .inner = {7, 8}};

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct state_writer out;
    struct sample got = {.number = 0};
    char why[STATE_WHY_BYTES];
    state_writer_init(&out);
    sample_save(&whole, &out);
    assert_false(out.failed);
    assert_int_equal(sample_load(&got, out.data, out.size_bytes, why), 0);
    assert_int_equal(got.number, whole.number);
    assert_true(got.flag);
    assert_memory_equal(got.bytes, whole.bytes, sizeof whole.bytes);
    assert_string_equal(got.text, whole.text);
    assert_int_equal(got.element_count, 3);
    assert_memory_equal(got.elements, whole.elements, sizeof whole.elements);
    assert_memory_equal(got.inner, whole.inner, sizeof whole.inner);
    state_writer_fini(&out);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct state_writer out;
    struct sample got;
    char why[STATE_WHY_BYTES];
    state_writer_init(&out);
    sample_save(&whole, &out);
    for (size_t size = 0; size < out.size_bytes; size++) {
        uint8_t *copy = malloc(size + 1); /* its own allocation: reading past it is seen */
        assert_non_null(copy);
        uint8_t *exact = realloc(copy, size ? size : 1);
        memcpy(exact, out.data, size);
        assert_int_equal(sample_load(&got, exact, size, why), -EBADMSG);
        assert_true(why[0] != '\0');
        free(exact);
    }
    state_writer_fini(&out);
}

static void every_flipped_bit_is_refused_or_another_value(void **state)
{
    (void)state;
    struct state_writer out;
    struct sample got;
    char why[STATE_WHY_BYTES];
    state_writer_init(&out);
    sample_save(&whole, &out);
    for (size_t bit = 0; bit < out.size_bytes * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (sample_load(&got, out.data, out.size_bytes, why) == 0) {
            assert_in_range(got.number, 1, 1000000);
            assert_in_range(got.element_count, 0, 3);
        } else {
            assert_true(why[0] != '\0');
        }
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    state_writer_fini(&out);
}

static void expect_why(const struct sample *sample, const char *wanted)
{
    struct state_writer out;
    struct sample got;
    char why[STATE_WHY_BYTES];
    state_writer_init(&out);
    sample_save(sample, &out);
    assert_int_equal(sample_load(&got, out.data, out.size_bytes, why), -EBADMSG);
    assert_string_equal(why, wanted);
    state_writer_fini(&out);
}

static void a_refusal_names_the_field(void **state)
{
    (void)state;
    struct sample bad = whole;
    bad.number = 0;
    expect_why(&bad, "number: 0, 1 to 1000000 wanted");
    bad = whole;
    bad.inner[1] = 10;
    expect_why(&bad, "maps[1].inner: 10, 0 to 9 wanted");

    struct state_writer out;
    struct sample got;
    char why[STATE_WHY_BYTES];
    state_writer_init(&out);
    state_put_map(&out, NULL, 6);
    state_put_uint(&out, "numbre", 1);
    assert_int_equal(sample_load(&got, out.data, out.size_bytes, why), -EBADMSG);
    assert_string_equal(why, "number: missing; 'numbre' is in its place");
    state_writer_fini(&out);

    state_put_map(&out, NULL, 6);
    state_put_bool(&out, "number", true);
    assert_int_equal(sample_load(&got, out.data, out.size_bytes, why), -EBADMSG);
    assert_string_equal(why, "number: true or false, a number wanted");
    state_writer_fini(&out);

    sample_save(&whole, &out);
    state_put_bool(&out, NULL, true);
    assert_int_equal(sample_load(&got, out.data, out.size_bytes, why), -EBADMSG);
    assert_string_equal(why, "state: 1 bytes more than its fields have");
    state_writer_fini(&out);
}

static void sparse_bytes_come_back(void **state)
{
    (void)state;
    uint8_t data[200] = {0};
    uint8_t got[200];
    for (unsigned round = 0; round < 300; round++) {
        const size_t size = round % 201;
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(rand() % (int)(round % 40 + 2) ? 0 : rand());
        struct state_writer out;
        struct state_reader in;
        state_writer_init(&out);
        state_put_array(&out, NULL, 2);
        state_put_sparse(&out, NULL, data, size);
        state_put_uint(&out, NULL, 7);
        state_reader_init(&in, out.data, out.size_bytes);
        memset(got, 0xa5, sizeof got);
        assert_int_equal(state_get_array(&in, NULL, 2), 2);
        assert_int_equal(state_get_sparse(&in, NULL, got, 0, sizeof got), size);
        assert_int_equal(state_get_uint(&in, NULL, 7, 7), 7);
        state_end(&in);
        assert_int_equal(state_reader_finish(&in), 0);
        assert_memory_equal(got, data, size);
        for (size_t i = size; i < sizeof got; i++)
            assert_int_equal(got[i], 0xa5);
        state_writer_fini(&out);
    }
}

static void sparse_bytes_past_their_size_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, skip, bytes;
        const char *why;
    } bad[] = {
        {9, 0, 1, "blob: 9 bytes, 10 to 10 wanted"},
        {11, 0, 1, "blob: 11 bytes, 10 to 10 wanted"},
        {10, 11, 0, "blob[1]: 11, 0 to 10 wanted"},
        {10, 8, 3, "blob[2]: 3 bytes, at most 2 wanted"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t got[10];
        struct state_writer out;
        struct state_reader in;
        state_writer_init(&out);
        state_put_map(&out, NULL, 1);
        state_put_array(&out, "blob", 3);
        state_put_uint(&out, NULL, bad[i].size);
        state_put_uint(&out, NULL, bad[i].skip);
        state_put_bytes(&out, NULL, "abcdefghijk", bad[i].bytes);
        state_reader_init(&in, out.data, out.size_bytes);
        state_get_map(&in, NULL, 1);
        assert_int_equal(state_get_sparse(&in, "blob", got, sizeof got, sizeof got), 0);
        assert_string_equal(in.why, bad[i].why);
        state_writer_fini(&out);
    }
}

static void a_state_has_a_largest_size(void **state)
{
    (void)state;
    struct state_writer out;
    uint8_t *block = calloc(1, 1 << 20);
    assert_non_null(block);
    state_writer_init(&out);
    for (unsigned i = 0; i < 17; i++)
        state_put_bytes(&out, NULL, block, 1 << 20);
    assert_true(out.failed);
    assert_true(out.size_bytes <= STATE_MAX_BYTES);
    state_writer_fini(&out);
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_refused_or_another_value),
        cmocka_unit_test(a_refusal_names_the_field),
        cmocka_unit_test(sparse_bytes_come_back),
        cmocka_unit_test(sparse_bytes_past_their_size_are_refused),
        cmocka_unit_test(a_state_has_a_largest_size),
    };
    return cmocka_run_group_tests_name("snapshot codec", tests, NULL, NULL);
}
