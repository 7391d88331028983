/*
 * See vcpu.h. Leaving KVM_RUN: vm_end() (or the pause) is set first, then immediate_exit, then the signal.
 * Whatever the thread was doing, it either sees the end before it enters, is turned away by immediate_exit,
 * or is interrupted.
 *
 * A guest's access that KVM has handed out is finished only when KVM_RUN is entered again. Before a vCPU's
 * state can be read, it enters once more with immediate_exit set, which finishes and returns at once.
 */
#include "hostvmm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/jail/jail.h"
#include "hostvmm/kvm.h"
#include "hostvmm/vm.h"

#define STACK_BYTES (64u * 1024u)
#define KICK_SIGNAL SIGUSR1

int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned index)
{
    *vcpu = (struct vcpu){.vm = vm, .index = index, .fd = -1};
    vcpu->fd = kvm_call_number(vm->fd, KVM_CREATE_VCPU, index);
    if (vcpu->fd < 0) {
        const int error = vcpu->fd;
        log_error("KVM cannot create vCPU %u: %s; ask for fewer with --cpus", index, strerror(-error));
        return error;
    }
    void *run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED)
        return -errno;
    vcpu->run = run;
    return 0;
}

void vcpu_fini(struct vcpu *vcpu)
{
    if (vcpu->run)
        (void)munmap(vcpu->run, vcpu->vm->run_bytes);
    vcpu->run = NULL;
    fd_close(&vcpu->fd);
}

static void on_kick(int signal_number)
{
    (void)signal_number; /* its arrival is all that is wanted: KVM_RUN returns EINTR */
}

int vcpu_kick_setup(void)
{
    struct sigaction action = {.sa_handler = on_kick};
    sigemptyset(&action.sa_mask);
    return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

static void serve_port(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            (void)bus_write(&vcpu->vm->ports, run->io.port, data, run->io.size);
        else
            (void)bus_read(&vcpu->vm->ports, run->io.port, data, run->io.size);
    }
}

static void serve_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const uint32_t size = run->mmio.len <= sizeof run->mmio.data ? run->mmio.len : sizeof run->mmio.data;
    if (run->mmio.is_write)
        (void)bus_write(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.data, size);
    else
        (void)bus_read(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.data, size);
}

static void serve_system_event(struct vcpu *vcpu)
{
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vm_end(vcpu->vm, VM_END_POWER_OFF);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vm_end(vcpu->vm, VM_END_RESET);
        break;
    default:
        vm_end(vcpu->vm, VM_END_CRASH);
        break;
    }
}

static void report_internal_error(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    struct kvm_regs regs = {0};
    (void)kvm_call(vcpu->fd, KVM_GET_REGS, &regs);
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
        log_error("vCPU %u: the processor refused to enter the guest at 0x%llx: hardware reason 0x%llx",
                  vcpu->index, (unsigned long long)regs.rip,
                  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        log_error("vCPU %u: KVM internal error %u at guest address 0x%llx", vcpu->index,
                  run->internal.suberror, (unsigned long long)regs.rip);
    else
        log_error(
            "vCPU %u: KVM gave exit reason %u, which this program does not know, at guest address 0x%llx",
            vcpu->index, run->exit_reason, (unsigned long long)regs.rip);
    vm_end(vcpu->vm, VM_END_KVM);
}

/* One writer: no locked instruction is needed. */
static void count(struct vcpu *vcpu, enum vcpu_exit kind)
{
    __atomic_store_n(&vcpu->exits[kind], vcpu->exits[kind] + 1, __ATOMIC_RELAXED);
}

static void serve_exit(struct vcpu *vcpu)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        count(vcpu, VCPU_EXIT_IO);
        serve_port(vcpu);
        break;
    case KVM_EXIT_MMIO:
        count(vcpu, VCPU_EXIT_MMIO);
        serve_mmio(vcpu);
        break;
    case KVM_EXIT_INTR:
        count(vcpu, VCPU_EXIT_INTR);
        break;
    case KVM_EXIT_SHUTDOWN:
        count(vcpu, VCPU_EXIT_SHUTDOWN);
        log_error("vCPU %u: triple fault", vcpu->index);
        vm_end(vcpu->vm, VM_END_CRASH);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        count(vcpu, VCPU_EXIT_SYSTEM_EVENT);
        serve_system_event(vcpu);
        break;
    default:
        count(vcpu, vcpu->run->exit_reason == KVM_EXIT_HLT ? VCPU_EXIT_HLT : VCPU_EXIT_OTHER);
        report_internal_error(vcpu);
        break;
    }
}

/* Enter the guest, and serve what it wants. False: turned away or interrupted. */
static bool run_once(struct vcpu *vcpu)
{
    const int result = kvm_call_number(vcpu->fd, KVM_RUN, 0);
    if (result == 0) {
        if (__atomic_load_n(&vcpu->vm->first_exit_ns, __ATOMIC_RELAXED) == 0)
            __atomic_store_n(&vcpu->vm->first_exit_ns, clock_monotonic_ns(), __ATOMIC_RELAXED);
        serve_exit(vcpu);
        return true;
    }
    count(vcpu, VCPU_EXIT_INTR);
    if (result != -EINTR && result != -EAGAIN) {
        log_error("vCPU %u: KVM_RUN: %s", vcpu->index, strerror(-result));
        vm_end(vcpu->vm, VM_END_KVM);
    }
    return false;
}

static void park(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    while (!vm_ended(vcpu->vm) && run_once(vcpu))
        continue; /* finishing one access may begin another */
    vm_park(vcpu->vm);
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

static void *vcpu_main(void *argument)
{
    struct vcpu *vcpu = argument;
    char name[16];
    (void)snprintf(name, sizeof name, "vcpu%u", vcpu->index);
    (void)prctl(PR_SET_NAME, name);
    jail_thread(JAIL_VCPU);
    while (!vm_ended(vcpu->vm)) {
        if (vm_is_pausing(vcpu->vm))
            park(vcpu);
        else
            (void)run_once(vcpu);
    }
    vm_leave(vcpu->vm);
    return NULL;
}

int vcpu_start(struct vcpu *vcpu)
{
    pthread_attr_t attributes;
    sigset_t blocked;
    sigset_t before;
    if (pthread_attr_init(&attributes))
        return -ENOMEM;
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* The thread is born with every signal blocked but the kick: signals for the process are main's. */
    sigfillset(&blocked);
    sigdelset(&blocked, KICK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int error = pthread_create(&vcpu->thread, &attributes, vcpu_main, vcpu);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        log_error("cannot start a thread for vCPU %u: %s", vcpu->index, strerror(error));
    return -error;
}

void vcpu_kick(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    (void)pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_join(struct vcpu *vcpu)
{
    (void)pthread_join(vcpu->thread, NULL);
}
