/* Messages of DNS: the bytes of a query, and what answers of every kind come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/dns.h"
#include "tests/unit/tls/dns_answers.h"

static struct dns_address addresses[DNS_ADDRESSES_MAX];
static unsigned count;

static int take_as(const struct answer *answer, const char *name, uint16_t type, unsigned capacity)
{
    uint8_t *exact = malloc(answer->size > 0 ? answer->size : 1); /* a read past the end is seen */
    assert_non_null(exact);
    memcpy(exact, answer->data, answer->size);
    const int error = dns_message_take(exact, answer->size, name, type, 0x1234, addresses, capacity, &count);
    free(exact);
    return error;
}

static int take(const struct answer *answer)
{
    return take_as(answer, "a.example.com", DNS_TYPE_A, DNS_ADDRESSES_MAX);
}

static void assert_address(unsigned i, const char *text)
{
    struct dns_address wanted = {0};
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&wanted.at, &in, sizeof in);
        wanted.size = sizeof in;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
        memcpy(&wanted.at, &in6, sizeof in6);
        wanted.size = sizeof in6;
    }
    assert_true(i < count);
    assert_memory_equal(&addresses[i], &wanted, sizeof wanted);
}

static void a_query(void **state)
{
    (void)state;
    static const uint8_t wanted[] = {
        0x12, 0x34, 0x01, 0x00, 0,    1,   0,   0,   0,   0,   0, 1,                /* header */
        1,    'a',  7,    'e',  'x',  'a', 'm', 'p', 'l', 'e', 3, 'c', 'o', 'm', 0, /* name */
        0,    1,    0,    1,                                                        /* A, IN */
        0,    0,    41,   0x04, 0xd0, 0,   0,   0,   0,   0,   0,                   /* OPT, 1232 */
    };
    uint8_t query[DNS_QUERY_MAX];
    assert_int_equal(dns_message_query(query, "A.example.com", DNS_TYPE_A, 0x1234), sizeof wanted);
    assert_memory_equal(query, wanted, sizeof wanted);
    assert_int_equal(dns_message_query(query, "a.example.com.", DNS_TYPE_A, 0x1234), sizeof wanted);
    assert_memory_equal(query, wanted, sizeof wanted);
}

static void names_that_are_none(void **state)
{
    (void)state;
    uint8_t query[DNS_QUERY_MAX];
    char name[300];
    memset(name, 'x', sizeof name);
    for (int dot = 63; dot < 299; dot += 64)
        name[dot] = '.';
    name[253] = '\0'; /* 63 + 63 + 63 + 61 and dots */
    assert_true(dns_message_query(query, name, DNS_TYPE_AAAA, 1) > 255);
    name[253] = 'x';
    name[254] = '\0';
    assert_int_equal(dns_message_query(query, name, DNS_TYPE_A, 1), -EINVAL);
    memset(name, 'x', 64);
    name[64] = '\0';
    assert_int_equal(dns_message_query(query, name, DNS_TYPE_A, 1), -EINVAL);
    static const char *const bad[] = {"", ".", "a..b", ".a"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(dns_message_query(query, bad[i], DNS_TYPE_A, 1), -EINVAL);
}

static void addresses_of_an_answer(void **state)
{
    (void)state;
    struct answer answer;
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "A.Example.COM", DNS_TYPE_A);
    answer_address(&answer, NULL, "192.0.2.1");
    answer_address(&answer, "a.EXAMPLE.com", "192.0.2.2");
    answer_address(&answer, "other.example.com", "192.0.2.3");
    answer_address(&answer, NULL, "2001:db8::1"); /* not asked for */
    assert_int_equal(take(&answer), 0);
    assert_int_equal(count, 2);
    assert_address(0, "192.0.2.1");
    assert_address(1, "192.0.2.2");
    assert_int_equal(take_as(&answer, "a.example.com", DNS_TYPE_A, 1), 0);
    assert_int_equal(count, 1);

    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_AAAA);
    answer_address(&answer, NULL, "2001:db8::1");
    assert_int_equal(take_as(&answer, "a.example.com", DNS_TYPE_AAAA, 8), 0);
    assert_int_equal(count, 1);
    assert_address(0, "2001:db8::1");

    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    assert_int_equal(take(&answer), 0);
    assert_int_equal(count, 0);
}

static void other_names_are_followed_in_any_order(void **state)
{
    (void)state;
    struct answer answer;
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    answer_address(&answer, "c.example.net", "192.0.2.3");
    answer_cname(&answer, "b.example.com", "c.example.net");
    answer_cname(&answer, NULL, "B.example.com");
    assert_int_equal(take(&answer), 0);
    assert_int_equal(count, 1);
    assert_address(0, "192.0.2.3");

    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    answer_cname(&answer, NULL, "b.example.com"); /* and no more: the server has no address of it */
    assert_int_equal(take(&answer), 0);
    assert_int_equal(count, 0);
}

