/* Lookups: what servers of every kind make of one (dns_stage.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/dns_stage.h"

static void both_families_in_turns(void **state)
{
    (void)state;
    servers[0].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 3);
    assert_string_equal(address(0), "2001:db8::1");
    assert_string_equal(address(1), "192.0.2.1");
    assert_string_equal(address(2), "192.0.2.2");
    assert_int_equal(servers[0].asked, 2);
    assert_int_equal(servers[1].asked, 0);
}

static void another_name_is_followed(void **state)
{
    (void)state;
    servers[0].serve = serve_chain;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 1);
    assert_string_equal(address(0), "192.0.2.3");
}

static void no_such_name(void **state)
{
    (void)state;
    servers[0].serve = serve_no_name;
    assert_int_equal(look_up("a.example.com", PATIENCE), -ENOENT);
    assert_string_equal(lookup.why, "DNS knows no name a.example.com (asked 127.0.0.1)");
    assert_int_equal(servers[0].asked, 2);
}

static void no_such_name_of_one_family_is_not_believed(void **state)
{
    (void)state;
    servers[0].serve = serve_no_name_of_six;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 2);
}

static void no_address(void **state)
{
    (void)state;
    servers[0].serve = serve_no_address;
    assert_int_equal(look_up("a.example.com", PATIENCE), -ENOENT);
    assert_string_equal(lookup.why, "DNS knows no address of a.example.com (asked 127.0.0.1)");
}

static void a_server_that_fails_is_followed_by_the_next(void **state)
{
    (void)state;
    know_servers(2);
    servers[0].serve = serve_failure;
    servers[1].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 3);
    assert_int_equal(servers[0].asked, 2);
    assert_int_equal(servers[1].asked, 2);
}

static void servers_that_all_fail_end_it(void **state)
{
    (void)state;
    know_servers(2);
    servers[0].serve = serve_failure;
    servers[1].serve = serve_garbage;
    assert_int_equal(look_up("a.example.com", PATIENCE), -EBADMSG);
    assert_string_equal(lookup.why,
                        "DNS could not be asked for a.example.com (127.0.0.1, 127.0.0.2): its answer "
                        "is no DNS message");
    assert_int_equal(servers[0].asked, 4); /* each twice for each question */
    assert_int_equal(servers[1].asked, 4);
}

static void a_server_that_is_not_there(void **state)
{
    (void)state;
    loop_remove(&loop, &servers[0].udp_source);
    fd_close(&servers[0].udp);
    assert_int_equal(look_up("a.example.com", PATIENCE), -ECONNREFUSED);
    assert_string_equal(lookup.why,
                        "DNS could not be asked for a.example.com (127.0.0.1): Connection refused");
    is_done = false;
    know_servers(2);
    servers[1].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
}

static void garbage_is_followed_by_the_next(void **state)
{
    (void)state;
    know_servers(2);
    servers[0].serve = serve_garbage;
    servers[1].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 3);
}

static void a_cut_off_answer_is_fetched_over_tcp(void **state)
{
    (void)state;
    servers[0].serve = serve_cut_off;
    servers[0].serve_tcp = serve_many;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, DNS_ADDRESSES_MAX);
    assert_string_equal(address(0), "2001:db8::");
    assert_string_equal(address(7), "192.0.2.3");
    assert_int_equal(servers[0].asked_tcp, 2);
}

static void tcp_that_fails_is_followed_by_the_next(void **state)
{
    (void)state;
    static serve *const bad[] = {serve_nothing, serve_cut_off, serve_garbage, serve_too_many};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        know_servers(2);
        is_done = false;
        servers[0].serve = serve_cut_off;
        servers[0].serve_tcp = bad[i];
        servers[1].serve = serve_both;
        assert_int_equal(look_up("a.example.com", PATIENCE), 0);
        assert_int_equal(lookup.count, 3);
    }
}

static void answers_to_others_are_passed_over(void **state)
{
    (void)state;
    know_servers(2);
    dns_settings.try_ms = 100;
    servers[0].serve = serve_after_others;
    servers[1].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 3);
    for (unsigned i = 0; i < lookup.count; i++) {
        assert_string_not_equal(address(i), "203.0.113.66");
        assert_string_not_equal(address(i), "2001:db8::66");
    }
}

