/* The socket device: opening, data, credit, closing, from both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
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

static void test_gate(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    char byte;
    const int client = vsock_client(f, "CONNECT 1024\n"); /* neither driver nor gate: it waits */
    vsock_settle(f);
    vsock_bring_up(f, 32, 4096);
    vsock_expect_nothing(f);
    assert_int_equal(vsock_read(client, &byte, 1), 0);
    virtio_vsock_open_gate(&f->vsock);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, OP(REQUEST));
    close(client);
}

/* The other order: the gate is open, and the driver comes last. */
static void test_gate_before_driver(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    virtio_vsock_open_gate(&f->vsock);
    const int client = vsock_client(f, "CONNECT 1024\n");
    vsock_settle(f);
    assert_int_equal(f->vsock.connection_count, 0);
    vsock_bring_up(f, 32, 4096);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.op, OP(REQUEST));
    close(client);
}

static void test_host_connects(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port;
    char text[16];
    for (int round = 0; round < 2; round++) {
        f->indirect = round == 1;
        up(f);
        const int client = vsock_client_open(f, 1024, &port);
        assert_int_equal(write(client, "ping", 4), 4);
        vsock_expect(f, &packet, OP(RW), port, 1024);
        assert_int_equal(packet.header.len, 4);
        assert_memory_equal(packet.payload, "ping", 4);
        vsock_send(f, OP(RW), port, 1024, "pong!", 5);
        assert_int_equal(vsock_read(client, text, sizeof text), 5);
        assert_memory_equal(text, "pong!", 5);
        close(client);
        vsock_expect(f, &packet, OP(SHUTDOWN), port, 1024);
        if (packet.header.flags != 3) /* its end-of-file was seen before its hang-up */
            vsock_expect(f, &packet, OP(SHUTDOWN), port, 1024);
        assert_int_equal(packet.header.flags, 3);
        vsock_send(f, OP(RST), port, 1024, NULL, 0);
        assert_int_equal(f->vsock.connection_count, 0);
        vsock_expect_nothing(f);
    }
}

/* Bytes right behind the greeting are the guest's, and come after its answer; a greeting may come in parts.
 */
static void test_pipelined(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    up(f);
    const int client = vsock_client(f, "CONN");
    vsock_expect_nothing(f);
    assert_int_equal(write(client, "ECT 7\nhello", 11), 11);
    assert_true(vsock_take(f, &packet));
    assert_int_equal(packet.header.dst_port, 7);
    const uint32_t port = packet.header.src_port;
    vsock_expect_nothing(f);
    vsock_send(f, OP(RESPONSE), port, 7, NULL, 0);
    vsock_expect(f, &packet, OP(RW), port, 7);
    assert_int_equal(packet.header.len, 5);
    assert_memory_equal(packet.payload, "hello", 5);
    close(client);
}

static void test_refused_and_malformed(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    char byte;
    up(f);
    const int refused = vsock_client(f, "CONNECT 9\n");
    assert_true(vsock_take(f, &packet));
    vsock_send(f, OP(RST), packet.header.src_port, 9, NULL, 0);
    assert_int_equal(vsock_read(refused, &byte, 1), -1);
    close(refused);
    static const char *const lines[] = {
        "CONNECT \n",           "CONNECT 99999999999\n", "CONNECT 4294967295\n",
        "CONNECT 4294967296\n", "connect 1\n",           "CONNECT -1\n",
        "CONNECT 1 \n",         "CONNECT 0x10\n",        "\n",
        "GET / HTTP/1.1\r\n",   "CONNECT 1\r\n",         "CONNECT 00000000000000000000000000000001",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const int client = vsock_client(f, lines[i]);
        vsock_expect_nothing(f);
        assert_int_equal(vsock_read(client, &byte, 1), -1);
        close(client);
    }
    assert_int_equal(f->vsock.connection_count, 0);
    /* A client that leaves before it has said anything, or before the guest answered. */
    close(vsock_client(f, "CONNECT 1"));
    vsock_expect_nothing(f);
    assert_int_equal(f->vsock.connection_count, 0);
    const int leaver = vsock_client(f, "CONNECT 1\n");
    assert_true(vsock_take(f, &packet));
    close(leaver);
    vsock_expect_nothing(f);
    vsock_send(f, OP(RESPONSE), packet.header.src_port, 1, NULL, 0);
    vsock_expect(f, &packet, OP(RST), packet.header.src_port, 1);
    assert_int_equal(f->vsock.connection_count, 0);
}

