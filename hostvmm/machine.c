/* See machine.h: the devices, and the guest's kernel in its memory. files.c opens what it is made of. */
#include "hostvmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"

static int report(const char *what, int error)
{
    if (error)
        log_error("cannot set up %s: %s", what, strerror(-error));
    return error;
}

static int add_platform(struct machine *machine, struct loop *loop, const struct lifecycle_ops *ops,
                        void *context)
{
    struct vm *vm = &machine->vm;
    const struct arch_slot port = arch_serial_slot();
    int error = serial_init(&machine->serial, &console_serial_ops, &machine->console);
    if (error)
        return report("the serial port", error);
    machine->has_serial = true;
    error = vm_irq_line(vm, port.gsi, &machine->serial.irq);
    if (error == 0)
        error =
            bus_add(&vm->ports, port.base, SERIAL_PORT_BYTES, &serial_bus_ops, &machine->serial, "serial");
    if (error == 0)
        error = console_attach(&machine->console, &machine->serial, loop);
    if (error)
        return report("the serial port", error);
    lifecycle_init(&machine->lifecycle, ops, context);
    error = bus_add(&vm->ports, arch_lifecycle_slot().base, LIFECYCLE_BYTES, &lifecycle_bus_ops,
                    &machine->lifecycle, "lifecycle");
    if (error == 0)
        error = bus_add(&vm->ports, arch_keyboard_slot().base, 1, &lifecycle_keyboard_ops,
                        &machine->lifecycle, "keyboard");
    if (error)
        return report("the lifecycle ports", error);
    error = vmgenid_init(&machine->vmgenid, &vm->memory, arch_vmgenid_address());
    if (error == 0)
        error = vm_irq_line(vm, arch_event_slot().gsi, &machine->vmgenid.irq);
    return report("the generation id", error);
}

/* Give a device its window, interrupt and notifications. */
static int attach(struct machine *machine, struct virtio_device *device)
{
    struct vm *vm = &machine->vm;
    const struct arch_slot slot = arch_virtio_slot(machine->virtio_count);
    if (machine->virtio_count == ARCH_VIRTIO_SLOTS_MAX)
        return -ENOSPC;
    int error = vm_irq_line(vm, slot.gsi, &device->irq);
    for (unsigned i = 0; i < device->kind->queue_count && error == 0; i++)
        error = vm_notify_fd(vm, slot.base + VIRTIO_MMIO_NOTIFY, i, device->notify_fds[i]);
    if (error == 0)
        error = bus_add(&vm->mmio, slot.base, VIRTIO_MMIO_WINDOW_BYTES, &virtio_mmio_bus_ops, device,
                        device->kind->name);
    if (error == 0)
        machine->virtio_count++;
    return report(device->kind->name, error);
}

static int make_drives(struct machine *machine)
{
    for (unsigned i = 0; i < machine->made.drive_count; i++) {
        const struct snapshot_drive *made = &machine->made.drives[i];
        struct virtio_blk *drive = &machine->drives[i];
        const int fd = machine->files.drives[i];
        machine->files.drives[i] = -1; /* the device's from here on */
        const int error = virtio_blk_init(drive, &machine->vm.memory, fd, made->read_only, made->id);
        if (error)
            return report("a drive", error);
        machine->drive_count = i + 1;
    }
    return 0;
}

static int make_vsock(struct machine *machine, const char *path, struct loop *loop)
{
    const int error =
        virtio_vsock_init(&machine->vsock, &machine->vm.memory, loop, path, machine->made.vsock_cid);
    if (error)
        return error; /* logged there */
    machine->has_vsock = true;
    return 0;
}

static int make_rng(struct machine *machine, struct loop *loop)
{
    const int error = virtio_rng_init(&machine->rng, &machine->vm.memory, loop);
    if (error)
        return report("the entropy device", error);
    machine->has_rng = true;
    return 0;
}

/* After the others, so that a machine without any is as it always was. A clone's are shut until the clone
 * announces itself, which its agent does. */
static int make_nets(struct machine *machine)
{
    const bool shut = machine->origin && machine->made.agent;
    for (unsigned i = 0; i < machine->made.network.count; i++) {
        struct virtio_net *net = &machine->nets[i];
        const struct net_backend backend = machine->files.nets[i];
        struct virtio_net_plan plan = {.mtu = machine->files.net_mtus[i], .shut = shut};
        memcpy(plan.mac, machine->made.network.at[i].mac, sizeof plan.mac);
        machine->files.nets[i].ops = NULL; /* the device's from here on */
        const int error = virtio_net_init(net, &machine->vm.memory, &backend, &plan);
        if (error)
            return report("a network interface", error);
        machine->net_count = i + 1;
    }
    return 0;
}

