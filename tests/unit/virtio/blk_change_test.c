/* The block device while things change around it: limits, another file, a disk that is full or cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "tests/unit/virtio/blk_fixture.h"

#define MS     UINT64_C(1000000)
#define DAY_MS UINT64_C(86400000)
#define OK     VIRTIO_BLK_S_OK

static uint64_t test_now_ns;

static uint64_t test_clock(void)
{
    return test_now_ns;
}

static struct rate_limits limits_of(uint64_t bytes, uint64_t bytes_ms, uint64_t operations,
                                    uint64_t operations_ms)
{
    const struct rate_limits limits = {
        .bandwidth = {.size = bytes, .refill_ms = bytes_ms},
        .operations = {.size = operations, .refill_ms = operations_ms},
    };
    return limits;
}

static void limit(struct blk_fixture *f, struct rate_limits limits)
{
    virtio_blk_set_rate(&f->blk, &limits);
}

/* How many requests the device has answered since it was asked last. */
static unsigned answered(struct blk_fixture *f)
{
    uint16_t head;
    uint32_t written;
    unsigned count = 0;
    while (guest_queue_take_used(&f->queue, &head, &written)) {
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->status), OK);
        count++;
    }
    return count;
}

/* Wait until it has answered so many. */
static void wait_answered(struct blk_fixture *f, unsigned wanted)
{
    for (unsigned count = 0; count < wanted;) {
        guest_queue_want_interrupt(&f->queue);
        const unsigned more = answered(f);
        if (more == 0)
            assert_true(guest_wait_interrupt(&f->blk.device));
        count += more;
    }
}

static void start_by_hand(struct blk_fixture *f)
{
    blk_start(f, false, true);
    f->blk.rate.now_ns = test_clock;
    test_now_ns = 1000 * MS;
    blk_bring_up(f);
}

static void operations_wait_in_the_ring(void **state)
{
    struct blk_fixture *f = *state;
    start_by_hand(f);
    limit(f, limits_of(0, 0, 2, 1000));
    for (unsigned i = 0; i < 4; i++)
        blk_submit(f, VIRTIO_BLK_T_IN, i, 512, true);
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 2);
    assert_int_equal(f->blk.wait_ns, 500 * MS);
    assert_int_equal(f->blk.device.queues[0].last_avail, 2); /* as it would be saved */
    test_now_ns += 500 * MS - 1;
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 0);
    assert_int_equal(f->blk.wait_ns, 1);
    test_now_ns += 1;
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 1);
    limit(f, limits_of(0, 0, 0, 0));
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 1);
    assert_int_equal(f->blk.wait_ns, 0);
    assert_int_equal(f->blk.rate.throttled_count, 2);
    assert_int_equal(f->blk.rate.throttled_wait_ns, 500 * MS);
    assert_int_equal(f->blk.counts.operations, 4);
    assert_int_equal(f->blk.counts.bytes_read, 4 * 512);
    blk_stop(f);
}

static void bytes_are_what_moves(void **state)
{
    struct blk_fixture *f = *state;
    start_by_hand(f);
    limit(f, limits_of(2048, 1000, 0, 0));
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 0, 1024, true, NULL), OK);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 1024, false, NULL), OK);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), OK); /* moves nothing */
    blk_submit(f, VIRTIO_BLK_T_OUT, 0, 512, false);
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 0);
    assert_int_equal(f->blk.wait_ns, 250 * MS);
    test_now_ns += 1000 * MS;
    virtio_blk_serve(&f->blk);
    assert_int_equal(answered(f), 1);
    assert_int_equal(f->blk.counts.bytes_written, 1536);
    assert_int_equal(f->blk.counts.bytes_read, 1024);
    assert_int_equal(f->blk.counts.flushes, 1);
    /* What it gets wrong costs as much. */
    test_now_ns += 1000 * MS;
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, BLK_FILE_SECTORS, 2048, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(f->blk.counts.errors, 1);
    blk_submit(f, VIRTIO_BLK_T_IN, 0, 512, true);
    virtio_blk_serve(&f->blk);
    assert_int_equal(f->blk.wait_ns, 250 * MS);
    blk_stop(f);
}

