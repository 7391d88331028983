/* The network's back ends: the framed stream, cut anywhere, and what is said of TAP devices that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/net/backend.h"

#define HEADER_BYTES VIRTIO_NET_HEADER_BYTES

struct fixture {
    struct net_backend backend;
    int peer;
    int log; /* what was logged */
};

static int setup(void **state)
{
    static struct fixture f;
    int pair[2];
    f.log = memfd_create("log", MFD_CLOEXEC);
    log_setup("backend_test", LOG_LEVEL_WARN, f.log);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(net_stream_take(&f.backend, pair[0]), 0);
    f.peer = pair[1];
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->backend.ops->close(&f->backend);
    assert_int_equal(f->backend.fd, -1);
    close(f->peer);
    log_setup("backend_test", LOG_LEVEL_WARN, 2);
    close(f->log);
    return 0;
}

static void assert_logged(const struct fixture *f, const char *text)
{
    char log[4096] = {0};
    assert_true(pread(f->log, log, sizeof log - 1, 0) >= 0);
    if (!strstr(log, text))
        fail_msg("'%s' is not in: %s", text, log);
}

static uint8_t byte_at(size_t at, uint8_t seed)
{
    return (uint8_t)(at * 13 + at / 256 + seed);
}

/* A frame as it is on the stream. */
static size_t framed(uint8_t *to, size_t size, uint8_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)(size >> (24 - 8 * i));
    for (size_t i = 0; i < size; i++)
        to[4 + i] = byte_at(i, seed);
    return 4 + size;
}

static void peer_writes(const struct fixture *f, const uint8_t *bytes, size_t size)
{
    assert_int_equal(send(f->peer, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT), size);
}

/* Receive into parts of odd sizes. */
static int64_t receive(struct fixture *f, uint8_t *frame)
{
    uint8_t header[HEADER_BYTES];
    struct iovec parts[] = {
        {.iov_base = header, .iov_len = HEADER_BYTES},
        {.iov_base = frame, .iov_len = 3},
        {.iov_base = frame + 3, .iov_len = 1000},
        {.iov_base = frame + 1003, .iov_len = VIRTIO_NET_FRAME_MAX - 1003},
    };
    memset(header, 0xee, sizeof header);
    const int64_t size = f->backend.ops->receive(&f->backend, parts, 4);
    static const uint8_t zeros[HEADER_BYTES];
    if (size > 0)
        assert_memory_equal(header, zeros, HEADER_BYTES);
    return size;
}

static void expect(struct fixture *f, size_t size, uint8_t seed)
{
    static uint8_t frame[VIRTIO_NET_FRAME_MAX];
    memset(frame, 0xcc, sizeof frame);
    assert_int_equal(receive(f, frame), HEADER_BYTES + size);
    for (size_t i = 0; i < size; i++)
        if (frame[i] != byte_at(i, seed))
            fail_msg("byte %zu of %zu", i, size);
}

static void expect_none(struct fixture *f)
{
    static uint8_t frame[VIRTIO_NET_FRAME_MAX];
    assert_int_equal(receive(f, frame), -EAGAIN);
}

static void test_receive(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[2 * VIRTIO_NET_FRAME_MAX];
    static const size_t sizes[] = {1, 14, 60, 1514, 3, 1003, 1004, 65549, 60};
    const unsigned count = sizeof sizes / sizeof sizes[0];
    size_t at = 0;
    expect_none(f);
    for (unsigned i = 0; i < count; i++)
        at += framed(bytes + at, sizes[i], (uint8_t)i);
    peer_writes(f, bytes, at);
    for (unsigned i = 0; i < count; i++)
        expect(f, sizes[i], (uint8_t)i);
    expect_none(f);
}

/* Three frames, cut at every place; then each byte alone. */
static void test_receive_in_pieces(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[8192], frame[VIRTIO_NET_FRAME_MAX];
    size_t size = framed(bytes, 1100, 1);
    size += framed(bytes + size, 14, 2);
    size += framed(bytes + size, 60, 3);
    for (size_t cut = 1; cut < size; cut++) {
        peer_writes(f, bytes, cut);
        unsigned whole = 0;
        static const struct {
            size_t end, size;
        } frames[] = {{1104, 1100}, {1122, 14}, {1186, 60}};
        for (; whole < 3 && frames[whole].end <= cut; whole++)
            expect(f, frames[whole].size, (uint8_t)(1 + whole));
        expect_none(f);
        expect_none(f);
        peer_writes(f, bytes + cut, size - cut);
        for (; whole < 3; whole++)
            expect(f, frames[whole].size, (uint8_t)(1 + whole));
    }
    for (size_t i = 0; i < size; i++) {
        peer_writes(f, bytes + i, 1);
        const int64_t came = receive(f, frame);
        const bool last = i + 1 == 1104 || i + 1 == 1122 || i + 1 == 1186;
        assert_true(last ? came > 0 : came == -EAGAIN);
    }
}