/* The last, for the same reason. */
static int make_balloon(struct machine *machine, struct loop *loop)
{
    if (!machine->made.balloon.on)
        return 0;
    const int error =
        virtio_balloon_init(&machine->balloon, &machine->vm.memory, loop, &machine->made.balloon);
    if (error)
        return report("the balloon", error);
    virtio_balloon_set_hold(&machine->balloon, &machine_hold_ops, machine);
    machine->has_balloon = true;
    return 0;
}

/* What of the devices needs no VM: their sockets, threads and descriptors. */
static int make_devices(struct machine *machine, const struct config *config, struct loop *loop)
{
    int error = make_drives(machine);
    if (error == 0 && machine->made.vsock_cid)
        error = make_vsock(machine, config->vsock ? config->vsock_path : NULL, loop);
    if (error == 0 && machine->made.rng)
        error = make_rng(machine, loop);
    if (error == 0)
        error = make_nets(machine);
    return error ? error : make_balloon(machine, loop);
}

/* Everything but the processors and what the memory holds: the same for a boot and a restore. */
static int add_devices(struct machine *machine, struct loop *loop, const struct lifecycle_ops *ops,
                       void *context)
{
    int error = add_platform(machine, loop, ops, context);
    for (unsigned i = 0; i < machine->drive_count && error == 0; i++)
        error = attach(machine, &machine->drives[i].device);
    if (error == 0 && machine->has_vsock)
        error = attach(machine, &machine->vsock.device);
    if (error == 0 && machine->has_rng)
        error = attach(machine, &machine->rng.device);
    for (unsigned i = 0; i < machine->net_count && error == 0; i++)
        error = attach(machine, &machine->nets[i].device);
    if (error == 0 && machine->has_balloon)
        error = attach(machine, &machine->balloon.device);
    return error;
}

/* "console=... rekindle.exit_port=..." and what the user adds, which comes last and so counts. */
static int make_command_line(const struct machine *machine, const struct config *config, uint32_t kernel_max,
                             char *line, size_t size)
{
    struct bootargs bootargs = config->bootargs;
    const char *given = config->cmdline ? config->cmdline : "";
    if (config->bare_cmdline && strlen(given) < size && strlen(given) <= kernel_max) {
        memcpy(line, given, strlen(given) + 1);
        return 0;
    }
    _Static_assert(sizeof bootargs.net == sizeof machine->network_text, "a network fits its argument");
    if (machine->made.agent)
        memcpy(bootargs.net, machine->network_text, sizeof bootargs.net);
    bootargs.exit_port = (uint16_t)arch_lifecycle_slot().base;
    /* panic=-1: a panic resets at once, which we report; without it the guest would halt for good.
     * rcu_expedited: mounting and moving roots waits for RCU several times; at 100 ticks a second these waits
     * are half of the time from the kernel's start to a ready function. init_on_free: what is freed is zero,
     * so that a snapshot holds neither its bytes nor its secrets. slub_max_order: an object of the kernel's
     * lies in one page and not across two, and a clone that writes to it has one page less of its own, a
     * hundred KiB in all. thash_entries: a clone that looks for its original's connections walks the kernel's
     * whole table of them, which Linux makes the larger the more memory there is. no-kvmapf: a restored guest
     * gets an interrupt at once for page faults that it might have waited for, and has none. A guest that is
     * not ours gets nothing of that, nor silence. page_reporting_order: by itself Linux reports blocks of 4
     * MiB, and only while there are 32 of them, which a small guest never has; huge pages go back only whole.
     */
    (void)snprintf(line, size, "console=ttyS0 panic=-1%s%s",
                   config->initrd ? ""
                                  : " quiet rcupdate.rcu_expedited=1 init_on_free=1 slub_max_order=0"
                                    " thash_entries=256 no-kvmapf",
                   config->initrd || config->huge_pages || !config->balloon.free_page_reporting
                       ? ""
                       : " page_reporting.page_reporting_order=5");
    int error = bootargs_encode(&bootargs, line, size);
    const size_t used = strlen(line);
    if (error == 0 && config->cmdline &&
        (size_t)snprintf(line + used, size - used, " %s", config->cmdline) >= size - used)
        error = -ENOSPC;
    if (error == 0 && strlen(line) > kernel_max)
        error = -ENOSPC;
    if (error)
        log_error("the kernel's command line would be longer than %u bytes; shorten --cmdline or --net",
                  kernel_max);
    return error;
}

