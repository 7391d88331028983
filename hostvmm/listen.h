/*
 * A Unix stream socket that others connect to: the guest's vsock, and the control socket. A socket file that
 * a killed process left behind is replaced, one that is served is not; it is removed at the end if it is
 * still ours.
 */
#ifndef HOSTVMM_LISTEN_H
#define HOSTVMM_LISTEN_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

struct listen_place {
    int fd; /* -1 while there is none */
    struct sockaddr_un address;
    dev_t dev; /* the file that is ours */
    ino_t ino;
};

struct listen_wish {
    const char *what; /* begins each message logged */
    const char *path;
    size_t path_max_bytes; /* at most 107 */
    int backlog;
    mode_t mode; /* 0: what the process's mask leaves */
};

/* Listen; non-blocking. 0; -EINVAL, -ENAMETOOLONG; -EADDRINUSE it is served, or no socket; or what the system
 * said. */
int listen_open(struct listen_place *place, const struct listen_wish *wish);
/* Safe on one that was never opened, when its fd is -1. */
void listen_close(struct listen_place *place);

#endif