static void refuse_length(struct fixture *f, uint32_t length, const char *text)
{
    static uint8_t frame[VIRTIO_NET_FRAME_MAX];
    const uint8_t bytes[] = {
        (uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, 1, 2, 3};
    peer_writes(f, bytes, sizeof bytes);
    assert_int_equal(receive(f, frame), -EPROTO);
    assert_logged(f, text);
    assert_int_equal(receive(f, frame), -EPROTO); /* there is no way on */
}

static void test_length_zero(void **state)
{
    refuse_length(*state, 0, "a frame of 0 bytes");
}

static void test_length_too_large(void **state)
{
    refuse_length(*state, VIRTIO_NET_FRAME_MAX + 1, "a frame of 65550 bytes");
}

static void test_length_giant(void **state)
{
    refuse_length(*state, UINT32_MAX, "a frame of 4294967295 bytes");
}

static void test_end_of_stream(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[64], frame[VIRTIO_NET_FRAME_MAX];
    peer_writes(f, bytes, framed(bytes, 60, 1));
    framed(bytes, 60, 2);
    peer_writes(f, bytes, 30); /* cut off in a frame */
    assert_int_equal(shutdown(f->peer, SHUT_RDWR), 0);
    expect(f, 60, 1);
    expect_none(f);
    assert_int_equal(receive(f, frame), -ECONNRESET);
    uint8_t header[HEADER_BYTES] = {0};
    const struct iovec parts[] = {{header, HEADER_BYTES}, {bytes, 60}};
    assert_int_equal(f->backend.ops->send(&f->backend, parts, 2), -EPIPE); /* an error and no signal */
}

static int send_frame(struct fixture *f, size_t size, uint8_t seed)
{
    static uint8_t frame[VIRTIO_NET_FRAME_MAX + 1];
    uint8_t header[HEADER_BYTES] = {0};
    for (size_t i = 0; i < size; i++)
        frame[i] = byte_at(i, seed);
    const size_t first = size < 9 ? size : 9;
    const struct iovec parts[] = {{header, HEADER_BYTES}, {frame, first}, {frame + first, size - first}};
    return f->backend.ops->send(&f->backend, parts, 3);
}

static void peer_expects(const struct fixture *f, size_t size, uint8_t seed)
{
    static uint8_t wanted[4 + VIRTIO_NET_FRAME_MAX], got[4 + VIRTIO_NET_FRAME_MAX];
    framed(wanted, size, seed);
    for (size_t at = 0; at < 4 + size;) {
        const ssize_t n = recv(f->peer, got + at, 4 + size - at, MSG_DONTWAIT);
        assert_true(n > 0);
        at += (size_t)n;
        if (f->backend.holding) /* as the device does at POLLOUT */
            (void)f->backend.ops->flush((struct net_backend *)(uintptr_t)&f->backend);
    }
    assert_memory_equal(got, wanted, 4 + size);
}

static void test_send(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {14, 60, 1514, 65549};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(send_frame(f, sizes[i], (uint8_t)i), 0);
        peer_expects(f, sizes[i], (uint8_t)i);
    }
    assert_int_equal(send_frame(f, VIRTIO_NET_FRAME_MAX + 1, 0), 1); /* never cut, never sent */
    assert_int_equal(send_frame(f, 0, 0), 1);
}

