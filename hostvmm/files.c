/*
 * The files a machine is made of, opened and checked before there is a VM: what is wrong with an input is
 * said before anything has been done with it. See machine.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/boot/image.h"
#include "hostvmm/exit.h"
#include "hostvmm/machine.h"

static int open_input(const char *path, const char *what, int *fd)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (*fd >= 0)
        return 0;
    log_error("cannot open %s %s: %s", what, path, strerror(errno));
    return HOSTVMM_EXIT_INPUT;
}

static int open_kernel(struct machine_files *files, const char *path)
{
    struct kernel_error error;
    if (open_input(path, "kernel", &files->kernel))
        return HOSTVMM_EXIT_INPUT;
    const int refused = kernel_parse_file(files->kernel, &files->plan, &error);
    if (refused == 0)
        return 0;
    log_error("kernel %s: %s", path, refused == -ENOEXEC || error.text[0] ? error.text : strerror(-refused));
    return HOSTVMM_EXIT_INPUT;
}

static int open_initrd(struct machine_files *files, const struct config *config)
{
    struct stat status;
    if (!config->initrd) {
        if (config->rootfs) {
            files->initrd.data = boot_initramfs;
            files->initrd.size_bytes = (uint64_t)(boot_initramfs_end - boot_initramfs);
        }
        return 0;
    }
    if (open_input(config->initrd, "initrd", &files->initrd.fd))
        return HOSTVMM_EXIT_INPUT;
    if (fstat(files->initrd.fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
        log_error("initrd %s: not a regular file with something in it", config->initrd);
        return HOSTVMM_EXIT_INPUT;
    }
    files->initrd.size_bytes = (uint64_t)status.st_size;
    return 0;
}

static int check_root_image(int fd, const char *path)
{
    uint8_t head[IMAGE_HEAD_BYTES] = {0};
    char why[160];
    const off_t size = lseek(fd, 0, SEEK_END); /* of a block device as well */
    if (size < 0 || pread(fd, head, sizeof head, 0) < 0) {
        log_error("root image %s: cannot be read: %s", path, strerror(errno));
        return HOSTVMM_EXIT_INPUT;
    }
    if (image_check(head, (uint64_t)size, why, sizeof why))
        return 0;
    log_error("root image %s: %s", path, why);
    return HOSTVMM_EXIT_INPUT;
}

/* The root image is judged by its contents before the drive's own rules (a sector at least) are. */
static int open_root(struct machine_files *files, const char *path)
{
    int fd;
    int failed = open_input(path, "root image", &fd);
    if (failed)
        return failed;
    failed = check_root_image(fd, path);
    (void)close(fd);
    if (failed == 0 && virtio_blk_open(path, true, &files->drives[0]) < 0)
        failed = HOSTVMM_EXIT_INPUT; /* logged there */
    return failed;
}

/* An absolute path, as a snapshot names it; as it was given where there is none. */
static void note_path(char to[CONFIG_PATH_MAX + 1], const char *path)
{
    char *real = realpath(path, NULL);
    const char *name = real && strlen(real) <= CONFIG_PATH_MAX ? real : path;
    (void)snprintf(to, CONFIG_PATH_MAX + 1, "%.*s", CONFIG_PATH_MAX, name);
    free(real);
}

static int open_drives(struct machine *machine, const struct config *config)
{
    struct snapshot_machine *made = &machine->made;
    int failed = 0;
    if (config->rootfs) {
        struct snapshot_drive *drive = &made->drives[made->drive_count++];
        *drive = (struct snapshot_drive){.id = "rootfs", .read_only = true, .root = true};
        note_path(drive->path, config->rootfs);
        failed = open_root(&machine->files, config->rootfs);
    }
    for (unsigned i = 0; i < config->drive_count && failed == 0; i++) {
        const struct config_drive *given = &config->drives[i];
        const unsigned index = made->drive_count++;
        struct snapshot_drive *drive = &made->drives[index];
        *drive = (struct snapshot_drive){.read_only = given->read_only};
        memcpy(drive->id, given->id, sizeof drive->id);
        note_path(drive->path, given->path);
        if (virtio_blk_open(given->path, given->read_only, &machine->files.drives[index]) < 0)
            failed = HOSTVMM_EXIT_INPUT;
    }
    return failed;
}

