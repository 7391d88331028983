/*
 * A block device over a file (virtio 1.2, section 5.2).
 *
 * Requests are served one after the other on a thread of the device's own, started when the driver sets
 * DRIVER_OK and joined at reset; it sleeps in poll() on the notify descriptor. Data moves between the file
 * and guest memory without a copy in between. A failed request is answered with S_IOERR or S_UNSUPP and the
 * device goes on; a malformed chain breaks the device until its reset.
 *
 * The capacity is the file's size when the device was made, a partial last sector left out.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BLK_H
#define HOSTVMM_DEVICE_VIRTIO_BLK_H

#include <linux/virtio_blk.h>
#include <pthread.h>

#include "hostvmm/device/virtio/mmio.h"

#define VIRTIO_BLK_SECTOR_BYTES 512u

struct virtio_blk {
    struct virtio_device device; /* first */
    int fd;
    bool read_only;
    bool serve_by_hand; /* set before DRIVER_OK: no thread, the owner calls virtio_blk_serve (tests, fuzzing)
                         */
    bool thread_running;
    int stopping; /* atomic */
    pthread_t thread;
    uint64_t capacity_bytes; /* whole sectors */
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

/* As virtio_device_pause and unpause; besides, on return of the former all that was written is in the file
 * for good. 0 or -errno, logged: paused, but not so. */
int virtio_blk_pause(struct virtio_blk *blk);
void virtio_blk_unpause(struct virtio_blk *blk);
/* Load refuses a snapshot of another drive than this one. */
void virtio_blk_save(const struct virtio_blk *blk, struct state_writer *out, const char *key);
void virtio_blk_load(struct virtio_blk *blk, struct state_reader *in, const char *key);

/* Serve every request that waits, on the thread that owns the queue. */
void virtio_blk_serve(struct virtio_blk *blk);

#endif