static void chains_end(void **state)
{
    (void)state;
    struct answer answer;
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    answer_cname(&answer, NULL, "b.example.com");
    answer_cname(&answer, "b.example.com", "a.example.com");
    assert_int_equal(take(&answer), -EBADMSG);
}

static void outcomes(void **state)
{
    (void)state;
    static const struct {
        uint16_t flags;
        int error;
    } cases[] = {
        {ANSWER_FLAGS | 3, -ENOENT},
        {ANSWER_FLAGS | 2, -EREMOTEIO},
        {ANSWER_FLAGS | 5, -EREMOTEIO},
        {ANSWER_FLAGS | 0x0200, -EMSGSIZE},
        {0x0100, -EAGAIN},
        /* a query */ {ANSWER_FLAGS | 0x2800, -EAGAIN},
    };
    struct answer answer;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        answer_begin(&answer, 0x1234, cases[i].flags, "a.example.com", DNS_TYPE_A);
        assert_int_equal(take(&answer), cases[i].error);
    }
}

static void answers_to_others_are_none(void **state)
{
    (void)state;
    struct answer answer;
    answer_begin(&answer, 0x1235, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    answer_address(&answer, NULL, "192.0.2.66");
    assert_int_equal(take(&answer), -EAGAIN);
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "b.example.com", DNS_TYPE_A);
    assert_int_equal(take(&answer), -EAGAIN);
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_AAAA);
    assert_int_equal(take(&answer), -EAGAIN);
    answer.data[5] = 2; /* questions */
    assert_int_equal(take_as(&answer, "a.example.com", DNS_TYPE_AAAA, 8), -EAGAIN);
}

static void cut_short_anywhere(void **state)
{
    (void)state;
    struct answer answer;
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    const size_t question_end = answer.size;
    answer_cname(&answer, NULL, "b.example.com");
    answer_address(&answer, "b.example.com", "192.0.2.1");
    for (const size_t size = answer.size; answer.size-- > 0;) {
        const int error = take(&answer);
        assert_int_equal(error, answer.size < question_end ? -EAGAIN : -EBADMSG);
        assert_int_equal(count, 0);
        (void)size;
    }
}

static void pointers_lead_backwards_only(void **state)
{
    (void)state;
    struct answer answer;
    static const uint8_t address[] = {192, 0, 2, 1};
    for (unsigned target = 0; target < 0x4000; target += target < 64 ? 1 : 997) {
        answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
        const size_t at = answer.size;
        answer_record(&answer, NULL, DNS_TYPE_A, address, sizeof address);
        answer.data[at] = (uint8_t)(0xc0 | target >> 8);
        answer.data[at + 1] = (uint8_t)target;
        const int error = take(&answer);
        if (target == 12)
            assert_int_equal(count, 1);
        else if (target >= at)
            assert_int_equal(error, -EBADMSG); /* itself, or what comes after */
        else
            assert_true((error == 0 || error == -EBADMSG) && count == 0);
    }
    /* A long row of pointers, each to the one before it. */
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    uint8_t row[200];
    const size_t start = answer.size + 2 + 10;
    for (size_t i = 0; i < sizeof row; i += 2) {
        const size_t to = i == 0 ? 12 : start + i - 2;
        row[i] = (uint8_t)(0xc0 | to >> 8);
        row[i + 1] = (uint8_t)to;
    }
    answer_record(&answer, NULL, 99, row, sizeof row);
    const size_t owner = answer.size;
    answer_record(&answer, NULL, DNS_TYPE_A, address, sizeof address);
    const size_t last = start + sizeof row - 2;
    answer.data[owner] = (uint8_t)(0xc0 | last >> 8);
    answer.data[owner + 1] = (uint8_t)last;
    assert_int_equal(take(&answer), -EBADMSG);
    answer.data[owner] = (uint8_t)(0xc0 | (start + 20) >> 8);
    answer.data[owner + 1] = (uint8_t)(start + 20);
    assert_int_equal(take(&answer), 0);
    assert_int_equal(count, 1);
}

static void data_of_a_wrong_size(void **state)
{
    (void)state;
    struct answer answer;
    static const uint8_t data[17] = {0};
    static const size_t sizes[] = {0, 3, 5, 16};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
        answer_record(&answer, NULL, DNS_TYPE_A, data, sizes[i]);
        assert_int_equal(take(&answer), -EBADMSG);
    }
    answer_begin(&answer, 0x1234, ANSWER_FLAGS, "a.example.com", DNS_TYPE_A);
    answer_record(&answer, NULL, ANSWER_CNAME, "\1b\0x", 4); /* a byte after the name */
    assert_int_equal(take(&answer), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(addresses_of_an_answer),
        cmocka_unit_test(other_names_are_followed_in_any_order),
        cmocka_unit_test(chains_end),
        cmocka_unit_test(outcomes),
        cmocka_unit_test(answers_to_others_are_none),
        cmocka_unit_test(cut_short_anywhere),
        cmocka_unit_test(pointers_lead_backwards_only),
        cmocka_unit_test(data_of_a_wrong_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