static void no_files(struct machine_files *files)
{
    files->kernel = files->kvm = files->pagemap = -1;
    files->initrd.fd = -1;
    for (unsigned i = 0; i < NETWORK_INTERFACES_MAX; i++)
        files->nets[i].ops = NULL;
    for (unsigned i = 0; i < MACHINE_DRIVES_MAX; i++)
        files->drives[i] = -1;
}

int machine_open(struct machine *machine, const struct config *config)
{
    struct machine_files *files = &machine->files;
    no_files(files);
    machine->config = config;
    machine->made = (struct snapshot_machine){
        .memory_bytes = (uint64_t)config->memory_mib * ARCH_MIB,
        .vcpu_count = config->cpus,
        .rng = config->rng,
        .balloon = config->balloon,
        /* Whoever wants snapshots of it speaks to its agent, with or without a socket for others. */
        .vsock_cid =
            config->vsock || config->control || config->command == CONFIG_SNAPSHOT ? config->vsock_cid : 0,
        .agent = config->rootfs && !config->initrd,
    };
    /* First, so that it can be undone whatever fails after it. */
    int failed =
        console_init(&machine->console, config->console, config->console_path) ? HOSTVMM_EXIT_HOST : 0;
    if (failed == 0)
        failed = open_kernel(files, config->kernel);
    if (failed == 0)
        failed = open_initrd(files, config);
    if (failed == 0)
        failed = open_drives(machine, config);
    if (failed == 0)
        failed = machine_open_nets(machine, config, NULL);
    return failed ? failed : machine_check_rates(machine);
}

/* ---- restore ---- */

static const struct config_drive *given_for(const struct config *config, const char *id)
{
    for (unsigned i = 0; i < config->drive_count; i++)
        if (strcmp(config->drives[i].id, id) == 0)
            return &config->drives[i];
    return NULL;
}

/* Every --drive must name one that the snapshot has. */
static int check_given(const struct config *config, const struct snapshot *snapshot)
{
    for (unsigned i = 0; i < config->drive_count; i++) {
        bool found = false;
        for (unsigned j = 0; j < snapshot->machine.drive_count; j++)
            found = found || strcmp(config->drives[i].id, snapshot->machine.drives[j].id) == 0;
        if (found)
            continue;
        log_error("--drive %s,id=%s: snapshot %s has no drive of that id", config->drives[i].path,
                  config->drives[i].id, snapshot->path);
        return HOSTVMM_EXIT_INPUT;
    }
    return 0;
}

/* What a clone may write is its own. What it may only read can be what the snapshot's guest read. */
static int reopen_drive(const struct config *config, const struct snapshot *snapshot, unsigned index, int *fd)
{
    const struct snapshot_drive *drive = &snapshot->machine.drives[index];
    const struct config_drive *given = given_for(config, drive->id);
    if (!given && !drive->read_only) {
        log_error("snapshot %s: drive %s is written by the guest: give this clone a copy of its own, as the "
                  "drive was "
                  "when the snapshot was taken, with --drive FILE,id=%s",
                  snapshot->path, drive->id, drive->id);
        return HOSTVMM_EXIT_INPUT;
    }
    if (given && given->read_only && !drive->read_only) {
        log_error(
            "--drive %s,ro,id=%s: the guest of snapshot %s writes to this drive: it cannot be read-only",
            given->path, drive->id, snapshot->path);
        return HOSTVMM_EXIT_INPUT;
    }
    return virtio_blk_open(given ? given->path : drive->path, drive->read_only, fd) < 0 ? HOSTVMM_EXIT_INPUT
                                                                                        : 0;
}

int machine_open_restore(struct machine *machine, const struct config *config, struct snapshot *snapshot)
{
    struct machine_files *files = &machine->files;
    no_files(files);
    machine->config = config;
    snapshot_machine_copy(&machine->made, &snapshot->machine);
    machine->origin = snapshot;
    int failed =
        console_init(&machine->console, config->console, config->console_path) ? HOSTVMM_EXIT_HOST : 0;
    if (failed == 0)
        failed = check_given(config, snapshot);
    if (failed == 0 && config->vsock && !snapshot->machine.vsock_cid) {
        log_error("--vsock %s: the guest of snapshot %s has no vsock device", config->vsock_path,
                  snapshot->path);
        failed = HOSTVMM_EXIT_INPUT;
    }
    for (unsigned i = 0; i < snapshot->machine.drive_count && failed == 0; i++)
        failed = reopen_drive(config, snapshot, i, &files->drives[i]);
    if (failed == 0)
        failed = machine_open_nets(machine, config, snapshot);
    return failed ? failed : machine_check_rates(machine);
}
