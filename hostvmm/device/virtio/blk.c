/* See blk.h. The thread touches the queue, the file and the irq, never the transport's lock: reset joins the
 * thread with that lock held. */
#include "hostvmm/device/virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/blk_request.h"
#include "hostvmm/jail/jail.h"
#include "hostvmm/snapshot/codec.h"

#define QUEUE_SIZE    128
#define REQUEST_QUEUE 0

static struct virtio_blk *blk_of(struct virtio_device *device)
{
    return (struct virtio_blk *)device; /* its first member */
}

static uint64_t capacity_of(const struct virtio_blk *blk)
{
    return __atomic_load_n(&blk->capacity_bytes, __ATOMIC_ACQUIRE);
}

static bool stopping(const struct virtio_blk *blk)
{
    return __atomic_load_n(&blk->stopping, __ATOMIC_ACQUIRE) != 0;
}

/* Serve the next request. Whether there may be another now. */
static bool serve_one(struct virtio_blk *blk, struct virtq *queue)
{
    struct virtio_device *device = &blk->device;
    struct virtq_chain chain;
    struct blk_request request;
    const int taken = stopping(blk) ? 0 : virtq_pop(queue, device->memory, &chain);
    if (taken < 0)
        virtio_device_broken(device, virtq_error_text(taken));
    if (taken <= 0)
        return false;
    if (blk_request_open(&request, &chain)) {
        virtio_device_broken(device, "a block request without a whole header or a status byte");
        return false;
    }
    blk->wait_ns = rate_ask(&blk->rate, blk_request_cost(&request));
    if (blk->wait_ns > 0) {
        virtq_unpop(queue);
        return false;
    }
    const uint32_t written = blk_request_serve(blk, &request);
    rate_charge(&blk->rate, blk_request_cost(&request));
    (void)virtq_push(queue, device->memory, chain.head, written);
    virtio_device_signal(device, queue);
    return true;
}

void virtio_blk_serve(struct virtio_blk *blk)
{
    struct virtio_device *device = &blk->device;
    struct virtq *queue = &device->queues[REQUEST_QUEUE];
    blk->wait_ns = 0;
    if (!virtio_device_serving(device))
        return;
    do {
        virtq_notify_disable(queue, device->memory);
        while (serve_one(blk, queue))
            ;
        if (blk->wait_ns > 0 || stopping(blk) || !virtio_device_serving(device))
            return;
    } while (virtq_notify_enable(queue, device->memory));
}

static void *run(void *context)
{
    struct virtio_blk *blk = context;
    jail_thread(JAIL_BLK);
    while (!stopping(blk)) {
        struct pollfd wait = {.fd = blk->device.notify_fds[REQUEST_QUEUE], .events = POLLIN};
        const struct timespec until = rate_timespec(blk->wait_ns);
        if (ppoll(&wait, 1, blk->wait_ns > 0 ? &until : NULL, NULL) < 0 && errno != EINTR) {
            virtio_device_broken(&blk->device, "the host's poll failed");
            break;
        }
        (void)virtio_device_kick_clear(&blk->device, REQUEST_QUEUE);
        virtio_blk_serve(blk);
    }
    return NULL;
}

static int activate(struct virtio_device *device)
{
    struct virtio_blk *blk = blk_of(device);
    __atomic_store_n(&blk->stopping, 0, __ATOMIC_RELEASE);
    blk->wait_ns = 0;
    rate_idle(&blk->rate);
    if (blk->serve_by_hand)
        return 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's and the vCPUs' */
    int error = -jail_spawn(&blk->thread, run, blk);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    blk->thread_running = error == 0;
    return error;
}

/* The thread ends once the request in its hands is answered. */
static void stop(struct virtio_device *device)
{
    struct virtio_blk *blk = blk_of(device);
    __atomic_store_n(&blk->stopping, 1, __ATOMIC_RELEASE);
    if (!blk->thread_running)
        return;
    virtio_device_kick(device, REQUEST_QUEUE);
    (void)pthread_join(blk->thread, NULL); /* waits for the request in flight, at most */
    blk->thread_running = false;
}

static void config_read(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
    const struct virtio_blk *blk = blk_of(device);
    struct virtio_blk_config config = blk->config;
    config.capacity = capacity_of(blk) / VIRTIO_BLK_SECTOR_BYTES;
    virtio_config_copy(&config, sizeof config, offset, data, size);
}

