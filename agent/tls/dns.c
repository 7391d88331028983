/*
 * A lookup: two questions, A and AAAA, each asked of one server after the other until it is answered.
 *
 *   half:  a try -- UDP, a fresh socket and id --> answer: over
 *            ^  |                              --> cut off: the same over TCP
 *            |  +-- silence for try_ms, refused, an answer that is none, "I cannot"
 *            +----- the next server
 *
 * Silence is asked again until the deadline: the network of a clone may come up a little later than its
 * agent. Failures are told apart from it: when every server has failed twice, the half is over.
 *
 * The lookup is over when both halves are, or at its deadline, which moves close once one half has addresses:
 * a network whose server never answers for AAAA costs `other_ms` and not the deadline.
 *
 * An answer is believed when it comes from the address and port asked (the socket is connected), to the port
 * it was asked from (the kernel's choice, random), with the id (getrandom) and the question asked.
 */
#include "agent/tls/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define NS_PER_MS          UINT64_C(1000000)
#define FAILURES_OF_SERVER 2
#define DATAGRAMS_MAX      16 /* taken from one socket before the loop goes on */
#define NAME_SHOWN         48 /* bytes of a name in an error */
#define LENGTH_BYTES       2  /* before each message over TCP */

static void half_close(struct dns_half *half)
{
    loop_remove(half->lookup->loop, &half->source);
    fd_close(&half->fd);
    free(half->tcp_answer);
    half->tcp_answer = NULL;
    half->tcp_have = half->tcp_sent = 0;
}

static void half_end(struct dns_half *half, int error)
{
    half_close(half);
    half->over = true;
    half->error = error;
}

static const struct dns_address *half_server(const struct dns_half *half)
{
    return &half->lookup->servers[(half->tries - 1) % half->lookup->server_count];
}

