/*
 * machine-id and boot_id: texts in /run, mounted over where programs look for them. A resume writes them
 * in place, with one write, so that the mounts show the new text; who has the file open reads it too.
 *
 * The kernel's own boot_id cannot be changed, which is why a file lies over it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/resume/parts.h"

static char *put_hex(char *at, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        *at++ = "0123456789abcdef"[bytes[i] >> 4];
        *at++ = "0123456789abcdef"[bytes[i] & 15];
    }
    return at;
}

void resume_machine_id_text(char text[RESUME_MACHINE_ID_BYTES + 1], const uint8_t random[16])
{
    memcpy(put_hex(text, random, 16), "\n", 2);
}

void resume_boot_id_text(char text[RESUME_BOOT_ID_BYTES + 1], const uint8_t random[16])
{
    static const uint8_t groups[] = {4, 2, 2, 2, 6};
    uint8_t uuid[16];
    memcpy(uuid, random, sizeof uuid);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* RFC 9562, 5.4: version 4 ... */
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80); /* ... and its variant */
    const uint8_t *from = uuid;
    for (size_t i = 0; i < sizeof groups; from += groups[i++]) {
        text = put_hex(text, from, groups[i]);
        *text++ = i + 1 < sizeof groups ? '-' : '\n';
    }
    *text = '\0';
}

/* A file stays open from the agent's start on: a resume looks up no path. */
static int machine_id_fd = -1, boot_id_fd = -1;

static int write_text(int *fd, const char *path, bool make, const char *text, char *why)
{
    const size_t size = strlen(text);
    if (make)
        fd_close(fd);
    if (*fd < 0)
        *fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0444);
    if (*fd < 0)
        return resume_why_at(why, -errno, "open", path);
    if (make && (fchmod(*fd, 0444) < 0 || ftruncate(*fd, 0) < 0))
        return resume_why_at(why, -errno, "ftruncate", path);
    errno = 0;
    return pwrite(*fd, text, size, 0) == (ssize_t)size
               ? 0
               : resume_why_at(why, errno ? -errno : -EIO, "write", path);
}

static int draw(uint8_t random[16], char *why)
{
    return getrandom(random, 16, 0) == 16 ? 0 : resume_why(why, errno ? -errno : -EIO, "getrandom");
}

int resume_machine_id_write(const char *path, bool make, char *why)
{
    uint8_t random[16];
    char text[RESUME_MACHINE_ID_BYTES + 1];
    const int error = draw(random, why);
    if (error)
        return error;
    resume_machine_id_text(text, random);
    return write_text(&machine_id_fd, path, make, text, why);
}

int resume_boot_id_write(const char *path, bool make, char *why)
{
    uint8_t random[16];
    char text[RESUME_BOOT_ID_BYTES + 1];
    const int error = draw(random, why);
    if (error)
        return error;
    resume_boot_id_text(text, random);
    return write_text(&boot_id_fd, path, make, text, why);
}

int resume_mount_over(const char *path, const char *target, char *why)
{
    struct stat source, below;
    if (stat(target, &below) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : resume_why_at(why, -errno, "stat", target);
    if (stat(path, &source) < 0)
        return resume_why_at(why, -errno, "stat", path);
    if (source.st_dev == below.st_dev && source.st_ino == below.st_ino)
        return 0; /* an agent before this one did it */
    if (mount(path, target, NULL, MS_BIND, NULL) < 0)
        return resume_why_at(why, -errno, "mount", target);
    return 0;
}
