/*
 * What changes of a machine's devices once they are there: their limits, and the files behind its drives. See
 * machine.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int index_of(const struct machine *machine, const char *id)
{
    for (unsigned i = 0; i < machine->drive_count; i++)
        if (strcmp(machine->made.drives[i].id, id) == 0)
            return (int)i;
    return -1;
}

struct virtio_blk *machine_drive(struct machine *machine, const char *id)
{
    const int index = index_of(machine, id);
    return index < 0 ? NULL : &machine->drives[index];
}

/* Whether `path` is the file that the drive has: opened anew, its own lock would keep it out. */
static bool same_file(const struct virtio_blk *drive, const char *path)
{
    struct stat ours, other;
    return fstat(drive->fd, &ours) == 0 && stat(path, &other) == 0 && ours.st_dev == other.st_dev &&
           ours.st_ino == other.st_ino;
}

static int refuse(char *why, size_t why_bytes, const char *id, const char *path, const char *what, int error)
{
    (void)snprintf(why, why_bytes, "drive %s keeps its file: %s: %s", id, path, what);
    return error;
}

int machine_swap_drive(struct machine *machine, const char *id, const char *path, char *why, size_t why_bytes)
{
    const int index = index_of(machine, id);
    int fd = -1;
    if (index < 0) {
        (void)snprintf(why, why_bytes, "the guest has no drive %s", id);
        return -ENOENT;
    }
    struct virtio_blk *drive = &machine->drives[index];
    if (machine->made.drives[index].root)
        return refuse(why, why_bytes, id, path, "the guest runs from it", -EBUSY);
    if (strlen(path) > CONFIG_PATH_MAX)
        return refuse(why, why_bytes, id, path, "want a path of at most 1023 bytes", -ENAMETOOLONG);
    int error = 0;
    if (same_file(drive, path)) {
        fd = fcntl(drive->fd, F_DUPFD_CLOEXEC, 0); /* with the lock */
        error = fd < 0 ? -errno : 0;
    } else {
        error = virtio_blk_open(path, drive->read_only, &fd);
    }
    if (error == 0)
        error = virtio_blk_swap(drive, fd);
    if (error)
        return refuse(why, why_bytes, id, path,
                      error == -EBUSY    ? "in use by another process"
                      : error == -EINVAL ? "no file or block device, or smaller than a sector"
                                         : strerror(-error),
                      error);
    machine_note_path(machine->made.drives[index].path, path);
    return 0;
}