static const struct virtio_kind kind = {
    .id = VIRTIO_ID_BLOCK,
    .name = "virtio-blk",
    .queue_count = 1,
    .queue_size_max = QUEUE_SIZE,
    .activate = activate,
    .reset = stop,
    .pause = stop,
    .config_read = config_read,
};

/* The size of a regular file or block device, or -errno. */
static int64_t file_size(int fd)
{
    struct stat about;
    if (fstat(fd, &about) < 0)
        return -errno;
    if (S_ISREG(about.st_mode))
        return about.st_size;
    if (!S_ISBLK(about.st_mode))
        return -EINVAL;
    const off_t size = lseek(fd, 0, SEEK_END);
    return size < 0 ? -errno : size;
}

static int lock_file(int fd, const char *path, bool read_only)
{
    struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES) {
        log_error("drive %s: in use by another process (%s): stop that one, or give each its own copy", path,
                  read_only ? "it writes to the file" : "writing needs the file alone");
        return -EBUSY;
    }
    const int error = -errno;
    if (read_only) {
        log_warn("drive %s: its file system has no locks (%s): nothing keeps others from writing it", path,
                 strerror(-error));
        return 0;
    }
    log_error("drive %s: cannot be locked for writing: %s: use a local file system", path, strerror(-error));
    return error;
}

int virtio_blk_open(const char *path, bool read_only, int *fd)
{
    int file = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0) {
        const int error = -errno;
        log_error("drive %s: cannot open it for %s: %s", path, read_only ? "reading" : "reading and writing",
                  strerror(-error));
        return error;
    }
    const int64_t size = file_size(file);
    int error = size < 0 ? (int)size : size < VIRTIO_BLK_SECTOR_BYTES ? -EINVAL : 0;
    if (size >= 0 && error)
        log_error("drive %s: empty, or smaller than a sector of %u bytes", path, VIRTIO_BLK_SECTOR_BYTES);
    else if (error)
        log_error("drive %s: %s", path,
                  error == -EINVAL ? "neither a file nor a block device" : strerror(-error));
    if (error == 0)
        error = lock_file(file, path, read_only);
    if (error == 0 && size % VIRTIO_BLK_SECTOR_BYTES != 0)
        log_warn("drive %s: its last %u bytes are less than a sector and are left out", path,
                 (unsigned)(size % VIRTIO_BLK_SECTOR_BYTES));
    if (error)
        fd_close(&file);
    else
        *fd = file;
    return error;
}

int virtio_blk_init(struct virtio_blk *blk, const struct guest_memory *memory, int fd, bool read_only,
                    const char *serial)
{
    uint64_t features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
                        1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH;
    features |= read_only ? 1ull << VIRTIO_BLK_F_RO
                          : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
    *blk = (struct virtio_blk){.fd = fd, .read_only = read_only};
    const int64_t size = file_size(fd);
    int error = size < 0 ? (int)size : virtio_device_init(&blk->device, &kind, memory, features);
    if (error) {
        fd_close(&blk->fd);
        return error;
    }
    const uint64_t sectors = (uint64_t)size / VIRTIO_BLK_SECTOR_BYTES;
    rate_init(&blk->rate);
    blk->capacity_bytes = sectors * VIRTIO_BLK_SECTOR_BYTES;
    memcpy(blk->serial, serial, strnlen(serial, sizeof blk->serial));
    blk->config = (struct virtio_blk_config){
        .size_max = BLK_SEGMENT_MAX_BYTES,
        .seg_max = BLK_SEGMENTS_MAX,
        .blk_size = VIRTIO_BLK_SECTOR_BYTES,
        .max_discard_sectors = read_only ? 0 : BLK_DISCARD_MAX_SECTORS,
        .max_discard_seg = read_only ? 0 : BLK_DISCARD_MAX_RANGES,
        .discard_sector_alignment = read_only ? 0 : 1,
        .max_write_zeroes_sectors = read_only ? 0 : BLK_WRITE_ZEROES_MAX_SECTORS,
        .max_write_zeroes_seg = read_only ? 0 : BLK_WRITE_ZEROES_MAX_RANGES,
        .write_zeroes_may_unmap = !read_only,
    };
    return 0;
}

void virtio_blk_fini(struct virtio_blk *blk)
{
    virtio_device_fini(&blk->device);
    rate_fini(&blk->rate);
    fd_close(&blk->fd);
}

void virtio_blk_set_rate(struct virtio_blk *blk, const struct rate_limits *limits)
{
    rate_change(&blk->rate, limits);
    virtio_device_kick(&blk->device, REQUEST_QUEUE); /* what waits is looked at anew */
}

