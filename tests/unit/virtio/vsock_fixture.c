/* See vsock_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/virtio/vsock_fixture.h"

#include <errno.h>
#include <ftw.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hostvmm/device/virtio/vsock_guest.h"

#define RAM_BYTES    (16u << 20)
#define PLACE_BYTES  (65536u + HEADER_BYTES)
#define SPINS_BEYOND 100000

int vsock_fixture_setup(void **state)
{
    static struct vsock_fixture f;
    memset(&f, 0, sizeof f);
    (void)snprintf(f.directory, sizeof f.directory, "/tmp/vsock_test.XXXXXX");
    assert_non_null(mkdtemp(f.directory));
    (void)snprintf(f.path, sizeof f.path, "%s/v.sock", f.directory);
    assert_int_equal(loop_init(&f.loop), 0);
    guest_init(&f.guest, RAM_BYTES);
    f.rx_buffers = guest_alloc(&f.guest, 128ull * PLACE_BYTES, 64);
    f.tx_buffer = guest_alloc(&f.guest, 2 * PLACE_BYTES, 64);
    f.buffer_bytes = 1u << 20;
    assert_int_equal(virtio_vsock_init(&f.vsock, &f.guest.memory, &f.loop, f.path, GUEST_CID), 0);
    f.vsock.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *state = &f;
    return 0;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

int vsock_fixture_teardown(void **state)
{
    struct vsock_fixture *f = *state;
    const int irq = f->vsock.device.irq.fd;
    virtio_vsock_fini(&f->vsock);
    close(irq);
    loop_fini(&f->loop);
    guest_fini(&f->guest);
    return nftw(f->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void post(struct vsock_fixture *f, unsigned place)
{
    const uint64_t at = f->rx_buffers + (uint64_t)place * PLACE_BYTES;
    const struct guest_buffer split[] = {{at, HEADER_BYTES, true},
                                         {at + HEADER_BYTES, f->rx_bytes - HEADER_BYTES, true}};
    const struct guest_buffer whole = {at, f->rx_bytes, true};
    if (f->indirect)
        guest_queue_add(&f->rx, split, 2, true);
    else
        guest_queue_add(&f->rx, &whole, 1, false);
}

void vsock_bring_up(struct vsock_fixture *f, unsigned rx_count, uint32_t rx_bytes)
{
    const uint64_t features = 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX;
    assert_true(guest_negotiate(&f->vsock.device, features) & VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f->rx, &f->guest, &f->vsock.device, VSOCK_QUEUE_RX, 128);
    guest_queue_init(&f->tx, &f->guest, &f->vsock.device, VSOCK_QUEUE_TX, 128);
    guest_queue_init(&f->event, &f->guest, &f->vsock.device, VSOCK_QUEUE_EVENT, 8);
    f->rx_bytes = rx_bytes;
    f->rx_count = rx_count;
    for (unsigned i = 0; i < rx_count; i++)
        post(f, i);
    guest_driver_ok(&f->vsock.device);
    vsock_settle(f);
}

void vsock_settle(struct vsock_fixture *f)
{
    unsigned turns = 0;
    while (loop_run_once(&f->loop, 0) > 0)
        if (++turns > SPINS_BEYOND)
            fail_msg("the loop never comes to rest");
}

bool vsock_broken(struct vsock_fixture *f)
{
    return (guest_read32(&f->vsock.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static void kick_if_asked(struct guest_queue *queue, uint16_t before)
{
    if (guest_queue_must_kick(queue, before))
        guest_queue_kick(queue);
}

bool vsock_take(struct vsock_fixture *f, struct packet *packet)
{
    uint16_t head;
    uint32_t written;
    vsock_settle(f);
    if (!guest_queue_take_used(&f->rx, &head, &written))
        return false;
    const struct vring_desc *desc = guest_queue_desc(&f->rx, head);
    uint64_t at = desc->addr;
    if (desc->flags & VRING_DESC_F_INDIRECT)
        at = ((const struct vring_desc *)guest_at(&f->guest, at))->addr;
    memcpy(&packet->header, guest_at(&f->guest, at), HEADER_BYTES);
    packet->payload = (const uint8_t *)guest_at(&f->guest, at) + HEADER_BYTES;
    assert_int_equal(written, HEADER_BYTES + packet->header.len);
    assert_int_equal(packet->header.dst_cid, GUEST_CID);
    /* Posted again; read the payload before the loop runs next. */
    const uint16_t before = f->rx.avail_index;
    post(f, (unsigned)((at - f->rx_buffers) / PLACE_BYTES));
    kick_if_asked(&f->rx, before);
    return true;
}

