/*
 * See vsock_guest.h; virtio 1.2, section 5.10.6. Packets from the guest are judged by their header's copy: a
 * chain that holds no header breaks the device, a header that makes no sense costs its connection alone.
 *
 * Fairness: a turn is bounded in packets and bytes; connections that have something for the guest take turns,
 * one packet each. A guest that takes no packets makes us stop reading its clients and, once it owes room for
 * VSOCK_RESETS_MAX resets, its own packets; nothing is stored for it beyond that.
 */
#include "hostvmm/device/virtio/vsock_guest.h"

#include <errno.h>
#include <unistd.h>

#include "hostvmm/device/virtio/vsock_host.h"

#define TURN_PACKETS_MAX 64u
#define TURN_BYTES_MAX   (512u << 10)
#define PACKET_MAX_BYTES (64u << 10)

#define HEADER_BYTES     ((uint32_t)sizeof(struct virtio_vsock_hdr))

/* Owe the guest an RST in answer to `header`. There is room: serve_tx saw to it. */
static void owe_reset(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header)
{
    if (header->op == VIRTIO_VSOCK_OP_RST)
        return;
    vsock->counts.refused++;
    vsock_reset_add(vsock, (struct vsock_reset){
                               .host_cid = header->dst_cid,
                               .host_port = header->dst_port,
                               .guest_port = header->src_port,
                               .type = header->type,
                           });
}

/* A guest's REQUEST: 0 when somebody on the host takes it. */
static int open_to_host(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header)
{
    struct vsock_connection *connection = vsock_connection_new(vsock);
    if (!connection)
        return -EMFILE;
    const int fd = vsock_host_dial(vsock, header->dst_port);
    if (fd < 0) {
        vsock_connection_destroy(connection);
        return fd;
    }
    connection->host_port = header->dst_port;
    connection->guest_port = header->src_port;
    connection->state = VSOCK_ESTABLISHED;
    connection->owes = VSOCK_OWES_RESPONSE;
    vsock_credit_learn(connection, header);
    vsock_connection_hash(connection);
    int error = vsock_host_attach(connection, fd);
    if (error) {
        vsock_connection_destroy(connection);
        return error;
    }
    vsock->counts.to_host++;
    vsock_ready_add(connection);
    return 0;
}

/* Data for the host. 0, or negative when the packet breaks the connection's rules. */
static int take_data(struct vsock_connection *connection, const struct virtio_vsock_hdr *header,
                     const struct virtq_chain *chain)
{
    struct iovec list[VIRTQ_SIZE_MAX];
    if (header->len > chain->readable_bytes || header->len > vsock_credit_of_guest(connection) ||
        (connection->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND))
        return -EPROTO;
    if (header->len == 0)
        return 0;
    const unsigned count = virtq_chain_readable(chain, 0, header->len, list);
    connection->vsock->counts.tx_bytes += header->len;
    return vsock_host_deliver(connection, list, count, header->len);
}

static void take_shutdown(struct vsock_connection *connection, const struct virtio_vsock_hdr *header)
{
    const uint8_t both = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND;
    connection->guest_shut |= (uint8_t)(header->flags & both);
    if (connection->guest_shut == both) {
        owe_reset(connection->vsock, header); /* frees the guest's port at once */
        vsock_host_end(connection);
    } else {
        vsock_host_guest_shut(connection);
    }
}

static void take_packet(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header,
                        const struct virtq_chain *chain)
{
    if (header->src_cid != vsock->guest_cid) {
        vsock->counts.dropped++; /* forged: there is nobody to answer */
        return;
    }
    if (header->dst_cid != VSOCK_HOST_CID || header->type != VIRTIO_VSOCK_TYPE_STREAM) {
        owe_reset(vsock, header);
        return;
    }
    struct vsock_connection *connection = vsock_connection_find(vsock, header->dst_port, header->src_port);
    if (!connection) {
        if (header->op != VIRTIO_VSOCK_OP_REQUEST || open_to_host(vsock, header) < 0)
            owe_reset(vsock, header);
        return;
    }
    vsock_credit_learn(connection, header);
    enum vsock_action action = vsock_action_of(connection->state, header->op);
    if (action == VSOCK_DATA && take_data(connection, header, chain) < 0)
        action = VSOCK_REFUSE;
    switch (action) {
    case VSOCK_REFUSE:
        owe_reset(vsock, header);
        vsock_connection_destroy(connection);
        return;
    case VSOCK_DROP:
        vsock_host_end(connection);
        return;
    case VSOCK_SHUT:
        take_shutdown(connection, header);
        return;
    case VSOCK_OPEN:
        vsock->counts.to_guest++;
        connection->state = VSOCK_ESTABLISHED;
        vsock_host_say_ok(connection);
        vsock_host_interest(connection);
        return;
    case VSOCK_CREDIT_ASKED:
        connection->owes |= VSOCK_OWES_CREDIT;
        break;
    case VSOCK_DATA:
    case VSOCK_CREDIT:
        break;
    }
    if (vsock_has_packet(connection))
        vsock_ready_add(connection);
}

