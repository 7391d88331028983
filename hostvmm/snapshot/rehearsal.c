/*
 * See rehearsal.h. The thread that brings pages in waits for faults and for the end, and touches no memory of
 * the guest's itself. If it fails it closes the userfaultfd, which lets everybody who waits go on (with zero
 * pages), and ends the VM.
 */
#include "hostvmm/snapshot/rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/snapshot/pages.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#define HOLES_MAX_BYTES (256u << 10) /* that a huge page may fill: the file grows by them */

static struct prefetch prefetch; /* large */

static uint64_t page_count(const struct rehearsal *rehearsal)
{
    return rehearsal->snapshot->machine.memory_bytes / GUEST_PAGE_BYTES;
}

static int read_prefetch(const struct snapshot *snapshot)
{
    char why[PREFETCH_WHY_BYTES];
    int directory = open(snapshot->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = directory < 0 ? -errno
                                    : prefetch_read(&prefetch, directory, snapshot->id,
                                                    snapshot->machine.memory_bytes / GUEST_PAGE_BYTES, why);
    fd_close(&directory);
    return error;
}

/* ---- the parent ---- */

static bool writes_drives(const struct config *config)
{
    for (unsigned i = 0; i < config->drive_count; i++)
        if (!config->drives[i].read_only)
            return true;
    return false;
}

/* In the child. An alarm outlives exec: whatever happens, the rehearsal ends. */
static void become_clone(const struct config *config)
{
    char option[] = "--snapshot";
    char path[CONFIG_PATH_MAX + 1];
    char *arguments[8 + 2 * CONFIG_NETS_MAX] = {"hostvmm",   "restore", option,      path,
                                                "--console", "none",    "--rehearse"};
    /* Its frames go nowhere: the original's back end is not a rehearsal's to use. */
    for (unsigned i = 0; i < config->net_count; i++) {
        arguments[7 + 2 * i] = "--net";
        arguments[8 + 2 * i] = "none";
    }
    (void)snprintf(path, sizeof path, "%s", config->out);
    (void)alarm(REHEARSAL_LIMIT_S);
    (void)execv("/proc/self/exe", arguments);
    _exit(127);
}

static int run_one(const struct config *config)
{
    int status = -1;
    pid_t ended;
    const pid_t child = fork();
    if (child == 0)
        become_clone(config);
    if (child < 0)
        return -errno;
    do {
        ended = waitpid(child, &status, 0);
    } while (ended < 0 && errno == EINTR);
    return status == 0 ? 0 : -ECHILD;
}

/* How much of a block of 2 MiB the file does not hold. */
static uint64_t hole_bytes(int fd, uint64_t block)
{
    const off_t end = (off_t)((block + 1) * GUEST_HUGE_PAGE_BYTES);
    off_t at = (off_t)(block * GUEST_HUGE_PAGE_BYTES);
    off_t holes = 0;
    while (at < end) {
        const off_t data = lseek(fd, at, SEEK_DATA);
        const off_t from = data < 0 || data > end ? end : data; /* none: ENXIO */
        holes += from - at;
        at = from < end ? lseek(fd, from, SEEK_HOLE) : end;
        if (at < 0)
            return GUEST_HUGE_PAGE_BYTES;
    }
    return (uint64_t)holes;
}

/* Of one block of 2 MiB: whether a huge page serves it: much of it is read, nothing written, (nearly) all
 * there. */
static bool wants_huge(const struct snapshot *snapshot, uint64_t block)
{
    const uint64_t pages = GUEST_HUGE_PAGE_BYTES / GUEST_PAGE_BYTES;
    uint64_t touched = 0;
    for (unsigned i = 0; i < prefetch.run_count; i++) {
        const struct prefetch_run run = prefetch_run_at(&prefetch, i);
        const uint64_t end = run.first_page + run.page_count;
        if (run.first_page >= (block + 1) * pages || end <= block * pages)
            continue;
        if (run.written)
            return false;
        touched += run.page_count;
    }
    return touched >= PREFETCH_HUGE_PAGES && hole_bytes(snapshot->layers[0].fd, block) <= HOLES_MAX_BYTES;
}

/* Have the page cache hold such blocks of the memory file as huge pages: a clone maps each at once. */
static void use_huge(const struct snapshot *snapshot)
{
    const size_t reserved = 2 * (size_t)GUEST_HUGE_PAGE_BYTES;
    void *space = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return;
    void *at = (uint8_t *)space + (-(uintptr_t)space & (GUEST_HUGE_PAGE_BYTES - 1));
    for (uint64_t block = 0; block < snapshot->machine.memory_bytes / GUEST_HUGE_PAGE_BYTES; block++)
        if (wants_huge(snapshot, block) &&
            mmap(at, GUEST_HUGE_PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_FIXED, snapshot->layers[0].fd,
                 (off_t)(block * GUEST_HUGE_PAGE_BYTES)) != MAP_FAILED)
            (void)madvise(at, GUEST_HUGE_PAGE_BYTES, MADV_COLLAPSE);
    (void)munmap(space, reserved);
}

static int find_huge(const char *path)
{
    static struct snapshot snapshot; /* large */
    char why[SNAPSHOT_WHY_BYTES];
    int error = snapshot_open(&snapshot, path, why);
    if (error)
        return error;
    error = read_prefetch(&snapshot);
    if (error == 0)
        use_huge(&snapshot);
    snapshot_close(&snapshot);
    return error;
}

#define PASSES 3 /* what is written, what is read, what is written by a clone that has its pages at hand */

void rehearsal_run(const struct config *config)
{
    int error = 0;
    if (writes_drives(config)) {
        log_info("no rehearsal: a drive is writable; clones find their pages themselves");
        return;
    }
    for (unsigned pass = 0; pass < PASSES && error == 0; pass++)
        error = run_one(config);
    if (error == 0)
        error = find_huge(config->out);
    if (error)
        log_warn("the rehearsal failed: clones start more slowly");
}

/* ---- watched memory ---- */

static int open_fault_fd(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd = device >= 0 ? ioctl(device, (int)USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
                         : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    const int error = fd < 0 ? -errno : 0;
    fd_close(&device);
    if (error)
        return error;
    if (ioctl(fd, (int)UFFDIO_API, &api) == 0)
        return fd;
    const int refused = -errno;
    fd_close(&fd);
    return refused;
}

/* The region's files go, empty memory comes. */
static int watch_region(int fault_fd, const struct guest_region *region)
{
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)region->host, .len = region->size_bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (mmap(region->host, region->size_bytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    (void)madvise(region->host, region->size_bytes, MADV_NOHUGEPAGE); /* one page at a time */
    return ioctl(fault_fd, (int)UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

/* A page of RAM as the snapshot has it. */
static int read_page(const struct snapshot *snapshot, uint64_t page, uint8_t to[GUEST_PAGE_BYTES])
{
    uint64_t end = 0;
    for (unsigned i = 0; i < snapshot->run_count; i++) {
        end += snapshot->runs[i].page_count;
        if (page >= end)
            continue;
        const ssize_t n = pread(snapshot->layers[snapshot->runs[i].layer].fd, to, GUEST_PAGE_BYTES,
                                (off_t)(page * GUEST_PAGE_BYTES));
        return n == GUEST_PAGE_BYTES ? 0 : n < 0 ? -errno : -EIO;
    }
    return -EFAULT;
}

static void mark(uint64_t *bitmap, uint64_t page)
{
    bitmap[page / 64] |= UINT64_C(1) << page % 64;
}

static int bring_in(const struct rehearsal *rehearsal, uint64_t address, uint64_t page)
{
    static uint8_t buffer[GUEST_PAGE_BYTES];
    struct uffdio_copy copy = {
        .dst = address,
        .src = (uintptr_t)buffer,
        .len = GUEST_PAGE_BYTES,
    };
    const int error = read_page(rehearsal->snapshot, page, buffer);
    if (error)
        return error;
    mark(rehearsal->touched, page);
    /* Two may fault on one page. */
    return ioctl(rehearsal->fault_fd, (int)UFFDIO_COPY, &copy) < 0 && errno != EEXIST ? -errno : 0;
}

static int serve_fault(const struct rehearsal *rehearsal)
{
    const struct guest_memory *memory = &rehearsal->vm->memory;
    struct uffd_msg message;
    const ssize_t n = read(rehearsal->fault_fd, &message, sizeof message);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n != (ssize_t)sizeof message || message.event != UFFD_EVENT_PAGEFAULT)
        return -EPROTO;
    const uint64_t address = message.arg.pagefault.address & ~(uint64_t)(GUEST_PAGE_BYTES - 1);
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const uint64_t offset = address - (uintptr_t)region->host;
        const uint64_t page = (region->file_offset_bytes + offset) / GUEST_PAGE_BYTES;
        if (offset < region->size_bytes)
            return bring_in(rehearsal, address, page);
    }
    return -EFAULT;
}

static void *serve_faults(void *context)
{
    struct rehearsal *rehearsal = context;
    struct pollfd wait[2] = {{.fd = rehearsal->fault_fd, .events = POLLIN},
                             {.fd = rehearsal->stop_fd, .events = POLLIN}};
    int error = 0;
    while (error == 0 && !wait[1].revents) {
        if (poll(wait, 2, -1) < 0)
            error = errno == EINTR ? 0 : -errno;
        else if (wait[0].revents)
            error = serve_fault(rehearsal);
    }
    if (error) {
        log_warn("the rehearsal's memory cannot be served: %s", strerror(-error));
        fd_close(&rehearsal->fault_fd);
        vm_end(rehearsal->vm, VM_END_STOPPED);
    }
    return NULL;
}

static int watch(struct rehearsal *rehearsal)
{
    const struct guest_memory *memory = &rehearsal->vm->memory;
    int error = 0;
    for (unsigned i = 0; i < memory->region_count && error == 0; i++)
        error = watch_region(rehearsal->fault_fd, &memory->regions[i]);
    rehearsal->touched = calloc(page_count(rehearsal) / 64 + 1, sizeof(uint64_t));
    rehearsal->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (error == 0 && !rehearsal->touched)
        error = -ENOMEM;
    if (error == 0 && rehearsal->stop_fd < 0)
        error = -errno;
    if (error == 0)
        error = -pthread_create(&rehearsal->thread, NULL, serve_faults, rehearsal);
    rehearsal->started = error == 0;
    return error;
}

/* ---- the child ---- */

void rehearsal_init(struct rehearsal *rehearsal)
{
    rehearsal->fault_fd = rehearsal->stop_fd = -1;
    rehearsal->touched = rehearsal->written = NULL;
    rehearsal->started = false;
}

/* The pages that earlier rehearsals saw written or, with `read`, touched. NULL: no memory. */
static uint64_t *pages_listed(const struct rehearsal *rehearsal, bool read)
{
    uint64_t *bitmap = calloc(page_count(rehearsal) / 64 + 1, sizeof(uint64_t));
    for (unsigned i = 0; bitmap && i < prefetch.run_count; i++) {
        const struct prefetch_run run = prefetch_run_at(&prefetch, i);
        for (uint64_t page = 0; (run.written || read) && page < run.page_count; page++)
            mark(bitmap, run.first_page + page);
    }
    return bitmap;
}

static bool lists_what_is_read(void)
{
    for (unsigned i = 0; i < prefetch.run_count; i++)
        if (!prefetch_run_at(&prefetch, i).written)
            return true;
    return false;
}

/*
 * The last rehearsal is as a clone will be, with its pages mapped, though none copied. What the others took
 * for written is more: they were slow, and a guest that is slow has ticks of its timer to see to.
 */
void rehearsal_loaded(struct rehearsal *rehearsal)
{
    if (rehearsal->touched && !rehearsal->started)
        prefetch_map(&prefetch, &rehearsal->vm->memory, rehearsal->vm->vcpus[0].fd);
}

int rehearsal_begin(struct rehearsal *rehearsal, struct vm *vm, const struct snapshot *snapshot)
{
    rehearsal->vm = vm;
    rehearsal->snapshot = snapshot;
    int error = read_prefetch(snapshot);
    if (error == -ENOENT || error == -EBADMSG)
        return 0; /* the first */
    if (error == 0 && lists_what_is_read()) {
        rehearsal->touched = pages_listed(rehearsal, true);
        return rehearsal->touched ? 0 : -ENOMEM;
    }
    rehearsal->written = error ? NULL : pages_listed(rehearsal, false);
    if (error == 0 && !rehearsal->written)
        error = -ENOMEM;
    if (error == 0)
        error = rehearsal->fault_fd = open_fault_fd();
    if (error >= 0)
        error = watch(rehearsal);
    if (error)
        log_error("the pages that a clone only reads cannot be told: %s", strerror(-error));
    return error;
}

static void stop_serving(struct rehearsal *rehearsal)
{
    const uint64_t one = 1;
    if (!rehearsal->started)
        return;
    const ssize_t n = write(rehearsal->stop_fd, &one, sizeof one);
    (void)n;
    (void)pthread_join(rehearsal->thread, NULL);
    rehearsal->started = false;
}

static int write_down(const struct rehearsal *rehearsal, const uint64_t *touched, const uint64_t *written)
{
    const struct snapshot *snapshot = rehearsal->snapshot;
    prefetch_make(&prefetch, touched, written, page_count(rehearsal));
    int directory = open(snapshot->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = directory < 0 ? -errno : prefetch_write(&prefetch, directory, snapshot->id);
    fd_close(&directory);
    return error;
}

int rehearsal_record(struct rehearsal *rehearsal)
{
    const bool watched = rehearsal->started;
    int error = 0;
    vm_pause(rehearsal->vm);
    stop_serving(rehearsal);
    if (watched && rehearsal->fault_fd < 0)
        error = -EIO; /* logged by the thread */
    if (!watched)
        error = pages_private(&rehearsal->vm->memory, &rehearsal->written);
    if (error == 0)
        error = write_down(rehearsal, rehearsal->touched ? rehearsal->touched : rehearsal->written,
                           rehearsal->written);
    if (error)
        log_error("the rehearsal's pages cannot be written down: %s", strerror(-error));
    return error;
}

void rehearsal_fini(struct rehearsal *rehearsal)
{
    stop_serving(rehearsal);
    fd_close(&rehearsal->fault_fd);
    fd_close(&rehearsal->stop_fd);
    free(rehearsal->touched);
    free(rehearsal->written);
    rehearsal->touched = rehearsal->written = NULL;
}
