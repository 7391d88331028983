/* rtnetlink's messages: what is asked for, attribute by attribute; what is taken from answers; what is
 * refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/net/message.h"

static const int index_of[NETWORK_INTERFACES_MAX] = {3, 7};
static struct net_plan plan;
static uint8_t batch[NET_BATCH_BYTES];
static int batch_size;

static struct network_address address(const char *text, uint8_t prefix)
{
    struct network_address parsed = {.prefix = prefix};
    parsed.family = strchr(text, ':') ? 6 : 4;
    assert_int_equal(inet_pton(parsed.family == 4 ? AF_INET : AF_INET6, text, parsed.bytes), 1);
    return parsed;
}

static void build(const struct net_op *ops, unsigned count)
{
    plan.count = count;
    memcpy(plan.at, ops, count * sizeof *ops);
    batch_size = net_message_batch(batch, sizeof batch, &plan, index_of, 100);
    assert_true(batch_size > 0);
}

/* Message `number` of the batch: its header; `body` behind it. */
static struct nlmsghdr message(unsigned number, const uint8_t **body)
{
    struct nlmsghdr head;
    size_t at = 0;
    for (unsigned i = 0;; i++) {
        assert_true(at + sizeof head <= (size_t)batch_size);
        memcpy(&head, batch + at, sizeof head);
        assert_true(head.nlmsg_len % 4 == 0 && at + head.nlmsg_len <= (size_t)batch_size);
        assert_true(head.nlmsg_len <= NET_REQUEST_BYTES);
        assert_int_equal(head.nlmsg_seq, 100 + i);
        if (i == number)
            break;
        at += head.nlmsg_len;
    }
    *body = batch + at + sizeof head;
    return head;
}

/* An attribute's bytes; NULL when there is none of this type. */
static const uint8_t *attribute(struct nlmsghdr head, const uint8_t *body, size_t fixed, uint16_t type,
                                size_t size)
{
    struct rtattr attr;
    for (size_t at = fixed; at < head.nlmsg_len - sizeof head; at += RTA_ALIGN(attr.rta_len)) {
        memcpy(&attr, body + at, sizeof attr);
        assert_true(attr.rta_len >= sizeof attr && at + attr.rta_len <= head.nlmsg_len - sizeof head);
        if (attr.rta_type == type) {
            assert_int_equal(attr.rta_len, sizeof attr + size);
            return body + at + sizeof attr;
        }
    }
    return NULL;
}

static uint32_t number_of(const uint8_t *data)
{
    uint32_t value;
    assert_non_null(data);
    memcpy(&value, data, sizeof value);
    return value;
}

/* ---- requests ---- */

static void a_link_is_quiet_before_it_is_up(void **state)
{
    (void)state;
    const struct net_op ops[] = {{.kind = NET_LINK,
                                  .interface = 1,
                                  .mac = {2, 0, 0, 0, 0, 9},
                                  .has_mac = true,
                                  .quiet = true,
                                  .mtu = 1400},
                                 {.kind = NET_UP, .interface = 1},
                                 {.kind = NET_DOWN}};
    const uint8_t *body;
    struct ifinfomsg info;
    build(ops, 3);
    struct nlmsghdr head = message(0, &body);
    assert_int_equal(head.nlmsg_type, RTM_NEWLINK);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST);
    memcpy(&info, body, sizeof info);
    assert_int_equal(info.ifi_index, 7);
    assert_int_equal(info.ifi_change, 0);
    assert_memory_equal(attribute(head, body, sizeof info, IFLA_ADDRESS, 6), ops[0].mac, 6);
    assert_int_equal(number_of(attribute(head, body, sizeof info, IFLA_MTU, 4)), 1400);
    const uint8_t *spec = attribute(head, body, sizeof info, IFLA_AF_SPEC, 12);
    static const uint8_t wanted[] = {
        12, 0, AF_INET6, 0, 5, 0, IFLA_INET6_ADDR_GEN_MODE, 0, IN6_ADDR_GEN_MODE_NONE};
    assert_memory_equal(spec, wanted, sizeof wanted);
    head = message(1, &body);
    memcpy(&info, body, sizeof info);
    assert_true(info.ifi_flags == IFF_UP && info.ifi_change == IFF_UP);
    assert_null(attribute(head, body, sizeof info, IFLA_ADDRESS, 6));
    head = message(2, &body);
    memcpy(&info, body, sizeof info);
    assert_true(info.ifi_flags == 0 && info.ifi_change == IFF_UP && info.ifi_index == 3);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK); /* the last */
}

