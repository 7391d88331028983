/*
 * The machine that `run` boots or `restore` brings back: the VM with its devices. All files it needs are
 * opened here, before anything of the guest runs or is read.
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
#include "hostvmm/device/virtio/balloon.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/net.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/device/virtio/vsock.h"
#include "hostvmm/device/vmgenid.h"
#include "hostvmm/snapshot/snapshot.h"
#include "hostvmm/vm.h"

#define MACHINE_DRIVES_MAX SNAPSHOT_DRIVES_MAX

/* Opened by machine_open, before there is a VM; each is -1 when not open or handed on. */
struct machine_files {
    int kernel;
    int kvm;     /* opened ahead by who cannot later: a jailed machine */
    int pagemap; /* the same, of one that is restored */
    int drives[MACHINE_DRIVES_MAX];
    struct initrd initrd;
    struct kernel_plan plan;
    struct net_backend nets[NETWORK_INTERFACES_MAX]; /* ops NULL: not open, or handed on */
    uint16_t net_mtus[NETWORK_INTERFACES_MAX];       /* of the devices; what the guest is told may be less */
};

struct machine {
    const struct config *config;  /* what was asked for; outlives it */
    struct snapshot_machine made; /* what it consists of */
    struct machine_files files;
    struct vm vm;
    struct console console;
    struct serial serial;
    struct lifecycle lifecycle;
    struct vmgenid vmgenid;
    struct virtio_blk drives[MACHINE_DRIVES_MAX];
    unsigned drive_count;
    struct virtio_vsock vsock;
    bool has_vsock;
    struct virtio_rng rng;
    bool has_rng;
    struct virtio_net nets[NETWORK_INTERFACES_MAX];
    unsigned net_count;
    struct virtio_balloon balloon;
    bool has_balloon;
    char network_text[PROTO_NETWORK_MAX_BYTES + 1]; /* what the guest is told; empty: nothing */
    bool held;                                      /* by machine_hold_ops */
    bool has_serial;
    bool has_vm;
    unsigned virtio_count; /* slots in use */

    uint64_t created_ns; /* and when the VM with its memory and vCPUs was there */

    struct snapshot *origin;            /* what it was restored from, kept open; NULL: booted */
    uint8_t last_id[SNAPSHOT_ID_BYTES]; /* the last snapshot of it (or its origin): a diff's parent */
    bool has_last;
    bool tracked; /* what it writes is logged since the last one was made */
};

/* Open and check every file that `config` names. 0, or an exit code (exit.h) with a message logged. */
int machine_open(struct machine *machine, const struct config *config);

/* nets.c, for machine_open and machine_open_restore: what network the machine has, its back ends, and what
 * the guest is told of it. `snapshot` NULL: it boots. machine_close_nets: what is not a device's yet. */
int machine_open_nets(struct machine *machine, const struct config *config, const struct snapshot *snapshot);
void machine_close_nets(struct machine *machine);

/* Make the VM and its devices, load the kernel: ready for vm_start. 0, or an exit code, logged. */
int machine_build(struct machine *machine, const struct config *config, struct loop *loop,
                  const struct lifecycle_ops *ops, void *context);

/*
 * The same for a restore: the snapshot is open, and stays open as long as the machine. machine_restore makes
 * VM and devices; machine_reload brings them into the snapshot's state, every device alive. The guest has not
 * been told yet that it is a clone.
 */
int machine_open_restore(struct machine *machine, const struct config *config, struct snapshot *snapshot);
int machine_restore(struct machine *machine, const struct config *config, struct loop *loop,
                    const struct lifecycle_ops *ops, void *context);
int machine_reload(struct machine *machine);

/* ---- machine_rates.c ------------------------------------------------------------------------------------ */

/* Limits that the command line gives; a device has those of its snapshot, or none, otherwise. */
void machine_apply_rates(struct machine *machine);
/* Limits of a device that there is none of are refused. 0, or an exit code, logged. */
int machine_check_rates(const struct machine *machine);

/* ---- machine_state.c: the VM is paused -------------------------------------------------------------------
 */

/* Hold the devices still / let them go on. vm_pause first, vm_go_on last. 0, or -errno: a drive cannot be
 * flushed. */
int machine_hold(struct machine *machine);
void machine_release(struct machine *machine);
/* For a device that wants this for a moment, while the guest runs or is paused. 0 or -errno. */
extern const struct virtio_balloon_hold_ops machine_hold_ops; /* its context is the machine */
/* The state of every part, as the fields that follow the manifest. 0 or -errno, logged. */
int machine_save(struct machine *machine, struct state_writer *out);
/* The same back; what fails is in the reader. */
void machine_load(struct machine *machine, struct state_reader *in);

/* Also after a failure of any of these. The vCPUs must not run. */
void machine_fini(struct machine *machine);

#endif
