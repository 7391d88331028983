/* The socket device under abuse: malformed packets, floods, starvation, crowds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "tests/unit/virtio/vsock_fixture.h"

#define OP(name) VIRTIO_VSOCK_OP_##name

static void up(struct vsock_fixture *f)
{
    vsock_bring_up(f, 32, 4096);
    virtio_vsock_open_gate(&f->vsock);
}

static const struct virtio_vsock_hdr good = {
    .src_cid = GUEST_CID, .dst_cid = 2, .src_port = 1, .dst_port = 5, .type = 1, .op = OP(RW)};

/* Packets of no connection, and of none we could have. */
static void test_malformed_packets(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    up(f);
    struct virtio_vsock_hdr bad = good;
    static const uint16_t ops[] = {
        0, OP(RESPONSE), OP(SHUTDOWN), OP(RW), OP(CREDIT_UPDATE), OP(CREDIT_REQUEST), 8, 65535};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        bad.op = ops[i];
        vsock_send_raw(f, &bad, NULL, 0);
        vsock_expect(f, &packet, OP(RST), 5, 1);
    }
    bad.op = OP(RST); /* never answered */
    vsock_send_raw(f, &bad, NULL, 0);
    vsock_expect_nothing(f);
    bad = good;
    bad.src_cid = GUEST_CID + 1; /* forged */
    vsock_send_raw(f, &bad, NULL, 0);
    vsock_expect_nothing(f);
    bad = good;
    bad.dst_cid = 7; /* for another machine: refused in its name */
    bad.op = OP(REQUEST);
    vsock_send_raw(f, &bad, NULL, 0);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, OP(RST));
    assert_int_equal(packet.header.src_cid, 7);
    bad = good;
    bad.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
    bad.op = OP(REQUEST);
    vsock_send_raw(f, &bad, NULL, 0);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, OP(RST));
    assert_int_equal(packet.header.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
    assert_false(vsock_broken(f));
}

/* Packets that a connection does not survive. */
static void test_fatal_packets(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port;
    char byte;
    up(f);
    const struct {
        uint16_t op;
        uint32_t len, size;
    } fatal[] = {
        {OP(RW), 100, 4},    {OP(RW), UINT32_MAX, 4}, {OP(RW), 65536, 0},
        {OP(REQUEST), 0, 0}, {OP(RESPONSE), 0, 0},    {0, 0, 0},
        {8, 0, 0},           {65535, 4, 4},
    };
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        const int client = vsock_client_open(f, 1, &port);
        struct virtio_vsock_hdr bad = good;
        bad.dst_port = port;
        bad.op = fatal[i].op;
        bad.len = fatal[i].len;
        vsock_send_raw(f, &bad, "abcd", fatal[i].size);
        vsock_expect(f, &packet, OP(RST), port, 1);
        assert_int_equal(vsock_read(client, &byte, 1), -1);
        assert_int_equal(f->vsock.connection_count, 0);
        close(client);
    }
    /* Data before the guest's answer. */
    const int client = vsock_client(f, "CONNECT 1\n");
    assert_true(vsock_take(f, &packet));
    vsock_send(f, OP(RW), packet.header.src_port, 1, "x", 1);
    vsock_expect(f, &packet, OP(RST), packet.header.src_port, 1);
    close(client);
    assert_false(vsock_broken(f));
}

/* What is not even a packet breaks the device, and its connections end; a reset brings it back. */
static void test_broken_rings(void **state)
{
    struct vsock_fixture *f = *state;
    char byte;
    const uint64_t at = f->tx_buffer;
    const struct guest_buffer short_tx = {at, HEADER_BYTES - 1, false};
    const struct guest_buffer writable_tx[] = {{at, HEADER_BYTES, false}, {at + 64, 1, true}};
    const struct guest_buffer outside = {UINT64_MAX - 64, HEADER_BYTES, false};
    const struct guest_buffer small_rx = {at, HEADER_BYTES, true};
    const struct guest_buffer readable_rx[] = {{at, 1, false}, {at + 64, 100, true}};
    const struct guest_buffer small_event = {at, 3, true};
    const struct {
        struct guest_queue *queue;
        const struct guest_buffer *buffers;
        unsigned count;
    } cases[] = {
        {&f->tx, &short_tx, 1}, {&f->tx, writable_tx, 2}, {&f->tx, &outside, 1},
        {&f->rx, &small_rx, 1}, {&f->rx, readable_rx, 2}, {&f->event, &small_event, 1},
    };
    virtio_vsock_open_gate(&f->vsock);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vsock_bring_up(f, 0, 4096);
        const int client = vsock_client(f, "CONNECT 1\n");
        guest_queue_add(cases[i].queue, cases[i].buffers, cases[i].count, false);
        if (cases[i].queue == &f->event) {
            vsock_settle(f);
            virtio_vsock_reset_connections(&f->vsock);
        }
        guest_queue_kick(cases[i].queue);
        vsock_settle(f);
        assert_true(vsock_broken(f));
        assert_int_equal(f->vsock.connection_count, 0);
        assert_int_equal(vsock_read(client, &byte, 1), -1);
        close(client);
    }
    uint32_t port;
    up(f);
    assert_false(vsock_broken(f));
    close(vsock_client_open(f, 1, &port));
}

