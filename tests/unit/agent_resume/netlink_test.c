/* The sockets step's messages: what is asked for, what is taken from the answers, what is refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/resume/parts.h"

enum { ESTABLISHED = 1, LISTEN = 10 };

static struct resume_socket_list list;
static uint8_t answer[4096];
static size_t answer_size;

static int begin(void **state)
{
    (void)state;
    memset(&list, 0, sizeof list);
    answer_size = 0;
    return 0;
}

static void add(uint16_t type, uint32_t sequence, const void *body, size_t size)
{
    const struct nlmsghdr header = {
        .nlmsg_len = (uint32_t)(sizeof header + size), .nlmsg_type = type, .nlmsg_seq = sequence};
    memcpy(answer + answer_size, &header, sizeof header);
    if (size > 0)
        memcpy(answer + answer_size + sizeof header, body, size);
    answer_size += sizeof header + NLMSG_ALIGN(size);
}

static void add_socket(const char *source, const char *destination, uint8_t tcp_state)
{
    struct inet_diag_msg message = {.idiag_state = tcp_state};
    message.idiag_family = strchr(source, ':') ? AF_INET6 : AF_INET;
    inet_pton(message.idiag_family, source, message.id.idiag_src);
    inet_pton(message.idiag_family, destination, message.id.idiag_dst);
    message.id.idiag_cookie[0] = 77;
    add(TCPDIAG_GETSOCK, 5, &message, sizeof message);
}

static void add_error(uint32_t sequence, int32_t error)
{
    const struct nlmsgerr body = {.error = error};
    add(NLMSG_ERROR, sequence, &body, sizeof body);
}

static int take(void)
{
    return resume_netlink_take_dump(&list, answer, answer_size, 5);
}

/* ---- requests ---- */

