/*
 * A machine's network interfaces before there is a VM: which they are, and what is behind each. See
 * machine.h.
 *
 * A guest that boots has what the command line says. A clone has the interfaces of its snapshot, each over a
 * back end of its own, under a MAC address of its own; of the items, those of a kind that is given replace
 * the snapshot's of that kind. Nothing of the old back ends is opened again: two guests on one TAP device
 * would be twins for every neighbour.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/device/net/backend.h"
#include "hostvmm/exit.h"
#include "hostvmm/machine.h"

#define MTU_DEFAULT   1500u /* of a device that does not say */
#define DEVICES_FIXED 2u    /* vsock, entropy */

/* One that nobody else has: locally administered, unicast, 46 random bits. */
static int make_mac(struct network_interface *interface)
{
    uint8_t *mac = interface->mac;
    if (getrandom(mac, NETWORK_MAC_BYTES, 0) != NETWORK_MAC_BYTES)
        return -EIO;
    mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
    interface->has_mac = true;
    return 0;
}

static int open_backend(struct net_backend *backend, const struct config_net *given)
{
    switch (given->backend) {
    case CONFIG_BACKEND_TAP:
        return net_tap_open(backend, given->name);
    case CONFIG_BACKEND_TAP_FD:
        return net_tap_take(backend, given->fd);
    case CONFIG_BACKEND_STREAM:
        return net_stream_open(backend, given->name);
    case CONFIG_BACKEND_NONE:
        return net_none_open(backend);
    case CONFIG_BACKEND_NOTHING:
        break;
    }
    return -EINVAL;
}

/* What is given replaces all of its kind. */
static void replace_items(struct network_interface *interface, const struct network_interface *given)
{
    if (given->mtu)
        interface->mtu = given->mtu;
    if (given->address_count > 0) {
        memcpy(interface->addresses, given->addresses, sizeof interface->addresses);
        interface->address_count = given->address_count;
    }
    if (given->gateway4.family || given->gateway6.family) {
        interface->gateway4 = given->gateway4;
        interface->gateway6 = given->gateway6;
    }
    if (given->dns_count > 0) {
        memcpy(interface->dns, given->dns, sizeof interface->dns);
        interface->dns_count = given->dns_count;
    }
}

/* The clone's interface `index`. 0 or an exit code, logged. */
static int renew_interface(struct machine *machine, const struct config *config,
                           const struct snapshot *snapshot, unsigned index)
{
    struct network_interface *interface = &machine->made.network.at[index];
    const struct network_interface *given = &config->nets[index].items;
    const unsigned most = interface->mtu ? interface->mtu : MTU_DEFAULT;
    if (given->mtu > most) {
        log_error("--net %s: mtu=%u: interface eth%u of snapshot %s was made for at most %u",
                  config->nets[index].text, given->mtu, index, snapshot->path, most);
        return HOSTVMM_EXIT_INPUT;
    }
    machine->files.net_mtus[index] = interface->mtu;
    replace_items(interface, given);
    memcpy(interface->mac, given->mac, sizeof interface->mac);
    interface->has_mac = given->has_mac;
    return 0;
}

/* One --net for each of the snapshot's interfaces. */
static int check_count(const struct config *config, const struct snapshot *snapshot)
{
    const unsigned count = snapshot->machine.network.count;
    if (config->net_count > count) {
        log_error("--net %s: the guest of snapshot %s has %u network interfaces, and this would be another",
                  config->nets[count].text, snapshot->path, count);
        return HOSTVMM_EXIT_INPUT;
    }
    if (config->net_count == count)
        return 0;
    log_error("snapshot %s: the guest has the network interface eth%u: say what is behind the clone's, a "
              "back end of its own, with --net tap=NAME, tap-fd=N, stream=PATH or none",
              snapshot->path, config->net_count);
    return HOSTVMM_EXIT_INPUT;
}

static int open_interface(struct machine *machine, const struct config *config, unsigned index)
{
    struct network_interface *interface = &machine->made.network.at[index];
    struct net_backend *backend = &machine->files.nets[index];
    if (!interface->has_mac && make_mac(interface)) {
        log_error("no random MAC address can be had for eth%u", index);
        return HOSTVMM_EXIT_HOST;
    }
    const int error = open_backend(backend, &config->nets[index]);
    if (error)
        backend->ops = NULL; /* logged there */
    if (error && config->nets[index].backend == CONFIG_BACKEND_NONE)
        log_error("no back end for eth%u: %s", index, strerror(-error));
    return error ? HOSTVMM_EXIT_INPUT : 0;
}

/* What the guest will be told, and a snapshot says: one line. */
static int make_text(struct machine *machine)
{
    struct network *network = &machine->made.network;
    struct network parsed;
    char why[NETWORK_WHY_BYTES] = "longer than 1024 bytes: leave something out";
    if (network_format(network, machine->network_text, sizeof machine->network_text) >= 0 &&
        network_parse(&parsed, machine->network_text, strlen(machine->network_text), why) == 0)
        return 0;
    log_error("--net: what all of them say together: %s", why);
    return HOSTVMM_EXIT_INPUT;
}

int machine_open_nets(struct machine *machine, const struct config *config, const struct snapshot *snapshot)
{
    struct network *network = &machine->made.network;
    int failed = snapshot ? check_count(config, snapshot) : 0;
    if (!snapshot)
        network->count = config->net_count;
    for (unsigned i = 0; i < network->count && failed == 0; i++) {
        if (snapshot) {
            failed = renew_interface(machine, config, snapshot, i);
        } else {
            network->at[i] = config->nets[i].items;
            machine->files.net_mtus[i] = network->at[i].mtu;
        }
        if (failed == 0)
            failed = open_interface(machine, config, i);
    }
    const unsigned fixed = DEVICES_FIXED + machine->made.balloon.on;
    if (failed == 0 && machine->made.drive_count + fixed + network->count > ARCH_VIRTIO_SLOTS_MAX) {
        log_error("%u drives and %u network interfaces%s: the machine has room for %u of both together",
                  machine->made.drive_count, network->count, machine->made.balloon.on ? " and a balloon" : "",
                  ARCH_VIRTIO_SLOTS_MAX - fixed);
        failed = HOSTVMM_EXIT_INPUT;
    }
    return failed ? failed : make_text(machine);
}

void machine_close_nets(struct machine *machine)
{
    for (unsigned i = 0; i < NETWORK_INTERFACES_MAX; i++) {
        struct net_backend *backend = &machine->files.nets[i];
        if (backend->ops && backend->ops->close)
            backend->ops->close(backend);
        backend->ops = NULL;
    }
}
