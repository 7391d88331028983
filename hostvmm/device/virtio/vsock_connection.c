/* See vsock_connection.h. */
#include "hostvmm/device/virtio/vsock_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"

/* Host ports given to clients: [2^30, 2^31), apart from any a service would choose. */
#define HOST_PORT_FIRST (1u << 30)
#define HOST_PORT_END   (1u << 31)

static const enum vsock_action actions[][VIRTIO_VSOCK_OP_CREDIT_REQUEST + 1] = {
    [VSOCK_REQUESTED] =
        {
            [VIRTIO_VSOCK_OP_RESPONSE] = VSOCK_OPEN,
            [VIRTIO_VSOCK_OP_RST] = VSOCK_DROP,
        },
    [VSOCK_ESTABLISHED] =
        {
            [VIRTIO_VSOCK_OP_RST] = VSOCK_DROP,
            [VIRTIO_VSOCK_OP_SHUTDOWN] = VSOCK_SHUT,
            [VIRTIO_VSOCK_OP_RW] = VSOCK_DATA,
            [VIRTIO_VSOCK_OP_CREDIT_UPDATE] = VSOCK_CREDIT,
            [VIRTIO_VSOCK_OP_CREDIT_REQUEST] = VSOCK_CREDIT_ASKED,
        },
    [VSOCK_CLOSING] =
        {
            [VIRTIO_VSOCK_OP_RST] = VSOCK_DROP,
            [VIRTIO_VSOCK_OP_CREDIT_UPDATE] = VSOCK_CREDIT,
            [VIRTIO_VSOCK_OP_CREDIT_REQUEST] = VSOCK_CREDIT,
        },
};

enum vsock_action vsock_action_of(enum vsock_state state, uint16_t op)
{
    if (op > VIRTIO_VSOCK_OP_CREDIT_REQUEST || (size_t)state >= sizeof actions / sizeof actions[0])
        return VSOCK_REFUSE;
    return actions[state][op];
}

struct vsock_connection *vsock_connection_new(struct virtio_vsock *vsock)
{
    if (vsock->connection_count >= VIRTIO_VSOCK_CONNECTIONS_MAX)
        return NULL;
    struct vsock_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    *connection = (struct vsock_connection){
        .vsock = vsock,
        .all_next = vsock->all,
        .state = VSOCK_GREETING,
        .fd = -1,
        .source = {.fd = -1},
        .buffer_bytes_max =
            vsock->connection_count < VSOCK_MANY ? VSOCK_BUFFER_BYTES : VSOCK_BUFFER_MANY_BYTES,
    };
    if (vsock->all)
        vsock->all->all_previous = connection;
    vsock->all = connection;
    vsock->connection_count++;
    return connection;
}

/* Out of the ready list, wherever it is in it. */
static void ready_remove(struct vsock_connection *connection)
{
    struct virtio_vsock *vsock = connection->vsock;
    if (!connection->ready)
        return;
    struct vsock_connection **at = &vsock->ready_first;
    struct vsock_connection *previous = NULL;
    while (*at != connection) {
        previous = *at;
        at = &(*at)->ready_next;
    }
    *at = connection->ready_next;
    if (vsock->ready_last == connection)
        vsock->ready_last = previous;
    connection->ready = false;
}

void vsock_connection_destroy(struct vsock_connection *connection)
{
    struct virtio_vsock *vsock = connection->vsock;
    vsock_connection_unhash(connection);
    ready_remove(connection);
    if (connection->all_previous)
        connection->all_previous->all_next = connection->all_next;
    else
        vsock->all = connection->all_next;
    if (connection->all_next)
        connection->all_next->all_previous = connection->all_previous;
    loop_remove(vsock->loop, &connection->source);
    fd_close(&connection->fd);
    free(connection->buffer);
    free(connection);
    vsock->connection_count--;
    vsock->listener_starved = false; /* a descriptor may be free again */
}

static struct vsock_connection **bucket(struct virtio_vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
    /* Ports are mostly counters: one multiplicative step spreads them over the top byte. */
    const uint32_t mixed = (host_port * 31u + guest_port) * 2654435761u;
    return &vsock->buckets[mixed >> 24];
}

struct vsock_connection *vsock_connection_find(struct virtio_vsock *vsock, uint32_t host_port,
                                               uint32_t guest_port)
{
    struct vsock_connection *at = *bucket(vsock, host_port, guest_port);
    while (at && (at->host_port != host_port || at->guest_port != guest_port))
        at = at->bucket_next;
    return at;
}

