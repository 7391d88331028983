/*
 * libFuzzer target: the socket device between a guest that sends what it likes and clients that come, talk
 * and go as they like. The input is a script of steps; rings are laid out correctly but for the chains that
 * a step makes of raw bytes.
 *
 * What is checked beside memory safety: the table, the counts and the buffers of all connections agree, and
 * the loop comes to rest.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/cursor.h"
#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/vsock_connection.h"
#include "hostvmm/device/virtio/vsock_guest.h"
#include "tests/unit/virtio/guest.h"

#define RAM_BYTES   (1u << 20)
#define GUEST_CID   3u
#define CLIENTS_MAX 8
#define QUEUE_SIZE  16
#define TURNS_MAX   20000
#define RX_BYTES    600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool started;
static char path[64];
static struct loop loop;
static struct guest guest;
static struct virtio_vsock vsock;
static struct guest_queue queues[VSOCK_QUEUE_COUNT];
static uint64_t rx_at, tx_at;
static int listener = -1;
static int clients[CLIENTS_MAX];

static void clean_up(void)
{
    char other[80];
    (void)snprintf(other, sizeof other, "%s_1", path);
    (void)unlink(other);
    (void)unlink(path);
}

static void start(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    log_setup("fuzz", LOG_LEVEL_ERROR, 2);
    (void)snprintf(path, sizeof path, "/tmp/fuzz-vsock.%d", getpid());
    (void)atexit(clean_up);
    guest_init(&guest, RAM_BYTES);
    if (loop_init(&loop) < 0 || virtio_vsock_init(&vsock, &guest.memory, &loop, path, GUEST_CID) < 0)
        abort();
    vsock.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s_1", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (const struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
        abort();
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        clients[i] = -1;
    virtio_vsock_open_gate(&vsock);
    started = true;
}

static void bring_up(void)
{
    memset(guest.ram, 0, guest.used_bytes);
    guest.used_bytes = 0;
    (void)guest_negotiate(&vsock.device,
                          1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX);
    for (unsigned i = 0; i < VSOCK_QUEUE_COUNT; i++)
        guest_queue_init(&queues[i], &guest, &vsock.device, i, QUEUE_SIZE);
    rx_at = guest_alloc(&guest, RX_BYTES * QUEUE_SIZE, 16);
    tx_at = guest_alloc(&guest, 8192, 16);
    guest_driver_ok(&vsock.device);
}

static void take_used(struct guest_queue *queue)
{
    uint16_t head;
    uint32_t written;
    while (guest_queue_take_used(queue, &head, &written))
        ;
}

static void check(void)
{
    unsigned count = 0, found = 0;
    for (const struct vsock_connection *at = vsock.all; at; at = at->all_next) {
        count++;
        if (at->buffer_used > at->buffer_bytes_max || at->buffer_used != at->received - at->forwarded ||
            (at->buffer_used > 0) != (at->buffer != NULL) || (at->fd < 0) != (at->state == VSOCK_CLOSING))
            abort();
        const bool hashed = at->state != VSOCK_GREETING && at->state != VSOCK_DRAINING;
        if (hashed != (vsock_connection_find(&vsock, at->host_port, at->guest_port) == at))
            abort();
    }
    for (unsigned i = 0; i < VSOCK_HASH_BUCKETS; i++)
        for (const struct vsock_connection *at = vsock.buckets[i]; at; at = at->bucket_next)
            found++;
    if (count != vsock.connection_count || found > count || vsock.reset_count > VSOCK_RESETS_MAX)
        abort();
}

/* Make the host's sockets as small as the kernel lets them be: readers are slow from the first packets on. */
static void shrink(void)
{
    const int least = 1;
    for (const struct vsock_connection *at = vsock.all; at; at = at->all_next)
        if (at->fd >= 0)
            (void)setsockopt(at->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
}

static void settle(void)
{
    unsigned turns = 0;
    shrink();
    while (loop_run_once(&loop, 0) > 0)
        if (++turns > TURNS_MAX)
            abort();
    check();
}

static int *client_of(struct cursor *in)
{
    return &clients[cursor_get_le(in, 1) % CLIENTS_MAX];
}

/* Address the packet to the n-th connection there is. */
static void aim(unsigned n, struct virtio_vsock_hdr *header)
{
    const struct vsock_connection *at = vsock.all;
    while (at && n-- > 0)
        at = at->all_next;
    if (at) {
        header->dst_port = at->host_port;
        header->src_port = at->guest_port;
    }
}

static void send_chain(const void *bytes, uint32_t size, bool writable)
{
    take_used(&queues[VSOCK_QUEUE_TX]);
    if (size == 0 || queues[VSOCK_QUEUE_TX].free_count < 2)
        return;
    memcpy(guest_at(&guest, tx_at), bytes, size);
    const struct guest_buffer buffers[] = {{tx_at, size < 9 ? size : 9, false},
                                           {tx_at + 9, size < 9 ? 1 : size - 9, writable}};
    guest_queue_add(&queues[VSOCK_QUEUE_TX], buffers, size > 9 ? 2 : 1, size % 2 == 0);
    guest_queue_kick(&queues[VSOCK_QUEUE_TX]);
}

static void send_packet(struct cursor *in)
{
    uint8_t packet[sizeof(struct virtio_vsock_hdr) + 16 * UINT8_MAX] = {0};
    const uint8_t op = (uint8_t)cursor_get_le(in, 1), which = (uint8_t)cursor_get_le(in, 1);
    struct virtio_vsock_hdr header = {.src_cid = GUEST_CID,
                                      .dst_cid = 2,
                                      .src_port = 100u + which % 4u,
                                      .dst_port = 1u + (which >> 2) % 2u};
    if (which & 0x80)
        aim(which & 0x0f, &header);
    header.op = op % 9;
    header.type = op & 0x80 ? 2 : 1;
    header.flags = (uint32_t)cursor_get_le(in, 1);
    header.buf_alloc = (uint32_t)cursor_get_le(in, 2);
    header.fwd_cnt = (uint32_t)cursor_get_le(in, 2);
    const uint32_t size = 16u * (uint32_t)cursor_get_le(in, 1);
    header.len = op & 0x40 ? (uint32_t)cursor_get_le(in, 4) : header.op == VIRTIO_VSOCK_OP_RW ? size : 0;
    memcpy(packet, &header, sizeof header);
    send_chain(packet, (uint32_t)sizeof header + size, false);
}

static void give_buffers(struct cursor *in)
{
    struct guest_queue *queue = &queues[VSOCK_QUEUE_RX];
    unsigned count = (unsigned)cursor_get_le(in, 1) % 8u + 1;
    const uint32_t size = 40u + 2u * (uint32_t)cursor_get_le(in, 1);
    take_used(queue);
    while (count-- > 0 && queue->free_count > 0) {
        const struct guest_buffer buffer = {rx_at + (uint64_t)queue->free_first * RX_BYTES, size, true};
        guest_queue_add(queue, &buffer, 1, false);
    }
    guest_queue_kick(queue);
}

static void dial(struct cursor *in)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int *client = client_of(in);
    const size_t size = (size_t)cursor_get_le(in, 1) % 40u;
    const uint8_t *line = cursor_take(in, size);
    fd_close(client);
    *client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(*client, (const struct sockaddr *)&address, sizeof address) < 0 ||
        (line && send(*client, line, size, MSG_NOSIGNAL) < 0))
        fd_close(client);
}