static void addresses_are_added_and_removed(void **state)
{
    (void)state;
    const struct net_op ops[] = {
        {.kind = NET_ADDRESS_ADD, .address = address("192.0.2.17", 28)},
        {.kind = NET_ADDRESS_ADD, .interface = 1, .address = address("2001:db8::1", 64)},
        {.kind = NET_ADDRESS_REMOVE, .address = address("192.0.2.17", 28)},
        {.kind = NET_ADDRESS_ADD, .address = address("192.0.2.17", 31)}};
    const uint8_t *body;
    struct ifaddrmsg info;
    build(ops, 4);
    struct nlmsghdr head = message(0, &body);
    memcpy(&info, body, sizeof info);
    assert_int_equal(head.nlmsg_type, RTM_NEWADDR);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
    assert_true(info.ifa_family == AF_INET && info.ifa_prefixlen == 28 && info.ifa_index == 3);
    assert_int_equal(info.ifa_flags, IFA_F_PERMANENT);
    assert_memory_equal(attribute(head, body, sizeof info, IFA_LOCAL, 4), ops[0].address.bytes, 4);
    assert_memory_equal(attribute(head, body, sizeof info, IFA_ADDRESS, 4), ops[0].address.bytes, 4);
    static const uint8_t broadcast[] = {192, 0, 2, 31};
    assert_memory_equal(attribute(head, body, sizeof info, IFA_BROADCAST, 4), broadcast, 4);
    head = message(1, &body);
    memcpy(&info, body, sizeof info);
    assert_true(info.ifa_family == AF_INET6 && info.ifa_prefixlen == 64 && info.ifa_index == 7);
    assert_int_equal(info.ifa_flags, IFA_F_NODAD | IFA_F_PERMANENT);
    assert_memory_equal(attribute(head, body, sizeof info, IFA_LOCAL, 16), ops[1].address.bytes, 16);
    assert_null(attribute(head, body, sizeof info, IFA_BROADCAST, 4));
    head = message(2, &body);
    assert_int_equal(head.nlmsg_type, RTM_DELADDR);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST);
    head = message(3, &body);
    assert_null(attribute(head, body, sizeof info, IFA_BROADCAST, 4)); /* of a link of two */
}

static void routes_lead_to_gateways(void **state)
{
    (void)state;
    const struct net_op ops[] = {{.kind = NET_HOST_ADD, .interface = 1, .address = address("10.0.0.1", 0)},
                                 {.kind = NET_DEFAULT_ADD, .address = address("10.0.0.1", 0)},
                                 {.kind = NET_DEFAULT_ADD, .interface = 1, .address = address("fe80::1", 0)},
                                 {.kind = NET_DEFAULT_REMOVE, .address = address("10.0.0.1", 0)},
                                 {.kind = NET_HOST_REMOVE, .address = address("2001:db8::1", 0)}};
    const uint8_t *body;
    struct rtmsg info;
    build(ops, 5);
    struct nlmsghdr head = message(0, &body);
    memcpy(&info, body, sizeof info);
    assert_int_equal(head.nlmsg_type, RTM_NEWROUTE);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
    assert_true(info.rtm_family == AF_INET && info.rtm_dst_len == 32 && info.rtm_scope == RT_SCOPE_LINK);
    assert_memory_equal(attribute(head, body, sizeof info, RTA_DST, 4), ops[0].address.bytes, 4);
    assert_null(attribute(head, body, sizeof info, RTA_GATEWAY, 4));
    assert_int_equal(number_of(attribute(head, body, sizeof info, RTA_OIF, 4)), 7);
    assert_int_equal(number_of(attribute(head, body, sizeof info, RTA_PRIORITY, 4)), NET_METRIC + 1);
    head = message(1, &body);
    memcpy(&info, body, sizeof info);
    assert_true(info.rtm_dst_len == 0 && info.rtm_scope == RT_SCOPE_UNIVERSE && info.rtm_type == RTN_UNICAST);
    assert_memory_equal(attribute(head, body, sizeof info, RTA_GATEWAY, 4), ops[1].address.bytes, 4);
    head = message(2, &body);
    memcpy(&info, body, sizeof info);
    assert_true(info.rtm_family == AF_INET6 && info.rtm_dst_len == 0);
    assert_memory_equal(attribute(head, body, sizeof info, RTA_GATEWAY, 16), ops[2].address.bytes, 16);
    assert_int_equal(number_of(attribute(head, body, sizeof info, RTA_OIF, 4)), 7);
    head = message(3, &body);
    memcpy(&info, body, sizeof info);
    assert_true(head.nlmsg_type == RTM_DELROUTE && info.rtm_scope == RT_SCOPE_NOWHERE);
    head = message(4, &body);
    memcpy(&info, body, sizeof info);
    assert_true(head.nlmsg_type == RTM_DELROUTE && info.rtm_dst_len == 128);
}

