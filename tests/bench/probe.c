/*
 * How long the host's side of a restore takes, in real time, on any machine with a /dev/kvm.
 *
 *   probe make DIR DRIVE            a snapshot DIR of a guest that powers off with its first instructions
 *   probe time HOSTVMM DIR RUN COUNT    restore it COUNT times, one after the other, and print figures;
 * sockets and timelines go below the directory RUN, as they do below /run
 *
 * The guest has what a function's guest has: 128 MiB, one vCPU, serial port, lifecycle ports, generation id,
 * a read-only drive, vsock, entropy. It is made and saved with hostvmm's own code, as any snapshot, but no
 * kernel runs in it: its vCPU stands in 64-bit code at CPL 3, with memory mapped one to one and the ports
 * open. Even a paravirtual KVM, which can only interpret a kernel, runs that on the processor itself.
 *
 * A restore is timed from right before the process is made to the guest's first exit, which hostvmm's
 * timeline tells by the same clock; its own marks split it. What the machine did besides shows in the spread.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/lifecycle.h"
#include "hostvmm/kvm.h"
#include "hostvmm/machine.h"
#include "hostvmm/snapshot/capture.h"

#define MEMORY_BYTES (UINT64_C(128) << 20)
#define TABLES       0x4000u /* 3 pages: one of each level, mapping the first 2 MiB */
#define CODE         0x100000u
#define PTE_USER     0x27u       /* present, writable, user, accessed */
#define PTE_LARGE    0xc0u       /* and written */
#define PROBE_CR0    0x80050033u /* paging, write protection, protected mode, coprocessor as usual */
#define PROBE_CR4    0x620u      /* PAE, SSE */
#define PROBE_EFER   0xd00u      /* long mode, no-execute */
#define FLAGS_IOPL3  0x3002u
#define SLEEP_S5     0x34u
#define COUNT_MAX    10000u

extern char **environ;

static struct machine machine;
static struct snapshot source;
static struct config config = {.command = CONFIG_RESTORE, .console = CONSOLE_NONE};
static struct capture capture;
static struct capture_request request = {.stop = true};
static int saved = -EIO;

/* ---- make -----------------------------------------------------------------------------------------------
 */

static void on_stage(void *context, enum guest_stage stage)
{
    (void)context;
    (void)stage;
}

static void on_end(void *context)
{
    (void)context;
}

static const struct lifecycle_ops ops = {.stage = on_stage, .power_off = on_end, .reset = on_end};

static int put_guest(const struct guest_memory *memory)
{
    const uint16_t port = (uint16_t)(arch_lifecycle_slot().base + LIFECYCLE_SLEEP_CONTROL);
    const uint8_t code[] = {
        0x66, 0xba,     (uint8_t)port, (uint8_t)(port >> 8), /* mov dx, port */
        0xb0, SLEEP_S5,                                      /* mov al, S5 */
        0xee,                                                /* out dx, al */
        0xeb, 0xfe,                                          /* jmp . */
    };
    const uint64_t entries[3] = {(TABLES + 0x1000) | PTE_USER, (TABLES + 0x2000) | PTE_USER,
                                 PTE_USER | PTE_LARGE};
    int error = guest_memory_write(memory, gpa_of(CODE), code, sizeof code);
    for (unsigned i = 0; i < 3 && error == 0; i++)
        error = guest_memory_write(memory, gpa_of(TABLES + i * 0x1000), &entries[i], sizeof entries[i]);
    return error;
}