static void answers_from_elsewhere_do_not_arrive(void **state)
{
    (void)state;
    dns_settings.try_ms = 100;
    servers[0].serve = serve_nothing;
    assert_int_equal(begin("a.example.com", PATIENCE), 0);
    while (servers[0].asked < 2)
        assert_true(loop_run_once(&loop, 30000) > 0);
    /* The right id and question, but from another server than was asked. */
    struct answer answer;
    for (unsigned i = 0; i < 2; i++) {
        serve_both(&answer, "a.example.com", servers[0].ids[i], i == 0 ? DNS_TYPE_A : DNS_TYPE_AAAA);
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = servers[0].ports[i]};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(
            sendto(servers[1].udp, answer.data, answer.size, 0, (struct sockaddr *)&to, sizeof to),
            answer.size);
    }
    while (servers[0].asked < 4) /* asked again: those were not taken */
        assert_true(loop_run_once(&loop, 30000) > 0);
    assert_false(is_done);
}

static void silent_servers_are_asked_in_turn(void **state)
{
    (void)state;
    know_servers(3);
    dns_settings.try_ms = 5;
    assert_int_equal(begin("a.example.com", PATIENCE), 0);
    while (servers[0].asked < 4 || servers[1].asked < 4 || servers[2].asked < 4)
        assert_true(loop_run_once(&loop, 30000) > 0);
    assert_false(is_done);
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    know_servers(3);
    const uint64_t begun = clock_monotonic_ns();
    assert_int_equal(look_up("a.example.com", 50 * MS), -ETIMEDOUT);
    assert_true(clock_monotonic_ns() - begun >= 50 * MS);
    assert_string_equal(lookup.why,
                        "DNS gave no answer for a.example.com in time (asked 127.0.0.1, 127.0.0.2, "
                        "127.0.0.3)");
}

static void ids_and_ports_are_fresh(void **state)
{
    (void)state;
    dns_settings.try_ms = 1;
    assert_int_equal(begin("a.example.com", PATIENCE), 0);
    while (servers[0].asked < 20)
        assert_true(loop_run_once(&loop, 30000) > 0);
    unsigned same_ids = 0, same_ports = 0;
    for (unsigned i = 0; i < 20; i++)
        for (unsigned j = 0; j < i; j++) {
            same_ids += servers[0].ids[i] == servers[0].ids[j];
            same_ports += servers[0].ports[i] == servers[0].ports[j];
        }
    assert_true(same_ids <= 2); /* 190 pairs of 65536: three are one chance in 200 million */
    assert_true(same_ports <= 10);
}

static void one_family_is_enough(void **state)
{
    (void)state;
    const uint64_t begun = clock_monotonic_ns();
    dns_settings.other_ms = 30;
    servers[0].serve = serve_four;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_true(clock_monotonic_ns() - begun < PATIENCE / 2); /* not until the deadline */
    assert_int_equal(lookup.count, 2);
    assert_string_equal(address(0), "192.0.2.1");
}

static bool serve_no_name_of_four(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    return type == DNS_TYPE_A && serve_no_name(answer, name, id, type);
}

static void no_name_of_four_is_soon_believed(void **state)
{
    (void)state;
    const uint64_t begun = clock_monotonic_ns();
    dns_settings.other_ms = 30;
    servers[0].serve = serve_no_name_of_four;
    assert_int_equal(look_up("a.example.com", PATIENCE), -ENOENT);
    assert_true(clock_monotonic_ns() - begun < PATIENCE / 2);
}

/* AAAA: no such name, at once; A: silence, and an answer when asked again. */
static bool serve_four_late(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    if (type == DNS_TYPE_AAAA)
        return serve_no_name(answer, name, id, type);
    return servers[0].asked > 2 && serve_both(answer, name, id, type);
}

static void no_name_of_six_does_not_hurry(void **state)
{
    (void)state;
    dns_settings.other_ms = 10;
    dns_settings.try_ms = 100;
    servers[0].serve = serve_four_late;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(lookup.count, 2);
}

static void addresses_need_no_server(void **state)
{
    (void)state;
    fake_network.count = 0;
    assert_int_equal(look_up("192.0.2.9", PATIENCE), 1);
    assert_string_equal(address(0), "192.0.2.9");
    assert_int_equal(look_up("2001:db8::9", PATIENCE), 1);
    assert_string_equal(address(0), "2001:db8::9");
}

