/* See snapshot_files.h. */
#include "hostvmm/control/api/snapshot_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define MAGIC         "\x89RKSNAP\n" /* of a state file, and of a memory file's trailer: FORMAT.md */
#define TRAILER_MAGIC "RKNDMEM\n"
#define MAGIC_BYTES   8u
#define TRAILER_BYTES 32
#define TRIES         16
#define NOTE_MAX      (256u << 10)

/* Linux's own numbers, which musl's headers do not have. */
#define AT_ONCE_NOREPLACE (1u << 0)
#define AT_ONCE_EXCHANGE  (1u << 1)

static const char *const files[] = {"state", "memory", "chunks", "prefetch", SNAPSHOT_FILES_API};

#define FILES (sizeof files / sizeof files[0])

static int refuse(char *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int refuse(char *why, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, SNAPSHOT_FILES_WHY, format, arguments);
    va_end(arguments);
    return error;
}

/* ---- names ---- */

static size_t parent_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

int snapshot_files_beside(const char *path, const char *what, char to[SNAPSHOT_FILES_PATH + 1], char *why)
{
    struct stat about;
    const size_t parent = parent_bytes(path);
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return refuse(why, -EIO, "no random bytes: %s", strerror(errno));
        const int size = snprintf(to, SNAPSHOT_FILES_PATH + 1, "%.*s%s.%s-%016" PRIx64, (int)parent, path,
                                  path + parent, what, random);
        if (size < 0 || size > SNAPSHOT_FILES_PATH)
            return refuse(why, -ENAMETOOLONG, "%s: the path is too long", path);
        if (lstat(to, &about) < 0 && errno == ENOENT)
            return 0;
    }
    return refuse(why, -EEXIST, "%s: no name beside it is free", path);
}

static void sync_parent(const char *path)
{
    char parent[SNAPSHOT_FILES_PATH + 1];
    (void)snprintf(parent, sizeof parent, "%.*s", (int)parent_bytes(path), path);
    int fd = open(parent[0] ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd);
    fd_close(&fd);
}

/* ---- directories ---- */