void vsock_connection_hash(struct vsock_connection *connection)
{
    struct vsock_connection **head = bucket(connection->vsock, connection->host_port, connection->guest_port);
    connection->bucket_next = *head;
    *head = connection;
}

void vsock_connection_unhash(struct vsock_connection *connection)
{
    struct vsock_connection **at = bucket(connection->vsock, connection->host_port, connection->guest_port);
    while (*at && *at != connection)
        at = &(*at)->bucket_next;
    if (*at)
        *at = connection->bucket_next;
    connection->bucket_next = NULL;
}

uint32_t vsock_host_port_pick(struct virtio_vsock *vsock, uint32_t guest_port)
{
    uint32_t port;
    do { /* ends: there are fewer connections than ports */
        port = vsock->next_host_port;
        if (port < HOST_PORT_FIRST || port >= HOST_PORT_END)
            port = HOST_PORT_FIRST;
        vsock->next_host_port = port + 1;
    } while (vsock_connection_find(vsock, port, guest_port));
    return port;
}

void vsock_reset_add(struct virtio_vsock *vsock, struct vsock_reset reset)
{
    if (vsock->reset_count < VSOCK_RESETS_MAX)
        vsock->resets[(vsock->reset_first + vsock->reset_count++) % VSOCK_RESETS_MAX] = reset;
}

struct vsock_reset vsock_reset_of(const struct vsock_connection *connection)
{
    return (struct vsock_reset){
        .host_cid = VSOCK_HOST_CID,
        .host_port = connection->host_port,
        .guest_port = connection->guest_port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
    };
}

void vsock_ready_add(struct vsock_connection *connection)
{
    struct virtio_vsock *vsock = connection->vsock;
    if (connection->ready)
        return;
    connection->ready = true;
    connection->ready_next = NULL;
    if (vsock->ready_last)
        vsock->ready_last->ready_next = connection;
    else
        vsock->ready_first = connection;
    vsock->ready_last = connection;
}

struct vsock_connection *vsock_ready_take(struct virtio_vsock *vsock)
{
    struct vsock_connection *connection = vsock->ready_first;
    if (connection)
        ready_remove(connection);
    return connection;
}

uint32_t vsock_credit_to_guest(const struct vsock_connection *connection)
{
    const uint32_t under_way = connection->sent - connection->guest_forwarded;
    return under_way < connection->guest_buffer_bytes ? connection->guest_buffer_bytes - under_way : 0;
}

uint32_t vsock_credit_of_guest(const struct vsock_connection *connection)
{
    return connection->buffer_bytes_max - (connection->received - connection->forwarded);
}

void vsock_credit_learn(struct vsock_connection *connection, const struct virtio_vsock_hdr *header)
{
    connection->guest_buffer_bytes = header->buf_alloc;
    connection->guest_forwarded = header->fwd_cnt;
    if (vsock_credit_to_guest(connection) > 0)
        connection->credit_asked = false;
}

void vsock_forwarded(struct vsock_connection *connection, uint32_t size)
{
    connection->forwarded += size;
    if (connection->forwarded - connection->forwarded_told >= connection->buffer_bytes_max / 2)
        connection->owes |= VSOCK_OWES_CREDIT;
}

int vsock_line_port(const char *line, size_t size, uint32_t *port)
{
    static const char word[] = "CONNECT ";
    const size_t word_bytes = sizeof word - 1;
    uint64_t value = 0;
    if (size <= word_bytes || size > word_bytes + 10 || memcmp(line, word, word_bytes) != 0)
        return -EINVAL;
    for (size_t i = word_bytes; i < size; i++) {
        if (line[i] < '0' || line[i] > '9')
            return -EINVAL;
        value = value * 10 + (uint64_t)(line[i] - '0');
    }
    if (value >= UINT32_MAX) /* the highest means any port */
        return -EINVAL;
    *port = (uint32_t)value;
    return 0;
}

bool vsock_has_packet(const struct vsock_connection *connection)
{
    if (connection->owes || connection->shut != connection->shut_told)
        return true;
    return connection->state == VSOCK_ESTABLISHED && connection->wants_read &&
           (vsock_credit_to_guest(connection) > 0 || !connection->credit_asked);
}
