/* See prefetch.h. */
#include "hostvmm/snapshot/prefetch.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define HEAD_BYTES   32u
#define PARTIAL_FILE "." PREFETCH_FILE ".partial"

/* A run in one number: where, how many, whether written. */
#define COUNT_SHIFT 32
#define COUNT_MAX   0x7fffffffu
#define WRITTEN     (UINT64_C(1) << 63)

static void put_le(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static void make_head(uint8_t head[HEAD_BYTES], const uint8_t *id, unsigned run_count)
{
    static const uint8_t magic[8] = {'R', 'K', 'N', 'D', 'P', 'R', 'E', '\n'};
    memcpy(head, magic, sizeof magic);
    put_le(head + 8, PREFETCH_VERSION, 4);
    put_le(head + 12, run_count, 4);
    memcpy(head + 16, id, PREFETCH_ID_BYTES);
}

/* ---- making ---- */

static bool in_bitmap(const uint64_t *bitmap, uint64_t page)
{
    return bitmap[page / 64] >> page % 64 & 1;
}

void prefetch_make(struct prefetch *prefetch, const uint64_t *touched, const uint64_t *written,
                   uint64_t page_count)
{
    prefetch->run_count = 0;
    for (uint64_t page = 0; page < page_count && prefetch->run_count < PREFETCH_RUNS_MAX;) {
        const uint64_t first = page;
        const bool writes = in_bitmap(written, page);
        const bool wanted = writes || in_bitmap(touched, page);
        do {
            page++;
        } while (page < page_count && page - first < COUNT_MAX && in_bitmap(written, page) == writes &&
                 (writes || in_bitmap(touched, page)) == wanted);
        if (wanted)
            put_le(prefetch->runs[prefetch->run_count++],
                   first | (page - first) << COUNT_SHIFT | (writes ? WRITTEN : 0), 8);
    }
}

struct prefetch_run prefetch_run_at(const struct prefetch *prefetch, unsigned index)
{
    uint64_t value;
    memcpy(&value, prefetch->runs[index], sizeof value);
    value = le64toh(value);
    return (struct prefetch_run){.first_page = (uint32_t)value,
                                 .page_count = value >> COUNT_SHIFT & COUNT_MAX,
                                 .written = value & WRITTEN};
}

/* ---- the file ---- */

int prefetch_write(const struct prefetch *prefetch, int directory, const uint8_t id[PREFETCH_ID_BYTES])
{
    uint8_t head[HEAD_BYTES];
    make_head(head, id, prefetch->run_count);
    (void)unlinkat(directory, PARTIAL_FILE, 0);
    int fd = openat(directory, PARTIAL_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return -errno;
    int error = fd_write_all(fd, head, sizeof head);
    if (error == 0)
        error = fd_write_all(fd, prefetch->runs, prefetch->run_count * sizeof prefetch->runs[0]);
    if (error == 0 && fsync(fd) < 0)
        error = -errno;
    fd_close(&fd);
    if (error == 0 && renameat(directory, PARTIAL_FILE, directory, PREFETCH_FILE) < 0)
        error = -errno;
    if (error)
        (void)unlinkat(directory, PARTIAL_FILE, 0);
    return error;
}

static int refuse(struct prefetch *prefetch, char *why, const char *what)
{
    prefetch->run_count = 0;
    (void)snprintf(why, PREFETCH_WHY_BYTES, "%s: %s", PREFETCH_FILE, what);
    return -EBADMSG;
}

static int check(struct prefetch *prefetch, uint64_t page_count, char *why)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < prefetch->run_count; i++) {
        const struct prefetch_run run = prefetch_run_at(prefetch, i);
        if (run.first_page < end || run.first_page >= page_count || run.page_count == 0 ||
            run.page_count > page_count - run.first_page)
            return refuse(prefetch, why, "its runs are not within memory, or out of order");
        end = run.first_page + run.page_count;
    }
    return 0;
}

static int read_from(struct prefetch *prefetch, int fd, const uint8_t *id, char *why)
{
    uint8_t wanted[HEAD_BYTES];
    uint8_t found[HEAD_BYTES];
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_size < (off_t)HEAD_BYTES ||
        (uint64_t)status.st_size > HEAD_BYTES + sizeof prefetch->runs)
        return refuse(prefetch, why, "no regular file of a size that it can have");
    const unsigned count = (unsigned)(((uint64_t)status.st_size - HEAD_BYTES) / sizeof prefetch->runs[0]);
    int error = fd_read_all(fd, found, sizeof found);
    if (error == 0)
        error = fd_read_all(fd, prefetch->runs, count * sizeof prefetch->runs[0]);
    make_head(wanted, id, count);
    if (error)
        return error;
    if (memcmp(wanted, found, sizeof found) != 0)
        return refuse(prefetch, why, "another version, another snapshot's, or cut off");
    prefetch->run_count = count;
    return 0;
}

int prefetch_read(struct prefetch *prefetch, int directory, const uint8_t id[PREFETCH_ID_BYTES],
                  uint64_t page_count, char *why)
{
    prefetch->run_count = 0;
    int fd = openat(directory, PREFETCH_FILE, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    int error = fd < 0 ? -errno : read_from(prefetch, fd, id, why);
    fd_close(&fd);
    if (error && error != -EBADMSG)
        (void)snprintf(why, PREFETCH_WHY_BYTES, "%s: %s", PREFETCH_FILE, strerror(-error));
    return error ? error : check(prefetch, page_count, why);
}
