/* See vm.h. */
#include "hostvmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/kvm.h"

int vm_open_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        const int error = -errno;
        if (error == -EACCES || error == -EPERM)
            log_error(
                "no permission on /dev/kvm: add the user to group kvm and log in again, or run as root; "
                "`hostvmm doctor` looks closer");
        else
            log_error("cannot open /dev/kvm: %s; `hostvmm doctor` says what this machine can do",
                      strerror(-error));
        return error;
    }
    const int version = kvm_call_number(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        log_error("/dev/kvm speaks version %d of its API, this program %d", version, KVM_API_VERSION);
        fd_close(&fd);
        return -ENODEV;
    }
    return fd;
}

static int set_memory_slots(struct vm *vm, uint32_t flags)
{
    for (unsigned i = 0; i < vm->memory.region_count; i++) {
        const struct guest_region *region = &vm->memory.regions[i];
        const struct kvm_userspace_memory_region slot = {
            .slot = i,
            .flags = flags,
            .guest_phys_addr = region->base,
            .memory_size = region->size_bytes,
            .userspace_addr = (uint64_t)(uintptr_t)region->host,
        };
        const int error = kvm_call(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot);
        if (error < 0)
            return error;
    }
    return 0;
}

static int create_vm(struct vm *vm)
{
    do {
        vm->fd = kvm_call_number(vm->kvm_fd, KVM_CREATE_VM, 0);
    } while (vm->fd == -EINTR);
    if (vm->fd < 0) {
        const int error = vm->fd;
        log_error("KVM cannot create a virtual machine: %s; `hostvmm doctor` looks closer", strerror(-error));
        return error;
    }
    const int run_bytes = kvm_call_number(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run))
        return run_bytes < 0 ? run_bytes : -EPROTO;
    vm->run_bytes = (size_t)run_bytes;
    return 0;
}

static int set_memory(struct vm *vm, const struct vm_plan *plan)
{
    int error;
    if (plan->runs)
        error = guest_memory_init_from(&vm->memory, plan->memory_bytes, plan->runs, plan->run_count);
    else
        error = plan->huge_pages ? guest_memory_init_huge(&vm->memory, plan->memory_bytes)
                                 : guest_memory_init(&vm->memory, plan->memory_bytes);
    if (error && plan->huge_pages)
        log_error(
            "--huge-pages: cannot have %llu MiB of guest memory: %s; this guest needs %llu huge pages of "
            "2 MiB that nobody uses: see HugePages_Free in /proc/meminfo, and write to "
            "/proc/sys/vm/nr_hugepages how many the host is to put aside",
            (unsigned long long)(plan->memory_bytes / ARCH_MIB), strerror(-error),
            (unsigned long long)(plan->memory_bytes / GUEST_HUGE_PAGE_BYTES));
    else if (error)
        log_error("cannot have %llu MiB of guest memory: %s",
                  (unsigned long long)(plan->memory_bytes / ARCH_MIB), strerror(-error));
    return error;
}

int vm_init(struct vm *vm, const struct vm_plan *plan)
{
    vm->kvm_fd = vm->fd = -1;
    vm->vcpu_limit = plan->vcpu_count;
    vm->cpu_baseline = plan->cpu_baseline;
    vm->loop = plan->loop;
    (void)pthread_mutex_init(&vm->pause_lock, NULL);
    (void)pthread_cond_init(&vm->pause_changed, NULL);
    int error = set_memory(vm, plan);
    if (error)
        return error;
    vm->kvm_ns = clock_monotonic_ns();
    const int kvm = plan->kvm_fd >= 0 ? plan->kvm_fd : vm_open_kvm();
    if (kvm < 0)
        return kvm;
    vm->kvm_fd = kvm;
    error = create_vm(vm);
    if (error == 0)
        error = set_memory_slots(vm, 0);
    if (error == 0)
        error = arch_vm_init(vm);
    for (unsigned i = 0; i < plan->vcpu_count && error == 0; i++) {
        error = vcpu_init(&vm->vcpus[i], vm, i);
        vm->vcpu_count = i + 1;
        if (error == 0 && !plan->runs)
            error = arch_vcpu_init(vm, &vm->vcpus[i]);
    }
    if (error)
        log_error("cannot set up the virtual machine: %s", strerror(-error));
    return error;
}

void vm_fini(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_fini(&vm->vcpus[i]);
    vm->vcpu_count = 0;
    for (unsigned i = 0; i < vm->irq_count; i++)
        fd_close(&vm->irq_fds[i]);
    vm->irq_count = 0;
    free(vm->cpuid);
    vm->cpuid = NULL;
    fd_close(&vm->fd);
    guest_memory_fini(&vm->memory);
    fd_close(&vm->kvm_fd);
}

int vm_irq_line(struct vm *vm, uint32_t gsi, struct irq_line *line)
{
    line->fd = -1;
    if (vm->irq_count == VM_IRQS_MAX)
        return -ENOSPC;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    const struct kvm_irqfd binding = {.fd = (uint32_t)fd, .gsi = gsi};
    const int error = kvm_call(vm->fd, KVM_IRQFD, &binding);
    if (error < 0) {
        fd_close(&fd);
        return error;
    }
    vm->irq_fds[vm->irq_count++] = fd;
    line->fd = fd;
    return 0;
}

