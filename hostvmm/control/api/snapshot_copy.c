/* A drive's file for one clone alone. See snapshot_files.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "agent/base/fd.h"
#include "hostvmm/control/api/snapshot_files.h"

#define PIECE_BYTES (1u << 20)

/* From `from` to `to`, both the offset. */
static int copy_range(int in, int out, off_t from, off_t end, char *piece)
{
    while (from < end) {
        const size_t wanted = end - from < (off_t)PIECE_BYTES ? (size_t)(end - from) : PIECE_BYTES;
        const ssize_t n = pread(in, piece, wanted, from);
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE; /* it became shorter */
        for (ssize_t done = 0; done < n;) {
            const ssize_t written = pwrite(out, piece + done, (size_t)(n - done), from + done);
            if (written < 0)
                return -errno;
            done += written;
        }
        from += n;
    }
    return 0;
}

/* What of it is data; holes stay holes. */
static int copy_sparse(int in, int out, off_t size)
{
    char *piece = malloc(PIECE_BYTES);
    int error = !piece ? -ENOMEM : ftruncate(out, size) < 0 ? -errno : 0;
    for (off_t at = 0; at < size && error == 0;) {
        const off_t data = lseek(in, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break; /* only a hole is left */
        const off_t hole = data < 0 ? size : lseek(in, data, SEEK_HOLE);
        at = hole < 0 ? size : hole;
        error = copy_range(in, out, data < 0 ? 0 : data, at, piece);
    }
    free(piece);
    return error;
}

int snapshot_files_copy(const char *path, char to[SNAPSHOT_FILES_PATH + 1], char *why)
{
    struct stat about = {.st_size = 0};
    int error = snapshot_files_beside(path, "clone", to, why);
    if (error)
        return error;
    int out = -1;
    int in = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (in < 0 || fstat(in, &about) < 0)
        error = -errno;
    else if (!S_ISREG(about.st_mode))
        error = -EINVAL;
    if (error == 0) {
        out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        error = out < 0 ? -errno : 0;
    }
    if (error == 0 && ioctl(out, FICLONE, in) < 0)
        error = copy_sparse(in, out, about.st_size);
    if (error && out >= 0)
        (void)unlink(to);
    fd_close(&in);
    fd_close(&out);
    if (error)
        (void)snprintf(why, SNAPSHOT_FILES_WHY, "a copy of drive %s for this clone: %s", path,
                       error == -EINVAL ? "it is no file: name the clone's own with drive_overrides"
                                        : strerror(-error));
    return error;
}
