/*
 * Secrets: one file each in a directory of a tmpfs, so that they are in this guest's memory and nowhere
 * else. The function may open what it knows by name (directory 0710, files 0440, of its group) and write
 * nothing. A file appears whole: it is written under a name that no secret can have, then renamed.
 *
 * A file that goes is overwritten first: its pages could otherwise lie in freed memory, and from there
 * get into a snapshot.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/resume/parts.h"

static const char part_name[] = ".part";

bool resume_secret_name_is_good(const char *name)
{
    const size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length <= PROTO_NAME_MAX_BYTES && name[length] == '\0' && name[0] != '.';
}

static int wipe(int directory, const char *name)
{
    static const uint8_t zeros[PROTO_SECRET_MAX_BYTES];
    int error = 0;
    int fd = openat(directory, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ELOOP || errno == EACCES ? 0 : -errno; /* no file of ours */
    struct stat about;
    if (fstat(fd, &about) < 0)
        error = -errno;
    else if (S_ISREG(about.st_mode) && about.st_size > 0 && about.st_size <= (off_t)sizeof zeros &&
             pwrite(fd, zeros, (size_t)about.st_size, 0) != (ssize_t)about.st_size)
        error = -EIO;
    fd_close(&fd);
    return error;
}

static int remove_all(DIR *listing, char *why)
{
    const struct dirent *entry;
    errno = 0;
    while ((entry = readdir(listing))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const int error = wipe(dirfd(listing), entry->d_name);
        if (error)
            return resume_why_at(why, error, "overwrite the secret", entry->d_name);
        if (unlinkat(dirfd(listing), entry->d_name, 0) < 0)
            return resume_why_at(why, -errno, "remove the secret", entry->d_name);
        errno = 0;
    }
    return errno ? resume_why(why, -errno, "list the secrets") : 0;
}

int resume_secrets_remove(const char *directory, char *why)
{
    DIR *listing = opendir(directory);
    if (!listing)
        return errno == ENOENT ? 0 : resume_why_at(why, -errno, "open", directory);
    const int error = remove_all(listing, why);
    (void)closedir(listing);
    return error;
}

static int write_one(int directory, gid_t group, const struct resume_secret *secret)
{
    int error = 0;
    int fd = openat(directory, part_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
    if (fd < 0)
        return -errno;
    if (fchown(fd, (uid_t)-1, group) < 0 || fchmod(fd, 0440) < 0)
        error = -errno;
    if (error == 0)
        error = fd_write_all(fd, secret->data, secret->size);
    fd_close(&fd);
    if (error == 0 && renameat(directory, part_name, directory, secret->name) < 0)
        error = -errno;
    return error;
}

static int check(const struct resume_secret *secret, char *why)
{
    if (memchr(secret->name, '\0', sizeof secret->name) && resume_secret_name_is_good(secret->name) &&
        secret->size <= sizeof secret->data)
        return 0;
    return resume_why(why, -EINVAL, "a secret's name or size is not allowed");
}

int resume_secrets_write(const char *directory, gid_t group, const struct resume_secret *secrets,
                         unsigned count, char *why)
{
    int error = 0;
    for (unsigned i = 0; i < count && error == 0; i++)
        error = check(&secrets[i], why);
    if (error == 0)
        error = resume_secrets_remove(directory, why);
    if (error || count == 0)
        return error;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return resume_why_at(why, -errno, "mkdir", directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return resume_why_at(why, -errno, "open", directory);
    if (fchown(fd, (uid_t)-1, group) < 0 || fchmod(fd, 0710) < 0)
        error = resume_why_at(why, -errno, "chown", directory);
    for (unsigned i = 0; i < count && error == 0; i++) {
        error = write_one(fd, group, &secrets[i]);
        if (error)
            (void)resume_why_at(why, error, "write the secret", secrets[i].name);
    }
    fd_close(&fd);
    return error;
}
