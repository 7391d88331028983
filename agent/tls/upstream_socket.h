/*
 * The TCP socket of an upstream: its options, and its ends. No state.
 */
#ifndef AGENT_TLS_UPSTREAM_SOCKET_H
#define AGENT_TLS_UPSTREAM_SOCKET_H

#include <stdint.h>

#include "agent/tls/dns.h"

#define UPSTREAM_ADDRESS_BYTES 48

/* A socket that is connecting to that address (its port is replaced), or -errno. */
int upstream_socket_connect(const struct dns_address *address, uint16_t port);
/* 0 or -errno: how connecting ended. */
int upstream_socket_error(int fd);
/* When it is closed, the peer gets a reset at once. */
void upstream_socket_reset_on_close(int fd);
/* When it is closed, the peer gets nothing at all; needs CAP_NET_ADMIN. */
void upstream_socket_silence(int fd);
/* "192.0.2.1" or "2001:db8::1". */
void upstream_socket_print(char text[UPSTREAM_ADDRESS_BYTES], const struct dns_address *address);

#endif