static void file_with(char path[32], const char *text)
{
    (void)snprintf(path, 32, "/tmp/dns_test.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

static void names_of_the_hosts_file(void **state)
{
    (void)state;
    char path[32];
    file_with(path, "# a.example.com\n192.0.2.1 other # a.example.com\n\nnonsense a.example.com\n"
                    "  192.0.2.7\tx A.example.com y\r\n2001:db8::7 a.example.com");
    dns_settings.hosts_path = path;
    assert_int_equal(look_up("a.example.com", PATIENCE), 1);
    assert_int_equal(lookup.count, 2);
    assert_string_equal(address(0), "192.0.2.7");
    assert_string_equal(address(1), "2001:db8::7");
    servers[0].serve = serve_no_address;
    assert_int_equal(look_up("nonsense", PATIENCE), -ENOENT); /* an address is no name */
    unlink(path);
}

static void servers_of_the_file(void **state)
{
    (void)state;
    char path[32];
    file_with(path, "; nameserver 127.0.0.3\nsearch example.com\noptions edns0\nnameserver\nnameserver x\n"
                    "nameserver 127.0.0.2 # the second\n");
    dns_settings.resolv_path = path;
    fake_network.count = 0;
    servers[1].serve = serve_both;
    assert_int_equal(look_up("a.example.com", PATIENCE), 0);
    assert_int_equal(servers[1].asked, 2);
    assert_int_equal(servers[0].asked + servers[2].asked, 0);
    unlink(path);
}

static void no_server_is_said(void **state)
{
    (void)state;
    fake_network.count = 0;
    assert_int_equal(look_up("a.example.com", PATIENCE), -ENETUNREACH);
    assert_string_equal(
        lookup.why,
        "a.example.com cannot be looked up: the host gave no DNS server, and /dev/null names none");
    assert_int_equal(look_up("a..b", PATIENCE), -EINVAL);
    assert_string_equal(lookup.why, "a..b is no name that DNS could know");
}

static void long_names_and_many_servers_fit_the_text(void **state)
{
    (void)state;
    char name[254];
    memset(name, 'a', sizeof name);
    for (int dot = 63; dot < 253; dot += 64)
        name[dot] = '.';
    name[253] = '\0';
    know_servers(3);
    for (unsigned i = 0; i < 3; i++)
        servers[i].serve = serve_failure;
    assert_int_equal(look_up(name, PATIENCE), -EREMOTEIO);
    assert_non_null(strstr(lookup.why, "(127.0.0.1, 127.0.0.2, 127.0.0.3): it failed or refused"));
}

static void a_lookup_is_dropped_at_any_time(void **state)
{
    (void)state;
    servers[0].serve = serve_cut_off;
    servers[0].serve_tcp = serve_both;
    for (int steps = 0; steps < 8; steps++) {
        is_done = false;
        assert_int_equal(begin("a.example.com", PATIENCE), 0);
        for (int i = 0; i < steps && !is_done; i++)
            assert_true(loop_run_once(&loop, 30000) > 0);
        dns_cancel(&lookup);
        while (loop_run_once(&loop, 0) > 0) /* what servers still answer goes nowhere */
            continue;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_families_in_turns),
        TEST(another_name_is_followed),
        TEST(no_such_name),
        TEST(no_such_name_of_one_family_is_not_believed),
        TEST(no_address),
        TEST(a_server_that_fails_is_followed_by_the_next),
        TEST(servers_that_all_fail_end_it),
        TEST(a_server_that_is_not_there),
        TEST(garbage_is_followed_by_the_next),
        TEST(a_cut_off_answer_is_fetched_over_tcp),
        TEST(tcp_that_fails_is_followed_by_the_next),
        TEST(answers_to_others_are_passed_over),
        TEST(answers_from_elsewhere_do_not_arrive),
        TEST(silent_servers_are_asked_in_turn),
        TEST(silence_ends_at_the_deadline),
        TEST(ids_and_ports_are_fresh),
        TEST(one_family_is_enough),
        TEST(no_name_of_four_is_soon_believed),
        TEST(no_name_of_six_does_not_hurry),
        TEST(addresses_need_no_server),
        TEST(names_of_the_hosts_file),
        TEST(servers_of_the_file),
        TEST(no_server_is_said),
        TEST(long_names_and_many_servers_fit_the_text),
        TEST(a_lookup_is_dropped_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
