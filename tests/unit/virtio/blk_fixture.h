/*
 * The block device under a test, over a file in /tmp whose sectors are filled with their number.
 */
#ifndef TESTS_UNIT_VIRTIO_BLK_FIXTURE_H
#define TESTS_UNIT_VIRTIO_BLK_FIXTURE_H

#include "hostvmm/device/virtio/blk.h"
#include "tests/unit/virtio/guest.h"

#define BLK_RAM_BYTES    (64u << 20)
#define BLK_FILE_SECTORS 64u
#define BLK_FILE_BYTES   (BLK_FILE_SECTORS * 512 + 100) /* a partial sector at the end */

struct blk_fixture {
    char path[64];
    struct guest guest;
    struct virtio_blk blk;
    struct guest_queue queue;
    uint64_t header, status, data; /* guest addresses */
    uint64_t features;
};

int blk_setup(void **state);
int blk_teardown(void **state);

/* Fill a file as the drive's is. */
void blk_create_file(const char *path);
/* Make the device; by hand: without a thread. */
void blk_start(struct blk_fixture *f, bool read_only, bool by_hand);
/* Its driver resets it and sets it up. */
void blk_bring_up(struct blk_fixture *f);
void blk_stop(struct blk_fixture *f);

/* Queue one request with `size` bytes of data in three uneven buffers. */
void blk_submit(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable);
/* Queue, serve, and give the status; the used length in *written. */
uint8_t blk_do(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable,
               uint32_t *written);
void blk_file_bytes(struct blk_fixture *f, uint64_t offset, void *to, size_t size);

#endif
