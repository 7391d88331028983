/* The socket device's life: resets by the driver and by us, from one thread and from two, and the trouble
 * with socket files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "tests/unit/virtio/vsock_fixture.h"

#define OP(name) VIRTIO_VSOCK_OP_##name

static void up(struct vsock_fixture *f)
{
    vsock_bring_up(f, 32, 4096);
    virtio_vsock_open_gate(&f->vsock);
}

static void test_resets(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port, written;
    uint16_t head;
    char byte;
    up(f);
    /* The driver's: clients read the end, new ones wait for the driver. */
    int client = vsock_client_open(f, 1, &port);
    guest_write32(&f->vsock.device, 0x070, 0);
    vsock_settle(f);
    assert_int_equal(vsock_read(client, &byte, 1), -1);
    assert_int_equal(f->vsock.connection_count, 0);
    close(client);
    client = vsock_client(f, "CONNECT 3\n");
    vsock_settle(f);
    assert_int_equal(f->vsock.connection_count, 0);
    vsock_bring_up(f, 32, 4096);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.dst_port, 3);
    close(client);
    vsock_settle(f);
    /* A reset and a new start before the loop has run: the old connection does not leak into the new life. */
    client = vsock_client_open(f, 1, &port);
    assert_int_equal(write(client, "stale", 5), 5);
    vsock_bring_up(f, 32, 4096);
    vsock_expect_nothing(f);
    assert_int_equal(vsock_read(client, &byte, 1), -1);
    close(client);
    /* Ours: the event waits for a buffer, comes once, and clients read the end. */
    client = vsock_client_open(f, 1, &port);
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(vsock_read(client, &byte, 1), -1);
    close(client);
    const uint64_t at = f->tx_buffer;
    memset(guest_at(&f->guest, at), 0xff, 8);
    const struct guest_buffer buffer = {at, 8, true};
    for (unsigned i = 0; i < 2; i++)
        guest_queue_add(&f->event, &buffer, 1, false);
    guest_queue_kick(&f->event);
    vsock_settle(f);
    assert_true(guest_queue_take_used(&f->event, &head, &written));
    assert_int_equal(written, 4);
    assert_memory_equal(guest_at(&f->guest, at), "\0\0\0\0\xff", 5);
    assert_false(guest_queue_take_used(&f->event, &head, &written));
    virtio_vsock_reset_connections(&f->vsock);
    assert_true(guest_queue_take_used(&f->event, &head, &written));
    guest_queue_add(&f->event, &buffer, 1, false); /* handled */
    guest_queue_kick(&f->event);
    client = vsock_client_open(f, 1, &port);
    close(client);
}

static void *run_loop(void *context)
{
    (void)loop_run(context);
    return NULL;
}

/* A vCPU's thread brings the driver up and resets it, over and over, while the loop's thread serves clients.
 */
static void test_resets_from_another_thread(void **state)
{
    struct vsock_fixture *f = *state;
    struct virtio_device *device = &f->vsock.device;
    static uint8_t bytes[30000];
    int clients[50];
    pthread_t thread;
    virtio_vsock_open_gate(&f->vsock);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, &f->loop), 0);
    const uint64_t used_bytes = f->guest.used_bytes;
    for (unsigned round = 0; round < 50; round++) {
        memset(guest_at(&f->guest, used_bytes), 0, f->guest.used_bytes - used_bytes); /* nobody uses it now */
        f->guest.used_bytes = used_bytes;
        (void)guest_negotiate(device, 1ull << VIRTIO_RING_F_EVENT_IDX);
        guest_queue_init(&f->rx, &f->guest, device, 0, 128);
        guest_queue_init(&f->tx, &f->guest, device, 1, 128);
        for (unsigned i = 0; i < 100; i++) {
            const struct guest_buffer buffer = {f->rx_buffers + 4096u * i, 4096, true};
            guest_queue_add(&f->rx, &buffer, 1, false);
        }
        guest_driver_ok(device);
        clients[round] = vsock_client(f, "CONNECT 1\n");
        assert_true(guest_wait_interrupt(device)); /* its request */
        const struct virtio_vsock_hdr *request = guest_at(&f->guest, f->rx_buffers);
        struct virtio_vsock_hdr answer = {.src_cid = GUEST_CID, .dst_cid = 2, .type = 1, .buf_alloc = 65536};
        answer.src_port = request->dst_port;
        answer.dst_port = request->src_port;
        answer.op = OP(RESPONSE);
        memcpy(guest_at(&f->guest, f->tx_buffer), &answer, sizeof answer);
        const struct guest_buffer buffer = {f->tx_buffer, HEADER_BYTES, false};
        (void)!write(clients[round], bytes, sizeof bytes);
        guest_queue_add(&f->tx, &buffer, 1, false);
        guest_queue_kick(&f->tx);
        if (round % 2 == 0)
            (void)guest_wait_interrupt(device);
        guest_write32(device, 0x070, 0);
        const uint16_t index = guest_queue_used(&f->rx)->idx;
        (void)guest_interrupted(device);
        assert_int_equal(guest_queue_used(&f->rx)->idx, index); /* nobody writes any more */
    }
    loop_stop(&f->loop);
    pthread_join(thread, NULL);
    while (loop_run_once(&f->loop, 0) > 1) /* the stop itself stays */
        ;
    assert_int_equal(f->vsock.connection_count, 0);
    for (unsigned round = 0; round < 50; round++)
        close(clients[round]);
}

