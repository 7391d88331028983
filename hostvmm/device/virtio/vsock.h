/*
 * A socket device (virtio 1.2, section 5.10, stream sockets) whose far side is Unix sockets on the host.
 *
 *   host -> guest   a client connects to `socket_path`, writes "CONNECT <port>\n" and reads "OK <port>\n"
 *                   (the host port it was given); from then on bytes pass. Refused or malformed: closed.
 *   guest -> host   a guest's connection to CID 2, port P, is made to the Unix socket `<socket_path>_<P>`,
 * and reset when nobody listens there.
 *
 * All work is done on the main loop's thread, under the transport's lock; nothing blocks. Three files behind
 * it: vsock_connection (table, states and credit: no I/O), vsock_guest (rings and packets), vsock_host (Unix
 * sockets).
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_VSOCK_H
#define HOSTVMM_DEVICE_VIRTIO_VSOCK_H

#include <sys/types.h>

#include "agent/base/loop.h"
#include "hostvmm/device/virtio/mmio.h"
#include "hostvmm/listen.h"

#define VIRTIO_VSOCK_CONNECTIONS_MAX 1024
/* `socket_path` leaves room for "_" and ten digits within sockaddr_un. */
#define VIRTIO_VSOCK_PATH_MAX_BYTES 96

#define VSOCK_HASH_BUCKETS          256
#define VSOCK_RESETS_MAX            64

struct vsock_connection; /* vsock_connection.h */

/* A transport reset, on its way to the guest. Until the guest has handled it, it is sent no packet of a
 * connection: it would drop new connections with the old ones. */
enum vsock_reset_stage {
    VSOCK_RESET_NONE,
    VSOCK_RESET_OWED, /* waits for an event buffer */
    VSOCK_RESET_TOLD, /* waits until the driver, having handled it, offers that buffer again */
};

/* An RST owed to the guest for a connection that no longer exists here, or never did. */
struct vsock_reset {
    uint64_t host_cid;
    uint32_t host_port;
    uint32_t guest_port;
    uint16_t type;
};

struct virtio_vsock_counts {         /* the main loop's alone, as all that is below the transport */
    uint64_t to_guest, to_host;      /* connections that were accepted */
    uint64_t refused;                /* packets of the guest's that were answered with a reset */
    uint64_t dropped;                /* ... or not at all: forged */
    uint64_t rx_packets, tx_packets; /* to the guest, from it */
    uint64_t rx_bytes, tx_bytes;     /* the data in these */
};

struct virtio_vsock {
    struct virtio_device device; /* first */
    struct loop *loop;
    uint64_t guest_cid;

    struct vsock_connection *buckets[VSOCK_HASH_BUCKETS];
    struct vsock_connection *all;                      /* every one, also those in no bucket */
    struct vsock_connection *ready_first, *ready_last; /* have something for the guest, in turn */
    unsigned connection_count;
    uint32_t next_host_port;

    struct vsock_reset resets[VSOCK_RESETS_MAX];
    unsigned reset_first, reset_count;
    bool tx_paused; /* the guest's packets wait until it takes the resets it is owed */
    bool torn;      /* the driver reset the device: connections are to be dropped */
    enum vsock_reset_stage reset_stage;
    uint16_t event_head; /* the buffer of the event, while TOLD */

    struct loop_source notify[3]; /* rx, tx, event */
    bool gate_open;
    bool listener_starved;     /* out of descriptors: no accept until a connection ends */
    struct listen_place place; /* where clients come; its fd -1: nowhere */
    struct loop_source listener;
    struct virtio_vsock_counts counts;
};

/*
 * Bind `socket_path` (NULL: no Unix sockets, only virtio_vsock_connect) and set the device up. Nothing is
 * accepted before virtio_vsock_open_gate. A socket file whose owner is gone is replaced. Logs what is wrong.
 * 0; -EADDRINUSE the path is served by another process or is no socket, -ENAMETOOLONG, -EINVAL a guest_cid
 * that is reserved, -errno.
 */
int virtio_vsock_init(struct virtio_vsock *vsock, const struct guest_memory *memory, struct loop *loop,
                      const char *socket_path, uint64_t guest_cid);
void virtio_vsock_fini(struct virtio_vsock *vsock);

/* From now on clients are accepted while the driver is active; earlier ones have waited in the backlog. */
void virtio_vsock_open_gate(struct virtio_vsock *vsock);

/*
 * A connection of hostvmm's own to the guest's `port`, the gate aside: *fd is a stream socket, nonblocking
 * and close-on-exec, which reads end-of-file when the guest refuses. 0; -ENOTCONN the driver is not active,
 * -EMFILE too many connections, -errno.
 */
int virtio_vsock_connect(struct virtio_vsock *vsock, uint32_t port, int *fd);

/*
 * Connections are not saved, but for whom the guest waits in vain then: the resets it is owed, one for each
 * of its requests without an answer among them (VSOCK_RESETS_MAX in all; the guest gives the others up by
 * itself). Load refuses another guest_cid than the device's.
 */
void virtio_vsock_save(const struct virtio_vsock *vsock, struct state_writer *out, const char *key);
void virtio_vsock_load(struct virtio_vsock *vsock, struct state_reader *in, const char *key);

/*
 * Drop every connection on the host's side and tell the guest to drop its own (a transport reset event);
 * after a restore, once the device is revived. Listeners survive it. New connections, of either side, are
 * taken at once and go on when the guest has handled the event; a guest that never does keeps its own
 * connections waiting and nothing else. A driver that is not active has no connections and is told nothing.
 */
void virtio_vsock_reset_connections(struct virtio_vsock *vsock);

#endif
