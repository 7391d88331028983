/*
 * One virtual machine: KVM's handles, RAM, buses, vCPUs. Owner: run.c, which holds it in static storage.
 *
 * Life: vm_init (memory slots before the interrupt controllers: later changes would each wait for KVM's
 * readers) -> devices claim windows and lines -> arch_boot -> vm_start -> the loop runs until vm_end() stops
 * it -> vm_stop (joins the vCPU threads) -> devices end -> vm_fini. A restored VM has its state loaded in the
 * place of arch_boot. Between start and stop the VM may be paused and go on any number of times.
 *
 * Threads: main (the loop: signals, console input, vsock, entropy), one per vCPU, and the drives' own.
 * Nothing here changes between vm_start and vm_stop except what is marked atomic.
 */
#ifndef HOSTVMM_VM_H
#define HOSTVMM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>

#include "agent/base/loop.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/bus.h"
#include "hostvmm/device/irq.h"
#include "hostvmm/memory.h"
#include "hostvmm/vcpu.h"

/* Why the guest no longer runs. The first cause counts. */
enum vm_end {
    VM_END_NONE = 0,  /* it runs, or has not started */
    VM_END_POWER_OFF, /* the guest powered off */
    VM_END_RESET,     /* the guest asked for a reset: reboot, panic */
    VM_END_CRASH,     /* triple fault, or a crash it reported */
    VM_END_KVM,       /* KVM could not go on; logged */
    VM_END_STOPPED,   /* the host stopped it */
};

#define VM_IRQS_MAX 24

/* What a VM is made of and for. */
struct vm_plan {
    int kvm_fd; /* of /dev/kvm, taken over; -1: to be opened */
    uint64_t memory_bytes;
    unsigned vcpu_count;
    struct loop *loop;
    bool cpu_baseline;            /* show the guest a portable set of CPU features only */
    const struct guest_run *runs; /* a snapshot's memory; NULL: fresh RAM */
    unsigned run_count;
    bool huge_pages; /* fresh RAM from the host's reserve of huge pages */
};

struct vm {
    int kvm_fd;
    int fd;
    size_t run_bytes;         /* of each vCPU's shared page with KVM */
    uint32_t xsave_bytes;     /* of one vCPU's extended state, as this KVM wants it */
    struct kvm_cpuid2 *cpuid; /* what the guest is shown; allocated */
    bool cpu_baseline;
    struct guest_memory memory;
    struct bus ports;
    struct bus mmio;
    int irq_fds[VM_IRQS_MAX];
    unsigned irq_count;
    struct vcpu vcpus[ARCH_VCPUS_MAX];
    unsigned vcpu_limit;    /* vCPUs this VM is made for */
    unsigned vcpu_count;    /* of them, made so far */
    unsigned started_count; /* vCPU threads that exist */
    struct loop *loop;      /* stopped at the end */
    uint32_t end;           /* atomic enum vm_end */

    uint32_t pausing; /* atomic bool: vCPU threads park before they enter the guest again */
    pthread_mutex_t pause_lock;
    pthread_cond_t pause_changed;
    unsigned parked_count; /* under pause_lock */
    uint64_t kvm_ns; /* CLOCK_MONOTONIC: right before /dev/kvm was opened, the first that KVM had to do */
    uint64_t first_exit_ns; /* atomic, CLOCK_MONOTONIC: a vCPU first came back from the guest; 0: not yet */
};

/*
 * Create the VM with vCPUs that do not run yet. Fresh ones are as a reset leaves them; with a snapshot's
 * memory they wait for arch_vcpu_load. 0, or -errno with a message logged.
 */
/* Open /dev/kvm and check that it is one we can use. The descriptor, or -errno with a message logged. */
int vm_open_kvm(void);

int vm_init(struct vm *vm, const struct vm_plan *plan);
/* Also after a failed vm_init. The vCPUs must not run. */
void vm_fini(struct vm *vm);

/* An edge-triggered line into the interrupt controllers. 0 or -errno. */
int vm_irq_line(struct vm *vm, uint32_t gsi, struct irq_line *line);
/* Let a 32-bit write of `value` to the MMIO address make `fd` readable, without leaving KVM. 0 or -errno. */
int vm_notify_fd(struct vm *vm, uint64_t address, uint32_t value, int fd);

/* Start, and stop, the vCPU threads. Both on the main thread. */
int vm_start(struct vm *vm);
void vm_stop(struct vm *vm);

/*
 * Take every started vCPU out of the guest and hold it, with nothing half done: when this returns, KVM's
 * state can be read. vm_go_on lets them run again. Main thread. A vCPU that ends meanwhile counts as held.
 */
void vm_pause(struct vm *vm);
void vm_go_on(struct vm *vm);
/* For vCPU threads: whether to park; park until vm_go_on or the end. */
bool vm_is_pausing(const struct vm *vm);
void vm_park(struct vm *vm);
/* A vCPU thread ends: nobody has to wait for it any more. */
void vm_leave(struct vm *vm);

/*
 * Log which pages are written, by the guest and by this process, from now on (or anew). The VM is paused.
 * 0 or -errno.
 */
int vm_track_writes(struct vm *vm);
/* Add the pages written since to `bitmap`, a bit a page by offset in RAM. The VM is paused and tracked. */
int vm_written_pages(struct vm *vm, uint64_t *bitmap);

/* The guest has ended, for `cause`: its vCPUs return and the loop stops. Any thread, any number of times. */
void vm_end(struct vm *vm, enum vm_end cause);
bool vm_ended(const struct vm *vm);

#endif