bool vsock_guest_serve_tx(struct virtio_vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    struct virtq *queue = &device->queues[VSOCK_QUEUE_TX];
    struct virtq_chain chain;
    struct virtio_vsock_hdr header;
    uint64_t bytes = 0;
    unsigned packets = 0;
    bool more = true;
    virtq_notify_disable(queue, device->memory);
    while (packets < TURN_PACKETS_MAX && bytes < TURN_BYTES_MAX) {
        vsock->tx_paused = vsock->reset_count >= VSOCK_RESETS_MAX;
        if (vsock->tx_paused) {
            more = false; /* serve_rx starts it again */
            break;
        }
        int taken = virtq_pop(queue, device->memory, &chain);
        if (taken == 0) {
            if (virtq_notify_enable(queue, device->memory))
                continue;
            more = false;
            break;
        }
        if (taken < 0 || chain.writable_count > 0 ||
            virtq_chain_read(&chain, &header, sizeof header) != sizeof header) {
            virtio_device_broken(device, taken < 0 ? virtq_error_text(taken)
                                                   : "a packet without a whole readable header");
            return false;
        }
        take_packet(vsock, &header, &chain);
        (void)virtq_push(queue, device->memory, chain.head, 0);
        vsock->counts.tx_packets++;
        packets++;
        bytes += HEADER_BYTES + (header.len < PACKET_MAX_BYTES ? header.len : PACKET_MAX_BYTES);
    }
    virtio_device_signal(device, queue);
    return more;
}

/* A packet of the connection's, its credit figures in it. */
static struct virtio_vsock_hdr packet_of(struct vsock_connection *connection, uint16_t op)
{
    connection->forwarded_told = connection->forwarded;
    connection->owes &= (uint8_t)~VSOCK_OWES_CREDIT;
    return (struct virtio_vsock_hdr){
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = connection->vsock->guest_cid,
        .src_port = connection->host_port,
        .dst_port = connection->guest_port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = op,
        .buf_alloc = connection->buffer_bytes_max,
        .fwd_cnt = connection->forwarded,
    };
}

static struct virtio_vsock_hdr shutdown_of(struct vsock_connection *connection)
{
    struct virtio_vsock_hdr header = packet_of(connection, VIRTIO_VSOCK_OP_SHUTDOWN);
    header.flags = connection->shut;
    connection->shut_told = connection->shut;
    return header;
}