static bool is_ours(const char *name)
{
    for (size_t i = 0; i < FILES; i++)
        if (strcmp(files[i], name) == 0)
            return true;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A directory with a state file of ours, and with no file that a snapshot has not. */
static bool is_snapshot(const char *path)
{
    char magic[MAGIC_BYTES];
    struct dirent *entry;
    bool pure = true;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int state =
        directory < 0 ? -1 : openat(directory, files[0], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const bool ours = state >= 0 && read(state, magic, sizeof magic) == (ssize_t)sizeof magic &&
                      memcmp(magic, MAGIC, sizeof magic) == 0;
    fd_close(&state);
    DIR *list = directory < 0 ? NULL : fdopendir(directory);
    if (!list)
        fd_close(&directory);
    while (list && (entry = readdir(list)) != NULL)
        pure = pure && is_ours(entry->d_name);
    if (list)
        (void)closedir(list);
    return ours && pure;
}

int snapshot_files_place(const char *path, bool *replaces, char *why)
{
    struct stat about;
    *replaces = false;
    if (lstat(path, &about) < 0)
        return errno == ENOENT ? 0 : refuse(why, -errno, "%s: %s", path, strerror(errno));
    if (!is_snapshot(path))
        return refuse(why, -EEXIST,
                      "%s: it exists and is not a snapshot of Rekindle's: name another place or remove it",
                      path);
    *replaces = true;
    return 0;
}

void snapshot_files_remove(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (size_t i = 0; i < FILES && directory >= 0; i++)
        (void)unlinkat(directory, files[i], 0);
    fd_close(&directory);
    (void)rmdir(path);
}

int snapshot_files_publish(const char *made, const char *path, char *why)
{
    bool replaces;
    int error = snapshot_files_place(path, &replaces, why);
    if (error)
        return error;
    if (syscall(SYS_renameat2, AT_FDCWD, made, AT_FDCWD, path,
                replaces ? AT_ONCE_EXCHANGE : AT_ONCE_NOREPLACE) < 0)
        return refuse(why, -errno, "%s cannot appear: %s", path, strerror(errno));
    sync_parent(path);
    if (replaces)
        snapshot_files_remove(made);
    return 0;
}

/* ---- memory files ---- */

static int memory_of(const char *path, char to[SNAPSHOT_FILES_PATH + 1], char *why)
{
    const int size = snprintf(to, SNAPSHOT_FILES_PATH + 1, "%s/%s", path, files[1]);
    return size < 0 || size > SNAPSHOT_FILES_PATH
               ? refuse(why, -ENAMETOOLONG, "%s: the path is too long", path)
               : 0;
}

/* Whether it is the file itself that is named, where it will be. */
static bool is_inside(const char *path, const char *link)
{
    const size_t size = strlen(path);
    return strncmp(path, link, size) == 0 && link[size] == '/' && strcmp(link + size + 1, files[1]) == 0;
}

int snapshot_files_link(const char *made, const char *path, const char *link,
                        char ready[SNAPSHOT_FILES_PATH + 1], char *why)
{
    char from[SNAPSHOT_FILES_PATH + 1];
    char later[SNAPSHOT_FILES_PATH + 1];
    struct stat about;
    ready[0] = '\0';
    if (is_inside(path, link))
        return 0;
    if (lstat(link, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode))
        return refuse(why, -EEXIST, "mem_file_path %s: it exists and is no file", link);
    int error = memory_of(made, from, why);
    if (error == 0)
        error = memory_of(path, later, why);
    if (error == 0)
        error = snapshot_files_beside(link, "new", ready, why);
    if (error)
        return error;
    if (linkat(AT_FDCWD, from, AT_FDCWD, ready, 0) == 0)
        return 0;
    if ((errno == EXDEV || errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK) &&
        symlink(later, ready) == 0)
        return 0;
    error = -errno;
    ready[0] = '\0';
    return refuse(why, error, "mem_file_path %s: %s", link, strerror(-error));
}

static int trailer_of(const char *path, struct stat *about, uint8_t trailer[TRAILER_BYTES], char *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = 0;
    *about = (struct stat){.st_size = 0};
    if (fd < 0 || fstat(fd, about) < 0)
        error = -errno;
    if (error == 0 && (!S_ISREG(about->st_mode) || about->st_size < TRAILER_BYTES))
        error = -EBADMSG;
    if (error == 0 && pread(fd, trailer, TRAILER_BYTES, about->st_size - TRAILER_BYTES) != TRAILER_BYTES)
        error = -EIO;
    fd_close(&fd);
    if (error)
        return refuse(why, error, "%s: %s", path,
                      error == -EBADMSG ? "it is no memory file of a snapshot of Rekindle's"
                                        : strerror(-error));
    return 0;
}

int snapshot_files_owns(const char *path, const char *file, char *why)
{
    char memory[SNAPSHOT_FILES_PATH + 1];
    struct stat about[2];
    uint8_t trailers[2][TRAILER_BYTES];
    if (!is_snapshot(path)) {
        struct stat found;
        if (stat(path, &found) < 0)
            return refuse(why, -errno, "snapshot_path %s: %s", path, strerror(errno));
        /* One with files of others' in it may be loaded; only replacing it is out of the question. */
        if (!S_ISDIR(found.st_mode))
            return refuse(why, -EBADMSG,
                          "snapshot_path %s: it is no snapshot of Rekindle's, which are directories", path);
    }
    int error = memory_of(path, memory, why);
    if (error == 0)
        error = trailer_of(memory, &about[0], trailers[0], why);
    if (error == 0)
        error = trailer_of(file, &about[1], trailers[1], why);
    if (error)
        return error;
    if (about[0].st_dev == about[1].st_dev && about[0].st_ino == about[1].st_ino)
        return 0;
    if (memcmp(trailers[1], TRAILER_MAGIC, MAGIC_BYTES) == 0 &&
        memcmp(trailers[0], trailers[1], TRAILER_BYTES) == 0 && about[0].st_size == about[1].st_size)
        return 0;
    return refuse(why, -EBADMSG, "memory file %s: it does not belong to snapshot %s", file, path);
}

/* ---- the API's own note ---- */

int snapshot_files_note(const char *path, const json_t *note, char *why)
{
    char *text = json_dumps(note, JSON_INDENT(2));
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = !text ? -ENOMEM : directory < 0 ? -errno : 0;
    int fd = -1;
    if (error == 0) {
        fd = openat(directory, SNAPSHOT_FILES_API, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        error = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
    }
    if (error == 0 && (fsync(fd) < 0 || fsync(directory) < 0))
        error = -errno;
    fd_close(&fd);
    fd_close(&directory);
    free(text);
    return error ? refuse(why, error, "%s/" SNAPSHOT_FILES_API ": %s", path, strerror(-error)) : 0;
}

int snapshot_files_noted(const char *path, json_t **note, char *why)
{
    char name[SNAPSHOT_FILES_PATH + 16];
    json_error_t error;
    *note = NULL;
    (void)snprintf(name, sizeof name, "%s/" SNAPSHOT_FILES_API, path);
    char *text = malloc(NOTE_MAX);
    const int64_t size = text ? fd_read_file(name, text, NOTE_MAX) : -ENOMEM;
    if (size >= 0)
        *note = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (size < 0)
        return refuse(why, (int)size, "%s: %s", name, strerror((int)-size));
    return *note ? 0 : refuse(why, -EBADMSG, "%s: %s at line %d", name, error.text, error.line);
}
