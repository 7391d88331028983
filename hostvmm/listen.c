/* See listen.h. Two processes that find the same dead file are kept apart by a lock on its directory. */
#include "hostvmm/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

static int open_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int remove_stale(const char *what, const struct sockaddr_un *address)
{
    struct stat about;
    if (lstat(address->sun_path, &about) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(about.st_mode)) {
        log_error("%s %s: exists and is not a socket: name another path or remove it", what,
                  address->sun_path);
        return -EADDRINUSE;
    }
    int fd = open_socket();
    if (fd < 0)
        return fd;
    const int error = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    fd_close(&fd);
    if (error != ECONNREFUSED) {
        log_error("%s %s: another process serves this path%s: stop it, or name another path", what,
                  address->sun_path, error && error != EAGAIN ? ", or it cannot be told" : "");
        return -EADDRINUSE;
    }
    log_info("%s %s: removed, nobody was listening there any more", what, address->sun_path);
    return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Until the descriptor is closed; -1 where that is not possible. */
static int lock_directory(const char *path)
{
    char name[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    const char *slash = strrchr(path, '/');
    (void)snprintf(name, sizeof name, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    const int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)flock(fd, LOCK_EX); /* held by others for as long as this takes */
    return fd;
}

/* The mode is set before there is a file to open: bind gives it the socket's own. */
static int bind_path(struct listen_place *place, const struct listen_wish *wish)
{
    struct stat about = {0};
    int directory = lock_directory(place->address.sun_path);
    int error = remove_stale(wish->what, &place->address);
    if (error == 0 && ((wish->mode && fchmod(place->fd, wish->mode) < 0) ||
                       bind(place->fd, (const struct sockaddr *)&place->address, sizeof place->address) < 0 ||
                       listen(place->fd, wish->backlog) < 0 || lstat(place->address.sun_path, &about) < 0)) {
        error = -errno;
        log_error("%s %s: cannot listen there: %s", wish->what, place->address.sun_path, strerror(-error));
    }
    fd_close(&directory);
    if (error == 0) {
        place->dev = about.st_dev;
        place->ino = about.st_ino;
    }
    return error;
}

int listen_open(struct listen_place *place, const struct listen_wish *wish)
{
    const size_t size = strlen(wish->path);
    place->fd = -1;
    if (size == 0 || size > wish->path_max_bytes || size >= sizeof place->address.sun_path) {
        log_error("%s: a path of %zu bytes: it must have 1 to %zu, give a shorter one: %s", wish->what, size,
                  wish->path_max_bytes, wish->path);
        return size == 0 ? -EINVAL : -ENAMETOOLONG;
    }
    place->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(place->address.sun_path, wish->path, size + 1);
    place->fd = open_socket();
    if (place->fd < 0)
        return place->fd;
    const int error = bind_path(place, wish);
    if (error)
        fd_close(&place->fd);
    return error;
}

void listen_close(struct listen_place *place)
{
    struct stat about;
    if (place->fd < 0)
        return;
    if (lstat(place->address.sun_path, &about) == 0 && about.st_dev == place->dev &&
        about.st_ino == place->ino)
        (void)unlink(place->address.sun_path);
    fd_close(&place->fd);
}
