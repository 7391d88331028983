/*
 * See net.h. What is set is kept twice: as it was said (`said`), and complete, with the MAC of each interface
 * that was not told one (`set`).
 *
 * A guest without a network, before a clone of it gets one, opens no socket and no file but the state's.
 */
#include "agent/net/net.h"

#include <errno.h>
#include <string.h>

#include "agent/net/parts.h"

static struct net {
    struct net_kernel kernel;
    struct network said, set;
    bool unsure; /* a change ended half-way */
    struct net_plan plan;
} net = {.kernel = {.route_fd = -1, .packet_fd = -1}};

const struct network *net_current(void)
{
    return &net.said;
}

/* A MAC that is not said is the one that is set; of an interface met now, the one it came with. */
static void complete(struct network *network)
{
    for (unsigned i = 0; i < network->count; i++) {
        struct network_interface *interface = &network->at[i];
        if (interface->has_mac)
            continue;
        memcpy(interface->mac, i < net.set.count ? net.set.at[i].mac : net.kernel.mac[i],
               sizeof interface->mac);
        interface->has_mac = true;
    }
}

static bool same_dns(const struct network *a, const struct network *b)
{
    bool same = true;
    for (unsigned i = 0; i < NETWORK_INTERFACES_MAX; i++)
        same = same && memcmp(a->at[i].dns, b->at[i].dns, sizeof a->at[i].dns) == 0;
    return same;
}

static int change_to(const struct network *said, unsigned how, char *why)
{
    struct network wanted = *said;
    int error = net_kernel_open(&net.kernel, why);
    if (error == 0)
        error = net_kernel_find(&net.kernel, wanted.count, why);
    if (error)
        return error;
    complete(&wanted);
    net_plan(&net.plan, &net.set, &wanted, how | (net.unsure ? NET_PLAN_AFRESH : 0u));
    error = net_kernel_apply(&net.kernel, &net.plan, why);
    net.unsure = error != 0;
    const bool resolv = error == 0 && !same_dns(&net.said, said);
    net.set = wanted;
    net.said = *said;
    if (resolv)
        error = net_resolv_write(said, why);
    if (error == 0)
        error = net_state_save(said, why);
    return error ? error : net_kernel_announce(&net.kernel, &wanted, why);
}

static int parse(struct network *network, const char *from, const char *text, size_t size, char *why)
{
    char what[NETWORK_WHY_BYTES];
    const int error = network_parse(network, text, size, what);
    return error ? net_why(why, error, "%s: %s", from, what) : 0;
}

/*
 * What an agent before this one has set goes before what init hands on. All of it is set again, which
 * replaces what is there: nobody knows how that agent ended.
 */
int net_begin(const char *text, char *why)
{
    char kept[PROTO_NETWORK_MAX_BYTES];
    struct network said;
    int error = 0;
    const int size = net_state_load(kept, why);
    if (size < 0 && size != -ENOENT)
        return size;
    if (size < 0 && (!text || !text[0]))
        return 0;
    if (size >= 0)
        error = parse(&said, NET_STATE_PATH, kept, (size_t)size, why);
    else
        error = parse(&said, "the network that init hands on", text, strlen(text), why);
    if (error || said.count == 0)
        return error;
    return change_to(&said, 0, why);
}

int net_renew(const char *text, size_t size, char *why)
{
    struct network said;
    if (size == 0)
        return net.set.count == 0 ? 0 : net_kernel_announce(&net.kernel, &net.set, why);
    const int error = parse(&said, "the host's network for this clone", text, size, why);
    return error ? error : change_to(&said, NET_PLAN_MOVED, why);
}