/* Whether a file can be behind this drive. Its size, or -errno, logged. */
static int64_t fit_for(const struct virtio_blk *blk, int fd)
{
    const int64_t size = file_size(fd);
    const int flags = fcntl(fd, F_GETFL);
    int64_t error = size < 0 ? size : size < VIRTIO_BLK_SECTOR_BYTES ? -EINVAL : 0;
    if (error == 0 && flags < 0)
        error = -errno;
    if (error == 0 && !blk->read_only && (flags & O_ACCMODE) != O_RDWR)
        error = -EACCES;
    if (error == 0)
        return size;
    log_error("drive %.*s keeps its file: the other one %s", VIRTIO_BLK_ID_BYTES, blk->serial,
              error == -EINVAL   ? "is no file or block device, or smaller than a sector"
              : error == -EACCES ? "cannot be written, and the guest may write to this drive"
                                 : strerror((int)-error));
    return error;
}

int virtio_blk_swap(struct virtio_blk *blk, int fd)
{
    struct virtio_device *device = &blk->device;
    const int64_t size = fit_for(blk, fd);
    if (size < 0) {
        fd_close(&fd);
        return (int)size;
    }
    pthread_mutex_lock(&device->lock);
    const bool serves = blk->thread_running || (blk->serve_by_hand && device->active && !stopping(blk));
    if (serves)
        stop(device);
    int old = blk->fd;
    if (!blk->read_only && fdatasync(old) < 0) /* no flush of the guest reaches it any more */
        log_warn("drive %.*s: its old file cannot be flushed: %s", VIRTIO_BLK_ID_BYTES, blk->serial,
                 strerror(errno));
    blk->fd = fd;
    __atomic_store_n(&blk->capacity_bytes, (uint64_t)size / VIRTIO_BLK_SECTOR_BYTES * VIRTIO_BLK_SECTOR_BYTES,
                     __ATOMIC_RELEASE);
    virtio_device_config_changed(device);
    if (serves)
        virtio_device_restart(device); /* paused: whoever paused it lets it go on */
    pthread_mutex_unlock(&device->lock);
    fd_close(&old);
    return 0;
}

int virtio_blk_pause(struct virtio_blk *blk)
{
    virtio_device_pause(&blk->device);
    if (blk->read_only || fdatasync(blk->fd) == 0)
        return 0;
    const int error = -errno;
    log_error("drive %.*s: its file cannot be flushed: %s", VIRTIO_BLK_ID_BYTES, blk->serial,
              strerror(-error));
    return error;
}

void virtio_blk_unpause(struct virtio_blk *blk)
{
    virtio_device_unpause(&blk->device);
}

void virtio_blk_save(struct virtio_blk *blk, struct state_writer *out, const char *key)
{
    char serial[VIRTIO_BLK_ID_BYTES + 1] = {0};
    memcpy(serial, blk->serial, sizeof blk->serial);
    state_put_map(out, key, 5);
    state_put_text(out, "serial", serial);
    state_put_uint(out, "capacity_bytes", capacity_of(blk));
    state_put_bool(out, "read_only", blk->read_only);
    rate_save(&blk->rate, out, "rate");
    virtio_device_save(&blk->device, out, "device");
}

void virtio_blk_load(struct virtio_blk *blk, struct state_reader *in, const char *key)
{
    char serial[VIRTIO_BLK_ID_BYTES + 1];
    state_get_map(in, key, 5);
    state_get_text(in, "serial", serial, sizeof serial);
    if (strncmp(serial, blk->serial, sizeof blk->serial) != 0)
        state_refuse(in, "serial", "the drive is %.*s, the snapshot's was %s", VIRTIO_BLK_ID_BYTES,
                     blk->serial, serial);
    const uint64_t capacity = state_get_uint(in, "capacity_bytes", 0, UINT64_MAX);
    if (capacity != blk->capacity_bytes)
        state_refuse(in, "capacity_bytes", "the drive has %llu bytes, the snapshot's had %llu",
                     (unsigned long long)blk->capacity_bytes, (unsigned long long)capacity);
    const bool read_only = state_get_bool(in, "read_only");
    if (read_only != blk->read_only)
        state_refuse(in, "read_only", "the drive is %s, the snapshot's was %s",
                     blk->read_only ? "read-only" : "writable", read_only ? "read-only" : "writable");
    rate_load(&blk->rate, in, "rate");
    virtio_device_load(&blk->device, in, "device");
    state_end(in);
}
