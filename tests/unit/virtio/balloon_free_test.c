/* Free pages that the guest names: reports, which it waits for, and hints, which it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "tests/unit/virtio/balloon_fixture.h"

#define FIRST (4u << 20) /* beyond what the fixture uses */
#define PAGE  UINT64_C(4096)

static const struct virtio_balloon_plan reporting = {.on = true, .free_page_reporting = true};
static const struct virtio_balloon_plan all = {
    .on = true, .free_page_reporting = true, .free_page_hinting = true, .stats_s = 600};
static const struct virtio_balloon_plan hinting = {.on = true, .free_page_hinting = true};

static uint64_t features_of_all(void)
{
    return BALLOON_BIT(STATS_VQ) | BALLOON_BIT(FREE_PAGE_HINT) | BALLOON_BIT(REPORTING) |
           BALLOON_BIT(PAGE_POISON);
}

/* Absent queues take no index. */
static void queues_follow_what_was_negotiated(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    balloon_start(f, &all, features_of_all(), 5);
    balloon_fill(f, FIRST, 4 * PAGE);
    (void)balloon_send(f, 4, FIRST, 2 * PAGE, true);
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 4));
    assert_true(balloon_all(f, FIRST, 2 * PAGE, 0));
    virtio_balloon_fini(&f->balloon);
    f->guest.used_bytes = f->scratch + 4096;
    balloon_start(f, &all, BALLOON_BIT(REPORTING), 3);
    (void)balloon_send(f, 2, FIRST + 2 * PAGE, 2 * PAGE, true);
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 2));
    assert_true(balloon_all(f, FIRST, 4 * PAGE, 0));
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.reported_pages, 2);
}

static void a_report_gives_whole_pages_only(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &reporting, BALLOON_BIT(REPORTING) | BALLOON_BIT(PAGE_POISON), 3);
    balloon_fill(f, FIRST, 8 * PAGE);
    (void)balloon_send(f, 2, FIRST + 1, 3 * PAGE, true);        /* holds two pages */
    (void)balloon_send(f, 2, FIRST + 5 * PAGE + 1, PAGE, true); /* and none */
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 2));
    assert_true(balloon_used(f, 2));
    assert_true(balloon_all(f, FIRST, PAGE, BALLOON_FILLING));
    assert_true(balloon_all(f, FIRST + PAGE, 2 * PAGE, 0));
    assert_true(balloon_all(f, FIRST + 3 * PAGE, 5 * PAGE, BALLOON_FILLING));
}

static void another_poison_than_zero_is_left_alone(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &reporting, BALLOON_BIT(REPORTING) | BALLOON_BIT(PAGE_POISON), 3);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_CONFIG + 12, 0xaaaaaaaa);
    balloon_fill(f, FIRST, PAGE);
    (void)balloon_send(f, 2, FIRST, PAGE, true);
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 2));
    assert_true(balloon_all(f, FIRST, PAGE, BALLOON_FILLING));
}

/* All of RAM many times in one request: more than a turn may give back. */
static void a_large_report_takes_turns(void **state)
{
    struct balloon_fixture *f = *state;
    struct guest_buffer buffers[16];
    balloon_start(f, &reporting, BALLOON_BIT(REPORTING), 3);
    for (unsigned i = 0; i < 16; i++)
        buffers[i] =
            (struct guest_buffer){.at = FIRST + 1, .size = BALLOON_RAM_BYTES - FIRST - 1, .writable = true};
    balloon_fill(f, FIRST, BALLOON_RAM_BYTES - FIRST);
    (void)guest_queue_add(&f->queues[2], buffers, 16, true);
    f->balloon.device.queues[2].indirect = true; /* as if negotiated */
    guest_queue_kick(&f->queues[2]);
    assert_int_equal(loop_run_once(&f->loop, 0), 1);
    assert_false(balloon_used(f, 2));
    (void)balloon_turns(f);
    assert_true(balloon_used(f, 2));
    assert_true(balloon_all(f, FIRST, PAGE, BALLOON_FILLING));
    assert_true(balloon_all(f, FIRST + PAGE, BALLOON_RAM_BYTES - FIRST - PAGE, 0));
}

static void a_report_to_be_read_breaks(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &reporting, BALLOON_BIT(REPORTING), 3);
    (void)balloon_send(f, 2, FIRST, PAGE, false);
    (void)balloon_turns(f);
    assert_true(balloon_is_broken(f));
}

/* ---- hints ---- */

static unsigned held; /* how often the guest was held, and whether it is */
static bool is_held;
static int hold_error;

static int hold(void *context)
{
    assert_ptr_equal(context, &held);
    assert_false(is_held);
    if (hold_error)
        return hold_error;
    is_held = true;
    held++;
    return 0;
}

static void release(void *context)
{
    (void)context;
    assert_true(is_held);
    is_held = false;
}

static const struct virtio_balloon_hold_ops hold_ops = {.hold = hold, .release = release};

static void start_hinting(struct balloon_fixture *f)
{
    held = 0;
    is_held = false;
    hold_error = 0;
    balloon_start(f, &hinting, BALLOON_BIT(FREE_PAGE_HINT), 3);
    virtio_balloon_set_hold(&f->balloon, &hold_ops, &held);
}

