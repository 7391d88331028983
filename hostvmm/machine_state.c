/*
 * The machine's parts into a snapshot and back: see machine.h. The order is the format's (FORMAT.md,
 * "parts").
 *
 * Loading: the processors' features first, because they can be refused; then everything KVM and the devices
 * hold; the devices come to life last, when a raised interrupt finds a controller that has its state.
 */
#include "agent/base/log.h"
#include "hostvmm/machine.h"

static unsigned virtio_devices(struct machine *machine, struct virtio_device *devices[ARCH_VIRTIO_SLOTS_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < machine->drive_count; i++)
        devices[count++] = &machine->drives[i].device;
    if (machine->has_vsock)
        devices[count++] = &machine->vsock.device;
    if (machine->has_rng)
        devices[count++] = &machine->rng.device;
    for (unsigned i = 0; i < machine->net_count; i++)
        devices[count++] = &machine->nets[i].device;
    if (machine->has_balloon)
        devices[count++] = &machine->balloon.device;
    return count;
}

/* The others are served by the thread that saves. */
int machine_hold(struct machine *machine)
{
    int error = 0;
    for (unsigned i = 0; i < machine->drive_count; i++) {
        const int result = virtio_blk_pause(&machine->drives[i]);
        error = error ? error : result;
    }
    for (unsigned i = 0; i < machine->net_count; i++)
        virtio_device_pause(&machine->nets[i].device);
    return error;
}

void machine_release(struct machine *machine)
{
    for (unsigned i = 0; i < machine->drive_count; i++)
        virtio_blk_unpause(&machine->drives[i]);
    for (unsigned i = 0; i < machine->net_count; i++)
        virtio_device_unpause(&machine->nets[i].device);
}

/* ---- for a device that wants it still for a moment ---- */

static int hold(void *context)
{
    struct machine *machine = context;
    if (vm_is_pausing(&machine->vm))
        return 0; /* and who paused it holds the devices */
    vm_pause(&machine->vm);
    const int error = machine_hold(machine);
    if (error) {
        machine_release(machine);
        vm_go_on(&machine->vm);
    }
    machine->held = error == 0;
    return error;
}

static void release(void *context)
{
    struct machine *machine = context;
    if (!machine->held)
        return;
    machine->held = false;
    machine_release(machine);
    vm_go_on(&machine->vm);
}

const struct virtio_balloon_hold_ops machine_hold_ops = {.hold = hold, .release = release};

/* ---- saving and loading ---- */

static void save_devices(struct machine *machine, struct state_writer *out)
{
    state_put_map(out, "devices", 8);
    serial_save(&machine->serial, out, "serial");
    lifecycle_save(&machine->lifecycle, out, "lifecycle");
    vmgenid_save(&machine->vmgenid, out, "vmgenid");
    state_put_array(out, "drives", machine->drive_count);
    for (unsigned i = 0; i < machine->drive_count; i++)
        virtio_blk_save(&machine->drives[i], out, NULL);
    state_put_array(out, "vsock", machine->has_vsock);
    if (machine->has_vsock)
        virtio_vsock_save(&machine->vsock, out, NULL);
    state_put_array(out, "rng", machine->has_rng);
    if (machine->has_rng)
        virtio_rng_save(&machine->rng, out, NULL);
    state_put_array(out, "nets", machine->net_count);
    for (unsigned i = 0; i < machine->net_count; i++)
        virtio_net_save(&machine->nets[i], out, NULL);
    state_put_array(out, "balloon", machine->has_balloon);
    if (machine->has_balloon)
        virtio_balloon_save(&machine->balloon, out, NULL);
}

int machine_save(struct machine *machine, struct state_writer *out)
{
    struct vm *vm = &machine->vm;
    int error = 0;
    arch_cpu_save(vm, out, "cpu");
    state_put_array(out, "vcpus", vm->vcpu_count);
    for (unsigned i = 0; i < vm->vcpu_count && error == 0; i++)
        error = arch_vcpu_save(&vm->vcpus[i], out, NULL);
    if (error == 0)
        error = arch_vm_save(vm, out, "vm");
    if (error == 0)
        save_devices(machine, out);
    return error;
}

/* The manifest says what there is: the number of elements is no news. */
static void expect_array(struct state_reader *in, const char *key, unsigned wanted)
{
    const unsigned count = state_get_array(in, key, wanted);
    if (!in->failed && count != wanted)
        state_refuse(in, NULL, "%u of them, the machine has %u", count, wanted);
}

static void load_devices(struct machine *machine, struct state_reader *in)
{
    state_get_map(in, "devices", 8);
    serial_load(&machine->serial, in, "serial");
    lifecycle_load(&machine->lifecycle, in, "lifecycle");
    vmgenid_load(&machine->vmgenid, in, "vmgenid");
    expect_array(in, "drives", machine->drive_count);
    for (unsigned i = 0; i < machine->drive_count; i++)
        virtio_blk_load(&machine->drives[i], in, NULL);
    state_end(in);
    expect_array(in, "vsock", machine->has_vsock);
    if (machine->has_vsock)
        virtio_vsock_load(&machine->vsock, in, NULL);
    state_end(in);
    expect_array(in, "rng", machine->has_rng);
    if (machine->has_rng)
        virtio_rng_load(&machine->rng, in, NULL);
    state_end(in);
    expect_array(in, "nets", machine->net_count);
    for (unsigned i = 0; i < machine->net_count; i++)
        virtio_net_load(&machine->nets[i], in, NULL);
    state_end(in);
    expect_array(in, "balloon", machine->has_balloon);
    if (machine->has_balloon)
        virtio_balloon_load(&machine->balloon, in, NULL);
    state_end(in);
    state_end(in);
}

static void revive(struct machine *machine)
{
    struct virtio_device *devices[ARCH_VIRTIO_SLOTS_MAX];
    const unsigned count = virtio_devices(machine, devices);
    for (unsigned i = 0; i < count; i++)
        virtio_device_revive(devices[i]);
    serial_revive(&machine->serial);
}

void machine_load(struct machine *machine, struct state_reader *in)
{
    struct vm *vm = &machine->vm;
    arch_cpu_load(vm, in, "cpu");
    expect_array(in, "vcpus", vm->vcpu_count);
    for (unsigned i = 0; i < vm->vcpu_count && !in->failed; i++)
        arch_vcpu_load(&vm->vcpus[i], in, NULL);
    state_end(in);
    arch_vm_load(vm, in, "vm");
    load_devices(machine, in);
    state_end(in); /* the state's own map */
    if (!in->failed)
        revive(machine);
}
