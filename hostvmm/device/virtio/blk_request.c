/*
 * See blk_request.h; virtio 1.2, section 5.2.6. The header may be spread over any buffers (VERSION_1 implies
 * any layout); the status is the last byte of the writable part, the data all that is between.
 */
#include "hostvmm/device/virtio/blk_request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/base/log.h"

#define KNOWN_FLAGS VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

/* The status for an errno of the host, which is logged, though not as often as a guest may try: it only learns that
 * it failed. */
static uint8_t host_failed(struct virtio_blk *blk, const char *what, uint64_t offset, int error)
{
    const char *end;
    if (virtio_device_may_log(&blk->device, &end))
        log_warn("%s (serial %.*s): %s at byte %llu failed: %s%s", blk->device.kind->name,
                 VIRTIO_BLK_ID_BYTES, blk->serial, what, (unsigned long long)offset, strerror(error), end);
    return VIRTIO_BLK_S_IOERR;
}

/* Whether [sector, sector + size) lies on the device. */
static bool in_range(const struct virtio_blk *blk, uint64_t sector, uint64_t size_bytes)
{
    const uint64_t sectors = blk->capacity_bytes / VIRTIO_BLK_SECTOR_BYTES;
    return sector <= sectors && size_bytes <= (sectors - sector) * VIRTIO_BLK_SECTOR_BYTES;
}

typedef ssize_t transfer(int fd, const struct iovec *list, int count, off_t offset);

