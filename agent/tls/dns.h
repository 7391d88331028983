/*
 * Names to addresses (RFC 1035, 3596), as much as a client of a recursive server needs: dns_message.c is
 * pure (queries built, answers taken apart; fuzzed), dns.c asks over UDP, and over TCP when an answer says
 * that it was cut off. /etc/hosts first. A and AAAA are asked at once. Nothing is kept: a clone has no
 * addresses of its original's. No search lists: a name is a whole one.
 *
 * Servers are those of net_current(), else of /etc/resolv.conf; each is asked in turn, with a fresh random id
 * and port each time. An answer counts only from the server asked, to the question asked.
 */
#ifndef AGENT_TLS_DNS_H
#define AGENT_TLS_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "agent/base/loop.h"

#define DNS_ADDRESSES_MAX 8
#define DNS_WHY_BYTES     200
#define DNS_QUERY_MAX     512  /* bytes of a query */
#define DNS_ANSWER_MAX    4096 /* of an answer */
#define DNS_UDP_MAX       1232 /* of one over UDP, as EDNS says: one packet on any path of IPv6 */
#define DNS_TRY_MS        1000 /* one server, one try */
#define DNS_OTHER_MS      50 /* once IPv4 or IPv6 addresses are known, for the other (RFC 8305, section 3) */
#define DNS_SERVERS_MAX   4

struct dns_address {
    struct sockaddr_storage at; /* AF_INET or AF_INET6, port 0 */
    socklen_t size;
};

/* ---- dns_message.c */

enum { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28 };

/* A query with recursion desired and EDNS. Its size, or -EINVAL: not a name (RFC 1035, 2.3.4). */
int dns_message_query(uint8_t out[DNS_QUERY_MAX], const char *name, uint16_t type, uint16_t id);
/*
 * Addresses of the answer, CNAMEs followed. 0 (also when there are none), -EAGAIN: not an answer to that
 * query, wait on; -EMSGSIZE: cut off, ask over TCP; -ENOENT: there is no such name; -EREMOTEIO: the server
 * failed or refused; -EBADMSG.
 */
int dns_message_take(const uint8_t *data, size_t size, const char *name, uint16_t type, uint16_t id,
                     struct dns_address *addresses, unsigned capacity, unsigned *count);

/* ---- dns_system.c: what the machine knows by itself */

/* "192.0.2.1", "2001:db8::1", "fe80::1%eth0". */
bool dns_system_address(const char *text, struct dns_address *address);
/* Addresses of a name in /etc/hosts; how many. */
unsigned dns_system_hosts(const char *name, struct dns_address *addresses, unsigned capacity);
/* The servers to ask, with their port; how many. */
unsigned dns_system_servers(struct dns_address servers[DNS_SERVERS_MAX]);

/* Where to look. Changed by tests alone. */
struct dns_settings {
    const char *hosts_path, *resolv_path;
    uint16_t port;
    uint32_t try_ms, other_ms;
};
extern struct dns_settings dns_settings;

/* ---- dns.c */

struct dns_lookup;
typedef void dns_done(void *context, int error); /* from the loop, once */

/* One of the two questions. Private. */
struct dns_half {
    struct dns_lookup *lookup;
    struct loop_source source;
    int fd; /* to the server in hand; -1: none */
    uint16_t type, id;
    bool over;
    int error; /* over: the outcome; before: how the last try failed */
    unsigned tries, failures;
    uint64_t try_until_ns;
    struct dns_address addresses[DNS_ADDRESSES_MAX];
    unsigned count;
    uint8_t *tcp_answer; /* allocated while over TCP: length and answer */
    size_t tcp_have, tcp_sent;
};

struct dns_lookup {
    struct dns_address addresses[DNS_ADDRESSES_MAX]; /* the outcome: IPv6 and IPv4 taken in turns */
    unsigned count;
    char why[DNS_WHY_BYTES]; /* when it failed */
    /* private */
    struct loop *loop; /* NULL: nothing is under way */
    char name[254];
    dns_done *done;
    void *context;
    struct dns_half halves[2];
    struct dns_address servers[DNS_SERVERS_MAX];
    unsigned server_count;
    int timer_fd;
    struct loop_source timer;
    uint64_t deadline_ns;
    bool hurried; /* one half has addresses: the deadline was moved close for the other */
};

/*
 * An address or a name of /etc/hosts is known at once: 1, and `done` is not called. 0: begun. -errno, `why`.
 * Of a lookup that was begun, `done` gets 0, or with `why`: -ENOENT: there is no such name, or it has no
 * address; -ETIMEDOUT: no server answered in time; -EREMOTEIO, -EBADMSG or another -errno: none could.
 */
int dns_begin(struct dns_lookup *lookup, struct loop *loop, const char *name, uint64_t deadline_ns,
              dns_done *done, void *context);
/* Drop it; `done` is not called. Safe on a zeroed struct, and after the end. */
void dns_cancel(struct dns_lookup *lookup);

#endif
