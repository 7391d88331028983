/* The balloon as a balloon: target, inflating, deflating, statistics, and into a state and back. What a driver
 * may not do breaks it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "agent/base/log.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/balloon_fixture.h"

#define FIRST 1024u /* a page number beyond what the fixture uses */
#define PAGE  UINT64_C(4096)

static const struct virtio_balloon_plan plain = {.on = true, .target_mib = 4, .deflate_on_oom = true};
static const struct virtio_balloon_plan with_stats = {.on = true, .stats_s = 1};

static void target_is_read_and_changed(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    balloon_start(f, &plain, BALLOON_BIT(DEFLATE_ON_OOM), 2);
    assert_int_equal(balloon_config(f, 0), 1024);
    const uint32_t generation = guest_read32(&f->balloon.device, VIRTIO_MMIO_CONFIG_GENERATION);
    assert_int_equal(virtio_balloon_set_target(&f->balloon, 8), 0);
    assert_int_equal(balloon_config(f, 0), 2048);
    assert_int_not_equal(guest_read32(&f->balloon.device, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_true(guest_interrupted(&f->balloon.device));
    assert_int_equal(virtio_balloon_set_target(&f->balloon, 17), -EINVAL);
    assert_int_equal(virtio_balloon_set_target(&f->balloon, UINT32_MAX), -EINVAL);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_CONFIG + 4, 2000);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_CONFIG + 0, 7); /* not its to write */
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.target_pages, 2048);
    assert_int_equal(view.plan.target_mib, 8);
    assert_int_equal(view.actual_pages, 2000);
}

static void inflated_pages_are_zero_and_others_stay(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    /* Out of order, one twice, some beside each other, one alone, some far outside RAM. */
    const uint32_t numbers[] = {FIRST + 3,   FIRST,     FIRST + 1,  FIRST + 3,
                                FIRST + 2,   FIRST + 9, UINT32_MAX, BALLOON_RAM_BYTES / 4096,
                                FIRST + 2999};
    balloon_start(f, &plain, 0, 2);
    balloon_fill(f, FIRST * PAGE, BALLOON_RAM_BYTES - FIRST * PAGE);
    balloon_send_numbers(f, 0, numbers, sizeof numbers / sizeof numbers[0]);
    assert_true(balloon_all(f, FIRST * PAGE, 4 * PAGE, 0));
    assert_true(balloon_all(f, (FIRST + 4) * PAGE, 5 * PAGE, BALLOON_FILLING));
    assert_true(balloon_all(f, (FIRST + 9) * PAGE, PAGE, 0));
    assert_true(balloon_all(f, (FIRST + 10) * PAGE, 2989 * PAGE, BALLOON_FILLING));
    assert_true(balloon_all(f, (FIRST + 2999) * PAGE, PAGE, 0));
    assert_false(balloon_is_broken(f));
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.inflated_pages, 9);
    assert_int_equal(view.discarded_bytes, 6 * PAGE);
    assert_int_equal(view.discard_failures, 2);
    balloon_send_numbers(f, 1, numbers, 6);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.deflated_pages, 6);
    assert_true(guest_interrupted(&f->balloon.device));
}

/* The last page of RAM with one beyond: the former goes. */
static void a_run_ends_with_ram(void **state)
{
    struct balloon_fixture *f = *state;
    const uint32_t last = BALLOON_RAM_BYTES / 4096 - 1;
    const uint32_t numbers[] = {last - 1, last, last + 1};
    balloon_start(f, &plain, 0, 2);
    balloon_fill(f, (last - 1) * PAGE, 2 * PAGE);
    balloon_send_numbers(f, 0, numbers, 3);
    assert_true(balloon_all(f, (last - 1) * PAGE, 2 * PAGE, 0));
}

static void a_long_request_takes_turns(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    const uint32_t count = 3000;
    balloon_start(f, &plain, 0, 2);
    const uint64_t at = guest_alloc(&f->guest, count * 4, 4096);
    uint32_t *numbers = guest_at(&f->guest, at);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = FIRST + count - 1 - i;
    balloon_fill(f, FIRST * PAGE, (count + 1) * PAGE);
    /* In two buffers, cut in the middle of a number. */
    const struct guest_buffer buffers[] = {{.at = at, .size = 4098},
                                           {.at = at + 4098, .size = count * 4 - 4098}};
    (void)guest_queue_add(&f->queues[0], buffers, 2, false);
    guest_queue_kick(&f->queues[0]);
    assert_int_equal(loop_run_once(&f->loop, 0), 1);
    assert_false(balloon_used(f, 0));
    assert_true(balloon_turns(f) >= 2);
    assert_true(balloon_used(f, 0));
    assert_true(balloon_all(f, FIRST * PAGE, count * PAGE, 0));
    assert_true(balloon_all(f, (FIRST + count) * PAGE, PAGE, BALLOON_FILLING));
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.inflated_pages, count);
}