/* The host's steps. */
static void host_step(unsigned what, struct cursor *in)
{
    static uint8_t bytes[1024];
    int *client = client_of(in);
    switch (what) {
    case 0:
        fd_close(client);
        (void)virtio_vsock_connect(&vsock, (uint32_t)cursor_get_le(in, 1), client);
        break;
    case 1:
        if (*client >= 0)
            (void)!send(*client, bytes, 4u * (size_t)cursor_get_le(in, 1), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 2:
        if (*client >= 0)
            (void)!recv(*client, bytes, 4u * (size_t)cursor_get_le(in, 1), MSG_DONTWAIT);
        break;
    case 3:
        fd_close(client);
        break;
    case 4:
        if (*client >= 0)
            (void)shutdown(*client, (int)cursor_get_le(in, 1) % 3);
        break;
    default:
        fd_close(client);
        *client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    }
}

static void step(struct cursor *in)
{
    const unsigned what = (unsigned)cursor_get_le(in, 1) % 16u;
    switch (what) {
    case 0:
    case 1:
    case 2:
        send_packet(in);
        break;
    case 3:
        give_buffers(in);
        break;
    case 4:
        dial(in);
        break;
    case 5:
        bring_up();
        break;
    case 6:
        virtio_vsock_reset_connections(&vsock);
        break;
    case 7: {
        const size_t size = (size_t)cursor_get_le(in, 1);
        const uint8_t *bytes = cursor_take(in, size);
        if (bytes)
            send_chain(bytes, (uint32_t)size, size % 5 == 0);
        break;
    }
    case 8: {
        struct guest_queue *queue = &queues[VSOCK_QUEUE_EVENT];
        const struct guest_buffer buffer = {tx_at + 8000, 8, true};
        take_used(queue);
        if (queue->free_count > 0)
            guest_queue_add(queue, &buffer, 1, false);
        guest_queue_kick(queue);
        break;
    }
    case 9:
        (void)loop_run_once(&loop, 0);
        break;
    default:
        host_step(what - 10, in);
        break;
    }
    if (what < 9)
        settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t script[2048];
    if (size > sizeof script)
        return -1;
    if (!started)
        start();
    memcpy(script, data, size);
    bring_up();
    settle();
    struct cursor in = cursor_over(script, size);
    while (cursor_left(&in) > 0)
        step(&in);
    settle();
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        fd_close(&clients[i]);
    int left;
    while ((left = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        fd_close(&left);
    settle();
    /* The driver leaves: so do all connections, what drains has nobody to drain to. */
    guest_write32(&vsock.device, 0x070, 0);
    settle();
    if (vsock.connection_count != 0)
        abort();
    vsock.next_host_port = 0; /* runs alike, whatever ran before */
    return 0;
}
