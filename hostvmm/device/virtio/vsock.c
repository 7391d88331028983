/* See vsock.h. The driver's reset comes on a vCPU thread: it only marks the connections as torn, and the
 * loop's thread drops them before it does anything else. */
#include "hostvmm/device/virtio/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/virtio/vsock_guest.h"
#include "hostvmm/device/virtio/vsock_host.h"
#include "hostvmm/device/virtio/vsock_turn.h"
#include "hostvmm/snapshot/codec.h"

#define QUEUE_SIZE      128
#define FEATURE_STREAM  (1ull << 0) /* VIRTIO_VSOCK_F_STREAM */
#define GUEST_CID_FIRST 3u          /* 0 to 2 are the hypervisor, loopback and the host */

static struct virtio_vsock *vsock_of(struct virtio_device *device)
{
    return (struct virtio_vsock *)device; /* its first member */
}

/* End every connection the guest takes part in. Whether there was one. */
static bool drop_connections(struct virtio_vsock *vsock)
{
    bool dropped = false;
    struct vsock_connection *next;
    for (struct vsock_connection *at = vsock->all; at; at = next) {
        next = at->all_next;
        if (at->state == VSOCK_DRAINING)
            continue;
        dropped = true;
        vsock_host_end(at);
    }
    return dropped;
}

/* Bring connections and listener in line with the device's state. Whether all connections stayed. */
static bool settle(struct virtio_vsock *vsock)
{
    bool dropped = false;
    if (vsock->torn || !virtio_device_serving(&vsock->device)) {
        dropped = drop_connections(vsock);
        vsock->reset_count = 0;
        vsock->tx_paused = false;
        vsock->torn = false;
    }
    vsock_host_listener_update(vsock);
    return !dropped;
}

bool vsock_turn_begin(struct virtio_vsock *vsock)
{
    pthread_mutex_lock(&vsock->device.lock);
    return settle(vsock);
}

void vsock_turn_end(struct virtio_vsock *vsock, bool more_rx)
{
    if (virtio_device_serving(&vsock->device)) {
        if (more_rx)
            virtio_device_kick(&vsock->device, VSOCK_QUEUE_RX);
        if (vsock->tx_paused && vsock->reset_count < VSOCK_RESETS_MAX)
            virtio_device_kick(&vsock->device, VSOCK_QUEUE_TX);
    }
    (void)settle(vsock);
    pthread_mutex_unlock(&vsock->device.lock);
}

/* The guest's notification of one queue, or our own for a further turn. */
static void serve(struct virtio_vsock *vsock, unsigned queue)
{
    bool more_rx = false;
    (void)vsock_turn_begin(vsock);
    (void)virtio_device_kick_clear(&vsock->device, queue);
    if (queue == VSOCK_QUEUE_TX && virtio_device_serving(&vsock->device) && vsock_guest_serve_tx(vsock))
        virtio_device_kick(&vsock->device, VSOCK_QUEUE_TX);
    if (virtio_device_serving(&vsock->device))
        vsock_guest_serve_event(vsock);
    if (virtio_device_serving(&vsock->device))
        more_rx = vsock_guest_serve_rx(vsock);
    vsock_turn_end(vsock, more_rx);
}

static void on_rx(void *context, uint32_t events)
{
    (void)events;
    serve(context, VSOCK_QUEUE_RX);
}

static void on_tx(void *context, uint32_t events)
{
    (void)events;
    serve(context, VSOCK_QUEUE_TX);
}

static void on_event(void *context, uint32_t events)
{
    (void)events;
    serve(context, VSOCK_QUEUE_EVENT);
}

static int activate(struct virtio_device *device)
{
    virtio_device_kick(device, VSOCK_QUEUE_TX); /* the loop's thread takes it from here */
    return 0;
}

static void reset(struct virtio_device *device)
{
    vsock_of(device)->torn = true;
    vsock_of(device)->reset_stage = VSOCK_RESET_NONE;
    virtio_device_kick(device, VSOCK_QUEUE_TX);
}