static int put_vcpu(int fd)
{
    const struct kvm_segment code = {
        .limit = UINT32_MAX, .selector = 0x33, .type = 11, .present = 1, .dpl = 3, .s = 1, .g = 1, .l = 1};
    const struct kvm_segment data = {
        .limit = UINT32_MAX, .selector = 0x2b, .type = 3, .present = 1, .dpl = 3, .s = 1, .g = 1, .db = 1};
    const struct kvm_regs regs = {.rip = CODE, .rsp = CODE, .rflags = FLAGS_IOPL3};
    struct kvm_sregs sregs;
    int error = kvm_call(fd, KVM_GET_SREGS, &sregs);
    if (error < 0)
        return error;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.ss = data;
    sregs.tr.type = 11;
    sregs.cr0 = PROBE_CR0;
    sregs.cr3 = TABLES;
    sregs.cr4 = PROBE_CR4;
    sregs.efer = PROBE_EFER;
    error = kvm_call(fd, KVM_SET_SREGS, &sregs);
    return error < 0 ? error : kvm_call(fd, KVM_SET_REGS, &regs);
}

static void on_saved(void *context, const struct capture_result *result)
{
    (void)context;
    saved = result->error;
    if (result->error)
        log_error("no snapshot: %s", result->why);
}

/* A restore's way to a machine, from a snapshot that is not on disk: fresh memory, and what the guest has. */
static int describe(const char *drive)
{
    int fd = memfd_create("probe", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, MEMORY_BYTES) < 0)
        return -errno;
    source.machine = (struct snapshot_machine){
        .memory_bytes = MEMORY_BYTES,
        .vcpu_count = 1,
        .drives = {{.id = "root", .read_only = true, .root = true}},
        .drive_count = 1,
        .vsock_cid = 3,
        .rng = true,
    };
    source.layers[0].fd = fd;
    source.layer_count = 1;
    source.runs[0].page_count = MEMORY_BYTES / GUEST_PAGE_BYTES;
    source.run_count = 1;
    return realpath(drive, source.machine.drives[0].path) ? 0 : -errno;
}

static int save(const char *path)
{
    struct loop loop;
    int error = loop_init(&loop);
    if (error)
        return error;
    int code = machine_open_restore(&machine, &config, &source);
    if (code == 0)
        code = machine_restore(&machine, &config, &loop, &ops, NULL);
    error = code ? -EIO : arch_vcpu_init(&machine.vm, &machine.vm.vcpus[0]);
    if (error == 0)
        error = put_vcpu(machine.vm.vcpus[0].fd);
    if (error == 0)
        error = put_guest(&machine.vm.memory);
    (void)snprintf(request.out, sizeof request.out, "%s", path);
    capture_init(&capture, &machine, &loop);
    if (error == 0)
        error = capture_begin(&capture, &request, on_saved, NULL);
    capture_fini(&capture);
    machine_fini(&machine);
    loop_fini(&loop);
    return error ? error : saved;
}

static int make(const char *path, const char *drive)
{
    int error = describe(drive);
    if (error == 0)
        error = save(path);
    if (error)
        log_error("cannot make %s: %s", path, strerror(-error));
    return error ? 1 : 0;
}

/* ---- time -----------------------------------------------------------------------------------------------
 */

/* The moments of one restore, in order. Between two lies a step, named by the second. */
enum { SPAWN, MAIN, OPENED, KVM, CREATED, BUILT, RUNNING, EXIT, MOMENTS };

static const char *const marks[MOMENTS] = {
    [MAIN] = "start_ns",  [OPENED] = "opened_ns",   [KVM] = "kvm_ns",         [CREATED] = "created_ns",
    [BUILT] = "built_ns", [RUNNING] = "running_ns", [EXIT] = "first_exit_ns",
};
static const char *const steps[MOMENTS] = {
    [MAIN] = "exec",     [OPENED] = "open",  [KVM] = "files",  [CREATED] = "vm",
    [BUILT] = "devices", [RUNNING] = "load", [EXIT] = "enter",
};

static uint64_t moments[COUNT_MAX][MOMENTS];
static uint64_t sorted[COUNT_MAX];
static uint64_t *bare_ns; /* shared with the process that is timed */

