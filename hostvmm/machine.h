/*
 * The machine that `run` boots: the VM with its devices. All files it needs are opened here, before anything
 * of the guest runs or is read.
 *
 * Owner: run.c, one per process, in static storage (its buffers cost nothing until they are touched).
 */
#ifndef HOSTVMM_MACHINE_H
#define HOSTVMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/loop.h"
#include "hostvmm/boot/kernel.h"
#include "hostvmm/boot/load.h"
#include "hostvmm/config.h"
#include "hostvmm/console.h"
#include "hostvmm/device/lifecycle.h"
#include "hostvmm/device/serial.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/device/virtio/vsock.h"
#include "hostvmm/vm.h"

#define MACHINE_DRIVES_MAX (1 + CONFIG_DRIVES_MAX)

/* Opened by machine_open, before there is a VM; each is -1 when not open or handed on. */
struct machine_files {
    int kvm;
    int kernel;
    int drives[MACHINE_DRIVES_MAX];
    struct initrd initrd;
    struct kernel_plan plan;
};

struct machine {
    struct machine_files files;
    struct vm vm;
    struct console console;
    struct serial serial;
    struct lifecycle lifecycle;
    struct virtio_blk drives[MACHINE_DRIVES_MAX];
    unsigned drive_count;
    struct virtio_vsock vsock;
    bool has_vsock;
    struct virtio_rng rng;
    bool has_rng;
    bool has_serial;
    bool has_vm;
    unsigned virtio_count; /* slots in use */
};

/* Open and check every file that `config` names. 0, or an exit code (exit.h) with a message logged. */
int machine_open(struct machine *machine, const struct config *config);

/* Make the VM and its devices, load the kernel: ready for vm_start. 0, or an exit code, logged. */
int machine_build(struct machine *machine, const struct config *config, struct loop *loop,
                  const struct lifecycle_ops *ops, void *context);

/* Also after a failure of either. The vCPUs must not run. */
void machine_fini(struct machine *machine);

#endif
