/*
 * A network interface as --net asks for it: a back end, and the items of agent/proto/network.h.
 *
 *   --net tap=NAME | tap-fd=N | stream=PATH | none [,mac=...][,mtu=...][,address=...]...
 *
 * For a clone, %n anywhere in the text is its number, and an address may have "+N" before its prefix: that
 * many further on, within the prefix ("address=10.7.0.0+%n/16"). Limits are rx-bandwidth=, rx-operations=,
 * tx-bandwidth=, tx-operations= (rate.h), rx being what the guest receives.
 */
#ifndef HOSTVMM_CONFIG_NET_H
#define HOSTVMM_CONFIG_NET_H

#include <stddef.h>

#include "agent/proto/network.h"
#include "hostvmm/device/rate.h"

#define CONFIG_NETS_MAX      NETWORK_INTERFACES_MAX
#define CONFIG_NET_TEXT_MAX  1023
#define CONFIG_NET_WHY_BYTES (NETWORK_WHY_BYTES + 32)
#define CONFIG_TAP_NAME_MAX  15 /* what Linux takes */
#define CONFIG_STREAM_MAX    107

enum config_backend {
    CONFIG_BACKEND_NOTHING = 0, /* not said */
    CONFIG_BACKEND_TAP,
    CONFIG_BACKEND_TAP_FD,
    CONFIG_BACKEND_STREAM,
    CONFIG_BACKEND_NONE, /* a wire that ends in the air */
};

struct config_net {
    const char *text; /* argv's own */
    enum config_backend backend;
    char name[CONFIG_STREAM_MAX + 1]; /* of the tap, or the path */
    int fd;                           /* of the tap; whoever opens it owns it */
    struct network_interface items;
    struct rate_wish rx_rate;
    struct rate_wish tx_rate;
};

/* `clone`: its number from 1, or 0 for a guest that boots, whose text is taken as it is. 0, or -EINVAL with
 * `why` naming what was given and what is wanted. */
int config_net_parse(struct config_net *net, const char *text, unsigned clone,
                     char why[CONFIG_NET_WHY_BYTES]);

#endif
