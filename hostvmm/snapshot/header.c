/*
 * The first 64 bytes of a state file (FORMAT.md, "state"): magic, version, size and digest of the body. They
 * come before anything that parses, so that no parser ever sees a damaged body.
 */
#include <bearssl_hash.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "hostvmm/snapshot/snapshot.h"

#define MAGIC       "\x89RKSNAP\n" /* not text, and damaged by what changes line ends */
#define MAGIC_BYTES 8u

static void digest_of(const void *data, size_t size, uint8_t digest[SNAPSHOT_DIGEST_BYTES])
{
    br_sha256_context sha;
    br_sha256_init(&sha);
    br_sha256_update(&sha, data, size);
    br_sha256_out(&sha, digest);
}

void snapshot_header_make(uint8_t header[SNAPSHOT_HEADER_BYTES], const void *body, size_t size)
{
    uint8_t digest[SNAPSHOT_DIGEST_BYTES];
    struct cursor out = cursor_over(header, SNAPSHOT_HEADER_BYTES);
    memset(header, 0, SNAPSHOT_HEADER_BYTES);
    digest_of(body, size, digest);
    cursor_put(&out, MAGIC, MAGIC_BYTES);
    cursor_put_le(&out, SNAPSHOT_VERSION, 4);
    cursor_put_le(&out, 0, 4);
    cursor_put_le(&out, size, 8);
    cursor_put(&out, digest, sizeof digest);
}

static bool all_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; data && i < size; i++)
        if (data[i])
            return false;
    return true;
}

int64_t snapshot_header_check(const uint8_t *file, size_t size, char *why)
{
    uint8_t digest[SNAPSHOT_DIGEST_BYTES];
    struct cursor in =
        cursor_over((uint8_t *)(uintptr_t)file, size < SNAPSHOT_HEADER_BYTES ? size : SNAPSHOT_HEADER_BYTES);
    const uint8_t *magic = cursor_take(&in, MAGIC_BYTES);
    if (!magic || memcmp(magic, MAGIC, MAGIC_BYTES) != 0) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES,
                       "state: not a snapshot's state: its first bytes are not the format's");
        return -EBADMSG;
    }
    const uint64_t version = cursor_get_le(&in, 4);
    if (!in.failed && version != SNAPSHOT_VERSION) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES,
                       "state: version %llu of the format, this hostvmm reads version %u: take the snapshot "
                       "anew with this one",
                       (unsigned long long)version, SNAPSHOT_VERSION);
        return -EPROTONOSUPPORT;
    }
    const uint64_t reserved = cursor_get_le(&in, 4);
    const uint64_t body_bytes = cursor_get_le(&in, 8);
    const uint8_t *wanted = cursor_take(&in, sizeof digest);
    const bool tail = all_zero(cursor_take(&in, 8), 8);
    if (in.failed || body_bytes != size - SNAPSHOT_HEADER_BYTES || body_bytes > STATE_MAX_BYTES) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES,
                       "state: %zu bytes, its header promises %llu: the file is not whole", size,
                       in.failed ? (unsigned long long)SNAPSHOT_HEADER_BYTES
                                 : (unsigned long long)body_bytes + SNAPSHOT_HEADER_BYTES);
        return -EBADMSG;
    }
    if (reserved || !tail) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "state: its header's reserved bytes are not zero");
        return -EBADMSG;
    }
    digest_of(file + SNAPSHOT_HEADER_BYTES, (size_t)body_bytes, digest);
    if (memcmp(digest, wanted, sizeof digest) != 0) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "state: its digest does not match: the file is damaged");
        return -EBADMSG;
    }
    return (int64_t)body_bytes;
}
