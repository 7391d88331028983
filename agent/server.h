/*
 * Where clients come in: vsock port PROTO_PORT in the guest, a Unix socket on a development machine.
 */
#ifndef AGENT_SERVER_H
#define AGENT_SERVER_H

#include "agent/base/loop.h"
#include "agent/session.h"

struct server {
    struct session *session;
    struct loop_source source;
    const char *path; /* of the Unix socket, removed at the end; NULL with vsock */
    int fd;
};

/* Listen on `unix_path`, or on vsock when it is NULL. 0 or -errno, logged. */
int server_init(struct server *server, struct session *session, const char *unix_path);
void server_fini(struct server *server);

#endif
