/*
 * A block device over a file (virtio 1.2, section 5.2).
 *
 * Requests are served one after the other on a thread of the device's own, started when the driver sets
 * DRIVER_OK and joined at reset; it sleeps in poll() on the notify descriptor. Data moves between the file
 * and guest memory without a copy in between. A failed request is answered with S_IOERR or S_UNSUPP and the
 * device goes on; a malformed chain breaks the device until its reset.
 *
 * The capacity is the file's size when the device was made or its file was swapped, a partial last sector
 * left out.
 *
 * Limits (rate.h). A request that has to wait stays in the guest's ring, and the thread sleeps until its
 * bucket allows it: whoever resets, pauses or saves the device finds nothing half done, and waits for no
 * bucket. Reads, writes and zeros to be written cost their bytes; every request is one operation.
 *
 * Swapping the file stops the thread as a pause does: the request in its hands ends on the old file, the next
 * starts on the new one, and the guest is told of the new capacity.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BLK_H
#define HOSTVMM_DEVICE_VIRTIO_BLK_H

#include <linux/virtio_blk.h>
#include <pthread.h>

#include "hostvmm/device/rate.h"
#include "hostvmm/device/virtio/mmio.h"

#define VIRTIO_BLK_SECTOR_BYTES 512u

struct virtio_blk_counts { /* atomic: read by others for metrics; what waited is in struct rate */
    uint64_t operations;   /* requests answered */
    uint64_t bytes_read, bytes_written;
    uint64_t flushes;
    uint64_t errors; /* requests answered with something else than OK */
};

struct virtio_blk {
    struct virtio_device device; /* first */
    int fd;
    bool read_only;
    bool serve_by_hand; /* set before DRIVER_OK: no thread, the owner calls virtio_blk_serve (tests, fuzzing)
                         */
    bool thread_running;
    int stopping; /* atomic */
    pthread_t thread;
    struct rate rate;
    uint64_t wait_ns; /* the device's thread: until its next request may pass; 0: none waits */
    struct virtio_blk_counts counts;
    uint64_t capacity_bytes; /* whole sectors; atomic: a swap changes it */
    char serial[VIRTIO_BLK_ID_BYTES];
    struct virtio_blk_config config;
};

/*
 * Open a drive's file or block device and lock it against other processes until it is closed: a writer
 * excludes everybody, readers exclude writers. Logs what is wrong. 0; -EBUSY locked by another, -EINVAL
 * neither file nor block device or smaller than a sector, -errno.
 */
int virtio_blk_open(const char *path, bool read_only, int *fd);

/* `fd` is owned by the device from now on, also when this fails; `serial` is cut to 20 bytes. 0 or -errno. */
int virtio_blk_init(struct virtio_blk *blk, const struct guest_memory *memory, int fd, bool read_only,
                    const char *serial);
void virtio_blk_fini(struct virtio_blk *blk);

/* Any thread; the limits are valid, and count from the next request on. */
void virtio_blk_set_rate(struct virtio_blk *blk, const struct rate_limits *limits);

/*
 * Another file behind the drive, opened as virtio_blk_open does; owned by the device from now on, also when
 * this fails. On the main thread, whether the device serves or is paused; waits for the request in flight at
 * most. 0; -EINVAL neither file nor block device or smaller than a sector, -EACCES it cannot be written and
 * the drive can, -errno: logged, and the drive keeps its file.
 */
int virtio_blk_swap(struct virtio_blk *blk, int fd);

/* As virtio_device_pause and unpause; besides, on return of the former all that was written is in the file
 * for good. 0 or -errno, logged: paused, but not so. */
int virtio_blk_pause(struct virtio_blk *blk);
void virtio_blk_unpause(struct virtio_blk *blk);
/* Load refuses a snapshot of another drive than this one. */
void virtio_blk_save(struct virtio_blk *blk, struct state_writer *out, const char *key);
void virtio_blk_load(struct virtio_blk *blk, struct state_reader *in, const char *key);

/* Serve every request that waits, on the thread that owns the queue. */
void virtio_blk_serve(struct virtio_blk *blk);

#endif
