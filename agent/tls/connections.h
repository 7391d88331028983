/*
 * The function's connections: what its manifest names, held by the agent, reached by the function in the
 * clear and carried by TLS outside.
 *
 *   function --- /run/connections/NAME (Unix stream) ---+
 *   function --- 127.0.0.1:local_port ------------------+-- a local end -- an upstream (upstream.h) -- server
 *   function_connect() -- /run/connections/.connect ----+
 *
 * A local end that the function opens gets a ready upstream of the pool, or a new one; the pool is filled up
 * again. Bytes pass both ways with back-pressure, ends of stream too (close_notify <-> shutdown). When an
 * upstream cannot be had or fails, its local end is reset; the reason is in /run/connections/NAME.error (one
 * line, removed by the next success), on the log, and in the answer to function_connect(). A Unix socket on
 * which the function has never written sees an end of stream where there would be a reset (pump.c). A
 * shutdown for writing alone is not passed on: TLS 1.2 has no half of an end (local.c).
 *
 * A connection with a client certificate begins its life with the first resume, which brings the key.
 *
 * Across a snapshot (PROTOCOL.md):
 *   connections_drain      idle upstreams are closed with close_notify; busy ones (see below) may finish
 *                          until the deadline, then their local ends are reset: the function is told
 *   connections_forget     no upstream is left: keys, sessions, client keys, stack are wiped
 *   connections_renew      in a clone: what upstreams there still are (a snapshot without consent) is
 *                          abandoned without a byte, their local ends reset if busy; pools and idle local
 *                          ends get new upstreams, all at once. Returns at once; handshakes go on while the
 *                          hooks run
 *
 * Idle: both buffers of the local end and the upstream are empty, the function has read all it was given, and
 * the last bytes came from the server (or none ever passed). Anything else is a half-sent request or a
 * half-read response, and only the function can know whether to repeat it.
 */
#ifndef AGENT_TLS_CONNECTIONS_H
#define AGENT_TLS_CONNECTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/loop.h"
#include "agent/resume.h"

#define CONNECTIONS_DIRECTORY "/run/connections"
#define CONNECTIONS_ASK       ".connect" /* function_connect's socket in it (agent/function/channel.h) */
#define CONNECTIONS_LOCAL_MAX 64         /* local ends at once */
#define CONNECTIONS_WHY_BYTES 320

struct connections; /* connections.c: static storage, one a process */

struct connections *connections_get(void);

/*
 * Read the manifest in the function's directory, load what it names, open the sockets below `directory` for
 * this user, fill the pools. No manifest: nothing happens, ever. 0, or -errno with `why`: the function's init
 * fails with that text.
 */
int connections_begin(struct connections *connections, struct loop *loop, const char *function_directory,
                      const char *directory, uid_t user, gid_t group, char *why);
void connections_fini(struct connections *connections);

/* Are there any in the manifest? */
bool connections_are_wanted(const struct connections *connections);

/* Before a snapshot. 0: nothing left already; -EINPROGRESS: `drained` comes, once, at the latest soon after
 * the deadline. connections_undrain: the checkpoint was given up (or there was none); serve on. What came to
 * an idle local end meanwhile is neither lost nor sent: it waits in its socket. After connections_forget a
 * connection with a client certificate waits for the next resume all the same. */
typedef void connections_drained(void *context);
int connections_drain(struct connections *connections, uint64_t deadline_ns, connections_drained *drained,
                      void *context);
void connections_undrain(struct connections *connections);
void connections_forget(struct connections *connections);

/* The step "connections" of a resume, after the secrets. 0 or -errno with `why`. */
int connections_renew(struct connections *connections, const struct resume_secret *secrets, unsigned count,
                      char *why);
/* This clone is given up: no byte more on any connection, and none is made. */
void connections_abandon(struct connections *connections);

#endif
