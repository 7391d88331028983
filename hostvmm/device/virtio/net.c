/*
 * See net.h. This part: the device's life, its thread, its configuration, save and load. The thread touches
 * the queues, the back end and the irq, never the transport's lock: reset joins it with that lock held.
 */
#include "hostvmm/device/virtio/net.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/net_parts.h"
#include "hostvmm/jail/jail.h"
#include "hostvmm/snapshot/codec.h"

#define BIT(feature) (1ull << (feature))
#define MTU_MIN      68u /* RFC 791 */
#define FEATURES     (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF))

/* What a back end may take. */
static const struct {
    unsigned feature;
    const char *name;
} offloads[] = {
    {VIRTIO_NET_F_CSUM, "csum"},
    {VIRTIO_NET_F_GUEST_CSUM, "guest_csum"},
    {VIRTIO_NET_F_HOST_TSO4, "host_tso4"},
    {VIRTIO_NET_F_HOST_TSO6, "host_tso6"},
    {VIRTIO_NET_F_GUEST_TSO4, "guest_tso4"},
    {VIRTIO_NET_F_GUEST_TSO6, "guest_tso6"},
};
#define OFFLOAD_COUNT (sizeof offloads / sizeof offloads[0])

static uint64_t offload_bits(void)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < OFFLOAD_COUNT; i++)
        bits |= BIT(offloads[i].feature);
    return bits;
}

/* Those the guest relies on: what a driver merely wrote before FEATURES_OK may be anything. */
static uint64_t offloads_of(const struct virtio_net *net)
{
    const uint32_t status = __atomic_load_n(&net->device.status, __ATOMIC_ACQUIRE);
    return status & VIRTIO_CONFIG_S_FEATURES_OK ? net->device.driver_features & offload_bits() : 0;
}

static struct virtio_net *net_of(struct virtio_device *device)
{
    return (struct virtio_net *)device; /* its first member */
}

static bool is_gone(const struct virtio_net *net)
{
    return __atomic_load_n(&net->gone, __ATOMIC_ACQUIRE);
}

void virtio_net_set_link(struct virtio_net *net, bool up)
{
    if ((up && is_gone(net)) || __atomic_exchange_n(&net->link_up, up, __ATOMIC_ACQ_REL) == up)
        return;
    virtio_device_config_changed(&net->device);
    virtio_device_kick(&net->device, NET_RX_QUEUE); /* what waits there is looked at anew */
}

void net_gone(struct virtio_net *net, int error)
{
    log_error("virtio-net: its %s back end is gone: %s: the guest's link is down from now on",
              net->backend.ops->name, strerror(-error));
    __atomic_store_n(&net->gone, true, __ATOMIC_RELEASE);
    net->backend.holding = false;
    net->tx_blocked = false;
    virtio_net_set_link(net, false);
}

void virtio_net_serve(struct virtio_net *net)
{
    bool more;
    do {
        const bool sending = net_tx_turn(net);
        more = net_rx_turn(net) || sending;
    } while (more && !net_stopping(net));
}

/* What to wait for at the back end; 0: nothing, and then its errors are not waited for either. */
static short backend_events(const struct virtio_net *net)
{
    if (is_gone(net) || !virtio_device_serving(&net->device))
        return 0;
    return (short)((net->rx_starved || net->rx_wait_ns > 0 ? 0 : POLLIN) |
                   (net->tx_blocked || net->backend.holding ? POLLOUT : 0));
}

/* How long to sleep at most; NULL: for good. */
static const struct timespec *sleep_of(const struct virtio_net *net, bool more, struct timespec *time)
{
    const uint64_t rx = net->rx_wait_ns, tx = net->tx_wait_ns;
    *time = rate_timespec(more ? 0 : rx && (!tx || rx < tx) ? rx : tx);
    return more || rx || tx ? time : NULL;
}

