/* The network device's thread, its pauses, and its way through a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/net/backend.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/net_fixture.h"

#define WAIT_MS 10000

/* ---- the thread, over a real stream -------------------------------------------------------------------- */

static int start_stream(struct net_fixture *f)
{
    struct net_backend backend;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(net_stream_take(&backend, pair[0]), 0);
    net_start_over(f, &backend, false);
    net_bring_up(f);
    return pair[1];
}

static void read_exactly(int fd, void *to, size_t size)
{
    for (size_t at = 0; at < size;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        const ssize_t n = read(fd, (uint8_t *)to + at, size - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* The peer gets this frame next. */
static void expect_frame(int fd, size_t size, uint8_t seed)
{
    static uint8_t frame[VIRTIO_NET_FRAME_MAX];
    uint8_t length[4];
    read_exactly(fd, length, sizeof length);
    assert_int_equal(length[0] << 24 | length[1] << 16 | length[2] << 8 | length[3], size);
    read_exactly(fd, frame, size);
    for (size_t i = 0; i < size; i++)
        if (frame[i] != net_byte(i, seed))
            fail_msg("byte %zu of %zu", i, size);
}

static void peer_sends(int fd, size_t size, uint8_t seed)
{
    static uint8_t bytes[4 + VIRTIO_NET_FRAME_MAX];
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(size >> (24 - 8 * i));
    for (size_t i = 0; i < size; i++)
        bytes[4 + i] = net_byte(i, seed);
    assert_int_equal(send(fd, bytes, 4 + size, MSG_NOSIGNAL), 4 + size);
}

/* Wait until the device has used a chain of the queue. */
static void wait_used(struct net_fixture *f, struct guest_queue *queue)
{
    while (__atomic_load_n(&guest_queue_used(queue)->idx, __ATOMIC_ACQUIRE) == queue->used_seen)
        assert_true(guest_wait_interrupt(&f->net.device));
}

static void test_both_ways(void **state)
{
    struct net_fixture *f = *state;
    const int peer = start_stream(f);
    for (unsigned i = 0; i < 20; i++) {
        guest_queue_want_interrupt(&f->rx);
        net_give_buffers(f, 1, 1536);
        guest_queue_kick(&f->rx);
        net_queue_frame(f, NULL, 60 + i, (uint8_t)i);
        guest_queue_kick(&f->tx);
        expect_frame(peer, 60 + i, (uint8_t)i);
        peer_sends(peer, 1000 + i, (uint8_t)i);
        wait_used(f, &f->rx);
        assert_int_equal(net_take_frame(f, 1000 + i, (uint8_t)i), 1);
    }
    net_stop(f);
    close(peer);
}

/* A peer that does not read stops nobody: the frames wait in the ring, and all arrive in the end. */
static void test_a_slow_peer(void **state)
{
    struct net_fixture *f = *state;
    const int peer = start_stream(f);
    const size_t size = 40000;
    guest_queue_want_interrupt(&f->rx);
    net_give_buffers(f, 1, 1536);
    for (unsigned i = 0; i < 60; i++)
        net_queue_frame(f, NULL, size, (uint8_t)i);
    guest_queue_kick(&f->tx);
    peer_sends(peer, 60, 1); /* the other direction goes on */
    wait_used(f, &f->rx);
    assert_int_equal(net_take_frame(f, 60, 1), 1);
    assert_in_range(__atomic_load_n(&guest_queue_used(&f->tx)->idx, __ATOMIC_ACQUIRE), 0, 59);
    virtio_device_pause(&f->net.device);
    assert_true(f->net.backend.holding || f->net.tx_blocked);
    virtio_device_unpause(&f->net.device);
    for (unsigned i = 0; i < 60; i++)
        expect_frame(peer, size, (uint8_t)i);
    net_stop(f);
    assert_int_equal(f->net.counts.tx_frames, 60);
    assert_int_equal(f->net.counts.tx_dropped, 0);
    close(peer);
}

static uint64_t thread_cpu_ns(const struct net_fixture *f)
{
    clockid_t clock;
    struct timespec now;
    assert_int_equal(pthread_getcpuclockid(f->net.thread, &clock), 0);
    assert_int_equal(clock_gettime(clock, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Whatever the back end reports, the thread does not spin on it. */
static void assert_idle(struct net_fixture *f)
{
    const struct timespec while_ = {.tv_nsec = 100 * 1000 * 1000};
    const uint64_t before = thread_cpu_ns(f);
    (void)nanosleep(&while_, NULL); /* what is measured */
    assert_in_range(thread_cpu_ns(f) - before, 0, 50 * 1000 * 1000);
}

static void test_frames_without_buffers_keep_no_thread_busy(void **state)
{
    struct net_fixture *f = *state;
    const int peer = start_stream(f);
    peer_sends(peer, 60, 1);
    assert_idle(f);
    assert_int_equal(shutdown(peer, SHUT_RDWR), 0); /* POLLHUP, with a frame still to be read */
    assert_idle(f);
    guest_queue_want_interrupt(&f->rx);
    net_give_buffers(f, 2, 1536);
    guest_queue_kick(&f->rx);
    wait_used(f, &f->rx);
    assert_int_equal(net_take_frame(f, 60, 1), 1);
    while (guest_read32(&f->net.device, VIRTIO_MMIO_CONFIG + 4) >> 16 != 0) /* then its end is seen */
        assert_true(guest_wait_interrupt(&f->net.device));
    assert_idle(f);
    net_stop(f);
    close(peer);
}

static void test_pause(void **state)
{
    struct net_fixture *f = *state;
    const int peer = start_stream(f);
    uint8_t byte;
    guest_queue_want_interrupt(&f->rx);
    net_give_buffers(f, 2, 1536);
    virtio_device_pause(&f->net.device);
    assert_false(f->net.thread_running);
    net_queue_frame(f, NULL, 60, 1);
    guest_queue_kick(&f->tx);
    peer_sends(peer, 61, 2);
    assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(guest_queue_used(&f->rx)->idx, 0);
    virtio_device_unpause(&f->net.device);
    expect_frame(peer, 60, 1);
    wait_used(f, &f->rx);
    assert_int_equal(net_take_frame(f, 61, 2), 1);
    net_bring_up(f); /* a reset under way joins the thread as well */
    net_queue_frame(f, NULL, 62, 3);
    guest_queue_kick(&f->tx);
    expect_frame(peer, 62, 3);
    net_stop(f);
    close(peer);
}

/* ---- save and load --------------------------------------------------------------------------------------
 */

struct clone {
    struct virtio_net net;
    struct wire wire;
    char why[STATE_WHY_BYTES];
};

/* Save f's device and load it into a new one over a wire with these features. 0 or -EBADMSG. */
static int clone_it(struct net_fixture *f, struct clone *clone, uint64_t features,
                    const struct virtio_net_plan *plan)
{
    struct state_writer out;
    struct state_reader in;
    *clone = (struct clone){.wire = {.ops = f->wire.ops, .sends_left = WIRE_FRAMES}};
    clone->wire.ops.features = features;
    const struct net_backend backend = {
        .ops = &clone->wire.ops, .fd = eventfd(0, EFD_CLOEXEC), .state = &clone->wire};
    assert_int_equal(virtio_net_init(&clone->net, &f->guest.memory, &backend, plan), 0);
    clone->net.serve_by_hand = true;
    clone->net.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    virtio_device_pause(&f->net.device);
    state_writer_init(&out);
    state_put_map(&out, NULL, 1);
    virtio_net_save(&f->net, &out, "net");
    state_reader_init(&in, out.data, out.size_bytes);
    state_get_map(&in, NULL, 1);
    virtio_net_load(&clone->net, &in, "net");
    state_end(&in);
    const int error = state_reader_finish(&in);
    memcpy(clone->why, in.why, sizeof clone->why);
    state_writer_fini(&out);
    return error;
}

static void end(struct clone *clone)
{
    const int irq = clone->net.device.irq.fd;
    virtio_net_fini(&clone->net);
    close(irq);
}

static void test_save_and_load(void **state)
{
    struct net_fixture *f = *state;
    static struct clone clone;
    const struct virtio_net_plan here = {.mac = {0x52, 0x54, 0, 0, 0, 1}, .mtu = 1400};
    const struct virtio_net_plan there = {.mac = {0x52, 0x54, 0, 0, 0, 2}, .mtu = 9000, .shut = true};
    net_start(f, NET_OFFLOADS, &here);
    net_bring_up(f);
    net_give_buffers(f, 3, 1536);
    net_coming(f, 60, 1, 0);
    net_coming(f, 8000, 2, 0); /* too long for the buffers at hand: it waits, and is not saved */
    virtio_net_serve(&f->net);
    assert_int_equal(f->net.buffered_bytes, 8012);
    assert_int_equal(net_take_frame(f, 60, 1), 1);
    net_queue_frame(f, NULL, 70, 3);

    assert_int_equal(clone_it(f, &clone, NET_OFFLOADS, &there), 0);
    assert_int_equal(clone.net.buffered_bytes, 0);
    assert_memory_equal(clone.net.config.mac, there.mac, 6); /* the plan's */
    assert_int_equal(clone.net.config.mtu, 1400);            /* the snapshot's */
    assert_true(clone.net.device.offered_features >> VIRTIO_NET_F_MTU & 1);
    assert_false(clone.net.open);
    assert_int_equal(clone.net.device.driver_features, f->net.device.driver_features);
    virtio_device_revive(&clone.net.device);
    assert_int_equal(clone.wire.configured & NET_OFFLOADS, NET_OFFLOADS); /* the new TAP is told */
    virtio_net_serve(&clone.net);
    assert_int_equal(clone.wire.sent_count, 0); /* shut */
    assert_int_equal(clone.net.counts.tx_dropped, 1);
    assert_int_equal(clone.net.device.queues[NET_RX].last_avail, 1);
    end(&clone);
    net_stop(f);
}

static void test_offloads_are_refused_by_name(void **state)
{
    struct net_fixture *f = *state;
    static struct clone clone;
    const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}};
    net_start(f, NET_OFFLOADS, &plan);
    f->features &= ~(1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_TSO6);
    net_bring_up(f);
    assert_int_equal(clone_it(f, &clone, 1ull << VIRTIO_NET_F_CSUM, &plan), -EBADMSG);
    assert_non_null(strstr(clone.why, "guest_csum host_tso4 guest_tso4"));
    assert_null(strstr(clone.why, "tso6"));
    assert_non_null(strstr(clone.why, "wire"));
    assert_false(clone.net.device.active);
    end(&clone);
    /* What the back end has beyond what was negotiated harms nothing, nor what it lacks of the rest. */
    assert_int_equal(clone_it(f, &clone, NET_OFFLOADS & ~(1ull << VIRTIO_NET_F_HOST_TSO6), &plan), 0);
    end(&clone);
    net_stop(f);
}

/* A driver that asks for what is not on offer, and is refused, has negotiated nothing: its guest can be cloned. */
static void test_offloads_that_were_only_asked_for(void **state)
{
    struct net_fixture *f = *state;
    static struct clone clone;
    const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}};
    net_start(f, 0, &plan);
    guest_write32(&f->net.device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    guest_write32(&f->net.device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    guest_write32(&f->net.device, VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
    assert_int_equal(clone_it(f, &clone, 0, &plan), 0);
    end(&clone);
    net_stop(f);
}

/* A link that was down in the snapshot is up in the clone, and its driver is told. */
static void test_link_across_a_snapshot(void **state)
{
    struct net_fixture *f = *state;
    static struct clone clone;
    const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}};
    net_start(f, 0, &plan);
    net_bring_up(f);
    f->wire.receive_error = -EPIPE;
    net_give_buffers(f, 1, 1536);
    virtio_net_serve(&f->net);
    assert_false(f->net.link_up);
    assert_int_equal(clone_it(f, &clone, 0, &plan), 0);
    assert_true(clone.net.link_up);
    (void)guest_interrupted(&clone.net.device);
    virtio_device_revive(&clone.net.device);
    assert_true(guest_interrupted(&clone.net.device));
    assert_true(guest_read32(&clone.net.device, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(guest_read32(&clone.net.device, VIRTIO_MMIO_CONFIG + 4) >> 16, VIRTIO_NET_S_LINK_UP);
    end(&clone);
    net_stop(f);
}

int main(void)
{
    log_setup("net_life_test", LOG_LEVEL_ERROR, 2);
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_fixture_setup, net_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_both_ways),
        TEST(test_a_slow_peer),
        TEST(test_frames_without_buffers_keep_no_thread_busy),
        TEST(test_pause),
        TEST(test_save_and_load),
        TEST(test_offloads_are_refused_by_name),
        TEST(test_offloads_that_were_only_asked_for),
        TEST(test_link_across_a_snapshot),
    };
    return cmocka_run_group_tests_name("virtio net, its life", tests, NULL, NULL);
}