static int load_kernel(struct machine *machine, const struct config *config)
{
    char line[ARCH_COMMAND_LINE_MAX];
    struct gpa initrd_at;
    uint64_t needed_bytes;
    const struct machine_files *files = &machine->files;
    struct vm *vm = &machine->vm;
    if (boot_place_initrd(&files->plan, &vm->memory, files->initrd.size_bytes, &initrd_at, &needed_bytes)) {
        log_error("%u MiB of memory are too small for kernel %s and its initrd: they need %llu MiB before "
                  "anything runs; give more with --memory",
                  config->memory_mib, config->kernel, (unsigned long long)(needed_bytes / ARCH_MIB));
        return HOSTVMM_EXIT_INPUT;
    }
    if (make_command_line(machine, config, files->plan.command_line_max, line, sizeof line))
        return HOSTVMM_EXIT_USAGE;
    int error = boot_load_kernel(&files->plan, files->kernel, &vm->memory);
    if (error == 0 && files->initrd.size_bytes > 0)
        error = boot_load_initrd(&files->initrd, &vm->memory, initrd_at);
    if (error) {
        log_error("cannot load %s or its initrd: %s", config->kernel,
                  error == -EPIPE ? "the file became shorter" : strerror(-error));
        return HOSTVMM_EXIT_INPUT;
    }
    const struct arch_boot_info info = {
        .kernel = &files->plan,
        .command_line = line,
        .initrd = initrd_at,
        .initrd_bytes = files->initrd.size_bytes,
        .virtio_count = machine->virtio_count,
    };
    if (arch_boot(vm, &info))
        return HOSTVMM_EXIT_HOST;
    boot_use_huge_pages(&files->plan, &vm->memory);
    return 0;
}

static struct vm_plan plan_of(struct machine *machine, const struct config *config, struct loop *loop)
{
    const struct vm_plan plan = {
        .kvm_fd = machine->files.kvm,
        .memory_bytes = machine->made.memory_bytes,
        .vcpu_count = machine->made.vcpu_count,
        .loop = loop,
        .cpu_baseline = config->cpu_baseline,
        .huge_pages = config->huge_pages,
    };
    return plan;
}

static int init_vm(struct machine *machine, const struct vm_plan *plan)
{
    machine->has_vm = true;
    machine->files.kvm = -1; /* the VM's from here on */
    const int error = vm_init(&machine->vm, plan);
    if (error == 0) {
        machine->vm.memory.pagemap_fd = machine->files.pagemap;
        machine->files.pagemap = -1;
    }
    return error;
}

int machine_build(struct machine *machine, const struct config *config, struct loop *loop,
                  const struct lifecycle_ops *ops, void *context)
{
    const struct vm_plan plan = plan_of(machine, config, loop);
    int error = make_devices(machine, config, loop);
    if (error == 0)
        error = init_vm(machine, &plan);
    if (error == 0)
        error = add_devices(machine, loop, ops, context);
    if (error)
        return HOSTVMM_EXIT_HOST;
    machine_apply_rates(machine);
    return load_kernel(machine, config);
}

int machine_restore(struct machine *machine, const struct config *config, struct loop *loop,
                    const struct lifecycle_ops *ops, void *context)
{
    static struct guest_run runs[SNAPSHOT_RUNS_MAX];
    struct snapshot *snapshot = machine->origin;
    struct vm_plan plan = plan_of(machine, config, loop);
    plan.runs = runs;
    plan.run_count = snapshot_runs(snapshot, runs);
    arch_restore_prepare();
    int error = make_devices(machine, config, loop);
    if (error == 0)
        error = init_vm(machine, &plan);
    machine->created_ns = clock_monotonic_ns();
    if (error == 0)
        error = add_devices(machine, loop, ops, context);
    return error ? HOSTVMM_EXIT_HOST : 0;
}

int machine_reload(struct machine *machine)
{
    struct snapshot *snapshot = machine->origin;
    machine_load(machine, &snapshot->state);
    if (state_reader_finish(&snapshot->state)) {
        log_error("snapshot %s: state: %s", snapshot->path, snapshot->state.why);
        return HOSTVMM_EXIT_INPUT;
    }
    if (snapshot->prefetch)
        prefetch_apply(snapshot->prefetch, &machine->vm.memory, machine->vm.vcpus[0].fd);
    machine_apply_rates(machine);
    memcpy(machine->last_id, snapshot->id, SNAPSHOT_ID_BYTES);
    machine->has_last = true;
    return 0;
}

void machine_fini(struct machine *machine)
{
    if (machine->has_balloon)
        virtio_balloon_fini(&machine->balloon);
    while (machine->net_count > 0)
        virtio_net_fini(&machine->nets[--machine->net_count]);
    machine_close_nets(machine);
    if (machine->has_rng)
        virtio_rng_fini(&machine->rng);
    if (machine->has_vsock)
        virtio_vsock_fini(&machine->vsock);
    while (machine->drive_count > 0)
        virtio_blk_fini(&machine->drives[--machine->drive_count]);
    console_fini(&machine->console);
    if (machine->has_serial)
        serial_fini(&machine->serial);
    if (machine->has_vm)
        vm_fini(&machine->vm);
    for (unsigned i = 0; i < MACHINE_DRIVES_MAX; i++)
        fd_close(&machine->files.drives[i]);
    fd_close(&machine->files.initrd.fd);
    fd_close(&machine->files.kernel);
    fd_close(&machine->files.kvm);
    fd_close(&machine->files.pagemap);
}
