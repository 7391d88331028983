/* image: what init takes a drive for, from its first bytes and its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "init/image.h"

static uint8_t head[IMAGE_PROBE_BYTES];

static void put(size_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        head[at + i] = (uint8_t)(value >> (8 * i));
}

static void erofs(uint32_t blocks, uint8_t shift)
{
    memset(head, 0, sizeof head);
    put(1024, 0xe0f5e1e2, 4);
    put(1024 + 12, shift, 1);
    put(1024 + 36, blocks, 4);
}

static enum image_kind kind_of(uint64_t device_bytes)
{
    size_t size = device_bytes < sizeof head ? (size_t)device_bytes : sizeof head;
    return image_identify(head, size, device_bytes).kind;
}

static void erofs_is_known_and_measured(void **state)
{
    (void)state;
    erofs(3, 12);
    struct image_verdict v = image_identify(head, sizeof head, 12288);
    assert_int_equal(v.kind, IMAGE_EROFS);
    assert_string_equal(v.file_system, "erofs");
    assert_int_equal(v.wanted_bytes, 12288);
    assert_int_equal(kind_of(12287), IMAGE_TRUNCATED);
    assert_int_equal(kind_of(1u << 20), IMAGE_EROFS); /* padded */
}

static void a_senseless_size_is_not_believed(void **state)
{
    (void)state;
    erofs(UINT32_MAX, 255);
    assert_int_equal(kind_of(UINT64_MAX - 1), IMAGE_TRUNCATED);
    erofs(1, 33);
    assert_int_equal(kind_of(1u << 30), IMAGE_TRUNCATED);
    erofs(UINT32_MAX, 32);
    assert_int_equal(kind_of(1u << 30), IMAGE_TRUNCATED);
}

static void squashfs_is_known_and_measured(void **state)
{
    (void)state;
    memset(head, 0, sizeof head);
    put(0, 0x73717368, 4); /* "hsqs" */
    put(40, 5000, 8);
    struct image_verdict v = image_identify(head, sizeof head, 8192);
    assert_int_equal(v.kind, IMAGE_SQUASHFS);
    assert_string_equal(v.file_system, "squashfs");
    assert_int_equal(kind_of(4999), IMAGE_TRUNCATED);
}

static void ext4_is_known_and_measured(void **state)
{
    (void)state;
    memset(head, 0, sizeof head);
    put(1024 + 56, 0xef53, 2);
    put(1024 + 4, 1024, 4);
    put(1024 + 24, 2, 4); /* 4096-byte blocks */
    assert_int_equal(kind_of(4u << 20), IMAGE_EXT4);
    assert_int_equal(kind_of((4u << 20) - 1), IMAGE_TRUNCATED);
    put(1024 + 24, UINT32_MAX, 4);
    assert_int_equal(kind_of(4u << 20), IMAGE_TRUNCATED);
}

static void zeros_are_blank_and_anything_else_unknown(void **state)
{
    (void)state;
    memset(head, 0, sizeof head);
    assert_int_equal(kind_of(1u << 20), IMAGE_BLANK);
    head[sizeof head - 1] = 1;
    assert_int_equal(kind_of(1u << 20), IMAGE_UNKNOWN);
    memset(head, 'x', sizeof head);
    assert_int_equal(kind_of(1u << 20), IMAGE_UNKNOWN);
    assert_null(image_identify(head, sizeof head, 1u << 20).file_system);
}

static void short_drives_are_read_within_their_bounds(void **state)
{
    (void)state;
    erofs(1, 9);
    assert_int_equal(image_identify(head, 0, 0).kind, IMAGE_EMPTY);
    assert_int_equal(image_identify(head, 511, 511).kind, IMAGE_EMPTY);
    assert_int_equal(image_identify(head, 512, 512).kind, IMAGE_BLANK);
    /* The magic is there but the fields after it are not. */
    uint8_t *exact = test_malloc(1028);
    memcpy(exact, head, 1028);
    assert_int_not_equal(image_identify(exact, 1028, 1028).kind, IMAGE_EROFS);
    test_free(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(erofs_is_known_and_measured),
        cmocka_unit_test(a_senseless_size_is_not_believed),
        cmocka_unit_test(squashfs_is_known_and_measured),
        cmocka_unit_test(ext4_is_known_and_measured),
        cmocka_unit_test(zeros_are_blank_and_anything_else_unknown),
        cmocka_unit_test(short_drives_are_read_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
