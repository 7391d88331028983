/* Twins among synthetic clones: the planted one is found, the others are not suspected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/audit_tokens.h"

static struct audit_tokens tokens;
static uint64_t seed;

static int setup(void **state)
{
    (void)state;
    seed = 42;
    audit_tokens_init(&tokens, "", 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    audit_tokens_fini(&tokens);
    return 0;
}

static uint8_t draw(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint8_t)(seed >> 56);
}

static void draw_text(char *to, size_t size, const char *alphabet)
{
    const size_t symbols = strlen(alphabet);
    for (size_t i = 0; i < size; i++)
        to[i] = alphabet[((unsigned)draw() << 8 | draw()) % symbols];
    to[size] = '\0';
}

static const char hex[] = "0123456789abcdef";
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void add(uint32_t clone, enum audit_place place, const char *text)
{
    assert_int_equal(audit_tokens_add(&tokens, clone, place, text, strlen(text)), 0);
}

static unsigned counted(size_t size, const char *alphabet)
{
    unsigned count = 0;
    char text[128];
    for (int i = 0; i < 1000; i++) {
        draw_text(text, size, alphabet);
        count += audit_token_bits(text, size) >= AUDIT_TOKEN_BITS;
    }
    return count;
}

static void test_random_tokens_count(void **state)
{
    (void)state;
    assert_in_range(counted(32, hex), 998, 1000);
    assert_in_range(counted(16, hex), 900, 1000);
    assert_in_range(counted(22, base64), 850, 1000);
    assert_in_range(counted(43, base64), 995, 1000);
    assert_in_range(counted(24, "0123456789"), 950, 1000);
    assert_int_equal(counted(12, hex), 0);
    assert_int_equal(counted(9, base64), 0);
    assert_int_equal(counted(19, "0123456789"), 0);
    const char uuid[] = "6f1c2b9e-83d4-4a07-9c5e-d2b18f60a37e";
    assert_in_range(audit_token_bits(uuid, strlen(uuid)), 100, 128);
}

static void test_words_do_not(void **state)
{
    (void)state;
    static const char *const words[] = {
        "",
        "internationalisation",
        "SUPERCALIFRAGILISTICEXPIALIDOCIOUS",
        "getTheRequestIdOfTheFirstInvocation",
        "AbstractSingletonProxyFactoryBean",
        "this_is_a_very_long_snake_case_name_for_a_variable",
        "well-known-kebab-case-name-of-something",
        "usr/lib/python3/dist-packages/urllib3/connectionpool",
        "application/vnd.openxmlformats-officedocument",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "x86_64-linux-gnu/libpthread",
        "2026-11-21",
        "1767225600000000",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "00000000-0000-0000-0000-000000000000",
        "0123456789abcdef",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "--------------------------------------------",
        "0101010101010101010101010101",
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (audit_token_bits(words[i], strlen(words[i])) >= AUDIT_TOKEN_BITS)
            fail_msg("'%s' counts as random", words[i]);
}

static void test_planted_twin(void **state)
{
    (void)state;
    char text[256];
    char id[33];
    for (uint32_t clone = 0; clone < 100; clone++) {
        draw_text(id, 32, hex);
        (void)snprintf(text, sizeof text, "{\"id\":\"%s\",\"twin\":\"%s\"}", id,
                       clone == 17 || clone == 80 ? "9d2f6c01b4e87a35" : "no");
        add(clone, AUDIT_ANSWER, text);
    }
    assert_int_equal(tokens.finding_count, 1);
    const struct audit_finding *finding = &tokens.findings[0];
    assert_string_equal(finding->shown, "9d2f6c01b4e87a35");
    assert_int_equal(finding->clones, 2);
    assert_int_equal(finding->first.clone, 17);
    assert_int_equal(finding->second.clone, 80);
    assert_int_equal(finding->second.at, strlen("{\"id\":\"\",\"twin\":\"") + 32);
}

static void test_answer_of_one_in_the_output_of_another(void **state)
{
    (void)state;
    add(0, AUDIT_ANSWER, "{\"session\":\"6f1c2b9e-83d4-4a07-9c5e-d2b18f60a37e\"}");
    add(1, AUDIT_OUTPUT, "starting\nready\nsession=6f1c2b9e-83d4-4a07-9c5e-d2b18f60a37e\n");
    add(2, AUDIT_OUTPUT, "session=6f1c2b9e-83d4-4a07-9c5e-d2b18f60a37e\n");
    assert_int_equal(tokens.finding_count, 1);
    assert_int_equal(tokens.findings[0].clones, 3);
    assert_int_equal(tokens.findings[0].second.place, AUDIT_OUTPUT);
    assert_int_equal(tokens.findings[0].second.at, 3);
}

static void test_one_clone_may_repeat_itself(void **state)
{
    (void)state;
    add(0, AUDIT_ANSWER, "9d2f6c01b4e87a35c1 9d2f6c01b4e87a35c1");
    add(0, AUDIT_OUTPUT, "9d2f6c01b4e87a35c1");
    assert_int_equal(tokens.finding_count, 0);
}

static void test_echo_of_the_event(void **state)
{
    (void)state;
    static const char event[] = "{\"order\":\"9d2f6c01b4e87a35c1\"}";
    audit_tokens_init(&tokens, event, sizeof event - 1);
    add(0, AUDIT_ANSWER, "order 9d2f6c01b4e87a35c1 done");
    add(1, AUDIT_ANSWER, "order 9d2f6c01b4e87a35c1 done");
    assert_int_equal(tokens.finding_count, 0);
}

static void test_pairs_with_colons(void **state)
{
    (void)state;
    add(0, AUDIT_ANSWER, "SHA256 9d:2f:6c:01:b4:e8:7a:35:c1:44 at 12:34:56");
    add(1, AUDIT_ANSWER, "9d:2f:6c:01:b4:e8:7a:35:c1:44");
    assert_int_equal(tokens.finding_count, 1);
}

static void test_thousand_random_clones(void **state)
{
    (void)state;
    char text[512];
    char id[33], key[44];
    uint8_t bytes[256];
    for (uint32_t clone = 0; clone < 1000; clone++) {
        draw_text(id, 32, hex);
        draw_text(key, 43, base64);
        (void)snprintf(
            text, sizeof text,
            "{\"statusCode\":200,\"headers\":{\"Content-Type\":\"application/json\"},\"id\":\"%s\","
            "\"key\":\"%s\",\"message\":\"thisIsTheSameMessageForEveryCloneOfThisFunction\"}",
            id, key);
        add(clone, AUDIT_ANSWER, text);
        add(clone, AUDIT_OUTPUT, "the_same_line_of_output_for_every_clone version=1.22.333\n");
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = draw();
        static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                      0,    0,   0,   13,  'I',  'H',  'D',  'R'};
        memcpy(bytes + 64, png, sizeof png);
        assert_int_equal(audit_tokens_add(&tokens, clone, AUDIT_ANSWER, bytes, sizeof bytes), 0);
    }
    if (tokens.finding_count > 0)
        fail_msg("%s", tokens.findings[0].shown);
}

static void test_bytes_at_any_offset(void **state)
{
    (void)state;
    uint8_t first[200], second[200], shared[24];
    for (size_t i = 0; i < sizeof first; i++) {
        first[i] = draw();
        second[i] = draw();
    }
    for (size_t i = 0; i < sizeof shared; i++)
        shared[i] = (uint8_t)(0x80 + i * i * 7 % 121);
    memcpy(first + 51, shared, sizeof shared);
    memcpy(second + 110, shared, sizeof shared);
    assert_int_equal(audit_tokens_add(&tokens, 3, AUDIT_ANSWER, first, sizeof first), 0);
    assert_int_equal(audit_tokens_add(&tokens, 4, AUDIT_ANSWER, second, sizeof second), 0);
    assert_int_equal(tokens.finding_count, 1);
    assert_true(tokens.findings[0].is_binary);
    assert_int_equal(tokens.findings[0].first.at, 51);
    assert_int_equal(tokens.findings[0].second.at, 110);
    assert_int_equal(tokens.findings[0].bytes, sizeof shared);
}

static void test_long_answers_are_cut(void **state)
{
    (void)state;
    static char text[AUDIT_TEXT_MAX + 100];
    memset(text, ' ', sizeof text);
    static const char late[] = "9d2f6c01b4e87a35c1";
    memcpy(text + AUDIT_TEXT_MAX + 10, late, sizeof late);
    assert_int_equal(audit_tokens_add(&tokens, 0, AUDIT_ANSWER, text, sizeof text), 0);
    assert_int_equal(audit_tokens_add(&tokens, 1, AUDIT_ANSWER, text, sizeof text), 0);
    assert_int_equal(tokens.cut_texts, 2);
    assert_int_equal(tokens.finding_count, 0);
    assert_int_equal(audit_tokens_add(&tokens, 2, AUDIT_ANSWER, NULL, 0), 0);
}

static void test_many_findings_are_counted(void **state)
{
    (void)state;
    char text[33];
    for (int i = 0; i < AUDIT_FINDINGS_MAX + 10; i++) {
        draw_text(text, 32, hex);
        add(0, AUDIT_OUTPUT, text);
        add(1, AUDIT_OUTPUT, text);
    }
    assert_int_equal(tokens.finding_count, AUDIT_FINDINGS_MAX + 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_random_tokens_count),
        TEST(test_words_do_not),
        TEST(test_planted_twin),
        TEST(test_answer_of_one_in_the_output_of_another),
        TEST(test_one_clone_may_repeat_itself),
        TEST(test_echo_of_the_event),
        TEST(test_pairs_with_colons),
        TEST(test_thousand_random_clones),
        TEST(test_bytes_at_any_offset),
        TEST(test_long_answers_are_cut),
        TEST(test_many_findings_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
