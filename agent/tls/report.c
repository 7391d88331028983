/*
 * Why a connection is not to be had: one line in NAME.error, which the function may read, and one on the log,
 * but the same one at most once a minute.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/tls/table.h"

enum { PATH_BYTES = 320, LINE_BYTES = UPSTREAM_WHY_BYTES + 1 };

static void make_path(const struct pool *pool, const char *prefix, char path[PATH_BYTES])
{
    (void)snprintf(path, PATH_BYTES, "%s/%s%s.error", pool->connections->directory, prefix, pool->wish->name);
}

/* It appears whole, or the one before it stays. */
static int write_file(const struct pool *pool, const char *line)
{
    char path[PATH_BYTES], part[PATH_BYTES];
    make_path(pool, "", path);
    make_path(pool, ".", part);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    int error = fchmod(fd, 0644) < 0 ? -errno : fd_write_all(fd, line, strlen(line));
    fd_close(&fd);
    if (error == 0 && rename(part, path) < 0)
        error = -errno;
    if (error)
        (void)unlink(part);
    return error;
}

/* One line, whatever is in it. */
static void make_line(char line[LINE_BYTES], const char *why)
{
    size_t size = 0;
    for (; why[size] != '\0' && size < LINE_BYTES - 2; size++)
        line[size] = why[size];
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[size] = '\n';
    line[size + 1] = '\0';
}

void report_failure(struct pool *pool, int error, const char *why)
{
    const uint64_t now_ns = clock_monotonic_ns();
    const char *text = why[0] ? why : strerror(-error);
    const bool is_new = strncmp(pool->said, text, sizeof pool->said - 1) != 0;
    char line[LINE_BYTES];
    make_line(line, text);
    if (is_new || !pool->has_error_file) {
        const int file_error = write_file(pool, line);
        if (file_error)
            log_warn("cannot write %s/%s.error: %s", pool->connections->directory, pool->wish->name,
                     strerror(-file_error));
        pool->has_error_file = file_error == 0;
    }
    if (!is_new && now_ns < pool->said_ns + TABLE_SAY_AGAIN_MS * TABLE_NS_PER_MS)
        return;
    (void)snprintf(pool->said, sizeof pool->said, "%s", text);
    pool->said_ns = now_ns;
    line[strlen(line) - 1] = '\0';
    log_warn("connection %s to %s: %s", pool->wish->name, pool->wish->host, line);
}

void report_success(struct pool *pool)
{
    if (pool->has_error_file)
        report_forget(pool);
}

void report_forget(struct pool *pool)
{
    char path[PATH_BYTES];
    make_path(pool, "", path);
    if (unlink(path) == 0 || errno == ENOENT)
        pool->has_error_file = false;
}
