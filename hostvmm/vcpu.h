/*
 * One vCPU and its thread. The thread does nothing but KVM_RUN and the bus accesses that KVM hands out.
 */
#ifndef HOSTVMM_VCPU_H
#define HOSTVMM_VCPU_H

#include <pthread.h>
#include <stdint.h>

struct kvm_run;
struct vm;

/* Why a vCPU came back from the guest. */
enum vcpu_exit {
    VCPU_EXIT_IO,
    VCPU_EXIT_MMIO,
    VCPU_EXIT_INTR, /* taken out: a kick, a signal */
    VCPU_EXIT_HLT,
    VCPU_EXIT_SHUTDOWN, /* triple fault */
    VCPU_EXIT_SYSTEM_EVENT,
    VCPU_EXIT_OTHER,
    VCPU_EXIT_KINDS,
};

#define VCPU_LINE_BYTES 64 /* of the processor's cache */

struct vcpu {
    struct vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run; /* shared with KVM */
    pthread_t thread;
    /* Atomic, written by the vCPU's thread alone, on a line of its own. */
    _Alignas(VCPU_LINE_BYTES) uint64_t exits[VCPU_EXIT_KINDS];
};

/* 0 or -errno, with a message logged. vcpu_fini also after a failure. */
int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned index);
void vcpu_fini(struct vcpu *vcpu);

/* Once per process, before the first vcpu_start: the signal that takes a vCPU out of KVM_RUN. */
int vcpu_kick_setup(void);
int vcpu_start(struct vcpu *vcpu);
/* Make the thread look at vm_ended(), wherever it is. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_join(struct vcpu *vcpu);

#endif