static void *run(void *context)
{
    enum { BACKEND = NET_QUEUES, WAITS };
    struct virtio_net *net = context;
    bool more = false;
    jail_thread(JAIL_NET);
    while (!net_stopping(net)) {
        const short events = backend_events(net);
        struct pollfd waits[WAITS] = {
            [NET_RX_QUEUE] = {.fd = net->device.notify_fds[NET_RX_QUEUE], .events = POLLIN},
            [NET_TX_QUEUE] = {.fd = net->device.notify_fds[NET_TX_QUEUE], .events = POLLIN},
            [BACKEND] = {.fd = events ? net->backend.fd : -1, .events = events},
        };
        struct timespec time;
        if (ppoll(waits, WAITS, sleep_of(net, more, &time), NULL) < 0 && errno != EINTR) {
            virtio_device_broken(&net->device, "the host's poll failed");
            break;
        }
        for (unsigned i = 0; i < NET_QUEUES; i++)
            if (waits[i].revents)
                (void)virtio_device_kick_clear(&net->device, i);
        const short failed = waits[BACKEND].revents & (POLLERR | POLLHUP | POLLNVAL);
        const bool send = more || net->tx_wait_ns > 0 || waits[NET_TX_QUEUE].revents ||
                          (waits[BACKEND].revents & POLLOUT) || failed;
        const bool receive = more || net->rx_wait_ns > 0 || waits[NET_RX_QUEUE].revents ||
                             (waits[BACKEND].revents & POLLIN) || failed;
        more = send && net_tx_turn(net);
        if (receive && net_rx_turn(net))
            more = true;
    }
    return NULL;
}

static int activate(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    __atomic_store_n(&net->stopping, 0, __ATOMIC_RELEASE);
    net->tx_blocked = false;
    net->rx_starved = false;
    net->rx_wait_ns = 0;
    net->tx_wait_ns = 0;
    rate_idle(&net->rx_rate);
    rate_idle(&net->tx_rate);
    int error = 0;
    if (net->backend.ops->configure && !is_gone(net))
        error = net->backend.ops->configure(&net->backend, device->driver_features);
    if (error || net->serve_by_hand)
        return error;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's and the vCPUs' */
    error = -jail_spawn(&net->thread, run, net);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    net->thread_running = error == 0;
    return error;
}

/* The thread ends once the frame in its hands is moved. */
static void pause_serving(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    __atomic_store_n(&net->stopping, 1, __ATOMIC_RELEASE);
    if (!net->thread_running)
        return;
    virtio_device_kick(device, NET_TX_QUEUE);
    (void)pthread_join(net->thread, NULL);
    net->thread_running = false;
}

static void reset(struct virtio_device *device)
{
    pause_serving(device);
    net_of(device)->buffered_bytes = 0; /* its offloads may not be the next driver's */
    net_of(device)->rx_window = 1;
}

static void config_read(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
    const struct virtio_net *net = net_of(device);
    struct virtio_net_config config = net->config;
    config.status = __atomic_load_n(&net->link_up, __ATOMIC_ACQUIRE) ? VIRTIO_NET_S_LINK_UP : 0;
    virtio_config_copy(&config, sizeof config, offset, data, size);
}

static const struct virtio_kind kind = {
    .id = VIRTIO_ID_NET,
    .name = "virtio-net",
    .queue_count = NET_QUEUES,
    .queue_size_max = NET_QUEUE_SIZE,
    .activate = activate,
    .reset = reset,
    .pause = pause_serving,
    .config_read = config_read,
};

static int check_plan(const struct virtio_net_plan *plan)
{
    static const uint8_t nobody[VIRTIO_NET_MAC_BYTES];
    if (plan->mtu != 0 && plan->mtu < MTU_MIN) {
        log_error("virtio-net: an MTU of %u bytes is too small: give %u to 65535", plan->mtu, MTU_MIN);
        return -EINVAL;
    }
    if ((plan->mac[0] & 1) || memcmp(plan->mac, nobody, sizeof nobody) == 0) {
        log_error("virtio-net: the MAC address is a group's or zero: give one whose first byte is even");
        return -EINVAL;
    }
    return 0;
}

/* Tell the guest an MTU; 0: none. */
static void offer_mtu(struct virtio_net *net, uint16_t mtu)
{
    net->config.mtu = mtu;
    net->device.offered_features &= ~BIT(VIRTIO_NET_F_MTU);
    if (mtu)
        net->device.offered_features |= BIT(VIRTIO_NET_F_MTU);
}

