/* The agent's generator: BearSSL's known answers, nothing without a state, nothing repeated. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/drbg.h"

/* The vectors of BearSSL's own test of HMAC_DRBG: three outputs of 30 bytes of one seed. */
static const uint8_t seed[] = {0x00, 0x9a, 0x4d, 0x67, 0x92, 0x29, 0x5a, 0x7f, 0x73, 0x0f, 0xc3,
                               0xf2, 0xb4, 0x9c, 0xbc, 0x0f, 0x62, 0xe8, 0x62, 0x27, 0x2f, 0x01,
                               0x79, 0x5e, 0xdf, 0x0d, 0x54, 0xdb, 0x76, 0x0f, 0x15, 0x6d, 0x0d,
                               0xac, 0x04, 0xc0, 0x32, 0x2b, 0x3a, 0x20, 0x42, 0x24};
static const uint8_t outputs[3][30] = {
    {0x93, 0x05, 0xa4, 0x6d, 0xe7, 0xff, 0x8e, 0xb1, 0x07, 0x19, 0x4d, 0xeb, 0xd3, 0xfd, 0x48,
     0xaa, 0x20, 0xd5, 0xe7, 0x65, 0x6c, 0xbe, 0x0e, 0xa6, 0x9d, 0x2a, 0x8d, 0x4e, 0x7c, 0x67},
    {0xc7, 0x0c, 0x78, 0x60, 0x8a, 0x3b, 0x5b, 0xe9, 0x28, 0x9b, 0xe9, 0x0e, 0xf6, 0xe8, 0x1a,
     0x9e, 0x2c, 0x15, 0x16, 0xd5, 0x75, 0x1d, 0x2f, 0x75, 0xf5, 0x00, 0x33, 0xe4, 0x5f, 0x73},
    {0x47, 0x5e, 0x80, 0xe9, 0x92, 0x14, 0x05, 0x67, 0xfc, 0xc3, 0xa5, 0x0d, 0xab, 0x90, 0xfe,
     0x84, 0xbc, 0xd7, 0xbb, 0x03, 0x63, 0x8e, 0x9c, 0x46, 0x56, 0xa0, 0x6f, 0x37, 0xf6, 0x50},
};

static void known_answers(void **state)
{
    (void)state;
    struct drbg drbg;
    uint8_t out[30];
    drbg_start(&drbg, seed, sizeof seed);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(drbg_generate(&drbg, out, sizeof out), 0);
        assert_memory_equal(out, outputs[i], sizeof out);
    }
}

static void nothing_comes_of_a_generator_that_was_not_started_or_has_forgotten(void **state)
{
    (void)state;
    static const struct drbg zero;
    struct drbg drbg = {.is_ready = 0};
    uint8_t out[8];
    assert_int_equal(drbg_generate(&drbg, out, sizeof out), -EAGAIN);
    drbg_start(&drbg, seed, sizeof seed);
    drbg_forget(&drbg);
    assert_int_equal(drbg_generate(&drbg, out, sizeof out), -EAGAIN);
    assert_memory_equal(&drbg, &zero, sizeof drbg); /* no trace of the state is left */
}

static void two_instances_of_one_seed_differ_by_the_kernels_part(void **state)
{
    (void)state;
    struct drbg one = {.is_ready = 0}, two = {.is_ready = 0};
    uint8_t out[2][32];
    assert_int_equal(drbg_instantiate(&one, seed, 32), 0);
    assert_int_equal(drbg_instantiate(&two, seed, 32), 0);
    assert_int_equal(drbg_generate(&one, out[0], 32), 0);
    assert_int_equal(drbg_generate(&two, out[1], 32), 0);
    assert_memory_not_equal(out[0], out[1], 32);
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    static uint8_t much[65537];
    struct drbg drbg = {.is_ready = 0};
    assert_int_equal(drbg_instantiate(&drbg, much, 65), -EINVAL);
    assert_int_equal(drbg_generate(&drbg, much, 1), -EAGAIN);
    assert_int_equal(drbg_instantiate(&drbg, NULL, 0), 0);
    assert_int_equal(drbg_generate(&drbg, much, sizeof much), -EINVAL);
    assert_int_equal(drbg_generate(&drbg, much, sizeof much - 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(nothing_comes_of_a_generator_that_was_not_started_or_has_forgotten),
        cmocka_unit_test(two_instances_of_one_seed_differ_by_the_kernels_part),
        cmocka_unit_test(what_is_too_large_is_refused),
    };
    return cmocka_run_group_tests_name("drbg", tests, NULL, NULL);
}