static void test_guest_connects(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    char text[8];
    up(f);
    vsock_send(f, OP(REQUEST), 77, 5000, NULL, 0); /* nobody listens */
    vsock_expect(f, &packet, OP(RST), 77, 5000);
    const int listener = vsock_listen(f, 77);
    vsock_send(f, OP(REQUEST), 77, 5000, NULL, 0);
    vsock_expect(f, &packet, OP(RESPONSE), 77, 5000);
    assert_true(packet.header.buf_alloc >= 65536);
    const int server = accept(listener, NULL, NULL);
    assert_true(server >= 0);
    vsock_send(f, OP(RW), 77, 5000, "up", 2);
    assert_int_equal(vsock_read(server, text, sizeof text), 2);
    assert_int_equal(write(server, "down", 4), 4);
    vsock_expect(f, &packet, OP(RW), 77, 5000);
    assert_memory_equal(packet.payload, "down", 4);
    /* The guest closes: answered at once, the host reads the end. */
    vsock_send_shutdown(f, 77, 5000, 3);
    vsock_expect(f, &packet, OP(RST), 77, 5000);
    assert_int_equal(vsock_read(server, text, sizeof text), -1);
    assert_int_equal(f->vsock.connection_count, 0);
    close(server);
    close(listener);
    vsock_send(f, OP(REQUEST), 77, 5001, NULL, 0); /* its file is left, its listener gone */
    vsock_expect(f, &packet, OP(RST), 77, 5001);
}

static void test_in_process(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    char text[8];
    int fd = -1;
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &fd), -107); /* ENOTCONN: no driver */
    assert_int_equal(fd, -1);
    vsock_bring_up(f, 32, 4096); /* the gate stays shut */
    assert_int_equal(virtio_vsock_connect(&f->vsock, 1024, &fd), 0);
    assert_int_equal(write(fd, "early", 5), 5);
    assert_true(vsock_take(f, &packet));
    const uint32_t port = packet.header.src_port;
    vsock_send(f, OP(RESPONSE), port, 1024, NULL, 0);
    vsock_expect(f, &packet, OP(RW), port, 1024);
    assert_memory_equal(packet.payload, "early", 5);
    vsock_send(f, OP(RW), port, 1024, "fine", 4);
    assert_int_equal(vsock_read(fd, text, sizeof text), 4); /* no OK line here */
    assert_memory_equal(text, "fine", 4);
    vsock_send(f, OP(RST), port, 1024, NULL, 0);
    assert_int_equal(vsock_read(fd, text, sizeof text), -1);
    close(fd);
}

static void fill_pattern(uint8_t *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (uint8_t)(seed >> 16);
    }
}

/* Megabytes both ways at once, through receive buffers of 100 bytes, a guest's credit of 1000, and a host
 * that reads slowly: every byte arrives, in order. */