/* Where the file cannot make zeros by itself, the bytes that are written for it count. */
static void zeros_by_hand_cost_their_bytes(void **state)
{
    struct blk_fixture *f = *state;
    const struct virtio_blk_discard_write_zeroes range = {.sector = 1, .num_sectors = 8};
    const int fd = memfd_create("drive", MFD_CLOEXEC); /* has no FALLOC_FL_ZERO_RANGE */
    assert_int_equal(ftruncate(fd, 64 * 512), 0);
    start_by_hand(f);
    assert_int_equal(virtio_blk_swap(&f->blk, fd), 0);
    limit(f, limits_of(2048, 1000, 0, 0));
    memcpy(guest_at(&f->guest, f->data), &range, sizeof range);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof range, false, NULL), OK);
    assert_int_equal(f->blk.counts.bytes_written, 4096);
    assert_int_equal(f->blk.rate.bandwidth.debt, 2048);
    blk_stop(f);
}

/* Until the device's thread has found out that so many requests had to wait, 10 s at most: no event tells of
 * it. */
static void wait_throttled(struct blk_fixture *f, uint64_t wanted)
{
    const uint64_t until_ns = clock_monotonic_ns() + 10000 * MS;
    while (__atomic_load_n(&f->blk.rate.throttled_count, __ATOMIC_RELAXED) < wanted) {
        assert_true(clock_monotonic_ns() < until_ns);
        (void)usleep(100);
    }
}

/* On the device's own thread, with a limit that would let the second request wait for hours. */
static void start_waiting(struct blk_fixture *f)
{
    blk_start(f, false, false);
    limit(f, limits_of(0, 0, 1, DAY_MS));
    blk_bring_up(f);
    blk_submit(f, VIRTIO_BLK_T_IN, 0, 512, true);
    guest_queue_kick(&f->queue);
    wait_answered(f, 1);
    blk_submit(f, VIRTIO_BLK_T_IN, 1, 512, true);
    guest_queue_kick(&f->queue);
    wait_throttled(f, 1);
}

static void another_limit_wakes_what_waits(void **state)
{
    struct blk_fixture *f = *state;
    start_waiting(f);
    limit(f, limits_of(0, 0, 1000, 1000));
    wait_answered(f, 1);
    blk_stop(f);
}

static void a_pause_waits_for_no_bucket(void **state)
{
    struct blk_fixture *f = *state;
    start_waiting(f);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    assert_false(f->blk.thread_running);
    assert_int_equal(f->blk.device.queues[0].last_avail, 1); /* nothing in its hands */
    assert_int_equal(f->blk.device.queues[0].last_used, 1);
    limit(f, limits_of(0, 0, 0, 0));
    assert_false(f->blk.thread_running);
    virtio_blk_unpause(&f->blk);
    wait_answered(f, 1);
    blk_stop(f);
}

static void a_reset_waits_for_no_bucket(void **state)
{
    struct blk_fixture *f = *state;
    start_waiting(f);
    guest_write32(&f->blk.device, VIRTIO_MMIO_STATUS, 0);
    assert_false(f->blk.thread_running);
    blk_bring_up(f); /* the bucket is as empty as before: the driver gains nothing by it */
    blk_submit(f, VIRTIO_BLK_T_IN, 0, 512, true);
    guest_queue_kick(&f->queue);
    wait_throttled(f, 2);
    assert_int_equal(answered(f), 0);
    blk_stop(f); /* and so does the end */
}

static void the_average_is_kept(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, false);
    limit(f, limits_of(16384, 50, 0, 0));
    blk_bring_up(f);
    const uint64_t since_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < 10; i++) { /* 80 KiB: the first 16 at once, 64 in 200 ms */
        blk_submit(f, VIRTIO_BLK_T_IN, 0, 8192, true);
        guest_queue_kick(&f->queue);
        wait_answered(f, 1);
    }
    const uint64_t took_ns = clock_monotonic_ns() - since_ns;
    assert_in_range(took_ns, 200 * MS, 5000 * MS);
    assert_true(f->blk.rate.throttled_wait_ns <= took_ns);
    blk_stop(f);
}

/* ---- another file ---------------------------------------------------------------------------------------- */

/* A file of so many sectors, each of whose bytes is `fill`. */
static void make_other(struct blk_fixture *f, char path[80], unsigned sectors, uint8_t fill)
{
    uint8_t sector[512];
    memset(sector, fill, sizeof sector);
    (void)snprintf(path, 80, "%s.other", f->path);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    for (unsigned i = 0; i < sectors; i++)
        assert_int_equal(write(fd, sector, sizeof sector), sizeof sector);
    close(fd);
}