static void a_dump_asks_for_connections_of_both_families(void **state)
{
    (void)state;
    uint8_t out[RESUME_DUMP_BYTES];
    struct nlmsghdr header;
    struct inet_diag_req request;
    assert_int_equal(resume_netlink_dump(out, 9), sizeof header + sizeof request);
    memcpy(&header, out, sizeof header);
    memcpy(&request, out + sizeof header, sizeof request);
    assert_int_equal(header.nlmsg_len, RESUME_DUMP_BYTES);
    assert_int_equal(header.nlmsg_type, TCPDIAG_GETSOCK);
    assert_int_equal(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
    assert_int_equal(header.nlmsg_seq, 9);
    assert_true(request.idiag_states & 1u << ESTABLISHED);
    assert_false(request.idiag_states & 1u << LISTEN);
}

static void a_batch_is_numbered_and_only_its_last_is_acknowledged(void **state)
{
    (void)state;
    static uint8_t out[3 * RESUME_DESTROY_BYTES];
    struct resume_socket sockets[3] = {
        {.family = AF_INET, .id = {1}}, {.family = AF_INET6, .id = {2}}, {.family = AF_INET, .id = {3}}};
    assert_int_equal(resume_netlink_destroy(out, sockets, 3, 40), sizeof out);
    for (uint8_t i = 0; i < 3; i++) {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
        memcpy(&header, out + i * RESUME_DESTROY_BYTES, sizeof header);
        memcpy(&request, out + i * RESUME_DESTROY_BYTES + sizeof header, sizeof request);
        assert_int_equal(header.nlmsg_len, RESUME_DESTROY_BYTES);
        assert_int_equal(header.nlmsg_type, SOCK_DESTROY);
        assert_int_equal(header.nlmsg_seq, 40 + i);
        assert_int_equal(header.nlmsg_flags, i == 2 ? NLM_F_REQUEST | NLM_F_ACK : NLM_F_REQUEST);
        assert_int_equal(request.sdiag_family, sockets[i].family);
        assert_memory_equal(&request.id, sockets[i].id, sizeof request.id);
    }
}

/* ---- a dump's answer ---- */

static void what_leads_out_is_taken_and_what_stays_inside_is_not(void **state)
{
    (void)state;
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    add_socket("127.0.0.1", "127.9.9.9", ESTABLISHED);
    add_socket("10.1.0.1", "127.0.0.1", ESTABLISHED); /* one end is enough */
    add_socket("127.0.0.1", "10.1.0.1", ESTABLISHED);
    add_socket("10.1.0.1", "0.0.0.0", LISTEN);
    add_socket("::1", "::1", ESTABLISHED);
    add_socket("::1", "fe80::2", ESTABLISHED);
    add_socket("::ffff:127.0.0.1", "::ffff:127.0.0.1", ESTABLISHED);
    add_socket("::ffff:10.0.0.1", "::ffff:127.0.0.1", ESTABLISHED);
    assert_int_equal(take(), 1);
    assert_int_equal(list.count, 5);
    assert_int_equal(list.at[0].family, AF_INET);
    assert_int_equal(list.at[3].family, AF_INET6);
    struct inet_diag_sockid id;
    memcpy(&id, list.at[0].id, sizeof id);
    assert_int_equal(id.idiag_cookie[0], 77);
}

static void the_end_of_a_dump_is_its_done_message(void **state)
{
    (void)state;
    const int32_t none = 0, refused = -EPERM;
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    assert_int_equal(take(), 1);
    add(NLMSG_DONE, 5, &none, sizeof none);
    assert_int_equal(take(), 0);
    answer_size = 0;
    add(NLMSG_DONE, 5, &refused, sizeof refused);
    assert_int_equal(take(), -EPERM);
    answer_size = 0;
    add_error(5, -ENOENT);
    assert_int_equal(take(), -ENOENT);
}

static void another_dumps_messages_are_passed_over(void **state)
{
    (void)state;
    add(NLMSG_DONE, 4, NULL, 0);
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    assert_int_equal(take(), 1);
    assert_int_equal(list.count, 1);
}

static void a_table_that_changed_is_to_be_dumped_again(void **state)
{
    (void)state;
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    struct nlmsghdr header;
    memcpy(&header, answer, sizeof header);
    header.nlmsg_flags |= NLM_F_DUMP_INTR;
    memcpy(answer, &header, sizeof header);
    assert_int_equal(take(), -EINTR);
}

static void more_than_fits_is_noted(void **state)
{
    (void)state;
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    list.count = RESUME_SOCKETS_PASS - 1;
    assert_int_equal(take(), 1);
    assert_false(list.more);
    assert_int_equal(take(), 1);
    assert_true(list.more);
    assert_int_equal(list.count, RESUME_SOCKETS_PASS);
}

static void every_cut_of_an_answer_is_refused(void **state)
{
    (void)state;
    add_socket("10.1.0.1", "10.9.0.1", ESTABLISHED);
    for (size_t size = 1; size < answer_size; size++)
        assert_int_equal(resume_netlink_take_dump(&list, answer, size, 5), -EBADMSG);
    struct nlmsghdr header;
    memcpy(&header, answer, sizeof header);
    const uint32_t lengths[] = {0, 15, 16, 87, (uint32_t)answer_size + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        header.nlmsg_len = lengths[i];
        memcpy(answer, &header, sizeof header);
        assert_int_equal(take(), -EBADMSG);
    }
    assert_int_equal(list.count, 0);
}

static void unknown_messages_and_families_are_refused(void **state)
{
    (void)state;
    const struct inet_diag_msg message = {.idiag_family = 200, .idiag_state = ESTABLISHED};
    const int32_t positive = 7;
    add(TCPDIAG_GETSOCK, 5, &message, sizeof message);
    assert_int_equal(take(), -EBADMSG);
    answer_size = 0;
    add(99, 5, &message, sizeof message);
    assert_int_equal(take(), -EBADMSG);
    answer_size = 0;
    add(NLMSG_DONE, 5, &positive, sizeof positive);
    assert_int_equal(take(), -EBADMSG);
}

/* ---- the answer to a batch ---- */

static int destroyed(unsigned count)
{
    return resume_netlink_take_destroyed(answer, answer_size, 40, count);
}

static void a_batch_is_done_with_the_answer_to_its_last(void **state)
{
    (void)state;
    add_error(40, -ENOENT); /* went with its other end */
    assert_int_equal(destroyed(3), 1);
    add_error(42, 0);
    assert_int_equal(destroyed(3), 0);
    answer_size = 0;
    add_error(42, -ENOENT);
    assert_int_equal(destroyed(3), 0);
}

static void a_socket_that_cannot_be_destroyed_fails_the_batch(void **state)
{
    (void)state;
    add_error(39, -EPERM); /* of the batch before: too late to matter */
    add_error(41, -EOPNOTSUPP);
    add_error(42, 0);
    assert_int_equal(destroyed(3), -EOPNOTSUPP);
}

static void a_batchs_answer_is_checked(void **state)
{
    (void)state;
    const uint8_t few[2] = {0};
    add(TCPDIAG_GETSOCK, 42, few, sizeof few);
    assert_int_equal(destroyed(3), -EBADMSG);
    answer_size = 0;
    add(NLMSG_ERROR, 42, few, sizeof few);
    assert_int_equal(destroyed(3), -EBADMSG);
    answer_size = 0;
    add_error(42, 0);
    for (size_t size = 1; size < answer_size; size++)
        assert_int_equal(resume_netlink_take_destroyed(answer, size, 40, 3), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_dump_asks_for_connections_of_both_families, begin),
        cmocka_unit_test_setup(a_batch_is_numbered_and_only_its_last_is_acknowledged, begin),
        cmocka_unit_test_setup(what_leads_out_is_taken_and_what_stays_inside_is_not, begin),
        cmocka_unit_test_setup(the_end_of_a_dump_is_its_done_message, begin),
        cmocka_unit_test_setup(another_dumps_messages_are_passed_over, begin),
        cmocka_unit_test_setup(a_table_that_changed_is_to_be_dumped_again, begin),
        cmocka_unit_test_setup(more_than_fits_is_noted, begin),
        cmocka_unit_test_setup(every_cut_of_an_answer_is_refused, begin),
        cmocka_unit_test_setup(unknown_messages_and_families_are_refused, begin),
        cmocka_unit_test_setup(a_batch_is_done_with_the_answer_to_its_last, begin),
        cmocka_unit_test_setup(a_socket_that_cannot_be_destroyed_fails_the_batch, begin),
        cmocka_unit_test_setup(a_batchs_answer_is_checked, begin),
    };
    return cmocka_run_group_tests_name("resume netlink", tests, NULL, NULL);
}
