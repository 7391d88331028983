/*
 * Views of a taken chain, hostvmm/device/virtio/chain.c: reading, writing and slicing touch no byte outside
 * the segments and the caller's buffer, give no more than was asked for and no more entries than segments,
 * for every offset and size.
 *
 * Bounds: two readable and two writable segments of 0 to 2 bytes each; offsets and sizes up to 3 are cases of
 * their own, all larger offsets of 64 bits one more.
 *
 * options: -eva-slevel 100 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "hostvmm/device/virtio/chain.c"

#define SEGMENT_BYTES 2u
#define SIZE_MOST     3u

static uint8_t memory[4][SEGMENT_BYTES], buffer[SIZE_MOST];

/* The segments end where their arrays do. */
static struct virtq_chain chain_of(unsigned lengths)
{
    struct virtq_chain chain = {.readable_count = 2, .writable_count = 2};
    for (unsigned i = 0; i < 4; i++) {
        const size_t length = i % 2 ? lengths / 3 : lengths % 3;
        chain.segments[i] = (struct iovec){memory[i] + (SEGMENT_BYTES - length), length};
    }
    chain.readable_bytes = chain.segments[0].iov_len + chain.segments[1].iov_len;
    chain.writable_bytes = chain.readable_bytes;
    return chain;
}

static void views(const struct virtq_chain *chain, uint64_t offset_from, uint64_t offset_to, size_t size)
{
    struct iovec out[2];
    const uint64_t offset = any_u64(offset_from, offset_to);
    const unsigned readable = virtq_chain_readable(chain, offset, size, out);
    //@ assert readable <= 2;
    for (unsigned i = 0; i < readable; i++) {
        //@ assert 1 <= out[i].iov_len <= SEGMENT_BYTES;
        //@ assert \valid((uint8_t *)out[i].iov_base + (0 .. out[i].iov_len - 1));
    }
    const unsigned writable = virtq_chain_writable(chain, offset, size, out);
    //@ assert writable <= 2;
    const size_t written = virtq_chain_write(chain, offset, buffer + (SIZE_MOST - size), size);
    //@ assert written <= size;
}

static void each(unsigned lengths, size_t size)
{
    struct virtq_chain chain = chain_of(lengths);
    //@ loop unroll 100;
    for (uint64_t offset = 0; offset <= SIZE_MOST; offset++)
        views(&chain, offset, offset, size);
    views(&chain, SIZE_MOST + 1, UINT64_MAX, size);
    const size_t first = virtq_chain_read(&chain, buffer + (SIZE_MOST - size), size);
    const size_t second = virtq_chain_read(&chain, buffer + (SIZE_MOST - size), size);
    //@ assert first <= size && second <= size && first + second <= 2 * SEGMENT_BYTES;
}

int main(void)
{
    any_bytes(memory, sizeof memory);
    any_bytes(buffer, sizeof buffer);
    //@ loop unroll 100;
    for (unsigned lengths = 0; lengths < 9; lengths++)
        //@ loop unroll 100;
        for (size_t size = 0; size <= SIZE_MOST; size++)
            each(lengths, size);
    return 0;
}