static uint64_t capacity(struct blk_fixture *f)
{
    uint64_t sectors;
    virtio_mmio_bus_ops.read(&f->blk.device, VIRTIO_MMIO_CONFIG, &sectors, sizeof sectors);
    return sectors;
}

static int swap_to(struct blk_fixture *f, const char *path)
{
    int fd = -1;
    const int error = virtio_blk_open(path, f->blk.read_only, &fd);
    return error ? error : virtio_blk_swap(&f->blk, fd);
}

static void another_file_is_told_and_served(void **state)
{
    struct blk_fixture *f = *state;
    char path[80];
    int fd;
    blk_start(f, false, true);
    blk_bring_up(f);
    make_other(f, path, 100, 0x77);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 3, 512, true, NULL), OK);
    assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->data), 4);
    (void)guest_interrupted(&f->blk.device);
    const uint32_t generation = guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG_GENERATION);
    assert_int_equal(swap_to(f, path), 0);
    assert_int_not_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_true(guest_read32(&f->blk.device, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_true(guest_interrupted(&f->blk.device));
    assert_int_equal(capacity(f), 100);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 99, 512, true, NULL), OK);
    assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->data), 0x77);
    assert_int_equal(virtio_blk_open(path, true, &fd), -EBUSY); /* the new one is locked, the old one free */
    assert_int_equal(virtio_blk_open(f->path, false, &fd), 0);
    close(fd);
    make_other(f, path, 5, 0x78); /* the same file, shorter: looked at anew with its lock */
    assert_int_equal(virtio_blk_swap(&f->blk, fcntl(f->blk.fd, F_DUPFD_CLOEXEC, 0)), 0);
    assert_int_equal(capacity(f), 5);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 5, 512, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(virtio_blk_open(path, true, &fd), -EBUSY);
    blk_stop(f);
    unlink(path);
}

static void an_unfit_file_is_refused(void **state)
{
    struct blk_fixture *f = *state;
    char path[80];
    int fds[2];
    blk_start(f, false, true);
    blk_bring_up(f);
    make_other(f, path, 4, 0x11);
    const uint32_t generation = guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG_GENERATION);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(virtio_blk_swap(&f->blk, fd), -EACCES); /* the guest may write */
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(virtio_blk_swap(&f->blk, fds[1]), -EINVAL);
    close(fds[0]);
    assert_int_equal(truncate(path, 511), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(virtio_blk_swap(&f->blk, fd), -EINVAL);
    assert_int_equal(virtio_blk_swap(&f->blk, 999), -EBADF);
    assert_int_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    assert_int_equal(capacity(f), BLK_FILE_SECTORS);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 3, 512, true, NULL), OK);
    assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->data), 4);
    blk_stop(f);
    unlink(path);
}

/* A read-only drive takes a file that cannot be written, and does not write to one that can. */
static void read_only_stays_read_only(void **state)
{
    struct blk_fixture *f = *state;
    char path[80];
    blk_start(f, true, true);
    blk_bring_up(f);
    make_other(f, path, 4, 0x11);
    assert_int_equal(virtio_blk_swap(&f->blk, open(path, O_RDONLY | O_CLOEXEC)), 0);
    assert_int_equal(virtio_blk_swap(&f->blk, open(path, O_RDWR | O_CLOEXEC)), 0);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 3, 512, true, NULL), OK);
    blk_stop(f);
    unlink(path);
}

static void a_paused_drive_stays_paused(void **state)
{
    struct blk_fixture *f = *state;
    char path[80];
    blk_start(f, false, false);
    blk_bring_up(f);
    make_other(f, path, 4, 0x22);
    assert_int_equal(virtio_blk_pause(&f->blk), 0);
    blk_submit(f, VIRTIO_BLK_T_IN, 0, 512, true);
    assert_int_equal(swap_to(f, path), 0);
    assert_false(f->blk.thread_running);
    assert_int_equal(answered(f), 0);
    virtio_blk_unpause(&f->blk);
    wait_answered(f, 1);
    assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->data), 0x22);
    blk_stop(f);
    /* No driver yet: there is nothing to start. */
    blk_start(f, false, false);
    assert_int_equal(swap_to(f, path), 0);
    assert_false(f->blk.thread_running);
    assert_int_equal(capacity(f), 4);
    blk_stop(f);
    unlink(path);
}

