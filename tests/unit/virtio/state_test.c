/* Virtio devices into a state and back: what comes out is what went in, and serves; what cannot be is
 * refused by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/unit/virtio/guest.h"

#define RAM_BYTES  (1u << 20)
#define FILE_BYTES (64u * 512)

struct fixture {
    struct guest guest;
    struct guest_queue queue;
    struct virtio_blk blk, other; /* saved from, loaded into */
    int irqs[2];
    uint64_t header, data, status;
    struct state_writer out;
    struct state_reader in;
};

static void make(struct fixture *f, struct virtio_blk *blk, int *irq, uint64_t size, bool read_only,
                 const char *serial)
{
    const int fd = memfd_create("drive", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(virtio_blk_init(blk, &f->guest.memory, fd, read_only, serial), 0);
    *irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    blk->device.irq.fd = *irq;
}

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    guest_init(&f.guest, RAM_BYTES);
    f.header = guest_alloc(&f.guest, 64, 64);
    f.status = guest_alloc(&f.guest, 64, 64);
    f.data = guest_alloc(&f.guest, 4096, 4096);
    make(&f, &f.blk, &f.irqs[0], FILE_BYTES, false, "drive-0");
    make(&f, &f.other, &f.irqs[1], FILE_BYTES, false, "drive-0");
    state_writer_init(&f.out);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    virtio_blk_fini(&f->blk);
    virtio_blk_fini(&f->other);
    close(f->irqs[0]);
    close(f->irqs[1]);
    state_writer_fini(&f->out);
    guest_fini(&f->guest);
    return 0;
}

static void bring_up(struct fixture *f)
{
    assert_true(guest_negotiate(&f->blk.device, f->blk.device.offered_features) &
                VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f->queue, &f->guest, &f->blk.device, 0, 8);
    guest_driver_ok(&f->blk.device);
}

/* A request that reads the first sector. */
static void submit(struct fixture *f)
{
    const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN};
    const struct guest_buffer buffers[] = {
        {f->header, sizeof header, false}, {f->data, 512, true}, {f->status, 1, true}};
    memcpy(guest_at(&f->guest, f->header), &header, sizeof header);
    *(uint8_t *)guest_at(&f->guest, f->status) = 0xee;
    guest_queue_add(&f->queue, buffers, 3, false);
    guest_queue_want_interrupt(&f->queue);
}

static bool answered(struct fixture *f)
{
    uint16_t head;
    uint32_t written;
    return guest_queue_take_used(&f->queue, &head, &written) && written == 513;
}

/* Save the one, load it into the other. 0, or -EBADMSG with f->in.why. */
static int transplant(struct fixture *f)
{
    state_writer_fini(&f->out);
    virtio_blk_save(&f->blk, &f->out, NULL);
    assert_false(f->out.failed);
    state_reader_init(&f->in, f->out.data, f->out.size_bytes);
    virtio_blk_load(&f->other, &f->in, NULL);
    return state_reader_finish(&f->in);
}

static void expect_refusal(struct fixture *f, const char *why)
{
    assert_true(transplant(f) < 0);
    if (!strstr(f->in.why, why))
        fail_msg("refused for: %s", f->in.why);
    assert_false(f->other.device.active);
    virtio_device_revive(&f->other.device);
    assert_false(f->other.thread_running);
}

static void a_device_that_was_never_driven_is_as_new(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(transplant(f), 0);
    virtio_device_revive(&f->other.device);
    assert_false(f->other.thread_running);
    assert_false(guest_interrupted(&f->other.device));
    assert_int_equal(guest_read32(&f->other.device, VIRTIO_MMIO_STATUS), 0);
}

static void a_half_configured_device_is_configured_on(void **state)
{
    struct fixture *f = *state;
    assert_true(guest_negotiate(&f->blk.device, f->blk.device.offered_features) &
                VIRTIO_CONFIG_S_FEATURES_OK);
    guest_write32(&f->blk.device, VIRTIO_MMIO_QUEUE_NUM, 3); /* not valid, and not ready either */
    assert_int_equal(transplant(f), 0);
    virtio_device_revive(&f->other.device);
    assert_int_equal(f->other.device.queues[0].size, 3);
    assert_false(f->other.device.active);
    f->other.serve_by_hand = true;
    guest_queue_init(&f->queue, &f->guest, &f->other.device, 0, 8);
    guest_driver_ok(&f->other.device);
    submit(f);
    virtio_blk_serve(&f->other);
    assert_true(answered(f));
}

