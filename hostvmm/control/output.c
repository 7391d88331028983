/* See output.h. */
#include "hostvmm/control/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"

/* Room to begin with when the size is not known beforehand (a pipe). */
#define FIRST_ROOM_BYTES 65536

/* Read to the end; one byte past the limit proves that there is more. */
static int read_bounded(int fd, size_t limit, uint8_t **data, size_t *size)
{
    struct stat status;
    size_t room = FIRST_ROOM_BYTES;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        if ((uint64_t)status.st_size > limit)
            return -EFBIG;
        room = (size_t)status.st_size + 1;
    }
    uint8_t *bytes = malloc(room);
    size_t have = 0;
    int error = bytes ? 0 : -ENOMEM;
    while (error == 0) {
        if (have == room) {
            room = room > limit / 2 ? limit + 1 : room * 2;
            uint8_t *larger = realloc(bytes, room);
            if (!larger) {
                error = -ENOMEM;
                break;
            }
            bytes = larger;
        }
        ssize_t n = read(fd, bytes + have, room - have);
        if (n == 0)
            break;
        if (n < 0)
            error = errno == EINTR ? 0 : -errno;
        else
            have += (size_t)n;
        if (have > limit)
            error = -EFBIG;
    }
    if (error) {
        free(bytes);
        return error;
    }
    *data = bytes;
    *size = have;
    return 0;
}

int event_read(const char *path, size_t limit, uint8_t **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    if (strcmp(path, "-") == 0)
        return read_bounded(STDIN_FILENO, limit, data, size);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    const int error = read_bounded(fd, limit, data, size);
    fd_close(&fd);
    return error;
}

int answer_write(const char *path, const void *data, size_t size)
{
    if (strcmp(path, "-") == 0)
        return fd_write_all(STDOUT_FILENO, data, size);
    char temporary[PATH_MAX];
    const int length = snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary)
        return -ENAMETOOLONG;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return -errno;
    int error = fd_write_all(fd, data, size);
    fd_close(&fd);
    if (error == 0 && rename(temporary, path) < 0)
        error = -errno;
    if (error)
        (void)unlink(temporary);
    return error;
}