/* A socket to the server in hand, on the loop. 0 or -errno. */
static int half_open(struct dns_half *half, int kind, uint32_t events, loop_handler *handler)
{
    const struct dns_address *server = half_server(half);
    half->try_until_ns = clock_monotonic_ns() + dns_settings.try_ms * NS_PER_MS;
    half->fd = socket(server->at.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (half->fd < 0)
        return -errno;
    if (connect(half->fd, (const struct sockaddr *)&server->at, server->size) < 0 && errno != EINPROGRESS)
        return -errno;
    return loop_add(half->lookup->loop, &half->source, half->fd, events, handler, half);
}

/* ---- over TCP (RFC 7766) ---- */

static int tcp_send(struct dns_half *half)
{
    uint8_t message[LENGTH_BYTES + DNS_QUERY_MAX];
    const int query = dns_message_query(message + LENGTH_BYTES, half->lookup->name, half->type, half->id);
    if (query < 0)
        return query;
    message[0] = (uint8_t)(query >> 8);
    message[1] = (uint8_t)query;
    const size_t size = LENGTH_BYTES + (size_t)query;
    if (half->tcp_sent == size)
        return 0;
    const ssize_t n = send(half->fd, message + half->tcp_sent, size - half->tcp_sent, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -EINPROGRESS : -errno;
    half->tcp_sent += (size_t)n;
    return half->tcp_sent == size ? loop_modify(half->lookup->loop, &half->source, EPOLLIN) : -EINPROGRESS;
}

/* The size of the whole answer; -EINPROGRESS: not all is there; -errno. */
static int tcp_receive(struct dns_half *half)
{
    for (;;) {
        size_t want = LENGTH_BYTES;
        if (half->tcp_have >= LENGTH_BYTES)
            want += (size_t)half->tcp_answer[0] << 8 | half->tcp_answer[1];
        if (want > LENGTH_BYTES + DNS_ANSWER_MAX)
            return -EMSGSIZE;
        if (half->tcp_have == want && want > LENGTH_BYTES)
            return (int)(want - LENGTH_BYTES);
        if (half->tcp_have == want)
            return -EBADMSG; /* of no length */
        const ssize_t n = recv(half->fd, half->tcp_answer + half->tcp_have, want - half->tcp_have, 0);
        if (n == 0)
            return -ECONNRESET;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? -EINPROGRESS : -errno;
        half->tcp_have += (size_t)n;
    }
}

static void half_fail(struct dns_half *half, int error);
static void lookup_settle(struct dns_lookup *lookup);

static void on_tcp(void *context, uint32_t events)
{
    struct dns_half *half = context;
    (void)events;
    int size = tcp_send(half);
    if (size == 0)
        size = tcp_receive(half);
    if (size == -EINPROGRESS)
        return; /* the timer stands */
    int error = size;
    if (size > 0)
        error = dns_message_take(half->tcp_answer + LENGTH_BYTES, (size_t)size, half->lookup->name,
                                 half->type, half->id, half->addresses, DNS_ADDRESSES_MAX, &half->count);
    if (error == 0 || error == -ENOENT)
        half_end(half, error);
    else
        half_fail(half, error == -EAGAIN ? -EBADMSG : error); /* nobody else writes on this connection */
    lookup_settle(half->lookup);
}

static int tcp_begin(struct dns_half *half)
{
    half_close(half);
    half->tcp_answer = malloc(LENGTH_BYTES + DNS_ANSWER_MAX);
    return half->tcp_answer ? half_open(half, SOCK_STREAM, EPOLLIN | EPOLLOUT, on_tcp) : -ENOMEM;
}

/* ---- over UDP ---- */

/* One datagram: true when there may be more to look at on this socket. */
static bool udp_take(struct dns_half *half)
{
    uint8_t data[DNS_ANSWER_MAX];
    const ssize_t n = recv(half->fd, data, sizeof data, MSG_TRUNC);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0 && errno != EINTR) {
        half_fail(half, -errno);
        return false;
    }
    if (n < 0 || (size_t)n > sizeof data)
        return true;
    int error = dns_message_take(data, (size_t)n, half->lookup->name, half->type, half->id, half->addresses,
                                 DNS_ADDRESSES_MAX, &half->count);
    if (error == -EAGAIN)
        return true;
    if (error == -EMSGSIZE) {
        error = tcp_begin(half);
        if (error == 0)
            return false;
    }
    if (error == 0 || error == -ENOENT)
        half_end(half, error);
    else
        half_fail(half, error);
    return false;
}

static void on_udp(void *context, uint32_t events)
{
    struct dns_half *half = context;
    (void)events;
    for (int i = 0; i < DATAGRAMS_MAX && udp_take(half); i++)
        continue;
    lookup_settle(half->lookup);
}

static int udp_begin(struct dns_half *half)
{
    uint8_t query[DNS_QUERY_MAX];
    const int size = getrandom(&half->id, sizeof half->id, 0) == (ssize_t)sizeof half->id
                         ? dns_message_query(query, half->lookup->name, half->type, half->id)
                         : -EIO;
    if (size < 0)
        return size;
    const int error = half_open(half, SOCK_DGRAM, EPOLLIN, on_udp);
    if (error)
        return error;
    return send(half->fd, query, (size_t)size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* ---- tries ---- */

/* Ask the next server; over when each has failed often enough. */
static void half_try(struct dns_half *half)
{
    while (half->failures < FAILURES_OF_SERVER * half->lookup->server_count) {
        half_close(half);
        half->tries++;
        const int error = udp_begin(half);
        if (error == 0)
            return;
        half->error = error;
        half->failures++;
    }
    half_end(half, half->error);
}

static void half_fail(struct dns_half *half, int error)
{
    half->count = 0;
    half->error = error;
    half->failures++;
    half_try(half);
}

/* ---- the lookup ---- */

static void servers_text(const struct dns_lookup *lookup, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < lookup->server_count; i++) {
        const struct sockaddr *server = (const struct sockaddr *)&lookup->servers[i].at;
        char name[INET6_ADDRSTRLEN] = "?";
        if (server->sa_family == AF_INET)
            (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)server)->sin_addr, name,
                            sizeof name);
        else
            (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)server)->sin6_addr, name,
                            sizeof name);
        if (at + strlen(name) + 3 > size)
            return;
        at += (size_t)snprintf(text + at, size - at, "%s%s", i > 0 ? ", " : "", name);
    }
}

