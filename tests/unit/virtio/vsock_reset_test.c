/* A transport reset, as after a restore: what waits for the guest to handle it, what does not, and what a
 * saved device knows of whom the guest waits for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/vsock_guest.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/vsock_fixture.h"

static void up(struct vsock_fixture *f)
{
    vsock_bring_up(f, 32, 4096);
    virtio_vsock_open_gate(&f->vsock);
}

/* An event buffer, as the driver gives it: each has its own place behind the packets'. */
static void give_event_buffer(struct vsock_fixture *f, unsigned index)
{
    const struct guest_buffer buffer = {f->tx_buffer + 8ull * index, 8, true};
    const uint16_t before = f->event.avail_index;
    guest_queue_add(&f->event, &buffer, 1, false);
    if (guest_queue_must_kick(&f->event, before))
        guest_queue_kick(&f->event);
}

static bool take_event(struct vsock_fixture *f)
{
    uint16_t head;
    uint32_t written;
    vsock_settle(f);
    return guest_queue_take_used(&f->event, &head, &written) && written == 4;
}

/* As Linux's worker: take it, (drop the connections,) give the buffer back. */
static void handle_event(struct vsock_fixture *f)
{
    assert_true(take_event(f));
    give_event_buffer(f, 0);
    vsock_settle(f);
}

static void connections_wait_until_the_guest_has_handled_it(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port;
    char byte;
    int own;
    up(f);
    for (unsigned i = 0; i < 4; i++)
        give_event_buffer(f, i);
    const int old = vsock_client_open(f, 1, &port);
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(vsock_read(old, &byte, 1), -1);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), 0);
    const int client = vsock_client(f, "CONNECT 7\n");
    const int listener = vsock_listen(f, 9);
    vsock_send(f, VIRTIO_VSOCK_OP_REQUEST, 9, 5000, NULL, 0);
    const int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(accepted >= 0);
    assert_int_equal(write(accepted, "early", 5), 5);
    vsock_expect_nothing(f);
    /* What the guest still sends on the old one is refused meanwhile. */
    vsock_send(f, VIRTIO_VSOCK_OP_RW, port, 1, "old", 3);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_RST, port, 1);
    /* Taken is not handled, and another buffer is not this one. */
    assert_true(take_event(f));
    vsock_expect_nothing(f);
    give_event_buffer(f, 0);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_REQUEST);
    assert_int_equal(packet.header.dst_port, 1024);
    const uint32_t own_port = packet.header.src_port;
    assert_true(own_port != port);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_RESPONSE, 9, 5000);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_REQUEST);
    assert_int_equal(packet.header.dst_port, 7);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_RW, 9, 5000);
    assert_memory_equal(packet.payload, "early", 5);
    vsock_send(f, VIRTIO_VSOCK_OP_RESPONSE, own_port, 1024, NULL, 0);
    vsock_send(f, VIRTIO_VSOCK_OP_RW, own_port, 1024, "x", 1);
    assert_int_equal(vsock_read(own, &byte, 1), 1);
    assert_false(take_event(f));
    close(own);
    close(old);
    close(client);
    close(accepted);
    close(listener);
}

/* The driver has filled three of its places when the event comes; the others are not its answer. */
static void a_queue_being_filled_is_no_answer(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    int own;
    up(f);
    for (unsigned i = 0; i < 3; i++)
        give_event_buffer(f, i);
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), 0);
    for (unsigned i = 3; i < 6; i++)
        give_event_buffer(f, i);
    vsock_expect_nothing(f);
    handle_event(f);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_REQUEST);
    close(own);
}

static void without_a_buffer_it_waits_for_one(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    int own;
    up(f);
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), 0);
    vsock_expect_nothing(f);
    give_event_buffer(f, 0);
    vsock_expect_nothing(f);
    handle_event(f);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_REQUEST);
    close(own);
}

static void twice_means_both_are_handled(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    int own;
    up(f);
    give_event_buffer(f, 0);
    give_event_buffer(f, 1);
    virtio_vsock_reset_connections(&f->vsock);
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), 0);
    handle_event(f);
    vsock_expect_nothing(f);
    handle_event(f);
    assert_true(vsock_take(f, &packet));
    close(own);
}