static void config_read(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
    const struct virtio_vsock_config config = {.guest_cid = vsock_of(device)->guest_cid};
    virtio_config_copy(&config, sizeof config, offset, data, size);
}

static const struct virtio_kind kind = {
    .id = VIRTIO_ID_VSOCK,
    .name = "virtio-vsock",
    .queue_count = VSOCK_QUEUE_COUNT,
    .queue_size_max = QUEUE_SIZE,
    .activate = activate,
    .reset = reset,
    .config_read = config_read,
};

int virtio_vsock_init(struct virtio_vsock *vsock, const struct guest_memory *memory, struct loop *loop,
                      const char *socket_path, uint64_t guest_cid)
{
    static loop_handler *const handlers[VSOCK_QUEUE_COUNT] = {
        [VSOCK_QUEUE_RX] = on_rx, [VSOCK_QUEUE_TX] = on_tx, [VSOCK_QUEUE_EVENT] = on_event};
    *vsock = (struct virtio_vsock){
        .loop = loop,
        .guest_cid = guest_cid,
        .place = {.fd = -1},
        .listener = {.fd = -1},
        .notify = {{.fd = -1}, {.fd = -1}, {.fd = -1}},
    };
    if (guest_cid < GUEST_CID_FIRST || guest_cid >= UINT32_MAX) {
        log_error("vsock: guest CID %llu is reserved: choose one from 3 to 4294967294",
                  (unsigned long long)guest_cid);
        return -EINVAL;
    }
    int error = virtio_device_init(&vsock->device, &kind, memory, FEATURE_STREAM);
    if (error)
        return error;
    for (unsigned i = 0; i < VSOCK_QUEUE_COUNT && error == 0; i++)
        error = loop_add(loop, &vsock->notify[i], vsock->device.notify_fds[i], EPOLLIN, handlers[i], vsock);
    if (error == 0 && socket_path)
        error = vsock_host_listen(vsock, socket_path);
    if (error)
        virtio_vsock_fini(vsock);
    return error;
}

void virtio_vsock_fini(struct virtio_vsock *vsock)
{
    vsock_host_unlisten(vsock);
    while (vsock->all)
        vsock_connection_destroy(vsock->all);
    for (unsigned i = 0; i < VSOCK_QUEUE_COUNT; i++)
        loop_remove(vsock->loop, &vsock->notify[i]);
    virtio_device_fini(&vsock->device);
}

void virtio_vsock_open_gate(struct virtio_vsock *vsock)
{
    (void)vsock_turn_begin(vsock);
    vsock->gate_open = true;
    vsock_turn_end(vsock, false);
}

int virtio_vsock_connect(struct virtio_vsock *vsock, uint32_t port, int *fd)
{
    struct vsock_connection *connection = NULL;
    int pair[2] = {-1, -1};
    bool more_rx = false;
    int error = 0;
    (void)vsock_turn_begin(vsock);
    if (!virtio_device_serving(&vsock->device))
        error = -ENOTCONN;
    else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        error = -errno;
    if (error)
        goto out;
    connection = vsock_connection_new(vsock);
    if (!connection) {
        error = -EMFILE;
        goto out;
    }
    connection->state = VSOCK_REQUESTED;
    connection->guest_port = port;
    connection->host_port = vsock_host_port_pick(vsock, port);
    connection->owes = VSOCK_OWES_REQUEST;
    vsock_connection_hash(connection);
    error = vsock_host_attach(connection, pair[0]);
    pair[0] = -1; /* the connection's, either way */
    if (error) {
        vsock_connection_destroy(connection);
        goto out;
    }
    *fd = pair[1];
    pair[1] = -1;
    vsock_ready_add(connection);
    more_rx = vsock_guest_serve_rx(vsock);
out:
    vsock_turn_end(vsock, more_rx);
    fd_close(&pair[0]);
    fd_close(&pair[1]);
    return error;
}