static const char *failure_text(int error)
{
    switch (error) {
    case -EREMOTEIO:
        return "it failed or refused";
    case -EBADMSG:
        return "its answer is no DNS message";
    case -EMSGSIZE:
        return "its answer is too large";
    default:
        return strerror(-error);
    }
}

/* Neither half gave an address: the reason, in `why` too. */
static int lookup_reason(struct dns_lookup *lookup)
{
    char servers[80];
    servers_text(lookup, servers, sizeof servers);
    int error = 0;
    bool over = true;
    for (int i = 0; i < 2; i++) {
        over = over && lookup->halves[i].over;
        if (lookup->halves[i].over && lookup->halves[i].error != 0 && error != -ENOENT)
            error = lookup->halves[i].error;
    }
    if (error == -ENOENT)
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "DNS knows no name %.*s (asked %s)", NAME_SHOWN,
                       lookup->name, servers);
    else if (!over)
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "DNS gave no answer for %.*s in time (asked %s)",
                       NAME_SHOWN, lookup->name, servers);
    else if (error == 0)
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "DNS knows no address of %.*s (asked %s)", NAME_SHOWN,
                       lookup->name, servers);
    else
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "DNS could not be asked for %.*s (%s): %s", NAME_SHOWN,
                       lookup->name, servers, failure_text(error));
    if (error == -ENOENT)
        return error;
    return !over ? -ETIMEDOUT : error == 0 ? -ENOENT : error;
}

/* IPv6 first, then in turns (RFC 8305, section 4). */
static void lookup_merge(struct dns_lookup *lookup)
{
    const struct dns_half *four = &lookup->halves[0], *six = &lookup->halves[1];
    for (unsigned i = 0; i < DNS_ADDRESSES_MAX; i++) {
        if (i < six->count && lookup->count < DNS_ADDRESSES_MAX)
            lookup->addresses[lookup->count++] = six->addresses[i];
        if (i < four->count && lookup->count < DNS_ADDRESSES_MAX)
            lookup->addresses[lookup->count++] = four->addresses[i];
    }
}

void dns_cancel(struct dns_lookup *lookup)
{
    if (!lookup->loop)
        return;
    for (int i = 0; i < 2; i++)
        half_close(&lookup->halves[i]);
    loop_remove(lookup->loop, &lookup->timer);
    fd_close(&lookup->timer_fd);
    lookup->loop = NULL;
}

/* What came of it. 0 with addresses, or -errno with `why`. Nothing is under way any more. */
static int lookup_end(struct dns_lookup *lookup)
{
    lookup_merge(lookup);
    const int error = lookup->count > 0 ? 0 : lookup_reason(lookup);
    dns_cancel(lookup);
    return error;
}

/* One question is answered: the other has no more than other_ms. That there is no such name is believed of A
 * alone: some servers say so of AAAA when there is but an A. */
static void lookup_hurry(struct dns_lookup *lookup, uint64_t now)
{
    const uint64_t patience = now + dns_settings.other_ms * NS_PER_MS;
    if (lookup->hurried || patience >= lookup->deadline_ns)
        return;
    for (int i = 0; i < 2; i++)
        lookup->hurried = lookup->hurried || lookup->halves[i].count > 0 ||
                          (i == 0 && lookup->halves[i].over && lookup->halves[i].error == -ENOENT);
    if (lookup->hurried)
        lookup->deadline_ns = patience;
}