static void a_driver_that_is_not_there_is_told_nothing(void **state)
{
    struct vsock_fixture *f = *state;
    uint32_t port;
    int own;
    virtio_vsock_reset_connections(&f->vsock);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), -ENOTCONN);
    up(f);
    give_event_buffer(f, 0);
    assert_false(take_event(f));
    close(vsock_client_open(f, 1, &port));
    /* A driver that starts anew has handled everything. */
    virtio_vsock_reset_connections(&f->vsock);
    vsock_bring_up(f, 32, 4096);
    close(vsock_client_open(f, 1, &port));
}

static void a_queue_gone_wild_breaks_the_device_alone(void **state)
{
    struct vsock_fixture *f = *state;
    up(f);
    give_event_buffer(f, 0);
    virtio_vsock_reset_connections(&f->vsock);
    guest_queue_avail(&f->event)->idx = 1000;
    guest_queue_kick(&f->event);
    vsock_settle(f);
    assert_true(vsock_broken(f));
    vsock_bring_up(f, 32, 4096);
    assert_false(vsock_broken(f));
}

/* A guest's request whose answer it has not seen: no event reaches that socket, so an RST must. */
static void requests_without_an_answer_are_refused(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    struct state_writer saved;
    struct state_reader in;
    vsock_bring_up(f, 0, 4096);
    const int listener = vsock_listen(f, 9);
    vsock_send(f, VIRTIO_VSOCK_OP_REQUEST, 9, 5000, NULL, 0);
    vsock_send(f, VIRTIO_VSOCK_OP_REQUEST, 10, 5001, NULL, 0); /* nobody there: an RST is owed */
    f->vsock.next_host_port = 0x40001234;
    state_writer_init(&saved);
    virtio_vsock_save(&f->vsock, &saved, "vsock");
    const struct guest_queue rx = f->rx, tx = f->tx, event = f->event;
    struct virtio_vsock other;
    assert_int_equal(virtio_vsock_init(&other, &f->guest.memory, &f->loop, NULL, GUEST_CID + 1), 0);
    state_reader_init(&in, saved.data, saved.size_bytes);
    virtio_vsock_load(&other, &in, "vsock");
    assert_true(state_reader_finish(&in) < 0);
    assert_string_equal(in.why, "vsock.guest_cid: the device has 43, the snapshot's had 42");
    virtio_vsock_fini(&other);
    /* The same device again, as another process would make it. */
    const int irq = f->vsock.device.irq.fd;
    virtio_vsock_fini(&f->vsock);
    assert_int_equal(virtio_vsock_init(&f->vsock, &f->guest.memory, &f->loop, f->path, GUEST_CID), 0);
    f->vsock.device.irq.fd = irq;
    state_reader_init(&in, saved.data, saved.size_bytes);
    virtio_vsock_load(&f->vsock, &in, "vsock");
    assert_int_equal(state_reader_finish(&in), 0);
    virtio_device_revive(&f->vsock.device);
    virtio_vsock_reset_connections(&f->vsock);
    f->rx = rx;
    f->tx = tx;
    f->event = event;
    vsock_expect_nothing(f);
    for (unsigned i = 0; i < 4; i++) {
        const struct guest_buffer buffer = {f->rx_buffers + 65580ull * i, 4096, true};
        guest_queue_add(&f->rx, &buffer, 1, false);
    }
    f->rx_bytes = 4096;
    guest_queue_kick(&f->rx);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_RST, 10, 5001);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_RST, 9, 5000);
    give_event_buffer(f, 0);
    handle_event(f);
    int own;
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &own), 0);
    vsock_expect(f, &packet, VIRTIO_VSOCK_OP_REQUEST, 0x40001234, 1024);
    close(own);
    close(listener);
    state_writer_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(connections_wait_until_the_guest_has_handled_it, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_being_filled_is_no_answer, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(without_a_buffer_it_waits_for_one, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(twice_means_both_are_handled, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(a_driver_that_is_not_there_is_told_nothing, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(a_queue_gone_wild_breaks_the_device_alone, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(requests_without_an_answer_are_refused, vsock_fixture_setup,
                                        vsock_fixture_teardown),
    };
    log_setup("vsock_reset_test", LOG_LEVEL_ERROR, open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests_name("vsock reset", tests, NULL, NULL);
}