static int read_timeline(const char *path, uint64_t at[MOMENTS])
{
    char text[4096];
    char key[40];
    const int64_t size = fd_read_file(path, text, sizeof text - 1);
    if (size < 0)
        return (int)size;
    text[size] = '\0';
    for (unsigned i = MAIN; i < MOMENTS; i++) {
        (void)snprintf(key, sizeof key, "\"%s\": ", marks[i]);
        const char *found = strstr(text, key);
        at[i] = found ? strtoull(found + strlen(key), NULL, 10) : 0;
        if (at[i] < at[i - 1]) {
            log_error("the timeline has no %s, or one before %s", marks[i],
                      i == MAIN ? "the start" : marks[i - 1]);
            return -EPROTO;
        }
    }
    return 0;
}

static int restore_once(char **arguments, const posix_spawn_file_actions_t *actions, const char *timeline,
                        uint64_t at[MOMENTS])
{
    int status;
    pid_t pid;
    at[SPAWN] = clock_monotonic_ns();
    const int error = posix_spawn(&pid, arguments[0], actions, NULL, arguments, environ);
    if (error)
        return -error;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (status) {
        log_error("a restore ended with wait status 0x%x", (unsigned)status);
        return -EIO;
    }
    return read_timeline(timeline, at);
}

static int compare(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void print(const char *name, unsigned count, unsigned from, unsigned to, const unsigned *percents)
{
    for (unsigned i = 0; i < count; i++)
        sorted[i] = moments[i][to] - moments[i][from];
    qsort(sorted, count, sizeof sorted[0], compare);
    for (; *percents <= 100; percents++) {
        const unsigned rank = (count * *percents + 99) / 100;
        if (*percents == 0)
            (void)printf("%s_min %.1f\n", name, (double)sorted[0] / 1e3);
        else
            (void)printf("%s_p%u %.1f\n", name, *percents, (double)sorted[rank - 1] / 1e3);
    }
}

static void print_alone(unsigned count)
{
    static const unsigned middle[] = {50, 101};
    print("restore_probe_alone_us", count, SPAWN, EXIT, middle);
    print("restore_probe_alone_kvm_us", count, KVM, EXIT, middle);
}

static void print_all(unsigned count)
{
    static const unsigned whole[] = {0, 50, 99, 101};
    static const unsigned part[] = {50, 101};
    char name[64];
    print("restore_probe_us", count, SPAWN, EXIT, whole);
    print("restore_probe_kvm_us", count, KVM, EXIT, whole);
    for (unsigned i = MAIN; i < MOMENTS; i++) {
        (void)snprintf(name, sizeof name, "restore_probe_%s_us", steps[i]);
        print(name, count, i - 1, i, part);
    }
    (void)printf("restore_probe_runs %u\n", count);
}

static int time_many(char **arguments, const posix_spawn_file_actions_t *actions, const char *timeline,
                     unsigned count)
{
    int error = 0;
    for (unsigned i = 0; i < count && error == 0; i++)
        error = restore_once(arguments, actions, timeline, moments[i]);
    return error;
}

/*
 * A VM that does nothing: a host that serves has others. The first one of a host, and the end of its last,
 * change KVM's own code on every processor, which has to do with none in between.
 */
static int hold_vm(int *kvm, int *vm)
{
    *kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    *vm = *kvm < 0 ? -errno : kvm_call_number(*kvm, KVM_CREATE_VM, 0);
    return *vm < 0 ? *vm : 0;
}

/* ---- what is KVM's own --------------------------------------------------------------------------------
 */

#define FEATURES_MAX 256

static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[FEATURES_MAX];
} features;

