/* agent/net's net_current() for units without it: what the test says the network is; at first, nothing. */
#include "tests/unit/tls/fake_network.h"

struct network fake_network;

const struct network *net_current(void)
{
    return &fake_network;
}