/* Move `size` bytes between the file and the list, over short transfers. The bytes moved in *done. */
static uint8_t move(struct virtio_blk *blk, transfer *how, struct iovec *list, unsigned count,
                    uint64_t offset, uint64_t *done)
{
    struct iovec *at = list;
    while (count > 0) {
        ssize_t n = how(blk->fd, at, (int)count, (off_t)(offset + *done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* 0: the file was truncated under us */
            return host_failed(blk, how == preadv ? "reading" : "writing", offset + *done,
                               n < 0 ? errno : EIO);
        *done += (uint64_t)n;
        size_t left = (size_t)n;
        while (count > 0 && left >= at->iov_len) {
            left -= at->iov_len;
            at++;
            count--;
        }
        if (count > 0) {
            at->iov_base = (uint8_t *)at->iov_base + left;
            at->iov_len -= left;
        }
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t do_flush(struct virtio_blk *blk)
{
    if (fdatasync(blk->fd) < 0)
        return host_failed(blk, "flushing", 0, errno);
    return VIRTIO_BLK_S_OK;
}

/* A driver that did not take FLUSH relies on each write being stable when it is answered. */
static uint8_t written(struct virtio_blk *blk, uint8_t status)
{
    const bool write_through = !(blk->device.driver_features >> VIRTIO_BLK_F_FLUSH & 1);
    return status == VIRTIO_BLK_S_OK && write_through ? do_flush(blk) : status;
}

static uint8_t do_read(struct virtio_blk *blk, const struct virtq_chain *chain, uint64_t sector,
                       uint64_t *done)
{
    const uint64_t size = chain->writable_bytes - 1;
    if (size == 0 || size % VIRTIO_BLK_SECTOR_BYTES != 0 || size > BLK_REQUEST_MAX_BYTES ||
        !in_range(blk, sector, size))
        return VIRTIO_BLK_S_IOERR;
    struct iovec list[VIRTQ_SIZE_MAX];
    const unsigned count = virtq_chain_writable(chain, 0, size, list);
    return move(blk, preadv, list, count, sector * VIRTIO_BLK_SECTOR_BYTES, done);
}

static uint8_t do_write(struct virtio_blk *blk, const struct virtq_chain *chain, uint64_t sector,
                        uint64_t *done)
{
    const uint64_t size = chain->readable_bytes; /* the header is consumed */
    if (blk->read_only || size == 0 || size % VIRTIO_BLK_SECTOR_BYTES != 0 || size > BLK_REQUEST_MAX_BYTES ||
        !in_range(blk, sector, size))
        return VIRTIO_BLK_S_IOERR;
    struct iovec list[VIRTQ_SIZE_MAX];
    const unsigned count = virtq_chain_readable(chain, 0, size, list);
    return written(blk, move(blk, pwritev, list, count, sector * VIRTIO_BLK_SECTOR_BYTES, done));
}

/* Write zeros where the file system cannot. */
static uint8_t zero_by_hand(struct virtio_blk *blk, uint64_t offset, uint64_t size, uint64_t *zeroed)
{
    static const uint8_t zeros[4096];
    while (size > 0) {
        struct iovec list[16];
        unsigned count = 0;
        uint64_t batch = 0;
        while (count < 16 && batch < size) {
            const uint64_t here = size - batch < sizeof zeros ? size - batch : sizeof zeros;
            list[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = (size_t)here};
            batch += here;
        }
        uint64_t done = 0;
        const uint8_t status = move(blk, pwritev, list, count, offset, &done);
        *zeroed += done;
        if (status != VIRTIO_BLK_S_OK)
            return status;
        offset += batch;
        size -= batch;
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t clear_range(struct virtio_blk *blk, uint32_t type,
                           const struct virtio_blk_discard_write_zeroes *range, uint64_t *zeroed)
{
    const uint64_t offset = range->sector * VIRTIO_BLK_SECTOR_BYTES;
    const uint64_t size = (uint64_t)range->num_sectors * VIRTIO_BLK_SECTOR_BYTES;
    if (size == 0)
        return VIRTIO_BLK_S_OK;
    const bool keep = type == VIRTIO_BLK_T_WRITE_ZEROES && !(range->flags & KNOWN_FLAGS);
    const int mode = (keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) | FALLOC_FL_KEEP_SIZE;
    int error;
    do {
        error = fallocate(blk->fd, mode, (off_t)offset, (off_t)size) < 0 ? errno : 0;
    } while (error == EINTR);
    if (error == 0)
        return VIRTIO_BLK_S_OK;
    if (error != EOPNOTSUPP && error != ENOSYS)
        return host_failed(blk, "clearing", offset, error);
    /* A discard is a hint; zeros are a promise. */
    return type == VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_S_OK : zero_by_hand(blk, offset, size, zeroed);
}

/* DISCARD and WRITE_ZEROES: judge every range before the first is touched. */
static uint8_t do_clear(struct virtio_blk *blk, struct virtq_chain *chain, uint32_t type, uint64_t *zeroed)
{
    const bool discard = type == VIRTIO_BLK_T_DISCARD;
    const uint32_t ranges_max = discard ? BLK_DISCARD_MAX_RANGES : BLK_WRITE_ZEROES_MAX_RANGES;
    const uint32_t sectors_max = discard ? BLK_DISCARD_MAX_SECTORS : BLK_WRITE_ZEROES_MAX_SECTORS;
    struct virtio_blk_discard_write_zeroes ranges[BLK_DISCARD_MAX_RANGES];
    if (blk->read_only)
        return VIRTIO_BLK_S_IOERR;
    const uint64_t count = chain->readable_bytes / sizeof ranges[0];
    if (chain->readable_bytes % sizeof ranges[0] != 0 || count == 0 || count > ranges_max)
        return VIRTIO_BLK_S_IOERR;
    (void)virtq_chain_read(chain, ranges, (size_t)count * sizeof ranges[0]);
    for (unsigned i = 0; i < count; i++) {
        if ((ranges[i].flags & ~(uint32_t)KNOWN_FLAGS) != 0 || (discard && ranges[i].flags != 0))
            return VIRTIO_BLK_S_UNSUPP;
        if (ranges[i].num_sectors > sectors_max ||
            !in_range(blk, ranges[i].sector, (uint64_t)ranges[i].num_sectors * VIRTIO_BLK_SECTOR_BYTES))
            return VIRTIO_BLK_S_IOERR;
    }
    uint8_t status = VIRTIO_BLK_S_OK;
    for (unsigned i = 0; i < count && status == VIRTIO_BLK_S_OK; i++)
        status = clear_range(blk, type, &ranges[i], zeroed);
    return written(blk, status);
}

static uint8_t do_get_id(const struct virtio_blk *blk, const struct virtq_chain *chain, uint64_t *done)
{
    const uint64_t room = chain->writable_bytes - 1;
    *done = virtq_chain_write(chain, 0, blk->serial,
                              room < sizeof blk->serial ? (size_t)room : sizeof blk->serial);
    return VIRTIO_BLK_S_OK;
}

int blk_request_open(struct blk_request *request, struct virtq_chain *chain)
{
    *request = (struct blk_request){.chain = chain};
    if (chain->writable_bytes < 1 ||
        virtq_chain_read(chain, &request->header, sizeof request->header) != sizeof request->header)
        return -EPROTO;
    return 0;
}

uint64_t blk_request_cost(const struct blk_request *request)
{
    switch (request->header.type) {
    case VIRTIO_BLK_T_IN:
        return request->chain->writable_bytes - 1;
    case VIRTIO_BLK_T_OUT:
        return request->chain->readable_bytes;
    default:
        return request->zeroed_bytes;
    }
}

/* One writer, many readers: no locked instruction is needed. */
static void count(uint64_t *total, uint64_t more)
{
    __atomic_store_n(total, *total + more, __ATOMIC_RELAXED);
}

uint32_t blk_request_serve(struct virtio_blk *blk, struct blk_request *request)
{
    struct virtq_chain *chain = request->chain;
    uint64_t done = 0, stored = 0;
    uint8_t status;
    switch (request->header.type) {
    case VIRTIO_BLK_T_IN:
        status = do_read(blk, chain, request->header.sector, &done);
        count(&blk->counts.bytes_read, done);
        break;
    case VIRTIO_BLK_T_OUT:
        status = do_write(blk, chain, request->header.sector, &stored);
        count(&blk->counts.bytes_written, stored);
        break;
    case VIRTIO_BLK_T_FLUSH:
        status = do_flush(blk);
        count(&blk->counts.flushes, 1);
        break;
    case VIRTIO_BLK_T_GET_ID:
        status = do_get_id(blk, chain, &done);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        status = do_clear(blk, chain, request->header.type, &request->zeroed_bytes);
        count(&blk->counts.bytes_written, request->zeroed_bytes);
        break;
    default:
        status = VIRTIO_BLK_S_UNSUPP;
        break;
    }
    count(&blk->counts.operations, 1);
    count(&blk->counts.errors, status == VIRTIO_BLK_S_OK ? 0 : 1);
    (void)virtq_chain_write(chain, chain->writable_bytes - 1, &status, sizeof status);
    /* The used length counts from the front: the status joins when all before it was written. */
    return (uint32_t)(done + (done == chain->writable_bytes - 1 ? 1 : 0));
}