/* A VM with memory, interrupt controllers and a processor that has its features: no restore does with less. */
static int make_bare(const char *memory_path)
{
    int fd = open(memory_path, O_RDONLY | O_CLOEXEC);
    void *memory = fd < 0
                       ? MAP_FAILED
                       : mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    const uint64_t from_ns = clock_monotonic_ns();
    const struct kvm_userspace_memory_region slot = {.memory_size = MEMORY_BYTES,
                                                     .userspace_addr = (uint64_t)(uintptr_t)memory};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    const int vm = kvm < 0 ? -errno : kvm_call_number(kvm, KVM_CREATE_VM, 0);
    int error = vm < 0 ? vm : kvm_call(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    if (error == 0)
        error = kvm_call_number(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
    if (error == 0)
        error = kvm_call_number(vm, KVM_CREATE_IRQCHIP, 0);
    const int vcpu = error ? error : kvm_call_number(vm, KVM_CREATE_VCPU, 0);
    error = vcpu < 0 ? vcpu : kvm_call(vcpu, KVM_SET_CPUID2, &features);
    *bare_ns = clock_monotonic_ns() - from_ns;
    return error;
}

/* Each in a process of its own, as restores are. */
static int time_bare(int kvm, const char *snapshot, unsigned count)
{
    static const unsigned middle[] = {0, 50, 101};
    char path[CONFIG_PATH_MAX + 16];
    int status = 0;
    (void)snprintf(path, sizeof path, "%s/" SNAPSHOT_MEMORY, snapshot);
    features.head.nent = FEATURES_MAX;
    int error = kvm_call(kvm, KVM_GET_SUPPORTED_CPUID, &features);
    bare_ns = mmap(NULL, sizeof *bare_ns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bare_ns == MAP_FAILED)
        return -errno;
    for (unsigned i = 0; i < count && error == 0; i++) {
        const pid_t child = fork();
        if (child == 0)
            _exit(make_bare(path) ? 1 : 0);
        if (child < 0 || waitpid(child, &status, 0) < 0)
            error = -errno;
        else if (status)
            error = -EIO;
        moments[i][SPAWN] = 0;
        moments[i][EXIT] = *bare_ns;
    }
    if (error == 0)
        print("restore_probe_bare_us", count, SPAWN, EXIT, middle);
    return error;
}

static int time_restores(char *hostvmm, char *path, const char *run, unsigned count)
{
    char timeline[CONFIG_PATH_MAX + 16];
    char vsock[CONFIG_PATH_MAX + 16];
    posix_spawn_file_actions_t actions;
    char *arguments[] = {hostvmm,   "restore", "--snapshot", path,     "--console", "none",
                         "--vsock", vsock,     "--timeline", timeline, NULL};
    const unsigned few = count < 4 ? 1 : count / 4;
    int kvm = -1;
    int vm = -1;
    (void)snprintf(timeline, sizeof timeline, "%s/timeline", run);
    (void)snprintf(vsock, sizeof vsock, "%s/vsock", run);
    int error = -posix_spawn_file_actions_init(&actions);
    if (error == 0)
        error = -posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    /* It warns that no agent is in the guest. */
    if (error == 0)
        error = -posix_spawn_file_actions_adddup2(&actions, 0, 2);
    if (error == 0)
        error = time_many(arguments, &actions, timeline, few);
    if (error == 0)
        print_alone(few);
    if (error == 0)
        error = hold_vm(&kvm, &vm);
    if (error == 0)
        error = time_bare(kvm, path, few);
    if (error == 0)
        error = time_many(arguments, &actions, timeline, count);
    fd_close(&vm);
    fd_close(&kvm);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)unlink(timeline);
    if (error)
        log_error("cannot time restores of %s: %s", path, strerror(-error));
    else
        print_all(count);
    return error || fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
    log_setup("probe", LOG_LEVEL_WARN, 2);
    if (argc == 4 && strcmp(argv[1], "make") == 0)
        return make(argv[2], argv[3]);
    const unsigned long count = argc == 6 ? strtoul(argv[5], NULL, 10) : 0;
    if (argc == 6 && strcmp(argv[1], "time") == 0 && count > 0 && count <= COUNT_MAX)
        return time_restores(argv[2], argv[3], argv[4], (unsigned)count);
    (void)fputs("usage: probe make DIR DRIVE | probe time HOSTVMM DIR RUN COUNT\n", stderr);
    return 2;
}
