/*
 * A stage for lookups: servers of the test's own on 127.0.0.1 to 127.0.0.3, UDP and TCP, in the same loop as
 * the lookup. No thread, no waiting but for what is to come.
 */
#ifndef TESTS_UNIT_TLS_DNS_STAGE_H
#define TESTS_UNIT_TLS_DNS_STAGE_H

#include "agent/tls/dns.h"
#include "tests/unit/tls/dns_answers.h"
#include "tests/unit/tls/fake_network.h"

#define SERVERS  3
#define MS       UINT64_C(1000000)
#define PATIENCE (20000 * MS) /* of a test that is not about time */

/* What a server does with one query: fill the answer and return true to send it. */
typedef bool serve(struct answer *answer, const char *name, uint16_t id, uint16_t type);

struct server {
    int udp, tcp;
    struct loop_source udp_source, tcp_source;
    serve *serve, *serve_tcp;
    unsigned asked, asked_tcp;
    uint16_t ids[64];
    in_port_t ports[64];
};

extern struct server servers[SERVERS];
extern struct loop loop;
extern struct dns_lookup lookup;
extern bool is_done;

serve serve_nothing;
serve serve_both;
serve serve_four;
serve serve_chain;
serve serve_no_name;
serve serve_no_name_of_six;
serve serve_no_address;
serve serve_failure;
serve serve_cut_off;
serve serve_garbage;
serve serve_many;
serve serve_too_many;
serve serve_after_others;

int set_up(void **state);
int tear_down(void **state);
/* The network's servers are the first `count` of them. */
void know_servers(unsigned count);

int begin(const char *name, uint64_t patience_ns);
/* The outcome: of dns_begin, or what `done` got. */
int look_up(const char *name, uint64_t patience_ns);
/* Of the outcome, as text. */
const char *address(unsigned i);

#endif
