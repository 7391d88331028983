/* The network device's limits, in each direction: by hand with a clock of the test's own, then its thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostvmm/device/net/backend.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/net_fixture.h"

#define MS      UINT64_C(1000000)
#define DAY_MS  UINT64_C(86400000)
#define WAIT_MS 10000

static uint64_t test_now_ns;

static uint64_t test_clock(void)
{
    return test_now_ns;
}

static struct rate_limits bytes_of(uint64_t size, uint64_t refill_ms)
{
    const struct rate_limits limits = {.bandwidth = {.size = size, .refill_ms = refill_ms}};
    return limits;
}

static struct rate_limits frames_of(uint64_t size, uint64_t refill_ms)
{
    const struct rate_limits limits = {.operations = {.size = size, .refill_ms = refill_ms}};
    return limits;
}

static const struct rate_limits none;

static void start_by_hand(struct net_fixture *f)
{
    net_start(f, 0, NULL);
    f->net.rx_rate.now_ns = test_clock;
    f->net.tx_rate.now_ns = test_clock;
    test_now_ns = 1000 * MS;
    net_bring_up(f);
}

static void sent_frames_wait_in_the_ring(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits limits = bytes_of(1000, 1000);
    start_by_hand(f);
    virtio_net_set_rate(&f->net, NULL, &limits);
    for (unsigned i = 0; i < 3; i++)
        net_queue_frame(f, NULL, 500, (uint8_t)i);
    net_coming(f, 700, 9, 0);
    net_coming(f, 701, 10, 0);
    net_give_buffers(f, 4, 1536);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 2);
    assert_int_equal(f->net.tx_wait_ns, 500 * MS);
    assert_int_equal(f->net.device.queues[NET_TX].last_avail, 2);
    assert_int_equal(net_take_frame(f, 700, 9), 1); /* the other direction has no limit */
    assert_int_equal(net_take_frame(f, 701, 10), 1);
    test_now_ns += 500 * MS;
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 3);
    net_assert_sent(f, 2, 500, 2);
    assert_int_equal(f->net.tx_wait_ns, 0);
    assert_int_equal(f->net.tx_rate.throttled_count, 1);
    assert_int_equal(f->net.tx_rate.throttled_wait_ns, 500 * MS);
    net_stop(f);
}

/* A frame that the back end does not take yet has not passed, and pays once. */
static void a_blocked_frame_pays_once(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits limits = frames_of(2, 1000);
    start_by_hand(f);
    virtio_net_set_rate(&f->net, NULL, &limits);
    f->wire.sends_left = 0;
    net_queue_frame(f, NULL, 60, 1);
    for (unsigned i = 0; i < 5; i++)
        virtio_net_serve(&f->net);
    assert_true(f->net.tx_blocked);
    assert_int_equal(f->net.tx_rate.operations.tokens, 2);
    f->wire.sends_left = 10;
    net_queue_frame(f, NULL, 60, 2);
    net_queue_frame(f, NULL, 60, 3);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 2);
    assert_int_equal(f->net.tx_wait_ns, 500 * MS);
    net_stop(f);
}

/* The size of a frame is known when it was read: what it costs beyond what there is, is owed. */
static void received_frames_wait_in_the_back_end(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits limits = bytes_of(1000, 1000);
    start_by_hand(f);
    virtio_net_set_rate(&f->net, &limits, NULL);
    net_give_buffers(f, 8, 2048);
    for (unsigned i = 0; i < 3; i++)
        net_coming(f, 1500, (uint8_t)i, 0);
    net_queue_frame(f, NULL, 60, 1);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    assert_int_equal(f->wire.receives, 1);
    assert_int_equal(net_take_frame(f, 1500, 0), 1);
    assert_int_equal(f->net.rx_wait_ns, 501 * MS); /* 500 owed, and one to ask with */
    test_now_ns += 500 * MS;
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.receives, 1);
    test_now_ns += 1 * MS;
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.receives, 2);
    assert_int_equal(net_take_frame(f, 1500, 1), 1);
    virtio_net_set_rate(&f->net, &none, NULL);
    virtio_net_serve(&f->net);
    assert_int_equal(net_take_frame(f, 1500, 2), 1);
    assert_int_equal(f->net.rx_wait_ns, 0);
    net_stop(f);
}