/* Read what the host's end has straight into the chain, behind the header that comes later. */
static bool fill_data(struct vsock_connection *connection, const struct virtq_chain *chain,
                      struct virtio_vsock_hdr *header)
{
    struct iovec list[VIRTQ_SIZE_MAX];
    uint64_t room = chain->writable_bytes - HEADER_BYTES;
    const uint32_t credit = vsock_credit_to_guest(connection);
    if (room > PACKET_MAX_BYTES)
        room = PACKET_MAX_BYTES;
    if (room > credit)
        room = credit;
    if (room == 0) {
        if (connection->credit_asked)
            return false;
        connection->credit_asked = true;
        *header = packet_of(connection, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
        return true;
    }
    const unsigned count = virtq_chain_writable(chain, HEADER_BYTES, room, list);
    const uint32_t size = vsock_host_read(connection, list, count, (uint32_t)room);
    if (size == 0)
        return false;
    *header = packet_of(connection, VIRTIO_VSOCK_OP_RW);
    header->len = size;
    connection->sent += size;
    return true;
}

/* The connection's next packet into the chain. Whether there was one. */
static bool fill(struct vsock_connection *connection, const struct virtq_chain *chain,
                 struct virtio_vsock_hdr *header)
{
    if (connection->owes & VSOCK_OWES_REQUEST) {
        connection->owes &= (uint8_t)~VSOCK_OWES_REQUEST;
        *header = packet_of(connection, VIRTIO_VSOCK_OP_REQUEST);
        return true;
    }
    if (connection->owes & VSOCK_OWES_RESPONSE) {
        connection->owes &= (uint8_t)~VSOCK_OWES_RESPONSE;
        *header = packet_of(connection, VIRTIO_VSOCK_OP_RESPONSE);
        return true;
    }
    if (connection->shut == connection->shut_told && connection->state == VSOCK_ESTABLISHED &&
        connection->wants_read && fill_data(connection, chain, header))
        return true;
    if (connection->shut != connection->shut_told) { /* perhaps only since that read */
        *header = shutdown_of(connection);
        return true;
    }
    if (connection->owes & VSOCK_OWES_CREDIT) {
        *header = packet_of(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        return true;
    }
    return false;
}

static struct virtio_vsock_hdr take_reset(struct virtio_vsock *vsock)
{
    const struct vsock_reset *reset = &vsock->resets[vsock->reset_first];
    vsock->reset_first = (vsock->reset_first + 1) % VSOCK_RESETS_MAX;
    vsock->reset_count--;
    return (struct virtio_vsock_hdr){
        .src_cid = reset->host_cid,
        .dst_cid = vsock->guest_cid,
        .src_port = reset->host_port,
        .dst_port = reset->guest_port,
        .type = reset->type,
        .op = VIRTIO_VSOCK_OP_RST,
    };
}

/* The next packet for the guest: resets first, then the connections in turn. */
static bool next_packet(struct virtio_vsock *vsock, const struct virtq_chain *chain,
                        struct virtio_vsock_hdr *header)
{
    if (vsock->reset_count > 0) {
        *header = take_reset(vsock);
        return true;
    }
    struct vsock_connection *connection;
    while ((connection = vsock_ready_take(vsock)) != NULL) {
        const bool filled = fill(connection, chain, header);
        if (vsock_has_packet(connection))
            vsock_ready_add(connection);
        else
            vsock_host_interest(connection);
        if (filled)
            return true;
    }
    return false;
}

static bool has_packets(const struct virtio_vsock *vsock)
{
    return vsock->reset_count > 0 || (vsock->ready_first && vsock->reset_stage == VSOCK_RESET_NONE);
}

bool vsock_guest_serve_rx(struct virtio_vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    struct virtq *queue = &device->queues[VSOCK_QUEUE_RX];
    struct virtq_chain chain;
    struct virtio_vsock_hdr header;
    uint64_t bytes = 0;
    unsigned packets = 0;
    virtq_notify_disable(queue, device->memory);
    while (has_packets(vsock)) {
        if (packets >= TURN_PACKETS_MAX || bytes >= TURN_BYTES_MAX)
            break;
        int taken = virtq_pop(queue, device->memory, &chain);
        if (taken == 0) {
            if (virtq_notify_enable(queue, device->memory))
                continue;
            virtio_device_signal(device, queue);
            return false; /* the guest gives buffers and notifies */
        }
        if (taken < 0 || chain.readable_count > 0 || chain.writable_bytes <= HEADER_BYTES) {
            virtio_device_broken(device, taken < 0 ? virtq_error_text(taken)
                                                   : "a receive buffer without room for a packet");
            return false;
        }
        if (!next_packet(vsock, &chain, &header)) {
            virtq_unpop(queue);
            break;
        }
        (void)virtq_chain_write(&chain, 0, &header, sizeof header);
        (void)virtq_push(queue, device->memory, chain.head, HEADER_BYTES + header.len);
        vsock->counts.rx_packets++;
        vsock->counts.rx_bytes += header.len;
        packets++;
        bytes += HEADER_BYTES + header.len;
    }
    virtio_device_signal(device, queue);
    return has_packets(vsock);
}

/* Put the event into a buffer of the guest's, if there is one. */
static void tell_reset(struct virtio_vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    struct virtq *queue = &device->queues[VSOCK_QUEUE_EVENT];
    const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
    struct virtq_chain chain;
    int taken;
    while ((taken = virtq_pop(queue, device->memory, &chain)) == 0)
        if (!virtq_notify_enable(queue, device->memory))
            return;
    if (taken < 0 || chain.readable_count > 0 || chain.writable_bytes < sizeof event) {
        virtio_device_broken(device,
                             taken < 0 ? virtq_error_text(taken) : "an event buffer too small for an event");
        return;
    }
    (void)virtq_chain_write(&chain, 0, &event, sizeof event);
    (void)virtq_push(queue, device->memory, chain.head, sizeof event);
    vsock->event_head = chain.head;
    vsock->reset_stage = VSOCK_RESET_TOLD;
    virtio_device_signal(device, queue);
}

/* Linux's driver drops its connections, then offers the buffer again under the same head; until it has taken
 * the event, the head is not its own to use. Other buffers may still be on their way to the queue: their
 * coming tells nothing. */
void vsock_guest_serve_event(struct virtio_vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    if (vsock->reset_stage == VSOCK_RESET_OWED)
        tell_reset(vsock);
    if (vsock->reset_stage != VSOCK_RESET_TOLD)
        return;
    const int back = virtq_offered(&device->queues[VSOCK_QUEUE_EVENT], device->memory, vsock->event_head);
    if (back < 0)
        virtio_device_broken(device, virtq_error_text(back));
    else if (back > 0)
        vsock->reset_stage = VSOCK_RESET_NONE;
}