/* One request that names all of RAM over and over: it costs turns, and nothing but. */
static void a_huge_request_stalls_nobody(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &plain, 0, 2);
    (void)balloon_send(f, 0, 8u << 20, 4u << 20, false); /* a million times page 0 */
    for (unsigned turn = 0; turn < 10; turn++)
        assert_int_equal(loop_run_once(&f->loop, 0), 1);
    assert_false(balloon_used(f, 0));
    guest_write32(&f->balloon.device, VIRTIO_MMIO_STATUS, 0); /* the driver need not wait for its end */
    assert_true(balloon_turns(f) <= 1);
}

static void expect_broken(struct balloon_fixture *f, unsigned queue, uint32_t size, bool writable)
{
    (void)balloon_send(f, queue, f->scratch, size, writable);
    (void)balloon_turns(f);
    assert_true(balloon_is_broken(f));
    assert_false(balloon_used(f, queue));
}

static void page_numbers_to_be_written_are_refused(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &plain, 0, 2);
    expect_broken(f, 0, 16, true);
}

static void half_a_page_number_is_refused(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &plain, 0, 2);
    expect_broken(f, 1, 6, false);
}

static void a_queue_without_its_feature_is_none(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &with_stats, 0, 3);
    (void)balloon_send(f, 2, f->scratch, 16, false);
    (void)balloon_turns(f);
    assert_false(balloon_used(f, 2));
    assert_false(balloon_is_broken(f));
}

/* ---- statistics ---- */

static void put_stat(struct balloon_fixture *f, unsigned index, uint16_t tag, uint64_t value)
{
    uint8_t *entry = guest_at(&f->guest, f->scratch + 10 * index);
    memcpy(entry, &tag, 2);
    memcpy(entry + 2, &value, 8);
}

static void statistics_are_asked_for(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    balloon_start(f, &with_stats, BALLOON_BIT(STATS_VQ), 3);
    put_stat(f, 0, VIRTIO_BALLOON_S_MEMFREE, 1u << 20);
    put_stat(f, 1, VIRTIO_BALLOON_S_MEMTOT, 9);
    put_stat(f, 2, 0xfff0, 77); /* from a time to come */
    (void)balloon_send(f, 2, f->scratch, 30, false);
    (void)balloon_turns(f);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.stats.has,
                     UINT64_C(1) << VIRTIO_BALLOON_S_MEMFREE | UINT64_C(1) << VIRTIO_BALLOON_S_MEMTOT);
    assert_int_equal(view.stats.value[VIRTIO_BALLOON_S_MEMFREE], 1u << 20);
    assert_false(balloon_used(f, 2));
    assert_int_equal(loop_run_once(&f->loop, 10000), 1); /* the timer */
    assert_true(balloon_used(f, 2));
    assert_true(guest_interrupted(&f->balloon.device));
    put_stat(f, 0, VIRTIO_BALLOON_S_MEMFREE, 5);
    (void)balloon_send(f, 2, f->scratch, 10, false);
    (void)balloon_turns(f);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.stats.has, UINT64_C(1) << VIRTIO_BALLOON_S_MEMFREE);
    assert_int_equal(view.stats.value[VIRTIO_BALLOON_S_MEMFREE], 5);
    /* A second one while the first is held: the first comes back at once. */
    (void)balloon_send(f, 2, f->scratch, 10, false);
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 2));
    assert_false(balloon_used(f, 2));
}

/* As Linux does it. */
static void a_notification_before_driver_ok_is_not_lost(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    assert_int_equal(virtio_balloon_init(&f->balloon, &f->guest.memory, &f->loop, &with_stats), 0);
    f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    f->balloon.device.irq.fd = f->irq;
    (void)guest_negotiate(&f->balloon.device, BALLOON_BIT(STATS_VQ));
    for (unsigned i = 0; i < 3; i++)
        guest_queue_init(&f->queues[i], &f->guest, &f->balloon.device, i, 64);
    put_stat(f, 0, VIRTIO_BALLOON_S_MEMFREE, 5);
    (void)balloon_send(f, 2, f->scratch, 10, false);
    (void)balloon_turns(f);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.stats.has, 0);
    guest_driver_ok(&f->balloon.device);
    (void)balloon_turns(f);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.stats.has, UINT64_C(1) << VIRTIO_BALLOON_S_MEMFREE);
}

static void statistics_stay_on_or_off(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    balloon_start(f, &with_stats, BALLOON_BIT(STATS_VQ), 3);
    assert_int_equal(virtio_balloon_set_stats_interval(&f->balloon, 0), -EINVAL);
    assert_int_equal(virtio_balloon_set_stats_interval(&f->balloon, 600), 0);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.plan.stats_s, 600);
    virtio_balloon_fini(&f->balloon);
    assert_int_equal(virtio_balloon_init(&f->balloon, &f->guest.memory, &f->loop, &plain), 0);
    assert_int_equal(virtio_balloon_set_stats_interval(&f->balloon, 1), -EINVAL);
}

/* ---- reset, state ---- */