int virtio_net_init(struct virtio_net *net, const struct guest_memory *memory,
                    const struct net_backend *backend, const struct virtio_net_plan *plan)
{
    struct net_backend owned = *backend;
    int error = check_plan(plan);
    *net = (struct virtio_net){.open = !plan->shut, .link_up = true, .rx_window = 1};
    net->buffer = error ? NULL : malloc(VIRTIO_NET_HEADER_BYTES + VIRTIO_NET_FRAME_MAX);
    if (error == 0 && !net->buffer)
        error = -ENOMEM;
    if (error == 0)
        error = virtio_device_init(&net->device, &kind, memory,
                                   FEATURES | (owned.ops->features & offload_bits()));
    if (error) {
        free(net->buffer);
        net->buffer = NULL;
        owned.ops->close(&owned);
        return error;
    }
    rate_init(&net->rx_rate);
    rate_init(&net->tx_rate);
    net->backend = owned;
    memcpy(net->config.mac, plan->mac, sizeof plan->mac);
    offer_mtu(net, plan->mtu);
    return 0;
}

void virtio_net_fini(struct virtio_net *net)
{
    virtio_device_fini(&net->device);
    rate_fini(&net->rx_rate);
    rate_fini(&net->tx_rate);
    net->backend.ops->close(&net->backend);
    free(net->buffer);
    net->buffer = NULL;
}

void virtio_net_set_rate(struct virtio_net *net, const struct rate_limits *rx, const struct rate_limits *tx)
{
    if (rx)
        rate_change(&net->rx_rate, rx);
    if (tx)
        rate_change(&net->tx_rate, tx);
    virtio_device_kick(&net->device, NET_RX_QUEUE); /* what waits is looked at anew */
    virtio_device_kick(&net->device, NET_TX_QUEUE);
}

void virtio_net_save(struct virtio_net *net, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 6);
    state_put_uint(out, "mtu", net->config.mtu);
    state_put_bool(out, "link_up", __atomic_load_n(&net->link_up, __ATOMIC_ACQUIRE));
    state_put_uint(out, "offloads", offloads_of(net));
    rate_save(&net->rx_rate, out, "rx_rate");
    rate_save(&net->tx_rate, out, "tx_rate");
    virtio_device_save(&net->device, out, "device");
}

/* Refuse offloads that this back end does not have, by their names. */
static void refuse_missing(const struct virtio_net *net, uint64_t wanted, struct state_reader *in)
{
    const uint64_t missing = wanted & ~net->device.offered_features;
    char names[96] = "";
    size_t at = 0;
    for (unsigned i = 0; i < OFFLOAD_COUNT; i++)
        if (missing & BIT(offloads[i].feature))
            at += (size_t)snprintf(names + at, sizeof names - at, " %s", offloads[i].name);
    if (missing)
        state_refuse(in, "offloads", "the guest relies on%s, which a %s back end cannot take",
                     at ? names : " what is none", net->backend.ops->name);
}

void virtio_net_load(struct virtio_net *net, struct state_reader *in, const char *key)
{
    state_get_map(in, key, 6);
    const uint16_t mtu = (uint16_t)state_get_uint(in, "mtu", 0, UINT16_MAX);
    if (mtu != 0 && mtu < MTU_MIN)
        state_refuse(in, "mtu", "%u, which is less than %u", mtu, MTU_MIN);
    const bool link_up = state_get_bool(in, "link_up");
    const uint64_t wanted = state_get_uint(in, "offloads", 0, UINT64_MAX);
    refuse_missing(net, wanted, in);
    rate_load(&net->rx_rate, in, "rx_rate");
    rate_load(&net->tx_rate, in, "tx_rate");
    if (!in->failed)
        offer_mtu(net, mtu);
    virtio_device_load(&net->device, in, "device");
    if (!in->failed && offloads_of(net) != wanted)
        state_refuse(in, "offloads", "0x%llx, where the device's driver_features are 0x%llx",
                     (unsigned long long)wanted, (unsigned long long)net->device.driver_features);
    state_end(in);
    if (in->failed)
        __atomic_store_n(&net->device.active, false, __ATOMIC_RELEASE);
    else if (net->device.active && link_up != __atomic_load_n(&net->link_up, __ATOMIC_ACQUIRE))
        virtio_device_config_changed(&net->device); /* the interrupt is repeated when it is revived */
}
