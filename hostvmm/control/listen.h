/*
 * A Unix stream socket to be asked through: made with mode 0600; a socket file that a killed process left
 * behind is replaced, one that is served is not; removed at the end if it is still ours.
 */
#ifndef HOSTVMM_CONTROL_LISTEN_H
#define HOSTVMM_CONTROL_LISTEN_H

#include <sys/types.h>
#include <sys/un.h>

struct listen_place {
    int fd; /* -1 while there is none */
    struct sockaddr_un address;
    dev_t dev; /* the file that is ours */
    ino_t ino;
};

/* Listen at `path`, of 1 to 107 bytes; non-blocking. `what` begins each message logged. 0; -EINVAL,
 * -ENAMETOOLONG; -EADDRINUSE it is served, or no socket; or what the system said. */
int listen_open(struct listen_place *place, const char *what, const char *path);
/* Safe on one that was never opened, when its fd is -1. */
void listen_close(struct listen_place *place);

#endif
