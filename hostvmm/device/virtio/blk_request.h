/*
 * One block request, apart from queues and threads: decode the header, do the I/O, give the status.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BLK_REQUEST_H
#define HOSTVMM_DEVICE_VIRTIO_BLK_REQUEST_H

#include "hostvmm/device/virtio/blk.h"

/* What the driver is told of the limits, and what is refused beyond them. */
#define BLK_SEGMENTS_MAX             126u /* data buffers; with header and status a full queue of 128 */
#define BLK_SEGMENT_MAX_BYTES        (256u << 10)
#define BLK_REQUEST_MAX_BYTES        ((uint64_t)BLK_SEGMENTS_MAX * BLK_SEGMENT_MAX_BYTES)
#define BLK_DISCARD_MAX_SECTORS      (1u << 21) /* 1 GiB a range */
#define BLK_DISCARD_MAX_RANGES       16u
#define BLK_WRITE_ZEROES_MAX_SECTORS (1u << 15) /* 16 MiB: written out where the file cannot punch holes */
#define BLK_WRITE_ZEROES_MAX_RANGES  1u

struct blk_request {
    struct virtio_blk_outhdr header;
    struct virtq_chain *chain; /* the header is consumed */
    uint64_t zeroed_bytes;     /* written by hand while it was served */
};

/* Take the header off the chain: it is read once, and counts as it was then. 0; -EPROTO when there is no
 * whole header or no room for the status: the driver is broken. */
int blk_request_open(struct blk_request *request, struct virtq_chain *chain);
/* What it costs of a limit, in bytes: what it asks to move, and once it is served the zeros it took. */
uint64_t blk_request_cost(const struct blk_request *request);
/* Serve it and write its status byte. The bytes written to the front of the chain's writable part, for
 * virtq_push. */
uint32_t blk_request_serve(struct virtio_blk *blk, struct blk_request *request);

#endif