static void a_reset_forgets_the_driver(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    balloon_start(f, &with_stats, BALLOON_BIT(STATS_VQ), 3);
    (void)balloon_send(f, 2, f->scratch, 10, false);
    (void)balloon_turns(f);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_CONFIG + 4, 100);
    assert_int_equal(virtio_balloon_set_target(&f->balloon, 3), 0);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_STATUS, 0);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.actual_pages, 0);
    assert_int_equal(view.target_pages, 768);
    assert_int_equal(loop_run_once(&f->loop, 10000), 1); /* statistics are due, and nobody can be asked */
}

static void save_and_load(struct balloon_fixture *f, struct virtio_balloon *other, struct state_reader *in)
{
    struct state_writer out;
    state_writer_init(&out);
    virtio_balloon_save(&f->balloon, &out, NULL);
    assert_false(out.failed);
    static uint8_t copy[4096];
    assert_true(out.size_bytes <= sizeof copy);
    memcpy(copy, out.data, out.size_bytes);
    state_reader_init(in, copy, out.size_bytes);
    state_writer_fini(&out);
    virtio_balloon_load(other, in, NULL);
}

static void a_clone_goes_on_where_its_origin_stood(void **state)
{
    struct balloon_fixture *f = *state;
    static struct virtio_balloon other;
    struct virtio_balloon_view view;
    struct state_reader in;
    balloon_start(f, &with_stats, BALLOON_BIT(STATS_VQ), 3);
    put_stat(f, 0, VIRTIO_BALLOON_S_MEMFREE, 5);
    (void)balloon_send(f, 2, f->scratch, 10, false);
    (void)balloon_turns(f);
    assert_int_equal(virtio_balloon_set_target(&f->balloon, 2), 0);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_CONFIG + 4, 300);
    const struct virtio_balloon_plan offered = {.on = true, .stats_s = 9};
    assert_int_equal(virtio_balloon_init(&other, &f->guest.memory, &f->loop, &offered), 0);
    save_and_load(f, &other, &in);
    assert_int_equal(state_reader_finish(&in), 0);
    virtio_balloon_look(&other, &view);
    assert_int_equal(view.target_pages, 512);
    assert_int_equal(view.actual_pages, 300);
    assert_int_equal(view.plan.stats_s, 1);
    assert_int_equal(view.stats.has, 0);
    virtio_balloon_fini(&f->balloon); /* from here on the clone has the rings */
    other.device.irq.fd = f->irq;
    virtio_device_revive(&other.device);
    f->queues[0].device = f->queues[2].device = &other.device;
    assert_false(balloon_used(f, 2));
    while (!balloon_used(f, 2))
        assert_true(loop_run_once(&f->loop, 10000) > 0);
    const uint32_t number = FIRST;
    balloon_fill(f, FIRST * PAGE, PAGE);
    balloon_send_numbers(f, 0, &number, 1);
    assert_true(balloon_all(f, FIRST * PAGE, PAGE, 0));
    virtio_balloon_fini(&other);
    assert_int_equal(virtio_balloon_init(&f->balloon, &f->guest.memory, &f->loop, &plain),
                     0); /* for the end */
}

static void a_state_that_cannot_be_is_refused(void **state)
{
    struct balloon_fixture *f = *state;
    static struct virtio_balloon other;
    struct state_reader in;
    balloon_start(f, &plain, 0, 2);
    assert_int_equal(virtio_balloon_init(&other, &f->guest.memory, &f->loop, &plain), 0);
    f->balloon.target_pages = BALLOON_RAM_BYTES / 4096 + 1;
    save_and_load(f, &other, &in);
    assert_true(in.failed);
    assert_non_null(strstr(in.why, "target_pages"));
    f->balloon.target_pages = 0;
    f->balloon.plan.stats_s = 1;
    save_and_load(f, &other, &in);
    assert_true(in.failed);
    assert_non_null(strstr(in.why, "stats_s"));
    f->balloon.plan.stats_s = 0;
    f->balloon.stats_held = true;
    save_and_load(f, &other, &in);
    assert_true(in.failed);
    assert_non_null(strstr(in.why, "stats_held"));
    f->balloon.stats_held = false;
    save_and_load(f, &other, &in);
    assert_false(in.failed);
    virtio_balloon_fini(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, balloon_setup, balloon_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(target_is_read_and_changed),
        TEST(inflated_pages_are_zero_and_others_stay),
        TEST(a_run_ends_with_ram),
        TEST(a_long_request_takes_turns),
        TEST(a_huge_request_stalls_nobody),
        TEST(page_numbers_to_be_written_are_refused),
        TEST(half_a_page_number_is_refused),
        TEST(a_queue_without_its_feature_is_none),
        TEST(statistics_are_asked_for),
        TEST(a_notification_before_driver_ok_is_not_lost),
        TEST(statistics_stay_on_or_off),
        TEST(a_reset_forgets_the_driver),
        TEST(a_clone_goes_on_where_its_origin_stood),
        TEST(a_state_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