/* Until so many are answered, one way or the other: they share a status byte, which submitting sets, too. */
static void wait_used(struct blk_fixture *f, unsigned wanted)
{
    while (wanted > 0) {
        uint16_t head;
        uint32_t written;
        guest_queue_want_interrupt(&f->queue);
        if (guest_queue_take_used(&f->queue, &head, &written)) {
            assert_int_equal(written, 513);
            wanted--;
        } else {
            assert_true(guest_wait_interrupt(&f->blk.device));
        }
    }
}

/* Every request is answered once, from one file or the other, whatever the moment. */
static void files_change_under_load(void **state)
{
    struct blk_fixture *f = *state;
    char path[80];
    blk_start(f, false, false);
    blk_bring_up(f);
    make_other(f, path, 100, 0x33);
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 20; i++)
            blk_submit(f, VIRTIO_BLK_T_IN, 7, 512, true);
        guest_queue_kick(&f->queue);
        assert_int_equal(swap_to(f, round % 2 ? f->path : path), 0);
        wait_used(f, 20);
        blk_submit(f, VIRTIO_BLK_T_IN, 7, 512, true);
        guest_queue_kick(&f->queue);
        wait_answered(f, 1);
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->data), round % 2 ? 8 : 0x33);
    }
    blk_stop(f);
    unlink(path);
}

/* ---- a file that fails ----------------------------------------------------------------------------------- */

static void a_full_disk_is_the_guests_error(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, true);
    blk_bring_up(f);
    const int keep = fcntl(f->blk.fd, F_DUPFD_CLOEXEC, 0);
    const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(dup3(full, f->blk.fd, O_CLOEXEC) >= 0); /* behind the device's back: every write is ENOSPC */
    close(full);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 1024, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(f->blk.counts.errors, 2);
    assert_int_equal(f->blk.counts.bytes_written, 0);
    assert_true(dup3(keep, f->blk.fd, O_CLOEXEC) >= 0); /* there is room again */
    close(keep);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 1024, false, NULL), OK);
    assert_int_equal(f->blk.counts.bytes_written, 1024);
    blk_stop(f);
}

static void a_file_cut_short_is_the_guests_error(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, false);
    blk_bring_up(f);
    assert_int_equal(truncate(f->path, 0), 0);
    for (unsigned i = 0; i < 5; i++) { /* on the device's thread: no SIGBUS, as nothing is mapped */
        uint16_t head;
        uint32_t written;
        guest_queue_want_interrupt(&f->queue);
        blk_submit(f, VIRTIO_BLK_T_IN, i, 1024, true);
        guest_queue_kick(&f->queue);
        while (!guest_queue_take_used(&f->queue, &head, &written))
            assert_true(guest_wait_interrupt(&f->blk.device));
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->status), VIRTIO_BLK_S_IOERR);
        assert_int_equal(written, 0);
    }
    assert_int_equal(f->blk.counts.errors, 5);
    assert_int_equal(f->blk.counts.bytes_read, 0);
    blk_stop(f);
}

/* A guest that reads on from a file cut short does not fill its host's log. */
static void messages_of_failures_end(void **state)
{
    struct blk_fixture *f = *state;
    char log[] = "/tmp/blk_change_test.XXXXXX";
    char text[8192] = "";
    unsigned lines = 0;
    int fd = mkstemp(log);
    assert_true(fd >= 0);
    assert_int_equal(unlink(log), 0);
    blk_start(f, false, true);
    blk_bring_up(f);
    assert_int_equal(truncate(f->path, 0), 0);
    log_setup("blk_change_test", LOG_LEVEL_WARN, fd);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_IOERR);
    log_setup("blk_change_test", LOG_LEVEL_ERROR, 2);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 8);
    assert_int_equal(f->blk.counts.errors, 100);
    fd_close(&fd);
    blk_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operations_wait_in_the_ring, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(bytes_are_what_moves, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(zeros_by_hand_cost_their_bytes, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(another_limit_wakes_what_waits, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(a_pause_waits_for_no_bucket, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(a_reset_waits_for_no_bucket, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(the_average_is_kept, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(another_file_is_told_and_served, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(an_unfit_file_is_refused, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(read_only_stays_read_only, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(a_paused_drive_stays_paused, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(files_change_under_load, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_the_guests_error, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(a_file_cut_short_is_the_guests_error, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(messages_of_failures_end, blk_setup, blk_teardown),
    };
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_setup("blk_change_test", LOG_LEVEL_ERROR, null); /* every error here is provoked */
    return cmocka_run_group_tests_name("virtio blk, changes", tests, NULL, NULL);
}