/* The guest gives no buffers while the host talks: nothing spins, nothing is lost. */
static void test_no_receive_buffers(void **state)
{
    struct vsock_fixture *f = *state;
    static uint8_t bytes[150000];
    struct packet packet;
    uint32_t port, total = 0, written;
    uint16_t head;
    up(f);
    const int client = vsock_client_open(f, 1, &port);
    assert_int_equal(write(client, bytes, sizeof bytes), sizeof bytes); /* 38 buffers' worth */
    vsock_settle(f);
    /* All 32 buffers are full now and none is given back. */
    unsigned full = 0;
    while (guest_queue_take_used(&f->rx, &head, &written)) {
        assert_int_equal(written, 4096);
        total += written - HEADER_BYTES;
        full++;
    }
    assert_int_equal(full, 32);
    assert_int_equal(guest_queue_used(&f->rx)->idx, f->rx.avail_index);
    /* Another client comes and goes meanwhile. */
    close(vsock_client(f, "CONNECT 2\n"));
    vsock_settle(f);
    f->forwarded = total;
    const uint16_t before = f->rx.avail_index;
    for (unsigned i = 0; i < 4; i++) {
        const struct guest_buffer buffer = {f->rx_buffers + i * (65536ull + HEADER_BYTES), 4096, true};
        guest_queue_add(&f->rx, &buffer, 1, false);
    }
    assert_true(guest_queue_must_kick(&f->rx, before)); /* the device asked to hear of it */
    guest_queue_kick(&f->rx);
    while (vsock_take(f, &packet))
        if (packet.header.op == OP(RW))
            total += packet.header.len;
    assert_int_equal(total, sizeof bytes);
    close(client);
}

/* More offences than resets are kept, with no room to answer them: the guest's packets wait, and each is
 * answered in the end. */
static void test_reset_flood(void **state)
{
    struct vsock_fixture *f = *state;
    const struct virtio_vsock_hdr header = {.src_cid = GUEST_CID, .dst_cid = 2, .type = 1, .op = OP(RW)};
    struct packet packet;
    uint16_t head;
    uint32_t written;
    vsock_bring_up(f, 0, 4096);
    for (unsigned i = 0; i < 120; i++) {
        struct virtio_vsock_hdr *copy = guest_at(&f->guest, f->tx_buffer + 64ull * i);
        *copy = header;
        copy->src_port = i;
        const struct guest_buffer buffer = {f->tx_buffer + 64ull * i, HEADER_BYTES, false};
        guest_queue_add(&f->tx, &buffer, 1, false);
    }
    guest_queue_kick(&f->tx);
    vsock_settle(f);
    unsigned used = 0;
    while (guest_queue_take_used(&f->tx, &head, &written))
        used++;
    assert_int_equal(used, VSOCK_RESETS_MAX);
    f->rx_bytes = 4096;
    const struct guest_buffer room = {f->rx_buffers, 4096, true};
    guest_queue_add(&f->rx, &room, 1, false);
    guest_queue_kick(&f->rx);
    for (unsigned i = 0; i < 120; i++) {
        assert_true(vsock_take(f, &packet));
        assert_int_equal(packet.header.op, OP(RST));
        assert_int_equal(packet.header.dst_port, i);
    }
    vsock_expect_nothing(f);
}