/* 1: over; 0: the timer is set for what comes next; -errno of the timer. */
static int lookup_is_over(struct dns_lookup *lookup)
{
    const uint64_t now = clock_monotonic_ns();
    lookup_hurry(lookup, now);
    uint64_t next = lookup->deadline_ns;
    const bool over = lookup->halves[0].over && lookup->halves[1].over;
    if (over || now >= lookup->deadline_ns)
        return 1;
    for (int i = 0; i < 2; i++)
        if (!lookup->halves[i].over && lookup->halves[i].try_until_ns < next)
            next = lookup->halves[i].try_until_ns;
    return loop_timer_arm(lookup->timer_fd, next > now ? next - now : 0);
}

static void lookup_settle(struct dns_lookup *lookup)
{
    const int over = lookup_is_over(lookup);
    if (over == 0)
        return;
    dns_done *done = lookup->done;
    void *context = lookup->context;
    const int error = lookup_end(lookup);
    done(context, error); /* may free the lookup */
}

static void on_timer(void *context, uint32_t events)
{
    struct dns_lookup *lookup = context;
    (void)events;
    loop_timer_clear(lookup->timer_fd);
    const uint64_t now = clock_monotonic_ns();
    for (int i = 0; i < 2 && now < lookup->deadline_ns; i++)
        if (!lookup->halves[i].over && now >= lookup->halves[i].try_until_ns)
            half_try(&lookup->halves[i]);
    lookup_settle(lookup);
}

static int lookup_start(struct dns_lookup *lookup)
{
    lookup->timer_fd = loop_timer_open();
    int error = lookup->timer_fd < 0 ? lookup->timer_fd : 0;
    if (error == 0)
        error = loop_add(lookup->loop, &lookup->timer, lookup->timer_fd, EPOLLIN, on_timer, lookup);
    if (error == 0)
        for (int i = 0; i < 2; i++)
            half_try(&lookup->halves[i]);
    const int over = error == 0 ? lookup_is_over(lookup) : 0;
    if (over == 1)
        return lookup_end(lookup);
    if (error == 0)
        error = over;
    if (error) {
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "the timer of a lookup: %s", strerror(-error));
        dns_cancel(lookup);
    }
    return error;
}

int dns_begin(struct dns_lookup *lookup, struct loop *loop, const char *name, uint64_t deadline_ns,
              dns_done *done, void *context)
{
    static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA};
    uint8_t query[DNS_QUERY_MAX];
    *lookup = (struct dns_lookup){
        .done = done, .context = context, .timer_fd = -1, .timer.fd = -1, .deadline_ns = deadline_ns};
    for (int i = 0; i < 2; i++)
        lookup->halves[i] = (struct dns_half){.lookup = lookup, .source.fd = -1, .fd = -1, .type = types[i]};
    if (dns_system_address(name, &lookup->addresses[0])) {
        lookup->count = 1;
        return 1;
    }
    if (strlen(name) >= sizeof lookup->name || dns_message_query(query, name, DNS_TYPE_A, 0) < 0) {
        (void)snprintf(lookup->why, DNS_WHY_BYTES, "%.*s is no name that DNS could know", NAME_SHOWN, name);
        return -EINVAL;
    }
    memcpy(lookup->name, name, strlen(name) + 1);
    lookup->count = dns_system_hosts(name, lookup->addresses, DNS_ADDRESSES_MAX);
    if (lookup->count > 0)
        return 1;
    lookup->server_count = dns_system_servers(lookup->servers);
    if (lookup->server_count == 0) {
        (void)snprintf(lookup->why, DNS_WHY_BYTES,
                       "%.*s cannot be looked up: the host gave no DNS server, and %s names none", NAME_SHOWN,
                       name, dns_settings.resolv_path);
        return -ENETUNREACH;
    }
    lookup->loop = loop;
    return lookup_start(lookup);
}