/* Work was given and not taken; the thread of the loaded device finds it without a notification. */
static void waiting_work_is_found(void **state)
{
    struct fixture *f = *state;
    bring_up(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    submit(f);
    guest_queue_kick(&f->queue);
    assert_int_equal(transplant(f), 0);
    assert_false(f->other.thread_running);
    virtio_device_revive(&f->other.device);
    assert_true(guest_wait_interrupt(&f->other.device));
    assert_true(answered(f));
    assert_true(f->other.device.queues[0].event_idx);
    assert_false(guest_interrupted(&f->blk.device));
}

static void paused_means_untouched_and_unpaused_serves_what_came(void **state)
{
    struct fixture *f = *state;
    bring_up(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    assert_false(f->blk.thread_running);
    submit(f);
    guest_queue_kick(&f->queue);
    assert_false(answered(f));
    virtio_blk_unpause(&f->blk);
    assert_true(guest_wait_interrupt(&f->blk.device));
    assert_true(answered(f));
    /* A driver may reset a device that is paused, and one that never ran may be paused. */
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    guest_write32(&f->blk.device, VIRTIO_MMIO_STATUS, 0);
    virtio_blk_unpause(&f->blk);
    assert_false(f->blk.thread_running);
}

static void an_interrupt_in_flight_is_repeated(void **state)
{
    struct fixture *f = *state;
    bring_up(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    f->blk.device.interrupt_status = VIRTIO_MMIO_INT_VRING;
    assert_int_equal(transplant(f), 0);
    assert_false(guest_interrupted(&f->other.device));
    virtio_device_revive(&f->other.device);
    assert_true(guest_interrupted(&f->other.device));
    assert_int_equal(guest_read32(&f->other.device, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}

static void a_broken_device_stays_broken_until_its_reset(void **state)
{
    struct fixture *f = *state;
    bring_up(f);
    virtio_device_broken(&f->blk.device, "a test says so");
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    submit(f);
    assert_int_equal(transplant(f), 0);
    virtio_device_revive(&f->other.device);
    assert_false(virtio_device_serving(&f->other.device));
    guest_write32(&f->other.device, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(guest_read32(&f->other.device, VIRTIO_MMIO_STATUS), 0);
    assert_false(f->other.thread_running);
}

static void another_drive_is_refused(void **state)
{
    static const struct {
        uint64_t bytes;
        bool read_only;
        const char *serial, *why;
    } others[] = {
        {FILE_BYTES * 2, false, "drive-0",
         "capacity_bytes: the drive has 65536 bytes, the snapshot's had 32768"},
        {FILE_BYTES, true, "drive-0", "read_only: the drive is read-only, the snapshot's was writable"},
        {FILE_BYTES, false, "drive-1", "serial: the drive is drive-1, the snapshot's was drive-0"},
    };
    struct fixture *f = *state;
    bring_up(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        virtio_blk_fini(&f->other);
        close(f->irqs[1]);
        make(f, &f->other, &f->irqs[1], others[i].bytes, others[i].read_only, others[i].serial);
        expect_refusal(f, others[i].why);
    }
}

static void contradictions_are_refused(void **state)
{
    struct fixture *f = *state;
    struct virtio_device *device = &f->blk.device;
    bring_up(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    const struct virtio_device good = *device;
#define REFUSED(change, why)                                                                                 \
    do {                                                                                                     \
        change;                                                                                              \
        expect_refusal(f, why);                                                                              \
        *device = good;                                                                                      \
    } while (0)
    REFUSED(device->driver_features |= 1ull << 55, "device.driver_features: 0x80000000000000 of these");
    REFUSED(device->driver_features &= ~(1ull << VIRTIO_F_VERSION_1), "device.driver_features: VERSION_1");
    REFUSED(device->status |= 0x10000, "device.status: 0x");
    REFUSED(device->status &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK, "device.status: DRIVER_OK without");
    REFUSED(device->status &= ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK, "device.active: true without");
    REFUSED(device->active = false, "device.active: false with");
    REFUSED(device->interrupt_status = 4, "device.interrupt_status");
    REFUSED(device->queues[0].size = 7, "device.queues[0].ready: a queue's size");
    REFUSED(device->queues[0].size = 256, "device.queues[0].ready: a queue's size");
    REFUSED(device->queues[0].used.value = RAM_BYTES - 8, "device.queues[0].ready: a ring or");
    REFUSED(device->queues[0].desc.value = UINT64_MAX - 15, "device.queues[0].ready: a ring or");
    REFUSED(device->queues[0].avail.value |= 1, "device.queues[0].ready: a ring's address");
    REFUSED(device->queues[0].last_used = 1, "device.queues[0].last_used: 1, while 0");
#undef REFUSED
    assert_int_equal(transplant(f), 0);
}

static bool is_dirty(const struct fixture *f, uint64_t at)
{
    const uint64_t page = at / GUEST_PAGE_BYTES;
    return f->guest.memory.dirty[page / 64] >> page % 64 & 1;
}

/* What a device writes is known as written: KVM's log does not see it. */
static void what_is_written_for_the_guest_is_marked(void **state)
{
    struct fixture *f = *state;
    f->blk.serve_by_hand = true;
    (void)guest_alloc(&f->guest, 1, 4096);
    bring_up(f);
    submit(f);
    assert_int_equal(guest_memory_track(&f->guest.memory), 0);
    virtio_blk_serve(&f->blk);
    assert_true(answered(f));
    assert_true(is_dirty(f, f->data));
    assert_true(is_dirty(f, f->status));
    assert_true(is_dirty(f, f->queue.used));
    assert_false(is_dirty(f, RAM_BYTES - 1));
}

static void another_kind_is_refused(void **state)
{
    struct fixture *f = *state;
    struct loop loop;
    struct virtio_rng rng;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(virtio_rng_init(&rng, &f->guest.memory, &loop), 0);
    virtio_device_save(&f->blk.device, &f->out, "rng");
    state_reader_init(&f->in, f->out.data, f->out.size_bytes);
    virtio_device_load(&rng.device, &f->in, "rng");
    assert_true(state_reader_finish(&f->in) < 0);
    assert_non_null(strstr(f->in.why, "rng.kind: 2, where a virtio-rng (4) is"));
    virtio_rng_fini(&rng);
    loop_fini(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_device_that_was_never_driven_is_as_new, setup, teardown),
        cmocka_unit_test_setup_teardown(a_half_configured_device_is_configured_on, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_work_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(paused_means_untouched_and_unpaused_serves_what_came, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_interrupt_in_flight_is_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_device_stays_broken_until_its_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(another_drive_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(contradictions_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_written_for_the_guest_is_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(another_kind_is_refused, setup, teardown),
    };
    log_setup("state_test", LOG_LEVEL_ERROR, open("/dev/null", O_WRONLY | O_CLOEXEC));
    return cmocka_run_group_tests_name("virtio state", tests, NULL, NULL);
}
