/* See saver.h. */
#include "hostvmm/snapshot/saver.h"

#include <bearssl_hash.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/jail/jail.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif
#define WRITE_MAX_PAGES 256u /* in one write */

static int say(char *why, int error, const char *what)
{
    (void)snprintf(why, SNAPSHOT_WHY_BYTES, "%s: %s", what, strerror(-error));
    return error;
}

/* The same for a directory that is to be written in: a jail may not show it. */
static int say_place(char *why, int error, const char *place)
{
    if (!jail_is_on() || (error != -ENOENT && error != -EACCES && error != -EROFS))
        return say(why, error, place);
    (void)snprintf(
        why, SNAPSHOT_WHY_BYTES,
        "%.200s: the jail does not show it for writing: start the VM with --jail dir=DIRECTORY for "
        "the directory of its snapshots",
        place);
    return error;
}

/* ---- the directory ---- */

static int split_path(struct saver *saver, const char *path, char *why)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    size_t name = size;
    while (name > 0 && path[name - 1] != '/')
        name--;
    if (size - name == 0 || size - name >= sizeof saver->name || path[name] == '.') {
        (void)snprintf(
            why, SNAPSHOT_WHY_BYTES,
            "%.200s: want the name of a directory to make, at most 255 bytes and not beginning with a dot",
            path);
        return -EINVAL;
    }
    char above[PATH_MAX];
    const char *given = ".";
    if (name > 0) {
        if (name >= sizeof above)
            return say(why, -ENAMETOOLONG, path);
        memcpy(above, path, name);
        above[name] = '\0';
        given = above;
    }
    (void)snprintf(saver->name, sizeof saver->name, "%.*s", (int)(size - name), path + name);
    (void)snprintf(saver->partial, sizeof saver->partial, ".%s.partial", saver->name);
    char *real = realpath(given, NULL);
    if (!real || strlen(real) >= sizeof saver->made.path) {
        const int error = real ? -ENAMETOOLONG : -errno;
        free(real);
        return say_place(why, error, given);
    }
    memcpy(saver->made.path, real, strlen(real) + 1);
    free(real);
    saver->above = open(saver->made.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return saver->above < 0 ? say_place(why, -errno, given) : 0;
}

static void empty_partial(const struct saver *saver)
{
    (void)unlinkat(saver->directory, SNAPSHOT_STATE, 0);
    (void)unlinkat(saver->directory, SNAPSHOT_MEMORY, 0);
    (void)unlinkat(saver->directory, SNAPSHOT_CHUNKS, 0);
}

/* Ours alone while it is locked; one whose owner died is taken over. */
static int make_partial(struct saver *saver, char *why)
{
    if (mkdirat(saver->above, saver->partial, 0700) < 0 && errno != EEXIST)
        return say_place(why, -errno, saver->partial);
    saver->directory = openat(saver->above, saver->partial, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (saver->directory < 0)
        return say(why, -errno, saver->partial);
    if (flock(saver->directory, LOCK_EX | LOCK_NB) < 0) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES,
                       "%s: a snapshot of this name is being written by another process", saver->name);
        fd_close(&saver->directory);
        return -EBUSY;
    }
    empty_partial(saver);
    return 0;
}

