/*
 * The limits that a command line gives for a machine's devices (machine.h). They go over those that a clone's
 * devices have from their snapshot, so they are applied when all is loaded.
 */
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/machine.h"

static bool said(const struct rate_wish *wish)
{
    return wish->bandwidth || wish->operations;
}

/* The limits that a device has, and what is said of them besides. */
static struct rate_limits merged(struct rate *rate, const struct rate_wish *wish)
{
    struct rate_limits limits;
    rate_limits_now(rate, &limits);
    rate_wish_apply(wish, &limits);
    return limits;
}

/* What the command line says of the drive: a clone's are named, a booting guest's are in their order. */
static const struct rate_wish *drive_wish(const struct machine *machine, unsigned index)
{
    const struct config *config = machine->config;
    const struct snapshot_drive *drive = &machine->made.drives[index];
    if (drive->root && said(&config->root_rate))
        return &config->root_rate;
    for (unsigned i = 0; i < config->drive_count; i++)
        if (strcmp(config->drives[i].id, drive->id) == 0)
            return &config->drives[i].rate;
    return NULL;
}

int machine_check_rates(const struct machine *machine)
{
    const struct config *config = machine->config;
    bool root = false;
    for (unsigned i = 0; i < machine->made.drive_count; i++)
        root = root || machine->made.drives[i].root;
    const char *missing = said(&config->root_rate) && !root               ? "--rootfs-rate: a root image"
                          : said(&config->rng_rate) && !machine->made.rng ? "--rng-rate: an entropy device"
                                                                          : NULL;
    if (!missing)
        return 0;
    log_error("%s is what the guest does not have", missing);
    return HOSTVMM_EXIT_INPUT;
}

void machine_apply_rates(struct machine *machine)
{
    const struct config *config = machine->config;
    for (unsigned i = 0; i < machine->drive_count; i++) {
        const struct rate_wish *wish = drive_wish(machine, i);
        if (!wish || !said(wish))
            continue;
        const struct rate_limits limits = merged(&machine->drives[i].rate, wish);
        virtio_blk_set_rate(&machine->drives[i], &limits);
    }
    for (unsigned i = 0; i < machine->net_count; i++) {
        const struct config_net *given = &config->nets[i];
        if (!said(&given->rx_rate) && !said(&given->tx_rate))
            continue;
        const struct rate_limits rx = merged(&machine->nets[i].rx_rate, &given->rx_rate);
        const struct rate_limits tx = merged(&machine->nets[i].tx_rate, &given->tx_rate);
        virtio_net_set_rate(&machine->nets[i], &rx, &tx);
    }
    if (machine->has_rng && said(&config->rng_rate)) {
        const struct rate_limits limits = merged(&machine->rng.rate, &config->rng_rate);
        virtio_rng_set_rate(&machine->rng, &limits);
    }
}
