/* --jail: what of a machine its jail has to know. See run.h and jail/jail.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/jail/jail.h"
#include "hostvmm/run.h"

#define NAMES_MAX      8
#define FILES_ROOM_MIB 64u /* a snapshot's state, and what goes with the memory in its file */

/* The largest file that hostvmm has to write: a snapshot's memory, or a drive. */
static uint64_t largest_file(const struct machine *machine)
{
    uint64_t most = machine->made.memory_bytes + FILES_ROOM_MIB * ARCH_MIB;
    for (unsigned i = 0; i < machine->made.drive_count; i++) {
        const off_t size = machine->files.drives[i] < 0 ? 0 : lseek(machine->files.drives[i], 0, SEEK_END);
        if (size > 0 && (uint64_t)size > most)
            most = (uint64_t)size;
    }
    return most;
}

int run_enter_jail(struct machine *machine, const struct config *config)
{
    const char *sockets[NAMES_MAX];
    const char *files[NAMES_MAX];
    if (!config->jail)
        return 0;
    struct jail_needs needs = {
        .memory_bytes = machine->made.memory_bytes,
        .file_bytes = largest_file(machine),
        .threads = machine->made.vcpu_count + machine->made.drive_count + machine->made.network.count,
        .sockets = sockets,
        .files = files,
        .pagemap_fd = machine->origin ? &machine->files.pagemap : NULL,
    };
    if (config->vsock)
        sockets[needs.socket_count++] = config->vsock_path;
    if (config->control)
        sockets[needs.socket_count++] = config->control;
    if (config->metrics)
        files[needs.file_count++] = config->metrics;
    if (config->timeline)
        files[needs.file_count++] = config->timeline;
    if (config->command == CONFIG_SNAPSHOT)
        files[needs.file_count++] = config->out;
    if (config->command == CONFIG_SNAPSHOT)
        log_info(
            "with --jail there is no rehearsal, which starts a program: the first clones start more slowly");
    if (config->control_fd >= 0)
        (void)fd_set_cloexec(config->control_fd, 1); /* else it is closed as nobody's */
    machine->files.kvm = vm_open_kvm();
    if (machine->files.kvm < 0)
        return HOSTVMM_EXIT_HOST;
    return jail_enter(config->jail, &needs);
}
