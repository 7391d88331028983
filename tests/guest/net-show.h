/* What the kernel says of the interfaces eth0, eth1, ..., in lines. */
#ifndef TESTS_GUEST_NET_SHOW_H
#define TESTS_GUEST_NET_SHOW_H

#include <stddef.h>

/*
 * "eth0 up 02:00:00:00:00:0a 1400", "eth0 192.0.2.2/24", "eth0 route 10.0.0.1/32",
 * "eth0 default 10.0.0.1 100" (its metric): links first, then addresses, then the routes that somebody set.
 * An IPv6 address that the kernel would probe for, or has found in use, has " tentative" behind it.
 * 0, or -errno.
 */
int net_show(char *text, size_t capacity);

#endif