static void a_batch_is_bounded(void **state)
{
    (void)state;
    const struct net_op op = {.kind = NET_DEFAULT_ADD, .address = address("2001:db8::1", 0)};
    uint8_t exact[64 * 2];
    plan.count = 2;
    plan.at[0] = plan.at[1] = op;
    assert_int_equal(net_message_batch(exact, sizeof exact, &plan, index_of, 1), sizeof exact);
    assert_int_equal(net_message_batch(exact, sizeof exact - 1, &plan, index_of, 1), -ENOSPC);
    plan.count = NET_PLAN_OPS;
    for (unsigned i = 0; i < NET_PLAN_OPS; i++)
        plan.at[i] = op;
    assert_int_equal(net_message_batch(batch, sizeof batch, &plan, index_of, 1), 64 * NET_PLAN_OPS);
    plan.count = 0;
    assert_int_equal(net_message_batch(batch, sizeof batch, &plan, index_of, 1), 0);
}

/* ---- answers ---- */

static uint8_t answers[256];
static size_t answers_size;

static void add(uint16_t type, uint32_t sequence, int32_t error, uint32_t size)
{
    const struct nlmsgerr body = {.error = error};
    const struct nlmsghdr head = {
        .nlmsg_len = (uint32_t)sizeof head + size, .nlmsg_type = type, .nlmsg_seq = sequence};
    memcpy(answers + answers_size, &head, sizeof head);
    memcpy(answers + answers_size + sizeof head, &body, sizeof body);
    answers_size += sizeof head + NLMSG_ALIGN(size);
}

static void answers_are_taken_one_by_one(void **state)
{
    (void)state;
    struct net_answer answer;
    size_t at = 0;
    answers_size = 0;
    add(NLMSG_ERROR, 104, -EEXIST, sizeof(struct nlmsgerr));
    add(NLMSG_ERROR, 109, 0, sizeof(struct nlmsgerr));
    assert_int_equal(net_message_answer(&answer, answers, answers_size, &at), 1);
    assert_true(answer.sequence == 104 && answer.error == -EEXIST);
    assert_int_equal(net_message_answer(&answer, answers, answers_size, &at), 1);
    assert_true(answer.sequence == 109 && answer.error == 0);
    assert_int_equal(net_message_answer(&answer, answers, answers_size, &at), 0);
    assert_int_equal(at, answers_size);
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    struct net_answer answer;
    size_t at = 0;
    static const struct {
        uint16_t type;
        int32_t error;
        uint32_t size;
    } bad[] = {{NLMSG_DONE, 0, 20}, {RTM_NEWLINK, 0, 20}, {NLMSG_ERROR, 1, 20},  {NLMSG_ERROR, INT32_MIN, 20},
               {NLMSG_ERROR, 0, 3}, {NLMSG_ERROR, 0, 21}, {NLMSG_ERROR, 0, 1000}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        answers_size = 0;
        add(bad[i].type, 1, bad[i].error, bad[i].size);
        assert_int_equal(net_message_answer(&answer, answers, 36, &at), -EBADMSG);
    }
    answers_size = 0;
    add(NLMSG_ERROR, 1, 0, 20);
    for (size_t size = 1; size < answers_size; size++)
        assert_int_equal(net_message_answer(&answer, answers, size, &at), -EBADMSG);
    assert_int_equal(at, 0);
}

static void what_is_gone_need_not_be_removed(void **state)
{
    (void)state;
    const struct net_op remove = {.kind = NET_ADDRESS_REMOVE}, leave = {.kind = NET_DEFAULT_REMOVE},
                        add_one = {.kind = NET_ADDRESS_ADD};
    assert_true(net_message_is_done(&remove, -EADDRNOTAVAIL) && net_message_is_done(&leave, -ESRCH));
    assert_true(net_message_is_done(&add_one, 0));
    assert_false(net_message_is_done(&remove, -EPERM) || net_message_is_done(&add_one, -EADDRNOTAVAIL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_is_quiet_before_it_is_up),  cmocka_unit_test(addresses_are_added_and_removed),
        cmocka_unit_test(routes_lead_to_gateways),          cmocka_unit_test(a_batch_is_bounded),
        cmocka_unit_test(answers_are_taken_one_by_one),     cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(what_is_gone_need_not_be_removed),
    };
    return cmocka_run_group_tests_name("rtnetlink messages", tests, NULL, NULL);
}