static void test_integrity(void **state)
{
    struct vsock_fixture *f = *state;
    enum { TOTAL = 3 << 20 };
    uint8_t *down = malloc(TOTAL), *up_bytes = malloc(TOTAL), *got_down = malloc(TOTAL),
            *got_up = malloc(TOTAL);
    uint32_t port, down_written = 0, down_read = 0, up_sent = 0, up_read = 0;
    uint32_t host_buffer, host_forwarded = 0;
    fill_pattern(down, TOTAL, 1);
    fill_pattern(up_bytes, TOTAL, 2);
    f->buffer_bytes = 1000;
    vsock_bring_up(f, 5, HEADER_BYTES + 100);
    virtio_vsock_open_gate(&f->vsock);
    const int client = vsock_client_open(f, 1024, &port);
    host_buffer = 65536;
    unsigned idle = 0;
    while ((down_read < TOTAL || up_read < TOTAL) && idle < 1000) {
        struct packet packet;
        idle++;
        if (down_written < TOTAL) {
            const ssize_t n = write(client, down + down_written, TOTAL - down_written);
            down_written += n > 0 ? (uint32_t)n : 0;
        }
        while (vsock_take(f, &packet)) {
            idle = 0;
            host_buffer = packet.header.buf_alloc;
            host_forwarded = packet.header.fwd_cnt;
            if (packet.header.op == OP(RW)) {
                assert_true(packet.header.len <= 100);
                memcpy(got_down + down_read, packet.payload, packet.header.len);
                down_read += packet.header.len;
            }
            if (down_read - f->forwarded >= 500 || packet.header.op == OP(CREDIT_REQUEST)) {
                f->forwarded = down_read;
                vsock_send(f, OP(CREDIT_UPDATE), port, 1024, NULL, 0);
            }
        }
        while (up_sent < TOTAL && host_buffer - (up_sent - host_forwarded) > 0) {
            uint32_t size = host_buffer - (up_sent - host_forwarded);
            size = size > 30000 ? 30000 : size;
            size = size > TOTAL - up_sent ? TOTAL - up_sent : size;
            vsock_send(f, OP(RW), port, 1024, up_bytes + up_sent, size);
            up_sent += size;
            idle = 0;
        }
        const int64_t n =
            vsock_read(client, got_up + up_read, TOTAL - up_read < 70000 ? TOTAL - up_read : 70000);
        assert_true(n >= 0);
        up_read += (uint32_t)n;
    }
    assert_int_equal(down_read, TOTAL);
    assert_int_equal(up_read, TOTAL);
    assert_memory_equal(got_down, down, TOTAL);
    assert_memory_equal(got_up, up_bytes, TOTAL);
    close(client);
    free(down);
    free(up_bytes);
    free(got_down);
    free(got_up);
}

static void test_credit_stall(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    uint32_t port;
    f->buffer_bytes = 10;
    up(f);
    const int client = vsock_client_open(f, 1, &port);
    assert_int_equal(write(client, "0123456789abcdefghij-", 21), 21);
    vsock_expect(f, &packet, OP(RW), port, 1);
    assert_int_equal(packet.header.len, 10);
    vsock_expect(f, &packet, OP(CREDIT_REQUEST), port, 1); /* once */
    vsock_expect_nothing(f);
    vsock_send(f, OP(CREDIT_UPDATE), port, 1, NULL, 0); /* nothing new */
    f->forwarded = 4;
    vsock_send(f, OP(CREDIT_UPDATE), port, 1, NULL, 0);
    vsock_expect(f, &packet, OP(RW), port, 1);
    assert_int_equal(packet.header.len, 4);
    assert_memory_equal(packet.payload, "abcd", 4);
    vsock_expect(f, &packet, OP(CREDIT_REQUEST), port, 1);
    close(client); /* gone with bytes unsent: they still arrive, then the end */
    vsock_expect_nothing(f);
    f->forwarded = 14;
    vsock_send(f, OP(CREDIT_UPDATE), port, 1, NULL, 0);
    vsock_expect(f, &packet, OP(RW), port, 1);
    assert_memory_equal(packet.payload, "efghij-", 7);
    vsock_expect(f, &packet, OP(SHUTDOWN), port, 1);
    assert_int_equal(packet.header.flags, 3);
}

