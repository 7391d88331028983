/* See dns_stage.h. */
#include "tests/unit/tls/dns_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define FAR_AWAY 60000 /* ms: a try that is not to end by itself */

struct server servers[SERVERS];
struct loop loop;
struct dns_lookup lookup;
bool is_done;
static int outcome;

/* A connection of TCP. */
#define PEERS 8
static struct peer {
    int fd;
    struct server *server;
    struct loop_source source;
} peers[PEERS];

/* ---- the servers ---- */

static void on_server_udp(void *context, uint32_t events)
{
    struct server *server = context;
    uint8_t query[600];
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    (void)events;
    const ssize_t size = recvfrom(server->udp, query, sizeof query, 0, (struct sockaddr *)&from, &from_size);
    assert_true(size > 0);
    char name[256];
    uint16_t id, type;
    assert_true(answer_question(query, (size_t)size, name, &id, &type));
    if (server->asked < 64) {
        server->ids[server->asked] = id;
        server->ports[server->asked] = from.sin_port;
    }
    server->asked++;
    static struct answer answer;
    if (server->serve && server->serve(&answer, name, id, type))
        assert_int_equal(
            sendto(server->udp, answer.data, answer.size, 0, (struct sockaddr *)&from, from_size),
            answer.size);
}

static void give(struct peer *peer, const void *data, size_t size)
{
    const int error = fd_write_all(peer->fd, data, size);
    assert_true(error == 0 || error == -EPIPE || error == -ECONNRESET); /* the lookup was dropped */
}

/* One query, and its answer in small pieces. */
static void on_peer(void *context, uint32_t events)
{
    struct peer *peer = context;
    uint8_t query[600];
    (void)events;
    const ssize_t n = recv(peer->fd, query, sizeof query, MSG_PEEK);
    if (n >= 2 && n - 2 < (query[0] << 8 | query[1]))
        return; /* the rest comes */
    char name[256];
    uint16_t id, type;
    static struct answer answer;
    if (n > 2) { /* else the lookup was dropped */
        assert_true(answer_question(query + 2, (size_t)n - 2, name, &id, &type));
        peer->server->asked_tcp++;
        if (peer->server->serve_tcp && peer->server->serve_tcp(&answer, name, id, type)) {
            const uint8_t length[] = {(uint8_t)(answer.size >> 8), (uint8_t)answer.size};
            const size_t half = answer.size / 2;
            give(peer, length, 1);
            give(peer, length + 1, 1);
            give(peer, answer.data, half);
            give(peer, answer.data + half, answer.size - half);
        }
        (void)recv(peer->fd, query, sizeof query, 0); /* so that the end is no reset */
    }
    loop_remove(&loop, &peer->source);
    fd_close(&peer->fd);
}

static void on_server_tcp(void *context, uint32_t events)
{
    struct peer *peer = peers;
    (void)events;
    while (peer->fd >= 0)
        assert_true(++peer < peers + PEERS);
    peer->server = context;
    peer->fd = accept(peer->server->tcp, NULL, NULL);
    assert_true(peer->fd >= 0);
    assert_int_equal(loop_add(&loop, &peer->source, peer->fd, EPOLLIN, on_peer, peer), 0);
}

bool serve_nothing(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    (void)answer, (void)name, (void)id, (void)type;
    return false;
}

bool serve_both(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS, name, type);
    if (type == DNS_TYPE_A) {
        answer_address(answer, NULL, "192.0.2.1");
        answer_address(answer, NULL, "192.0.2.2");
    } else {
        answer_address(answer, NULL, "2001:db8::1");
    }
    return true;
}

bool serve_four(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    return type == DNS_TYPE_A && serve_both(answer, name, id, type);
}

bool serve_chain(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS, name, type);
    answer_cname(answer, NULL, "b.example.com");
    answer_cname(answer, "b.example.com", "c.example.net");
    if (type == DNS_TYPE_A)
        answer_address(answer, "c.example.net", "192.0.2.3");
    return true;
}

bool serve_no_name(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS | 3, name, type);
    return true;
}

bool serve_no_name_of_six(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    return type == DNS_TYPE_A ? serve_both(answer, name, id, type) : serve_no_name(answer, name, id, type);
}

bool serve_no_address(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS, name, type);
    return true;
}

bool serve_failure(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS | 2, name, type);
    return true;
}

bool serve_cut_off(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS | 0x0200, name, type);
    return true;
}