static int try_init(struct vsock_fixture *f, const char *path)
{
    struct virtio_vsock other;
    int error = virtio_vsock_init(&other, &f->guest.memory, &f->loop, path, 3);
    if (error == 0)
        virtio_vsock_fini(&other);
    return error;
}

static bool exists(const char *path)
{
    struct stat about;
    return lstat(path, &about) == 0;
}

static void test_socket_files(void **state)
{
    struct vsock_fixture *f = *state;
    char path[200], longest[VIRTIO_VSOCK_PATH_MAX_BYTES + 2];
    assert_int_equal(try_init(f, f->path), -EADDRINUSE); /* live */
    assert_true(exists(f->path));
    const int stale = vsock_listen(f, 1); /* its file stays when it is closed, as after kill -9 */
    close(stale);
    (void)snprintf(path, sizeof path, "%s_1", f->path);
    assert_true(exists(path));
    assert_int_equal(try_init(f, path), 0);
    assert_false(exists(path)); /* fini took its own away */
    const int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(file, "precious", 8), 8);
    close(file);
    assert_int_equal(try_init(f, path), -EADDRINUSE); /* not a socket: not ours to remove */
    assert_true(exists(path));
    (void)snprintf(path, sizeof path, "%s/none/x", f->directory);
    assert_int_equal(try_init(f, path), -ENOENT);
    const size_t prefix = strlen(f->directory) + 1;
    memset(longest, 'x', sizeof longest);
    memcpy(longest, f->directory, prefix - 1);
    longest[prefix - 1] = '/';
    longest[VIRTIO_VSOCK_PATH_MAX_BYTES + 1] = '\0';
    assert_int_equal(try_init(f, longest), -ENAMETOOLONG);
    longest[VIRTIO_VSOCK_PATH_MAX_BYTES] = '\0';
    assert_int_equal(try_init(f, longest), 0);
    assert_int_equal(try_init(f, ""), -EINVAL);
    /* Somebody else's socket took our place meanwhile: it is left alone. */
    struct virtio_vsock other;
    (void)snprintf(path, sizeof path, "%s_2", f->path);
    assert_int_equal(virtio_vsock_init(&other, &f->guest.memory, &f->loop, path, 3), 0);
    unlink(path);
    const int theirs = vsock_listen(f, 2);
    virtio_vsock_fini(&other);
    assert_true(exists(path));
    close(theirs);
    /* Reserved identifiers. */
    assert_int_equal(virtio_vsock_init(&other, &f->guest.memory, &f->loop, NULL, 2), -EINVAL);
    assert_int_equal(virtio_vsock_init(&other, &f->guest.memory, &f->loop, NULL, UINT32_MAX), -EINVAL);
    assert_int_equal(try_init(f, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_resets, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_resets_from_another_thread, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_socket_files, vsock_fixture_setup, vsock_fixture_teardown),
    };
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_setup("vsock_life_test", LOG_LEVEL_ERROR, null); /* every error here is provoked */
    return cmocka_run_group_tests_name("virtio vsock life", tests, NULL, NULL);
}