/* The guest may send what its credit says while the host does not read, and not a byte more. */
static void test_credit_of_guest(void **state)
{
    struct vsock_fixture *f = *state;
    static uint8_t bytes[65536];
    struct packet packet;
    uint32_t port, sent = 0, forwarded, accepted = 0;
    up(f);
    const int client = vsock_client_open(f, 1, &port);
    vsock_send(f, OP(CREDIT_REQUEST), port, 1, NULL, 0);
    vsock_expect(f, &packet, OP(CREDIT_UPDATE), port, 1);
    const uint32_t buffer = packet.header.buf_alloc;
    forwarded = packet.header.fwd_cnt;
    for (;;) { /* until the Unix socket is full and the buffer too */
        const uint32_t credit = buffer - (sent - forwarded);
        const uint32_t size = credit < sizeof bytes ? credit : (uint32_t)sizeof bytes;
        if (size == 0)
            break;
        vsock_send(f, OP(RW), port, 1, bytes, size);
        sent += size;
        while (vsock_take(f, &packet))
            forwarded = packet.header.fwd_cnt;
        if (credit <= size) {
            vsock_send(f, OP(CREDIT_REQUEST), port, 1, NULL, 0);
            vsock_expect(f, &packet, OP(CREDIT_UPDATE), port, 1);
            forwarded = packet.header.fwd_cnt;
        }
    }
    assert_int_equal(sent - forwarded, buffer);
    int64_t n;
    while ((n = vsock_read(client, bytes, sizeof bytes)) > 0 || accepted < sent / 2) {
        assert_true(n > 0);
        accepted += (uint32_t)n;
        vsock_settle(f);
        if (accepted >= sent / 2)
            break;
    }
    vsock_expect(f, &packet, OP(CREDIT_UPDATE), port, 1); /* unasked */
    vsock_send(f, OP(CREDIT_REQUEST), port, 1, NULL, 0);
    while (vsock_take(f, &packet))
        forwarded = packet.header.fwd_cnt;
    uint32_t credit = buffer - (sent - forwarded);
    assert_true(credit > 0);
    while (credit > 0) { /* exactly that much again is in order; the reader sleeps */
        const uint32_t size = credit < sizeof bytes ? credit : (uint32_t)sizeof bytes;
        vsock_send(f, OP(RW), port, 1, bytes, size);
        credit -= size;
        while (vsock_take(f, &packet))
            assert_int_equal(packet.header.op, OP(CREDIT_UPDATE));
    }
    vsock_send(f, OP(CREDIT_REQUEST), port, 1, NULL, 0);
    vsock_expect(f, &packet, OP(CREDIT_UPDATE), port, 1);
    assert_int_equal(f->vsock.connection_count, 1);
    for (unsigned i = 0; i < 100 && f->vsock.connection_count > 0; i++)
        vsock_send(f, OP(RW), port, 1, bytes, sizeof bytes); /* beyond all credit */
    vsock_expect(f, &packet, OP(RST), port, 1);
    assert_int_equal(f->vsock.connection_count, 0);
    assert_false(vsock_broken(f)); /* the connection's fault alone */
    close(client);
}

