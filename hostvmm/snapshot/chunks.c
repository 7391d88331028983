/* The digests of RAM: FORMAT.md, "chunks". */
#include <bearssl_hash.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/snapshot/snapshot.h"

#define CHUNK_PAGES (SNAPSHOT_CHUNK_BYTES / GUEST_PAGE_BYTES)

uint64_t snapshot_chunk_count(const struct snapshot *snapshot)
{
    return (snapshot->machine.memory_bytes + SNAPSHOT_CHUNK_BYTES - 1) / SNAPSHOT_CHUNK_BYTES;
}

/* `size` bytes at `offset` of a file. 0; -EPIPE it is shorter; -errno. */
static int read_at(int fd, uint8_t *to, uint64_t size, uint64_t offset)
{
    while (size > 0) {
        const ssize_t n = pread(fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        to += n;
        size -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* The chunk's bytes, each page from the layer that has it. The count, or -errno. */
static int64_t read_chunk(const struct snapshot *snapshot, uint64_t chunk, uint8_t *to)
{
    const uint64_t pages = snapshot->machine.memory_bytes / GUEST_PAGE_BYTES;
    const uint64_t first = chunk * CHUNK_PAGES;
    const uint64_t end = pages - first < CHUNK_PAGES ? pages : first + CHUNK_PAGES;
    uint64_t run_first = 0;
    for (unsigned i = 0; i < snapshot->run_count && run_first < end; i++) {
        const struct snapshot_run *run = &snapshot->runs[i];
        const uint64_t run_end = run_first + run->page_count;
        const uint64_t from = run_first > first ? run_first : first;
        const uint64_t until = run_end < end ? run_end : end;
        if (from < until) {
            const int error = read_at(snapshot->layers[run->layer].fd, to + (from - first) * GUEST_PAGE_BYTES,
                                      (until - from) * GUEST_PAGE_BYTES, from * GUEST_PAGE_BYTES);
            if (error)
                return error;
        }
        run_first = run_end;
    }
    return (int64_t)((end - first) * GUEST_PAGE_BYTES);
}

static void digest_of(const void *data, size_t size, uint8_t digest[SNAPSHOT_DIGEST_BYTES])
{
    br_sha256_context sha;
    br_sha256_init(&sha);
    br_sha256_update(&sha, data, size);
    br_sha256_out(&sha, digest);
}

int snapshot_chunk_digest(const struct snapshot *snapshot, uint64_t chunk,
                          uint8_t digest[SNAPSHOT_DIGEST_BYTES])
{
    /* Most of a guest's RAM is zeros: their digest is computed once. */
    static uint8_t buffer[SNAPSHOT_CHUNK_BYTES]; /* one thread: the command's, or the loop's */
    static uint8_t zeros[SNAPSHOT_DIGEST_BYTES];
    static bool zeros_known;
    const int64_t bytes = read_chunk(snapshot, chunk, buffer);
    if (bytes < 0)
        return (int)bytes;
    const bool zero = bytes == (int64_t)sizeof buffer && buffer[0] == 0 &&
                      memcmp(buffer, buffer + 1, sizeof buffer - 1) == 0;
    if (zero && zeros_known) {
        memcpy(digest, zeros, sizeof zeros);
        return 0;
    }
    digest_of(buffer, (size_t)bytes, digest);
    if (zero) {
        memcpy(zeros, digest, sizeof zeros);
        zeros_known = true;
    }
    return 0;
}

/* The file of digests, checked as a whole. Allocated in *digests. */
static int read_digests(const struct snapshot *snapshot, uint8_t **digests, char *why)
{
    char path[CONFIG_PATH_MAX + 16];
    uint8_t digest[SNAPSHOT_DIGEST_BYTES];
    const uint64_t bytes = snapshot_chunk_count(snapshot) * SNAPSHOT_DIGEST_BYTES;
    (void)snprintf(path, sizeof path, "%s/" SNAPSHOT_CHUNKS, snapshot->path);
    *digests = malloc(bytes + 1);
    if (!*digests)
        return -ENOMEM;
    const int64_t got = fd_read_file(path, *digests, bytes + 1);
    if (got != (int64_t)bytes) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "chunks: %s",
                       got < 0 ? strerror((int)-got) : "the file is not whole");
        return got < 0 && got != -EFBIG ? (int)got : -EBADMSG;
    }
    digest_of(*digests, bytes, digest);
    if (memcmp(digest, snapshot->chunks_digest, sizeof digest) == 0)
        return 0;
    (void)snprintf(why, SNAPSHOT_WHY_BYTES, "chunks: its digest does not match: the file is damaged");
    return -EBADMSG;
}

int snapshot_verify(const struct snapshot *snapshot, char *why)
{
    uint8_t digest[SNAPSHOT_DIGEST_BYTES];
    uint8_t *digests = NULL;
    int error = read_digests(snapshot, &digests, why);
    for (uint64_t chunk = 0; chunk < snapshot_chunk_count(snapshot) && error == 0; chunk++) {
        error = snapshot_chunk_digest(snapshot, chunk, digest);
        if (error == 0 && memcmp(digest, digests + chunk * SNAPSHOT_DIGEST_BYTES, sizeof digest) == 0)
            continue;
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "memory: chunk %llu (512 KiB from offset 0x%llx): %s",
                       (unsigned long long)chunk, (unsigned long long)chunk * SNAPSHOT_CHUNK_BYTES,
                       error ? strerror(-error) : "its digest does not match: the file is damaged");
        error = error ? error : -EBADMSG;
    }
    free(digests);
    return error;
}