int saver_begin(struct saver *saver, const char *path, char *why)
{
    struct stat status;
    struct timespec now;
    *saver = (struct saver){.above = -1, .directory = -1, .memory = -1};
    int error = split_path(saver, path, why);
    if (error)
        return error;
    if (fstatat(saver->above, saver->name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES,
                       "%s exists: a snapshot is never written over; remove it or choose another name",
                       saver->name);
        return -EEXIST;
    }
    error = make_partial(saver, why);
    if (error)
        return error;
    saver->memory = openat(saver->directory, SNAPSHOT_MEMORY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (saver->memory < 0)
        return say(why, -errno, SNAPSHOT_MEMORY);
    if (getrandom(saver->made.id, SNAPSHOT_ID_BYTES, 0) != SNAPSHOT_ID_BYTES)
        return say(why, -EIO, "random numbers for its id");
    (void)clock_gettime(CLOCK_REALTIME, &now);
    saver->made.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return 0;
}

void saver_fini(struct saver *saver)
{
    if (saver->directory >= 0) {
        empty_partial(saver);
        (void)unlinkat(saver->above, saver->partial, AT_REMOVEDIR);
    }
    fd_close(&saver->memory);
    fd_close(&saver->directory);
    fd_close(&saver->above);
    free(saver->changed);
    saver->changed = NULL;
}

/* ---- memory ---- */

static int write_at(int fd, const void *data, uint64_t size, uint64_t offset)
{
    const uint8_t *from = data;
    while (size > 0) {
        const ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        from += n;
        size -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static bool is_zero_page(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < GUEST_PAGE_BYTES / sizeof *words; i += 4)
        if (words[i] | words[i + 1] | words[i + 2] | words[i + 3])
            return false;
    return true;
}

static bool in_bitmap(const uint64_t *bitmap, uint64_t page)
{
    return !bitmap || (bitmap[page / 64] >> page % 64 & 1);
}

/* One region: runs of pages that are wanted and not zero. */
static int write_region(const struct saver *saver, const struct guest_region *region, const uint64_t *present)
{
    const uint64_t first = region->file_offset_bytes / GUEST_PAGE_BYTES;
    const uint64_t pages = region->size_bytes / GUEST_PAGE_BYTES;
    uint64_t run = 0; /* pages waiting to be written, ending before `page` */
    for (uint64_t page = 0; page <= pages; page++) {
        const uint8_t *host = region->host + page * GUEST_PAGE_BYTES;
        const bool wanted = page < pages && in_bitmap(saver->changed, first + page) &&
                            in_bitmap(present, first + page) && !is_zero_page(host);
        if (wanted)
            run++;
        if (run > 0 && (!wanted || run == WRITE_MAX_PAGES)) {
            const uint64_t from = page + (wanted ? 1 : 0) - run;
            const int error = write_at(saver->memory, region->host + from * GUEST_PAGE_BYTES,
                                       run * GUEST_PAGE_BYTES, (first + from) * GUEST_PAGE_BYTES);
            if (error)
                return error;
            run = 0;
        }
    }
    return 0;
}

int saver_memory(struct saver *saver, const struct guest_memory *memory, const uint64_t *present,
                 uint64_t *changed, const struct snapshot *parent, char *why)
{
    uint8_t trailer[SNAPSHOT_TRAILER_BYTES];
    int error = 0;
    saver->changed = changed;
    saver->parent = parent;
    saver->made.machine.memory_bytes = memory->size_bytes;
    if (changed)
        error = layers_of_diff(&saver->made, parent, changed, saver->made.path);
    else
        layers_of_full(&saver->made);
    if (error)
        return say(why, error, "the layers of its memory");
    for (unsigned i = 0; i < memory->region_count && error == 0; i++)
        error = write_region(saver, &memory->regions[i], present);
    snapshot_trailer_make(trailer, saver->made.id);
    if (error == 0)
        error = write_at(saver->memory, trailer, sizeof trailer, memory->size_bytes);
    return error ? say(why, error, SNAPSHOT_MEMORY) : 0;
}

/* ---- the rest ---- */

static int write_file(const struct saver *saver, const char *name, const void *head, size_t head_bytes,
                      const void *data, size_t size)
{
    int fd = openat(saver->directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return -errno;
    int error = head_bytes > 0 ? write_at(fd, head, head_bytes, 0) : 0;
    if (error == 0)
        error = write_at(fd, data, size, head_bytes);
    if (error == 0 && fsync(fd) < 0)
        error = -errno;
    fd_close(&fd);
    return error;
}

/* The parent's digests, for the chunks that did not change. NULL without a parent, or when they cannot be
 * had. */
static uint8_t *parent_digests(const struct saver *saver, uint64_t bytes)
{
    char path[CONFIG_PATH_MAX + 16];
    if (!saver->parent)
        return NULL;
    uint8_t *digests = malloc(bytes + 1);
    (void)snprintf(path, sizeof path, "%s/" SNAPSHOT_CHUNKS, saver->parent->path);
    if (digests && fd_read_file(path, digests, bytes + 1) == (int64_t)bytes)
        return digests;
    free(digests);
    return NULL;
}

static bool chunk_changed(const struct saver *saver, uint64_t chunk)
{
    const uint64_t per_chunk = SNAPSHOT_CHUNK_BYTES / GUEST_PAGE_BYTES;
    const uint64_t pages = saver->made.machine.memory_bytes / GUEST_PAGE_BYTES;
    for (uint64_t page = chunk * per_chunk; page < (chunk + 1) * per_chunk && page < pages; page++)
        if (in_bitmap(saver->changed, page))
            return true;
    return false;
}

static int write_chunks(struct saver *saver)
{
    struct snapshot *made = &saver->made;
    const uint64_t bytes = snapshot_chunk_count(made) * SNAPSHOT_DIGEST_BYTES;
    uint8_t *digests = malloc(bytes + 1);
    uint8_t *inherited = parent_digests(saver, bytes);
    int error = digests ? 0 : -ENOMEM;
    for (uint64_t chunk = 0; chunk < snapshot_chunk_count(made) && error == 0; chunk++) {
        uint8_t *digest = digests + chunk * SNAPSHOT_DIGEST_BYTES;
        if (inherited && !chunk_changed(saver, chunk))
            memcpy(digest, inherited + chunk * SNAPSHOT_DIGEST_BYTES, SNAPSHOT_DIGEST_BYTES);
        else
            error = snapshot_chunk_digest(made, chunk, digest);
    }
    if (error == 0) {
        br_sha256_context sha;
        br_sha256_init(&sha);
        br_sha256_update(&sha, digests, bytes);
        br_sha256_out(&sha, made->chunks_digest);
        error = write_file(saver, SNAPSHOT_CHUNKS, NULL, 0, digests, bytes);
    }
    free(inherited);
    free(digests);
    return error;
}

static int write_state(const struct saver *saver, const struct state_writer *parts)
{
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    struct state_writer body;
    state_writer_init(&body);
    state_put_map(&body, NULL, SNAPSHOT_STATE_FIELDS);
    snapshot_manifest_save(&saver->made, &body);
    state_put_fields(&body, parts);
    int error = body.failed ? -ENOMEM : 0;
    if (error == 0) {
        snapshot_header_make(header, body.data, body.size_bytes);
        error = write_file(saver, SNAPSHOT_STATE, header, sizeof header, body.data, body.size_bytes);
    }
    state_writer_fini(&body);
    return error;
}

/* The digests are of what is on disk: read through the descriptors of all layers. */
static void open_layers(struct saver *saver)
{
    saver->made.layers[0].fd = saver->memory;
    for (unsigned i = 1; i < saver->made.layer_count; i++)
        for (unsigned j = 0; saver->parent && j < saver->parent->layer_count; j++)
            if (memcmp(saver->made.layers[i].id, saver->parent->layers[j].id, SNAPSHOT_ID_BYTES) == 0)
                saver->made.layers[i].fd = saver->parent->layers[j].fd;
}

static int publish(struct saver *saver, char *why)
{
    if (fsync(saver->directory) < 0)
        return say(why, -errno, saver->partial);
    if (syscall(SYS_renameat2, saver->above, saver->partial, saver->above, saver->name, RENAME_NOREPLACE) <
            0 &&
        (errno != EINVAL || renameat(saver->above, saver->partial, saver->above, saver->name) < 0))
        return say(why, -errno, saver->name);
    fd_close(&saver->directory); /* nothing is left to be removed */
    return fsync(saver->above) < 0 ? say(why, -errno, "its directory") : 0;
}

int saver_finish(struct saver *saver, const struct state_writer *parts, char *why)
{
    open_layers(saver);
    int error = write_chunks(saver);
    if (error)
        return say(why, error, SNAPSHOT_CHUNKS);
    if (fsync(saver->memory) < 0)
        return say(why, -errno, SNAPSHOT_MEMORY);
    error = write_state(saver, parts);
    return error ? say(why, error, SNAPSHOT_STATE) : publish(saver, why);
}
