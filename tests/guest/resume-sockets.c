/*
 * resume-steps, its TCP: connections over addresses of the loopback interface. 10.1.0.1 and fd00::1 are such
 * an address by where they are, and none by what they are: what has them as an end is to be destroyed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/resume-steps.h"

#define MANY 500 /* connections, each of two sockets */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t address_of(union address *address, const char *text, uint16_t port)
{
    memset(address, 0, sizeof *address);
    if (strchr(text, ':')) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons(port);
        inet_pton(AF_INET6, text, &address->v6.sin6_addr);
        return sizeof address->v6;
    }
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons(port);
    inet_pton(AF_INET, text, &address->v4.sin_addr);
    return sizeof address->v4;
}

static int listen_at(const char *text, uint16_t port)
{
    static const int one = 1;
    union address address;
    const socklen_t size = address_of(&address, text, port);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, &address.any, size) < 0 || listen(fd, MANY) < 0)
        return -1;
    return fd;
}

static int connect_to(const char *text, uint16_t port, uint16_t from)
{
    static const struct linger reset = {.l_onoff = 1};
    union address address;
    socklen_t size = address_of(&address, text, from);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0)
        return -1;
    if (from && bind(fd, &address.any, size) < 0)
        return -1;
    size = address_of(&address, text, port);
    return connect(fd, &address.any, size) < 0 ? -1 : fd;
}

static bool is_up(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == 1; /* ESTABLISHED */
}

static const char *add_addresses(void)
{
    static bool done;
    struct ifreq v4 = {.ifr_name = "lo:1"};
    struct {
        struct in6_addr address;
        uint32_t prefix;
        int index;
    } v6 = {.prefix = 128, .index = 1};
    union address address;
    if (done)
        return NULL;
    address_of(&address, "10.1.0.1", 0);
    memcpy(&v4.ifr_addr, &address.v4, sizeof address.v4);
    inet_pton(AF_INET6, "fd00::1", &v6.address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCSIFADDR, &v4) < 0)
        return failed("10.1.0.1 on lo");
    if (ioctl(fd6, SIOCSIFADDR, &v6) < 0)
        return failed("fd00::1 on lo");
    close(fd);
    close(fd6);
    done = true;
    return NULL;
}

/* One connection within the guest, which stays, and one by `outer`, which goes; the listeners of both stay.
 */
static const char *check_pair(const char *inner, const char *outer)
{
    const struct resume_order order = {.generation = 0};
    const char *why = add_addresses();
    if (why)
        return why;
    const int listeners[] = {listen_at(inner, 7001), listen_at(outer, 7002)};
    int kept = connect_to(inner, 7001, 0), gone = connect_to(outer, 7002, 0);
    if (listeners[0] < 0 || listeners[1] < 0 || kept < 0 || gone < 0)
        return failed("connecting");
    int accepted = accept(listeners[1], NULL, NULL);
    why = run_step("sockets", &order);
    if (why)
        return why;
    if (!is_up(kept))
        return reason("the connection over %s is gone", inner);
    if (is_up(gone) || is_up(accepted))
        return reason("the connection over %s is still there", outer);
    char byte;
    if (recv(gone, &byte, 1, MSG_DONTWAIT) >= 0 || (errno != ECONNABORTED && errno != ECONNRESET))
        return failed("the owner of the destroyed connection reads");
    int again = connect_to(outer, 7002, 0);
    if (again < 0 || !is_up(again))
        return failed("the listener does not listen any more");
    const int all[] = {listeners[0], listeners[1], kept, gone, accepted, again};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        close(all[i]);
    return NULL;
}

const char *check_connections(void)
{
    return check_pair("127.0.0.1", "10.1.0.1");
}

const char *check_connections_ipv6(void)
{
    const char *why = check_pair("::1", "fd00::1");
    return why ? why : check_pair("::ffff:127.0.0.1", "::ffff:10.1.0.1");
}

const char *check_many_connections(void)
{
    static int near[MANY], far[MANY];
    const struct resume_order order = {.generation = 0};
    const struct rlimit files = {4096, 4096};
    const char *why = add_addresses();
    if (why)
        return why;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listen_at("10.1.0.1", 7003);
    for (int i = 0; i < MANY; i++) {
        near[i] = connect_to("10.1.0.1", 7003, 0);
        far[i] = accept(listener, NULL, NULL);
        if (near[i] < 0 || far[i] < 0)
            return failed("connecting");
    }
    uint64_t start = now_ns(CLOCK_MONOTONIC);
    why = run_step("sockets", &order);
    const uint64_t took_ns = now_ns(CLOCK_MONOTONIC) - start;
    if (why)
        return why;
    start = now_ns(CLOCK_MONOTONIC);
    why = run_step("sockets", &order);
    const uint64_t empty_ns = now_ns(CLOCK_MONOTONIC) - start;
    if (why)
        return why;
    for (int i = 0; i < MANY; i++) {
        if (is_up(near[i]) || is_up(far[i]))
            return reason("connection %d is still there", i);
        close(near[i]);
        close(far[i]);
    }
    close(listener);
    printf("# %d sockets destroyed in %llu us; a step without any: %llu us\n", 2 * MANY,
           (unsigned long long)took_ns / 1000, (unsigned long long)empty_ns / 1000);
    return NULL;
}

/* ---- the key of sequence numbers ---- */

/* A sequence number less the clock's part of it (64 ns a step) is a hash of the ends under the key: the range
 * of what it may be, as the moment is known that well only. */
struct hashes {
    uint32_t first;
    uint32_t count;
};

static bool draw(struct hashes *hashes)
{
    uint32_t sequence = 0;
    socklen_t size = sizeof sequence;
    const int on = TCP_REPAIR_ON, queue = TCP_SEND_QUEUE, off = TCP_REPAIR_OFF_NO_WP;
    const uint64_t before = now_ns(CLOCK_REALTIME) >> 6;
    int fd = connect_to("127.0.0.1", 7004, 7005);
    const uint64_t after = now_ns(CLOCK_REALTIME) >> 6;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue) < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, &size) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off) < 0)
        return false;
    close(fd);
    hashes->first = sequence - 1 - (uint32_t)after;
    hashes->count = (uint32_t)(after - before) + 1;
    return true;
}

static bool may_be_same(const struct hashes *a, const struct hashes *b)
{
    return b->first - a->first < a->count || a->first - b->first < b->count;
}

const char *check_key_of_tcp(void)
{
    const struct resume_order order = {.seed = "a fixed seed"};
    struct hashes first, second, third;
    int listener = listen_at("127.0.0.1", 7004);
    if (listener < 0 || !draw(&first) || !draw(&second))
        return failed("a sequence number");
    if (!may_be_same(&first, &second))
        return "two connections with the same ends come of different keys: this test does not see the key";
    const char *why = run_step("entropy", &order);
    if (why)
        return why;
    if (!draw(&third))
        return failed("a sequence number");
    close(listener);
    return may_be_same(&second, &third) ? "the entropy step left TCP's key as it was" : NULL;
}