bool serve_garbage(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    serve_both(answer, name, id, type);
    answer->size--; /* of the last address */
    return true;
}

bool serve_many(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, id, ANSWER_FLAGS, name, type);
    char address[32];
    for (int i = 0; i < 100; i++) {
        (void)snprintf(address, sizeof address, type == DNS_TYPE_A ? "192.0.2.%d" : "2001:db8::%d", i);
        answer_address(answer, NULL, address);
    }
    return true;
}

bool serve_too_many(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    serve_many(answer, name, id, type);
    static const uint8_t text[3000];
    answer_record(answer, NULL, 16, text, sizeof text);
    return true;
}

/* Others' answers first, then the one wanted. */
bool serve_after_others(struct answer *answer, const char *name, uint16_t id, uint16_t type)
{
    answer_begin(answer, (uint16_t)(id + 1), ANSWER_FLAGS, name, type);
    answer_address(answer, NULL, type == DNS_TYPE_A ? "203.0.113.66" : "2001:db8::66");
    return true;
}

/* ---- set-up ---- */

static in_port_t listen_all(struct server *server, unsigned number, in_port_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = port};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number);
    server->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    server->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int one = 1;
    assert_int_equal(setsockopt(server->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    assert_int_equal(bind(server->udp, (struct sockaddr *)&at, sizeof at), 0);
    socklen_t size = sizeof at;
    assert_int_equal(getsockname(server->udp, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(bind(server->tcp, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(server->tcp, 8), 0);
    server->udp_source.fd = server->tcp_source.fd = -1;
    assert_int_equal(loop_add(&loop, &server->udp_source, server->udp, EPOLLIN, on_server_udp, server), 0);
    assert_int_equal(loop_add(&loop, &server->tcp_source, server->tcp, EPOLLIN, on_server_tcp, server), 0);
    return at.sin_port;
}

void know_servers(unsigned count)
{
    fake_network = (struct network){.count = 1, .at[0].dns_count = count};
    for (unsigned i = 0; i < count; i++)
        fake_network.at[0].dns[i] =
            (struct network_address){.family = 4, .bytes = {127, 0, 0, (uint8_t)(1 + i)}};
}

int set_up(void **state)
{
    (void)state;
    assert_int_equal(loop_init(&loop), 0);
    memset(servers, 0, sizeof servers);
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = (struct peer){.fd = -1, .source.fd = -1};
    in_port_t port = 0;
    for (unsigned i = 0; i < SERVERS; i++)
        port = listen_all(&servers[i], i, port);
    dns_settings = (struct dns_settings){.hosts_path = "/dev/null",
                                         .resolv_path = "/dev/null",
                                         .port = ntohs(port),
                                         .try_ms = FAR_AWAY,
                                         .other_ms = FAR_AWAY};
    know_servers(1);
    is_done = false;
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    dns_cancel(&lookup);
    dns_cancel(&lookup); /* twice is safe */
    for (unsigned i = 0; i < SERVERS; i++) {
        loop_remove(&loop, &servers[i].udp_source);
        loop_remove(&loop, &servers[i].tcp_source);
        fd_close(&servers[i].udp);
        fd_close(&servers[i].tcp);
    }
    for (unsigned i = 0; i < PEERS; i++) {
        loop_remove(&loop, &peers[i].source);
        fd_close(&peers[i].fd);
    }
    loop_fini(&loop);
    return 0;
}

static void on_done(void *context, int error)
{
    assert_ptr_equal(context, &is_done);
    assert_false(is_done);
    is_done = true;
    outcome = error;
    dns_cancel(&lookup); /* from within is safe */
}

int begin(const char *name, uint64_t patience_ns)
{
    return dns_begin(&lookup, &loop, name, clock_monotonic_ns() + patience_ns, on_done, &is_done);
}

int look_up(const char *name, uint64_t patience_ns)
{
    const int begun = begin(name, patience_ns);
    if (begun != 0)
        return begun;
    while (!is_done)
        assert_true(loop_run_once(&loop, 30000) >= 0);
    return outcome;
}

const char *address(unsigned i)
{
    static char text[INET6_ADDRSTRLEN];
    assert_true(i < lookup.count);
    const struct sockaddr *at = (const struct sockaddr *)&lookup.addresses[i].at;
    const void *bytes = at->sa_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)(const void *)at)->sin_addr
                            : &((const struct sockaddr_in6 *)(const void *)at)->sin6_addr;
    assert_non_null(inet_ntop(at->sa_family, bytes, text, sizeof text));
    return text;
}