static void send_command(struct balloon_fixture *f, uint32_t id)
{
    memcpy(guest_at(&f->guest, f->scratch), &id, sizeof id);
    (void)balloon_send(f, 2, f->scratch, sizeof id, false);
    (void)balloon_turns(f);
    while (balloon_used(f, 2))
        ;
}

static enum virtio_balloon_hinting state_of(struct balloon_fixture *f)
{
    struct virtio_balloon_view view;
    virtio_balloon_look(&f->balloon, &view);
    return view.hinting;
}

static void hints_give_back_zeros_and_nothing_else(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    start_hinting(f);
    assert_int_equal(state_of(f), BALLOON_HINTING_OFF);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), 0);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), -EBUSY);
    const uint32_t id = balloon_config(f, 8);
    assert_true(id > VIRTIO_BALLOON_CMD_ID_DONE);
    (void)balloon_send(f, 2, FIRST, PAGE, true); /* before the command: for another one */
    (void)balloon_turns(f);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.hinted_pages, 0);
    send_command(f, id);
    balloon_fill(f, FIRST + 2 * PAGE, PAGE); /* in use again */
    (void)balloon_send(f, 2, FIRST, 4 * PAGE, true);
    (void)balloon_send(f, 2, FIRST + 4 * PAGE, 2 * PAGE, true); /* beside it */
    (void)balloon_turns(f);
    assert_int_equal(state_of(f), BALLOON_HINTING_RUNS);
    send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
    assert_int_equal(state_of(f), BALLOON_HINTING_DONE);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.hinted_pages, 6);
    assert_int_equal(view.discarded_bytes, 5 * PAGE);
    assert_true(balloon_all(f, FIRST + 2 * PAGE, PAGE, BALLOON_FILLING));
    assert_true(held > 0);
    assert_int_equal(virtio_balloon_hint_stop(&f->balloon), 0);
    assert_int_equal(state_of(f), BALLOON_HINTING_OFF);
    assert_int_equal(balloon_config(f, 8), VIRTIO_BALLOON_CMD_ID_DONE);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), 0);
    assert_int_not_equal(balloon_config(f, 8), id);
}

static void more_hints_than_there_is_room_for(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    start_hinting(f);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), 0);
    send_command(f, balloon_config(f, 8));
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 50; i++) /* never beside each other */
            (void)balloon_send(f, 2, FIRST + (round * 100 + 2 * i) * PAGE, PAGE, true);
        if (round % 3 == 2)
            (void)balloon_turns(f);
        else
            while (f->queues[2].free_count < 50)
                assert_true(balloon_used(f, 2) || loop_run_once(&f->loop, 0) > 0);
        while (balloon_used(f, 2))
            ;
    }
    send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
    assert_int_equal(state_of(f), BALLOON_HINTING_DONE);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.hinted_pages, 500);
    assert_int_equal(view.discarded_bytes, 500 * PAGE);
}

static void a_guest_that_cannot_be_held_keeps_its_pages(void **state)
{
    struct balloon_fixture *f = *state;
    struct virtio_balloon_view view;
    start_hinting(f);
    hold_error = -EIO;
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), 0);
    send_command(f, balloon_config(f, 8));
    (void)balloon_send(f, 2, FIRST, PAGE, true);
    (void)balloon_turns(f);
    send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
    virtio_balloon_look(&f->balloon, &view);
    assert_int_equal(view.discarded_bytes, 0);
    assert_int_equal(view.discard_failures, 1);
    assert_int_equal(state_of(f), BALLOON_HINTING_DONE);
}

static void who_did_not_take_hinting_is_not_asked(void **state)
{
    struct balloon_fixture *f = *state;
    balloon_start(f, &hinting, 0, 2);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), -EOPNOTSUPP);
    assert_int_equal(virtio_balloon_hint_stop(&f->balloon), -EOPNOTSUPP);
}

static void a_command_cut_short_breaks(void **state)
{
    struct balloon_fixture *f = *state;
    start_hinting(f);
    (void)balloon_send(f, 2, f->scratch, 3, false);
    (void)balloon_turns(f);
    assert_true(balloon_is_broken(f));
}

static void a_reset_ends_hinting(void **state)
{
    struct balloon_fixture *f = *state;
    start_hinting(f);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), 0);
    guest_write32(&f->balloon.device, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(state_of(f), BALLOON_HINTING_OFF);
    assert_int_equal(balloon_config(f, 8), VIRTIO_BALLOON_CMD_ID_STOP);
    assert_int_equal(virtio_balloon_hint_start(&f->balloon), -EOPNOTSUPP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, balloon_setup, balloon_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(queues_follow_what_was_negotiated),
        TEST(a_report_gives_whole_pages_only),
        TEST(another_poison_than_zero_is_left_alone),
        TEST(a_large_report_takes_turns),
        TEST(a_report_to_be_read_breaks),
        TEST(hints_give_back_zeros_and_nothing_else),
        TEST(more_hints_than_there_is_room_for),
        TEST(a_guest_that_cannot_be_held_keeps_its_pages),
        TEST(who_did_not_take_hinting_is_not_asked),
        TEST(a_command_cut_short_breaks),
        TEST(a_reset_ends_hinting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