static void operations_count_frames(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits rx = frames_of(3, 300), tx = frames_of(5, 500);
    start_by_hand(f);
    virtio_net_set_rate(&f->net, &rx, &tx);
    net_give_buffers(f, 20, 2048);
    for (unsigned i = 0; i < 10; i++) {
        net_coming(f, 60 + i, (uint8_t)i, 0);
        net_queue_frame(f, NULL, 60 + i, (uint8_t)i);
    }
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 5);
    assert_int_equal(f->wire.receives, 3);
    test_now_ns += 100 * MS;
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 6);
    assert_int_equal(f->wire.receives, 4);
    net_stop(f);
}

/* What is dropped because the link is down costs nothing: it took nothing from anybody. */
static void what_does_not_pass_costs_nothing(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits limits = frames_of(1, 1000);
    start_by_hand(f);
    virtio_net_set_rate(&f->net, &limits, &limits);
    virtio_net_set_link(&f->net, false);
    for (unsigned i = 0; i < 5; i++) {
        net_queue_frame(f, NULL, 60, 1);
        net_coming(f, 60, 1, 0);
    }
    virtio_net_serve(&f->net);
    assert_int_equal(f->net.counts.tx_dropped, 5);
    assert_int_equal(f->net.counts.rx_dropped, 5);
    virtio_net_set_link(&f->net, true);
    net_queue_frame(f, NULL, 60, 1);
    net_coming(f, 60, 1, 0);
    net_give_buffers(f, 1, 2048);
    virtio_net_serve(&f->net);
    assert_int_equal(f->wire.sent_count, 1);
    assert_int_equal(net_take_frame(f, 60, 1), 1);
    net_stop(f);
}

/* Each direction finds its own limit again, and one that has none keeps what it was given. */
static void limits_survive_a_snapshot(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits rx = frames_of(3, 300), given = bytes_of(7, 8);
    struct rate_limits loaded;
    struct state_writer out;
    struct state_reader in;
    start_by_hand(f);
    virtio_net_set_rate(&f->net, &rx, NULL);
    state_writer_init(&out);
    virtio_net_save(&f->net, &out, NULL);
    assert_false(out.failed);
    net_stop(f);
    net_start(f, 0, NULL);
    virtio_net_set_rate(&f->net, NULL, &given);
    state_reader_init(&in, out.data, out.size_bytes);
    virtio_net_load(&f->net, &in, NULL);
    assert_int_equal(state_reader_finish(&in), 0);
    rate_limits_now(&f->net.rx_rate, &loaded);
    assert_memory_equal(&loaded, &rx, sizeof loaded);
    rate_limits_now(&f->net.tx_rate, &loaded);
    assert_memory_equal(&loaded, &given, sizeof loaded);
    state_writer_fini(&out);
    net_stop(f);
}

/* ---- the thread, over a stream --------------------------------------------------------------------------- */

static int start_stream(struct net_fixture *f, const struct rate_limits *rx, const struct rate_limits *tx)
{
    struct net_backend backend;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(net_stream_take(&backend, pair[0]), 0);
    net_start_over(f, &backend, false);
    virtio_net_set_rate(&f->net, rx, tx);
    net_bring_up(f);
    return pair[1];
}