/* The guest's own request, of which it has heard nothing: a socket that no transport reset would reach. */
static bool unanswered(const struct vsock_connection *connection)
{
    return connection->owes & VSOCK_OWES_RESPONSE;
}

void virtio_vsock_reset_connections(struct virtio_vsock *vsock)
{
    struct virtio_device *device = &vsock->device;
    bool more_rx = false;
    (void)vsock_turn_begin(vsock);
    for (const struct vsock_connection *at = vsock->all; at; at = at->all_next)
        if (unanswered(at))
            vsock_reset_add(vsock, vsock_reset_of(at));
    (void)drop_connections(vsock);
    if (virtio_device_serving(device) && device->queues[VSOCK_QUEUE_EVENT].ready) {
        vsock->reset_stage = VSOCK_RESET_OWED;
        vsock_guest_serve_event(vsock);
    }
    if (virtio_device_serving(device))
        more_rx = vsock_guest_serve_rx(vsock);
    vsock_turn_end(vsock, more_rx);
}

static void reset_save(const struct vsock_reset *reset, struct state_writer *out)
{
    state_put_map(out, NULL, 4);
    state_put_uint(out, "host_cid", reset->host_cid);
    state_put_uint(out, "host_port", reset->host_port);
    state_put_uint(out, "guest_port", reset->guest_port);
    state_put_uint(out, "type", reset->type);
}

void virtio_vsock_save(const struct virtio_vsock *vsock, struct state_writer *out, const char *key)
{
    unsigned count = vsock->reset_count;
    for (const struct vsock_connection *at = vsock->all; at && count < VSOCK_RESETS_MAX; at = at->all_next)
        count += unanswered(at);
    state_put_map(out, key, 4);
    state_put_uint(out, "guest_cid", vsock->guest_cid);
    state_put_uint(out, "next_host_port", vsock->next_host_port);
    state_put_array(out, "resets", count);
    for (unsigned i = 0; i < vsock->reset_count; i++)
        reset_save(&vsock->resets[(vsock->reset_first + i) % VSOCK_RESETS_MAX], out);
    count -= vsock->reset_count;
    for (const struct vsock_connection *at = vsock->all; at && count > 0; at = at->all_next) {
        if (!unanswered(at))
            continue;
        const struct vsock_reset reset = vsock_reset_of(at);
        reset_save(&reset, out);
        count--;
    }
    virtio_device_save(&vsock->device, out, "device");
}

void virtio_vsock_load(struct virtio_vsock *vsock, struct state_reader *in, const char *key)
{
    state_get_map(in, key, 4);
    const uint64_t guest_cid = state_get_uint(in, "guest_cid", 0, UINT64_MAX);
    if (guest_cid != vsock->guest_cid)
        state_refuse(in, "guest_cid", "the device has %llu, the snapshot's had %llu",
                     (unsigned long long)vsock->guest_cid, (unsigned long long)guest_cid);
    vsock->next_host_port = (uint32_t)state_get_uint(in, "next_host_port", 0, UINT32_MAX);
    const unsigned count = state_get_array(in, "resets", VSOCK_RESETS_MAX);
    for (unsigned i = 0; i < count; i++) {
        state_get_map(in, NULL, 4);
        vsock->resets[i] = (struct vsock_reset){
            .host_cid = state_get_uint(in, "host_cid", 0, UINT64_MAX),
            .host_port = (uint32_t)state_get_uint(in, "host_port", 0, UINT32_MAX),
            .guest_port = (uint32_t)state_get_uint(in, "guest_port", 0, UINT32_MAX),
            .type = (uint16_t)state_get_uint(in, "type", 0, UINT16_MAX),
        };
        state_end(in);
    }
    state_end(in);
    virtio_device_load(&vsock->device, in, "device");
    state_end(in);
    vsock->reset_first = 0;
    vsock->reset_count = in->failed ? 0 : count;
}