void vsock_expect(struct vsock_fixture *f, struct packet *packet, uint16_t op, uint32_t host_port,
                  uint32_t guest_port)
{
    assert_true(vsock_take(f, packet));
    assert_int_equal(packet->header.op, op);
    assert_int_equal(packet->header.src_port, host_port);
    assert_int_equal(packet->header.dst_port, guest_port);
    assert_int_equal(packet->header.src_cid, 2);
    assert_int_equal(packet->header.type, VIRTIO_VSOCK_TYPE_STREAM);
}

void vsock_expect_nothing(struct vsock_fixture *f)
{
    struct packet packet;
    assert_false(vsock_take(f, &packet));
}

void vsock_send_raw(struct vsock_fixture *f, const struct virtio_vsock_hdr *header, const void *payload,
                    uint32_t size)
{
    uint16_t head;
    uint32_t written;
    const uint16_t before = f->tx.avail_index;
    memcpy(guest_at(&f->guest, f->tx_buffer), header, HEADER_BYTES);
    if (size > 0)
        memcpy(guest_at(&f->guest, f->tx_buffer + HEADER_BYTES), payload, size);
    const struct guest_buffer buffers[] = {{f->tx_buffer, 20, false},
                                           {f->tx_buffer + 20, HEADER_BYTES - 20 + size, false}};
    guest_queue_add(&f->tx, buffers, 2, f->indirect);
    kick_if_asked(&f->tx, before);
    vsock_settle(f);
    (void)guest_queue_take_used(&f->tx, &head, &written);
}

void vsock_send(struct vsock_fixture *f, uint16_t op, uint32_t host_port, uint32_t guest_port,
                const void *payload, uint32_t size)
{
    const struct virtio_vsock_hdr header = {
        .src_cid = GUEST_CID,
        .dst_cid = 2,
        .src_port = guest_port,
        .dst_port = host_port,
        .len = size,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = op,
        .buf_alloc = f->buffer_bytes,
        .fwd_cnt = f->forwarded,
    };
    vsock_send_raw(f, &header, payload, size);
}

void vsock_send_shutdown(struct vsock_fixture *f, uint32_t host_port, uint32_t guest_port, uint32_t flags)
{
    const struct virtio_vsock_hdr header = {
        .src_cid = GUEST_CID,
        .dst_cid = 2,
        .src_port = guest_port,
        .dst_port = host_port,
        .type = VIRTIO_VSOCK_TYPE_STREAM,
        .op = VIRTIO_VSOCK_OP_SHUTDOWN,
        .flags = flags,
        .buf_alloc = f->buffer_bytes,
        .fwd_cnt = f->forwarded,
    };
    vsock_send_raw(f, &header, NULL, 0);
}

static int unix_socket(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

int vsock_client(struct vsock_fixture *f, const char *greeting)
{
    struct sockaddr_un address;
    const int fd = unix_socket(&address, f->path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(fd, greeting, strlen(greeting)), strlen(greeting));
    return fd;
}

int vsock_client_open(struct vsock_fixture *f, uint32_t port, uint32_t *host_port)
{
    char line[32], expected[32];
    struct packet packet = {0};
    (void)snprintf(line, sizeof line, "CONNECT %u\n", port);
    const int fd = vsock_client(f, line);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_REQUEST);
    assert_int_equal(packet.header.dst_port, port);
    *host_port = packet.header.src_port;
    vsock_send(f, VIRTIO_VSOCK_OP_RESPONSE, *host_port, port, NULL, 0);
    const int size = snprintf(expected, sizeof expected, "OK %u\n", *host_port);
    assert_int_equal(vsock_read(fd, line, sizeof line), size);
    assert_memory_equal(line, expected, (size_t)size);
    return fd;
}

int vsock_listen(struct vsock_fixture *f, uint32_t port)
{
    struct sockaddr_un address;
    char path[80];
    (void)snprintf(path, sizeof path, "%s_%u", f->path, port);
    const int fd = unix_socket(&address, path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 2000), 0);
    return fd;
}

int64_t vsock_read(int fd, void *to, size_t size)
{
    const ssize_t n = recv(fd, to, size, MSG_DONTWAIT);
    if (n > 0)
        return n;
    return n < 0 && errno == EAGAIN ? 0 : -1;
}