/* A socket that takes a part of a frame gets the rest of that frame next, whatever is sent then. */
static void test_send_to_a_full_socket(void **state)
{
    struct fixture *f = *state;
    int error = 0, bytes = 1;
    unsigned sent = 0, cut = 0;
    assert_int_equal(setsockopt(f->backend.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    for (unsigned i = 0; i < 40; i++) {
        while ((error = send_frame(f, 60000, (uint8_t)sent)) == 0) {
            cut += f->backend.holding;
            sent++;
        }
        assert_int_equal(error, -EAGAIN);
        peer_expects(f, 60000, (uint8_t)i);
    }
    assert_in_range(cut, 1, sent);
    for (unsigned i = 40; i < sent; i++)
        peer_expects(f, 60000, (uint8_t)i);
    assert_int_equal(recv(f->peer, &bytes, 1, MSG_DONTWAIT), -1);
    assert_false(f->backend.holding);
}

static void test_no_stream(void **state)
{
    struct fixture *f = *state;
    struct net_backend backend;
    char path[200];
    int pair[2];
    assert_int_equal(net_stream_open(&backend, "/nonexistent/passt.sock"), -ENOENT);
    assert_logged(f, "stream /nonexistent/passt.sock: cannot connect");
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = 0;
    assert_int_equal(net_stream_open(&backend, path), -EINVAL);
    assert_int_equal(net_stream_open(&backend, ""), -EINVAL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(net_stream_take(&backend, pair[0]), -EPROTOTYPE);
    assert_int_equal(fcntl(pair[0], F_GETFD), -1); /* owned, so closed */
    close(pair[1]);
    assert_int_equal(net_stream_take(&backend, -1), -EBADF);
}

static void test_open_a_stream(void **state)
{
    struct fixture *f = *state;
    struct net_backend backend;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)f;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "/tmp/backend_test.%d", getpid());
    (void)unlink(address.sun_path);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(net_stream_open(&backend, address.sun_path), 0);
    assert_true(fcntl(backend.fd, F_GETFL) & O_NONBLOCK);
    backend.ops->close(&backend);
    close(listener);
    (void)unlink(address.sun_path);
}

static void test_no_tap(void **state)
{
    struct fixture *f = *state;
    struct net_backend backend;
    static const char *const no_names[] = {"", "a-name-that-is-long", "a/b", "tap%d", "a b", "tap:0"};
    for (unsigned i = 0; i < sizeof no_names / sizeof no_names[0]; i++)
        assert_int_equal(net_tap_open(&backend, no_names[i]), -EINVAL);
    assert_logged(f, "tap a-name-that-is-long: no name of an interface");
    assert_true(net_tap_open(&backend, "rekindle-none") < 0);
    assert_int_equal(if_nametoindex("rekindle-none"), 0); /* looking made none */
    /* A host without tun says so; one with it says that there is no such interface. */
    const int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_logged(f, tun >= 0 ? "tap rekindle-none: no such interface: make it first (`ip tuntap add dev "
                                "rekindle-none mode tap`)"
                              : "tap rekindle-none: ");
    if (tun >= 0) {
        assert_true(net_tap_open(&backend, "lo") < 0);
        assert_logged(f, "tap lo: ");
        close(tun);
    }
}

static void test_no_tap_descriptor(void **state)
{
    struct fixture *f = *state;
    struct net_backend backend;
    const int file = memfd_create("no tap", MFD_CLOEXEC);
    assert_int_equal(net_tap_take(&backend, file), -EINVAL);
    assert_logged(f, "is no TAP device");
    assert_int_equal(fcntl(file, F_GETFD), -1);
    assert_int_equal(net_tap_take(&backend, 999), -EBADF);
    assert_logged(f, "descriptor 999 is not open");
}

static void delete_interface(const char *name)
{
    const struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = RTM_DELLINK,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
    };
    char answer[512];
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    assert_int_equal(send(fd, &request, sizeof request, 0), sizeof request);
    assert_true(recv(fd, answer, sizeof answer, 0) > 0); /* it is done then */
    close(fd);
}

/* With a real one, where this user may make it: a frame goes out and comes back in. */
static void test_tap(void **state)
{
    struct fixture *f = *state;
    struct net_backend backend, second;
    struct ifreq about = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "rekindle-test"};
    uint8_t header[HEADER_BYTES] = {0}, frame[2048] = {0x33, 0x33, [12] = 0x88, 0xb5};
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &about) < 0 || ioctl(tun, TUNSETPERSIST, 1) < 0) {
        if (tun >= 0)
            close(tun);
        print_message("no TAP device can be made here: not tested\n");
        return;
    }
    assert_int_equal(net_tap_open(&second, "rekindle-test"), -EBUSY);
    assert_logged(f, "tap rekindle-test: another process has it open");
    close(tun);
    assert_int_equal(net_tap_open(&backend, "rekindle-test"), 0);
    assert_logged(f, "tap rekindle-test: the interface is down");
    const struct iovec parts[] = {{header, HEADER_BYTES}, {frame, 60}};
    assert_int_equal(backend.ops->send(&backend, parts, 2), 1); /* dropped: it is down */
    const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    about.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(control, SIOCSIFFLAGS, &about), 0);
    assert_int_equal(backend.ops->send(&backend, parts, 2), 0);
    assert_int_equal(backend.ops->configure(&backend, backend.ops->features), 0);
    assert_int_equal(backend.ops->configure(&backend, 1ull << VIRTIO_NET_F_GUEST_TSO4), 0);
    assert_int_equal(backend.ops->configure(&backend, 0), 0);
    /* By descriptor; then without the offload header, which it must have. */
    const int again = dup(backend.fd);
    backend.ops->close(&backend);
    assert_int_equal(net_tap_take(&backend, again), 0);
    /* Deleted under us: the device's thread wakes, and both directions say so. */
    delete_interface("rekindle-test");
    struct pollfd wait = {.fd = backend.fd, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 0), 1);
    assert_int_equal(backend.ops->receive(&backend, parts, 2), -EBADFD);
    assert_int_equal(backend.ops->send(&backend, parts, 2), -EBADFD);
    backend.ops->close(&backend);
    assert_int_equal(if_nametoindex("rekindle-test"), 0);
    tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    about.ifr_flags = IFF_TAP | IFF_NO_PI;
    assert_int_equal(ioctl(tun, TUNSETIFF, &about), 0);
    assert_int_equal(net_tap_take(&backend, tun), -EINVAL);
    assert_logged(f, "IFF_VNET_HDR");
    close(control);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_receive),      TEST(test_receive_in_pieces),
        TEST(test_length_zero),  TEST(test_length_too_large),
        TEST(test_length_giant), TEST(test_end_of_stream),
        TEST(test_send),         TEST(test_send_to_a_full_socket),
        TEST(test_no_stream),    TEST(test_open_a_stream),
        TEST(test_no_tap),       TEST(test_no_tap_descriptor),
        TEST(test_tap),
    };
    return cmocka_run_group_tests_name("network back ends", tests, NULL, NULL);
}
