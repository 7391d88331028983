/* The entropy device: what it gives, and its limits, with their timer on the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/guest.h"

#define RAM_BYTES (4u << 20)
#define MS        UINT64_C(1000000)
#define TURN_MS   5000

struct fixture {
    struct guest guest;
    struct loop loop;
    struct virtio_rng rng;
    struct guest_queue queue;
    uint64_t data;
};

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    guest_init(&f.guest, RAM_BYTES);
    f.data = guest_alloc(&f.guest, 1u << 20, 4096);
    assert_int_equal(loop_init(&f.loop), 0);
    assert_int_equal(virtio_rng_init(&f.rng, &f.guest.memory, &f.loop), 0);
    f.rng.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(guest_negotiate(&f.rng.device, f.rng.device.offered_features) & VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f.queue, &f.guest, &f.rng.device, 0, 16);
    guest_driver_ok(&f.rng.device);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    const int irq = f->rng.device.irq.fd;
    virtio_rng_fini(&f->rng);
    close(irq);
    loop_fini(&f->loop);
    guest_fini(&f->guest);
    return 0;
}

static void ask(struct fixture *f, uint32_t size)
{
    const struct guest_buffer buffer = {f->data, size, true};
    guest_queue_add(&f->queue, &buffer, 1, false);
    guest_queue_kick(&f->queue);
}

/* Turns of the loop until the next answer: its bytes. */
static uint32_t answer(struct fixture *f)
{
    uint16_t head;
    uint32_t written = 0;
    while (!guest_queue_take_used(&f->queue, &head, &written))
        assert_true(loop_run_once(&f->loop, TURN_MS) > 0);
    return written;
}

static void limit(struct fixture *f, uint64_t bytes, uint64_t refill_ms)
{
    const struct rate_limits limits = {.bandwidth = {.size = bytes, .refill_ms = refill_ms}};
    virtio_rng_set_rate(&f->rng, &limits);
}

static void it_gives_what_is_asked_for(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zeros[64];
    ask(f, 64);
    assert_int_equal(answer(f), 64);
    assert_memory_not_equal(guest_at(&f->guest, f->data), zeros, 64);
    ask(f, 100000);
    assert_int_equal(answer(f), VIRTIO_RNG_REQUEST_MAX_BYTES);
    assert_int_equal(f->rng.counts.operations, 2);
    assert_int_equal(f->rng.counts.bytes, 64 + VIRTIO_RNG_REQUEST_MAX_BYTES);
    assert_int_equal(f->rng.timer_fd, -1); /* nobody limits it: there is no timer */
}

static void a_limit_holds_and_its_timer_goes_on(void **state)
{
    struct fixture *f = *state;
    limit(f, 100, 100);
    const uint64_t since_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < 6; i++)
        ask(f, 50); /* two at once, four in 200 ms */
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(answer(f), 50);
    assert_in_range(clock_monotonic_ns() - since_ns, 200 * MS, 5000 * MS);
    assert_int_equal(f->rng.rate.throttled_count, 4);
}

static void another_limit_frees_what_waits(void **state)
{
    struct fixture *f = *state;
    limit(f, 10, RATE_REFILL_MS_MAX);
    ask(f, 10);
    assert_int_equal(answer(f), 10);
    ask(f, 10);
    while (f->rng.rate.throttled_count == 0)
        assert_true(loop_run_once(&f->loop, TURN_MS) > 0);
    assert_int_equal(f->rng.device.queues[0].last_avail, 1); /* in the ring, not in our hands */
    limit(f, 0, 0);
    assert_int_equal(answer(f), 10);
}

static void a_reset_while_it_waits(void **state)
{
    struct fixture *f = *state;
    limit(f, 10, RATE_REFILL_MS_MAX);
    ask(f, 10);
    assert_int_equal(answer(f), 10);
    ask(f, 10);
    while (f->rng.rate.throttled_count == 0)
        assert_true(loop_run_once(&f->loop, TURN_MS) > 0);
    guest_write32(&f->rng.device, VIRTIO_MMIO_STATUS, 0);
    limit(f, 0, 0);
    assert_true(loop_run_once(&f->loop, TURN_MS) > 0);
    assert_int_equal(guest_queue_used(&f->queue)->idx, 1);
}

/* Saved while a request waits, it comes to life again with its limit, and with a full bucket. */
static void a_snapshot_while_it_waits(void **state)
{
    struct fixture *f = *state;
    struct state_writer out;
    struct state_reader in;
    struct rate_limits loaded;
    const int irq = f->rng.device.irq.fd;
    limit(f, 10, RATE_REFILL_MS_MAX);
    ask(f, 10);
    assert_int_equal(answer(f), 10);
    ask(f, 10);
    while (f->rng.rate.throttled_count == 0)
        assert_true(loop_run_once(&f->loop, TURN_MS) > 0);
    state_writer_init(&out);
    virtio_rng_save(&f->rng, &out, NULL);
    assert_false(out.failed);
    virtio_rng_fini(&f->rng);
    assert_int_equal(virtio_rng_init(&f->rng, &f->guest.memory, &f->loop), 0);
    f->rng.device.irq.fd = irq;
    state_reader_init(&in, out.data, out.size_bytes);
    virtio_rng_load(&f->rng, &in, NULL);
    assert_int_equal(state_reader_finish(&in), 0);
    virtio_device_revive(&f->rng.device);
    assert_int_equal(answer(f), 10);
    rate_limits_now(&f->rng.rate, &loaded);
    assert_int_equal(loaded.bandwidth.size, 10);
    state_writer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_gives_what_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_holds_and_its_timer_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(another_limit_frees_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_while_it_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_while_it_waits, setup, teardown),
    };
    return cmocka_run_group_tests_name("virtio rng", tests, NULL, NULL);
}