/* The peer gets a frame of that size next. */
static void expect_frame(int fd, size_t size)
{
    uint8_t bytes[2048];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    for (size_t at = 0; at < 4 + size;) {
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        const ssize_t n = read(fd, bytes + at, 4 + size - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

static void peer_sends(int fd, uint8_t size)
{
    uint8_t bytes[4 + 255] = {0, 0, 0, size};
    assert_int_equal(send(fd, bytes, 4u + size, MSG_NOSIGNAL), 4 + size);
}

static void wait_used(struct net_fixture *f, struct guest_queue *queue, uint16_t index)
{
    while (__atomic_load_n(&guest_queue_used(queue)->idx, __ATOMIC_ACQUIRE) != index) {
        __atomic_store_n(&guest_queue_avail(queue)->ring[queue->size], (uint16_t)(index - 1),
                         __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&guest_queue_used(queue)->idx, __ATOMIC_SEQ_CST) != index)
            assert_true(guest_wait_interrupt(&f->net.device));
    }
}

static void the_thread_sleeps_and_another_limit_wakes_it(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits hours = frames_of(1, DAY_MS);
    const int peer = start_stream(f, &hours, &hours);
    net_give_buffers(f, 4, 1536);
    guest_queue_kick(&f->rx);
    net_queue_frame(f, NULL, 100, 1);
    net_queue_frame(f, NULL, 101, 2);
    guest_queue_kick(&f->tx);
    peer_sends(peer, 70);
    peer_sends(peer, 71);
    expect_frame(peer, 100);
    wait_used(f, &f->rx, 1);
    virtio_net_set_rate(&f->net, NULL, &none);
    expect_frame(peer, 101);
    assert_int_equal(guest_queue_used(&f->rx)->idx, 1);
    virtio_device_pause(&f->net.device); /* at once, though it waits for hours */
    assert_int_equal(f->net.device.queues[NET_RX].last_used, 1);
    assert_int_equal(f->net.device.queues[NET_RX].last_avail, 1);
    virtio_device_unpause(&f->net.device);
    virtio_net_set_rate(&f->net, &none, NULL);
    wait_used(f, &f->rx, 2);
    net_stop(f);
    close(peer);
}

static void both_averages_are_kept_at_once(void **state)
{
    struct net_fixture *f = *state;
    const struct rate_limits rx = frames_of(10, 100), tx = frames_of(10, 200);
    struct timespec before, after;
    const int peer = start_stream(f, &rx, &tx);
    net_give_buffers(f, 40, 1536);
    guest_queue_kick(&f->rx);
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned i = 0; i < 20; i++) {
        net_queue_frame(f, NULL, 100, 1);
        peer_sends(peer, 70);
    }
    guest_queue_kick(&f->tx);
    for (unsigned i = 0; i < 20; i++)
        expect_frame(peer, 100);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    const int64_t took_ms =
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_in_range(took_ms, 199, 5000);
    wait_used(f, &f->rx, 20);
    assert_true(f->net.rx_rate.throttled_count > 0);
    net_stop(f);
    close(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sent_frames_wait_in_the_ring, net_fixture_setup,
                                        net_fixture_teardown),
        cmocka_unit_test_setup_teardown(a_blocked_frame_pays_once, net_fixture_setup, net_fixture_teardown),
        cmocka_unit_test_setup_teardown(received_frames_wait_in_the_back_end, net_fixture_setup,
                                        net_fixture_teardown),
        cmocka_unit_test_setup_teardown(operations_count_frames, net_fixture_setup, net_fixture_teardown),
        cmocka_unit_test_setup_teardown(what_does_not_pass_costs_nothing, net_fixture_setup,
                                        net_fixture_teardown),
        cmocka_unit_test_setup_teardown(limits_survive_a_snapshot, net_fixture_setup, net_fixture_teardown),
        cmocka_unit_test_setup_teardown(the_thread_sleeps_and_another_limit_wakes_it, net_fixture_setup,
                                        net_fixture_teardown),
        cmocka_unit_test_setup_teardown(both_averages_are_kept_at_once, net_fixture_setup,
                                        net_fixture_teardown),
    };
    return cmocka_run_group_tests_name("virtio net, limits", tests, NULL, NULL);
}
