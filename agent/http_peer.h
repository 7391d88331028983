/*
 * Who is at the other end of a loopback TCP connection: the kernel knows the owner of a socket, and tells it
 * through sock_diag(7). So the Runtime API serves the function's user and nobody else in the guest.
 */
#ifndef AGENT_HTTP_PEER_H
#define AGENT_HTTP_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* Does the other end of this connection belong to `uid`? An end that has been closed meanwhile belongs to
 * nobody; what it sent before still counts, because only a closed one can no longer be asked. 1, 0 or -errno.
 */
int http_peer_is(int fd, uid_t uid);

#endif