static void test_half_close(void **state)
{
    struct vsock_fixture *f = *state;
    struct packet packet;
    char text[16];
    uint32_t port;
    up(f);
    /* The host ends its direction; the guest's goes on. */
    int client = vsock_client_open(f, 1, &port);
    assert_int_equal(write(client, "last", 4), 4);
    shutdown(client, SHUT_WR);
    vsock_expect(f, &packet, OP(RW), port, 1);
    vsock_expect(f, &packet, OP(SHUTDOWN), port, 1);
    assert_int_equal(packet.header.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
    vsock_send(f, OP(RW), port, 1, "answer", 6);
    assert_int_equal(vsock_read(client, text, sizeof text), 6);
    vsock_send_shutdown(f, port, 1, 3);
    vsock_expect(f, &packet, OP(RST), port, 1);
    assert_int_equal(vsock_read(client, text, sizeof text), -1);
    close(client);
    /* The guest ends its direction; the host's goes on. */
    client = vsock_client_open(f, 1, &port);
    vsock_send_shutdown(f, port, 1, VIRTIO_VSOCK_SHUTDOWN_SEND);
    assert_int_equal(vsock_read(client, text, sizeof text), -1);
    assert_int_equal(write(client, "more", 4), 4);
    vsock_expect(f, &packet, OP(RW), port, 1);
    assert_memory_equal(packet.payload, "more", 4);
    vsock_send(f, OP(RW), port, 1, "x", 1); /* against its own word */
    vsock_expect(f, &packet, OP(RST), port, 1);
    assert_int_equal(f->vsock.connection_count, 0);
    close(client);
    /* The guest will not receive: the host's writes fail, its reads work. */
    client = vsock_client_open(f, 1, &port);
    vsock_send_shutdown(f, port, 1, VIRTIO_VSOCK_SHUTDOWN_RCV);
    assert_int_equal(send(client, "no", 2, MSG_NOSIGNAL), -1);
    vsock_send(f, OP(RW), port, 1, "yes", 3);
    assert_int_equal(vsock_read(client, text, sizeof text), 3);
    close(client);
    vsock_expect(f, &packet, OP(SHUTDOWN), port, 1);
    assert_int_equal(packet.header.flags, 3);
    vsock_send_shutdown(f, port, 1, 3);
    vsock_expect(f, &packet, OP(RST), port, 1);
    assert_int_equal(f->vsock.connection_count, 0);
    /* The host will not read: what comes is dropped, credit included, and the guest is told. */
    client = vsock_client_open(f, 1, &port);
    shutdown(client, SHUT_RD);
    vsock_send(f, OP(RW), port, 1, "lost", 4);
    vsock_expect(f, &packet, OP(SHUTDOWN), port, 1);
    assert_int_equal(packet.header.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
    assert_int_equal(packet.header.fwd_cnt, 4);
    close(client);
}

/* The guest says all it has to a host that does not read, and closes: its port is free at once, and every
 * byte is still there for the host. */
static void test_drain(void **state)
{
    struct vsock_fixture *f = *state;
    static uint8_t bytes[65536], got[65536];
    struct packet packet;
    uint32_t port, sent = 0, received = 0, forwarded = 0;
    up(f);
    const int client = vsock_client_open(f, 1, &port);
    fill_pattern(bytes, sizeof bytes, 3);
    do {
        vsock_send(f, OP(RW), port, 1, bytes, 32768);
        sent += 32768;
        vsock_send(f, OP(CREDIT_REQUEST), port, 1, NULL, 0);
        while (vsock_take(f, &packet))
            forwarded = packet.header.fwd_cnt;
    } while (sent - forwarded < 100000);
    vsock_send_shutdown(f, port, 1, 3);
    vsock_expect(f, &packet, OP(RST), port, 1);
    vsock_send(f, OP(RW), port, 1, "x", 1); /* the connection is no more */
    vsock_expect(f, &packet, OP(RST), port, 1);
    assert_int_equal(f->vsock.connection_count, 1);
    vsock_bring_up(f, 32, 4096); /* not even the driver's reset takes the bytes back */
    for (;;) {
        const int64_t n = vsock_read(client, got, 1 + received % sizeof got);
        vsock_settle(f);
        if (n < 0)
            break;
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(got[i], bytes[(received + i) % 32768]);
        received += (uint32_t)n;
    }
    assert_int_equal(received, sent);
    assert_int_equal(f->vsock.connection_count, 0);
    close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gate, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_gate_before_driver, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_host_connects, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pipelined, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_refused_and_malformed, vsock_fixture_setup,
                                        vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_guest_connects, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_in_process, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_integrity, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_credit_stall, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_credit_of_guest, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_half_close, vsock_fixture_setup, vsock_fixture_teardown),
        cmocka_unit_test_setup_teardown(test_drain, vsock_fixture_setup, vsock_fixture_teardown),
    };
    log_setup("vsock_test", LOG_LEVEL_ERROR, 2);
    return cmocka_run_group_tests_name("virtio vsock", tests, NULL, NULL);
}
