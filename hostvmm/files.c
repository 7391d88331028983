/*
 * The files a machine is made of, opened and checked before there is a VM: what is wrong with an input is
 * said before anything has been done with it. See machine.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int open_drives(struct machine_files *files, const struct config *config)
{
    unsigned index = 0;
    int failed = 0;
    if (config->rootfs)
        failed = open_root(files, config->rootfs);
    if (config->rootfs)
        index++;
    for (unsigned i = 0; i < config->drive_count && failed == 0; i++) {
        const struct config_drive *drive = &config->drives[i];
        if (virtio_blk_open(drive->path, drive->read_only, &files->drives[index++]) < 0)
            failed = HOSTVMM_EXIT_INPUT;
    }
    return failed;
}

int machine_open(struct machine *machine, const struct config *config)
{
    struct machine_files *files = &machine->files;
    files->kvm = -1;
    files->kernel = -1;
    files->initrd.fd = -1;
    for (unsigned i = 0; i < MACHINE_DRIVES_MAX; i++)
        files->drives[i] = -1;
    /* First, so that it can be undone whatever fails after it. */
    int failed =
        console_init(&machine->console, config->console, config->console_path) ? HOSTVMM_EXIT_HOST : 0;
    if (failed == 0)
        failed = open_kernel(files, config->kernel);
    if (failed == 0)
        failed = open_initrd(files, config);
    if (failed == 0)
        failed = open_drives(files, config);
    if (failed == 0 && (files->kvm = vm_open_kvm()) < 0) {
        files->kvm = -1;
        failed = HOSTVMM_EXIT_HOST;
    }
    return failed;
}