/* One client floods, another says one word: it is heard within a few packets. */
static void test_fairness(void **state)
{
    struct vsock_fixture *f = *state;
    static uint8_t bytes[150000];
    struct packet packet;
    uint32_t loud_port, quiet_port;
    up(f);
    const int loud = vsock_client_open(f, 1, &loud_port);
    const int quiet = vsock_client_open(f, 2, &quiet_port);
    assert_true(write(loud, bytes, sizeof bytes) > 0);
    vsock_settle(f); /* the 32 buffers are the loud one's */
    assert_int_equal(write(quiet, "word", 4), 4);
    unsigned before = 0;
    for (;;) {
        assert_true(vsock_take(f, &packet));
        if (packet.header.src_port == quiet_port)
            break;
        before++;
        (void)!write(loud, bytes, sizeof bytes);
    }
    assert_in_range(before, 30, 36);
    close(loud);
    close(quiet);
}

static void test_crowd(void **state)
{
    struct vsock_fixture *f = *state;
    static int fds[VIRTIO_VSOCK_CONNECTIONS_MAX];
    static uint32_t ports[VIRTIO_VSOCK_CONNECTIONS_MAX];
    struct packet packet;
    char text[64];
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 2 * VIRTIO_VSOCK_CONNECTIONS_MAX + 64)
        skip();
    up(f);
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++) {
        assert_int_equal(virtio_vsock_connect(&f->vsock, 9, &fds[i]), 0);
        assert_true(vsock_take(f, &packet));
        ports[i] = packet.header.src_port;
        vsock_send(f, OP(RESPONSE), ports[i], 9, NULL, 0);
    }
    int fd;
    assert_int_equal(virtio_vsock_connect(&f->vsock, 9, &fd), -EMFILE);
    const int refused = vsock_client(f, "CONNECT 9\n");
    vsock_settle(f);
    assert_true(vsock_read(refused, text, sizeof text) > 0);
    assert_memory_equal(text, "ERROR too many", 14);
    assert_int_equal(vsock_read(refused, text, sizeof text), -1);
    close(refused);
    const int listener = vsock_listen(f, 80);
    vsock_send(f, OP(REQUEST), 80, 1, NULL, 0);
    vsock_expect(f, &packet, OP(RST), 80, 1);
    /* Everybody talks at once, and to the right one. */
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++)
        assert_int_equal(write(fds[i], &ports[i], sizeof ports[i]), sizeof ports[i]);
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++) {
        uint32_t word;
        assert_true(vsock_take(f, &packet));
        assert_int_equal(packet.header.op, OP(RW));
        memcpy(&word, packet.payload, sizeof word);
        assert_int_equal(word, packet.header.src_port);
    }
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++) {
        uint32_t word = 0;
        vsock_send(f, OP(RW), ports[i], 9, &ports[i], sizeof ports[i]);
        assert_int_equal(vsock_read(fds[i], &word, sizeof word), sizeof word);
        assert_int_equal(word, ports[i]);
        if (i % 2 == 0)
            vsock_send(f, OP(RST), ports[i], 9, NULL, 0);
    }
    assert_int_equal(f->vsock.connection_count, VIRTIO_VSOCK_CONNECTIONS_MAX / 2);
    assert_int_equal(virtio_vsock_connect(&f->vsock, 9, &fd), 0);
    close(fd);
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++)
        close(fds[i]);
    vsock_settle(f);
    close(listener);
}

/* No descriptor is left for a client: it waits in the backlog without a spinning loop, and is served later.
 */
static void test_out_of_descriptors(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port;
    struct rlimit limit, before;
    up(f);
    const int first = vsock_client_open(f, 1, &port);
    const int waiting = vsock_client(f, "CONNECT 2\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int next = dup(first);
    close(next);
    limit = before;
    limit.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    vsock_settle(f);
    assert_int_equal(f->vsock.connection_count, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    vsock_send(f, OP(RST), port, 1, NULL, 0); /* one ends */
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, OP(REQUEST));
    assert_int_equal(packet.header.dst_port, 2);
    close(first);
    close(waiting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_malformed_packets, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fatal_packets, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_broken_rings, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_receive_buffers, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_reset_flood, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fairness, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_crowd, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_out_of_descriptors, vsock_fixture_setup, vsock_fixture_teardown),
    };
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_setup("vsock_abuse_test", LOG_LEVEL_ERROR, null); /* every error here is provoked */
    return cmocka_run_group_tests_name("virtio vsock abuse", tests, NULL, NULL);
}
