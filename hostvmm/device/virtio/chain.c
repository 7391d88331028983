/* Views of and copies between a taken descriptor chain and the device's memory; see queue.h. */
#include <string.h>

#include "hostvmm/device/virtio/queue.h"

/* The part [offset, offset + size) of a segment list, as a list. */
static unsigned slice(const struct iovec *from, unsigned count, uint64_t offset, uint64_t size,
                      struct iovec *out)
{
    unsigned entries = 0;
    for (unsigned i = 0; i < count && size > 0; i++) {
        if (offset >= from[i].iov_len) {
            offset -= from[i].iov_len;
            continue;
        }
        uint64_t here = from[i].iov_len - offset;
        if (here > size)
            here = size;
        out[entries++] =
            (struct iovec){.iov_base = (uint8_t *)from[i].iov_base + offset, .iov_len = (size_t)here};
        size -= here;
        offset = 0;
    }
    return entries;
}

unsigned virtq_chain_readable(const struct virtq_chain *chain, uint64_t offset, uint64_t size,
                              struct iovec *out)
{
    return slice(chain->segments, chain->readable_count, offset, size, out);
}

unsigned virtq_chain_writable(const struct virtq_chain *chain, uint64_t offset, uint64_t size,
                              struct iovec *out)
{
    return slice(chain->segments + chain->readable_count, chain->writable_count, offset, size, out);
}

size_t virtq_chain_read(struct virtq_chain *chain, void *to, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < chain->readable_count && done < size; i++) {
        struct iovec *segment = &chain->segments[i];
        const size_t here = segment->iov_len < size - done ? segment->iov_len : size - done;
        if (here == 0)
            continue; /* consumed before */
        memcpy((uint8_t *)to + done, segment->iov_base, here);
        segment->iov_base = (uint8_t *)segment->iov_base + here;
        segment->iov_len -= here;
        done += here;
    }
    chain->readable_bytes -= done;
    return done;
}

size_t virtq_chain_write(const struct virtq_chain *chain, uint64_t offset, const void *from, size_t size)
{
    const struct iovec *segments = chain->segments + chain->readable_count;
    size_t done = 0;
    for (unsigned i = 0; i < chain->writable_count && done < size; i++) {
        if (offset >= segments[i].iov_len) {
            offset -= segments[i].iov_len;
            continue;
        }
        const size_t room = segments[i].iov_len - (size_t)offset;
        const size_t here = room < size - done ? room : size - done;
        memcpy((uint8_t *)segments[i].iov_base + offset, (const uint8_t *)from + done, here);
        done += here;
        offset = 0;
    }
    return done;
}
