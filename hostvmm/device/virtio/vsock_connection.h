/*
 * A vsock connection: what it is, where it is found, what a packet means to it, how much either side may
 * send. No I/O here, but for the closing of its descriptor when it is destroyed.
 *
 *   GREETING --CONNECT line--> REQUESTED --RESPONSE--> ESTABLISHED --both host ends shut--> CLOSING
 *      |                          |                     ^   |                                 |
 *      |                          | host gone           |   | guest shut both ends            | RST
 *      v                          v                     |   v                                 v
 *   destroyed                  CLOSING       a guest's REQUEST   DRAINING --buffer empty--> destroyed
 *
 * GREETING and DRAINING ones are in no bucket: the guest knows nothing of them, or no longer. An RST destroys
 * a connection in any state.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_VSOCK_CONNECTION_H
#define HOSTVMM_DEVICE_VIRTIO_VSOCK_CONNECTION_H

#include <linux/virtio_vsock.h>

#include "hostvmm/device/virtio/vsock.h"

#define VSOCK_HOST_CID       2u
#define VSOCK_LINE_MAX_BYTES 20u /* "CONNECT 4294967295\n" and one to spare */

/* What the guest may have under way to one connection: less when there are many, so that slow readers on the
 * host cost at most 80 MiB in all. Allocated only while a reader is slow. */
#define VSOCK_BUFFER_BYTES      (256u << 10)
#define VSOCK_BUFFER_MANY_BYTES (64u << 10)
#define VSOCK_MANY              64u

enum vsock_state {
    VSOCK_GREETING,
    VSOCK_REQUESTED,
    VSOCK_ESTABLISHED,
    VSOCK_CLOSING,
    VSOCK_DRAINING,
};

/* Control packets owed to the guest; the shutdown is owed when `shut` and `shut_told` differ. */
enum { VSOCK_OWES_REQUEST = 1, VSOCK_OWES_RESPONSE = 2, VSOCK_OWES_CREDIT = 4 };

struct vsock_connection {
    struct virtio_vsock *vsock;
    struct vsock_connection *all_previous, *all_next;
    struct vsock_connection *bucket_next;
    struct vsock_connection *ready_next;
    uint32_t host_port;
    uint32_t guest_port;
    enum vsock_state state;

    int fd;
    struct loop_source source; /* in the loop until the host's end hangs up */
    uint32_t interest;         /* epoll events asked for */

    uint8_t owes;
    uint8_t shut;       /* VIRTIO_VSOCK_SHUTDOWN_*: what the host's end will no longer do */
    uint8_t shut_told;  /* ... and what the guest knows of it */
    uint8_t guest_shut; /* what the guest will no longer do */
    bool ready;         /* in the ready list */
    bool wants_read;    /* the host's end may have bytes, or its end-of-file */
    bool hung_up;       /* the host's end is closed; bytes may be left in it */
    bool says_ok;       /* the client waits for its OK line */
    bool credit_asked;  /* the guest's credit is used up and it was asked for more */

    /* guest -> host: bytes received, passed on, and the latter as the guest knows it */
    uint32_t buffer_bytes_max;
    uint32_t received;
    uint32_t forwarded;
    uint32_t forwarded_told;
    /* host -> guest */
    uint32_t sent;
    uint32_t guest_buffer_bytes;
    uint32_t guest_forwarded;

    uint8_t *buffer; /* ring of buffer_bytes_max: received - forwarded bytes of it are used */
    uint32_t buffer_at;
    uint32_t buffer_used;

    uint8_t line_bytes;
    char line[VSOCK_LINE_MAX_BYTES];
};

/* A new one in state GREETING with no descriptor, or NULL: too many, or no memory. */
struct vsock_connection *vsock_connection_new(struct virtio_vsock *vsock);
/* Forget it, close its descriptor, free it. */
void vsock_connection_destroy(struct vsock_connection *connection);

struct vsock_connection *vsock_connection_find(struct virtio_vsock *vsock, uint32_t host_port,
                                               uint32_t guest_port);
/* Put it under its ports / take it out again. */
void vsock_connection_hash(struct vsock_connection *connection);
void vsock_connection_unhash(struct vsock_connection *connection);
/* A host port that is free towards `guest_port`. */
uint32_t vsock_host_port_pick(struct virtio_vsock *vsock, uint32_t guest_port);

/* Owe the guest an RST; forgotten when VSOCK_RESETS_MAX are owed already. */
void vsock_reset_add(struct virtio_vsock *vsock, struct vsock_reset reset);
/* The RST that tells the guest of the connection's end. */
struct vsock_reset vsock_reset_of(const struct vsock_connection *connection);

/* The ready list: who has something for the guest, one packet at a time. */
void vsock_ready_add(struct vsock_connection *connection);
struct vsock_connection *vsock_ready_take(struct virtio_vsock *vsock);

/* What a packet asks for, given the state of the connection it names. */
enum vsock_action {
    VSOCK_REFUSE, /* answer with RST, destroy: what the table does not name */
    VSOCK_DROP,   /* destroy without an answer */
    VSOCK_OPEN,
    VSOCK_DATA,
    VSOCK_SHUT,
    VSOCK_CREDIT,
    VSOCK_CREDIT_ASKED,
};
enum vsock_action vsock_action_of(enum vsock_state state, uint16_t op);

/* Bytes that may be sent to the guest / that the guest may send. */
uint32_t vsock_credit_to_guest(const struct vsock_connection *connection);
uint32_t vsock_credit_of_guest(const struct vsock_connection *connection);
/* Take the guest's credit figures from any of its packets. */
void vsock_credit_learn(struct vsock_connection *connection, const struct virtio_vsock_hdr *header);
/* `size` bytes reached the host's end, or were given up: the guest is told once it matters. */
void vsock_forwarded(struct vsock_connection *connection, uint32_t size);

/* The port of a "CONNECT <port>" line without its end. 0 or -EINVAL. */
int vsock_line_port(const char *line, size_t size, uint32_t *port);

/* Whether there is something to send to the guest now. */
bool vsock_has_packet(const struct vsock_connection *connection);

#endif
