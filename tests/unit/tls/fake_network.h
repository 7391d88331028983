/* See fake_network.c. */
#ifndef TESTS_UNIT_TLS_FAKE_NETWORK_H
#define TESTS_UNIT_TLS_FAKE_NETWORK_H

#include "agent/net/net.h"

extern struct network fake_network;

#endif