int vm_notify_fd(struct vm *vm, uint64_t address, uint32_t value, int fd)
{
    const struct kvm_ioeventfd binding = {
        .datamatch = value,
        .addr = address,
        .len = 4,
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };
    return kvm_call(vm->fd, KVM_IOEVENTFD, &binding);
}

int vm_start(struct vm *vm)
{
    int error = vcpu_kick_setup();
    /* The others wait inside KVM for the boot processor's call: start it last, when they are there. */
    for (unsigned i = vm->vcpu_count; i > 0 && error == 0; i--) {
        error = vcpu_start(&vm->vcpus[i - 1]);
        if (error == 0)
            vm->started_count++;
    }
    return error;
}

void vm_stop(struct vm *vm)
{
    vm_end(vm, VM_END_STOPPED);
    vm_go_on(vm);
    for (unsigned i = 0; i < vm->started_count; i++)
        vcpu_kick(&vm->vcpus[vm->vcpu_count - 1 - i]);
    for (unsigned i = 0; i < vm->started_count; i++)
        vcpu_join(&vm->vcpus[vm->vcpu_count - 1 - i]);
    vm->started_count = 0;
}

/* ---- pausing ---- */

bool vm_is_pausing(const struct vm *vm)
{
    return __atomic_load_n(&vm->pausing, __ATOMIC_SEQ_CST);
}

void vm_pause(struct vm *vm)
{
    __atomic_store_n(&vm->pausing, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->started_count; i++)
        vcpu_kick(&vm->vcpus[vm->vcpu_count - 1 - i]);
    (void)pthread_mutex_lock(&vm->pause_lock);
    while (vm->parked_count < vm->started_count)
        (void)pthread_cond_wait(&vm->pause_changed, &vm->pause_lock);
    (void)pthread_mutex_unlock(&vm->pause_lock);
}

void vm_go_on(struct vm *vm)
{
    (void)pthread_mutex_lock(&vm->pause_lock);
    __atomic_store_n(&vm->pausing, 0, __ATOMIC_SEQ_CST);
    (void)pthread_cond_broadcast(&vm->pause_changed);
    (void)pthread_mutex_unlock(&vm->pause_lock);
}

void vm_park(struct vm *vm)
{
    (void)pthread_mutex_lock(&vm->pause_lock);
    vm->parked_count++;
    (void)pthread_cond_broadcast(&vm->pause_changed);
    while (vm_is_pausing(vm))
        (void)pthread_cond_wait(&vm->pause_changed, &vm->pause_lock);
    vm->parked_count--;
    (void)pthread_mutex_unlock(&vm->pause_lock);
}

void vm_leave(struct vm *vm)
{
    (void)pthread_mutex_lock(&vm->pause_lock);
    vm->parked_count++;
    (void)pthread_cond_broadcast(&vm->pause_changed);
    (void)pthread_mutex_unlock(&vm->pause_lock);
}

/* ---- which pages are written ---- */

static int get_dirty_log(const struct vm *vm, unsigned region, uint64_t *bitmap)
{
    const struct kvm_dirty_log log = {.slot = region, .dirty_bitmap = bitmap};
    const int error = kvm_call(vm->fd, KVM_GET_DIRTY_LOG, &log);
    return error < 0 ? error : 0;
}

/* KVM's log of one region, in words; it writes whole words. */
static uint64_t *log_of(const struct vm *vm, unsigned region, int *error)
{
    const uint64_t pages = vm->memory.regions[region].size_bytes / GUEST_PAGE_BYTES;
    uint64_t *log = calloc((pages + 63) / 64, sizeof *log);
    *error = log ? get_dirty_log(vm, region, log) : -ENOMEM;
    return log;
}

int vm_track_writes(struct vm *vm)
{
    int error = set_memory_slots(vm, KVM_MEM_LOG_DIRTY_PAGES);
    /* What was logged before is of no interest: reading a log clears it. */
    for (unsigned i = 0; i < vm->memory.region_count && error == 0; i++)
        free(log_of(vm, i, &error));
    return error ? error : guest_memory_track(&vm->memory);
}

int vm_written_pages(struct vm *vm, uint64_t *bitmap)
{
    int error = 0;
    for (unsigned i = 0; i < vm->memory.region_count && error == 0; i++) {
        const struct guest_region *region = &vm->memory.regions[i];
        const uint64_t first = region->file_offset_bytes / GUEST_PAGE_BYTES;
        uint64_t *log = log_of(vm, i, &error);
        for (uint64_t page = 0; error == 0 && page < region->size_bytes / GUEST_PAGE_BYTES; page++)
            if (log[page / 64] >> page % 64 & 1)
                bitmap[(first + page) / 64] |= UINT64_C(1) << (first + page) % 64;
        free(log);
    }
    for (uint64_t i = 0; i < (vm->memory.size_bytes / GUEST_PAGE_BYTES + 63) / 64 && error == 0; i++)
        bitmap[i] |= __atomic_load_n(&vm->memory.dirty[i], __ATOMIC_RELAXED);
    return error;
}

/* ---- the end ---- */

void vm_end(struct vm *vm, enum vm_end cause)
{
    uint32_t running = VM_END_NONE;
    if (__atomic_compare_exchange_n(&vm->end, &running, cause, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        loop_stop(vm->loop);
}

bool vm_ended(const struct vm *vm)
{
    return __atomic_load_n(&vm->end, __ATOMIC_SEQ_CST) != VM_END_NONE;
}
