/* The block device against a file: what each request does, what each bad one gets, the thread, the locks. */
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
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/blk_request.h"
#include "tests/unit/virtio/blk_fixture.h"

static void test_config(void **state)
{
    struct blk_fixture *f = *state;
    struct virtio_blk_config config;
    blk_start(f, false, true);
    virtio_mmio_bus_ops.read(&f->blk.device, VIRTIO_MMIO_CONFIG, &config.capacity, 8);
    assert_int_equal(config.capacity, BLK_FILE_SECTORS); /* rounded down */
    assert_int_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG + 12), BLK_SEGMENTS_MAX);
    assert_int_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG + 20), 512);
    assert_true(f->blk.device.offered_features >> VIRTIO_BLK_F_DISCARD & 1);
    assert_false(f->blk.device.offered_features >> VIRTIO_BLK_F_RO & 1);
    blk_stop(f);
    blk_start(f, true, true);
    assert_true(f->blk.device.offered_features >> VIRTIO_BLK_F_RO & 1);
    assert_false(f->blk.device.offered_features >> VIRTIO_BLK_F_DISCARD & 1);
    blk_stop(f);
}

static void test_read_write(void **state)
{
    struct blk_fixture *f = *state;
    uint32_t written;
    uint8_t bytes[1024];
    uint8_t *data = guest_at(&f->guest, f->data);
    blk_start(f, false, true);
    blk_bring_up(f);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_IN, 3, 1024, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1025);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(data[i], 4 + i / 512);
    for (unsigned i = 0; i < 1024; i++)
        data[i] = (uint8_t)(i * 7);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, BLK_FILE_SECTORS - 2, 1024, false, &written),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    blk_file_bytes(f, (BLK_FILE_SECTORS - 2) * 512, bytes, 1024);
    assert_memory_equal(bytes, data, 1024);
    blk_file_bytes(f, BLK_FILE_SECTORS * 512, bytes, 100); /* the partial sector is left alone */
    assert_int_equal(bytes[0], BLK_FILE_SECTORS + 1);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    /* Without FLUSH negotiated writes are flushed as they are made: same answer. */
    f->features &= ~(1ull << VIRTIO_BLK_F_FLUSH);
    blk_bring_up(f);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
    blk_stop(f);
}

static void test_get_id(void **state)
{
    struct blk_fixture *f = *state;
    uint32_t written;
    blk_start(f, true, true);
    blk_bring_up(f);
    memset(guest_at(&f->guest, f->data), 0xff, 32);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_GET_ID, 0, 20, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 21);
    assert_memory_equal(guest_at(&f->guest, f->data), "drive-0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_GET_ID, 0, 3, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 4);
    blk_stop(f);
}

static void test_refused(void **state)
{
    struct blk_fixture *f = *state;
    uint32_t written;
    blk_start(f, false, true);
    blk_bring_up(f);
    const uint32_t read = VIRTIO_BLK_T_IN, write = VIRTIO_BLK_T_OUT;
    /* Out of range: beyond the end, across it, far beyond, so far that bytes wrap. */
    assert_int_equal(blk_do(f, read, BLK_FILE_SECTORS, 512, true, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 0);
    assert_int_equal(blk_do(f, read, BLK_FILE_SECTORS - 1, 1024, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, BLK_FILE_SECTORS - 1, 1024, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, UINT64_MAX, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, 1ull << 55, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    /* Not whole sectors, none, more than a request may have, buffers of the wrong direction. */
    assert_int_equal(blk_do(f, read, 0, 513, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, 0, 511, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, read, 0, 0, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, 0, (uint32_t)BLK_REQUEST_MAX_BYTES + 512, false, NULL),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, read, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, write, 0, 512, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, 99, 0, 512, true, NULL), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_SECURE_ERASE, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    /* The file shrank under us. */
    assert_int_equal(truncate(f->path, 512), 0);
    assert_int_equal(blk_do(f, read, 0, 1024, true, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 512);
    assert_int_equal(blk_do(f, read, 0, 512, true, NULL), VIRTIO_BLK_S_OK); /* and goes on */
    blk_stop(f);
}

static void test_read_only(void **state)
{
    struct blk_fixture *f = *state;
    uint8_t before[512], after[512];
    blk_file_bytes(f, 0, before, 512);
    blk_start(f, true, true);
    blk_bring_up(f);
    memset(guest_at(&f->guest, f->data), 0x55, 512);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    const struct virtio_blk_discard_write_zeroes range = {.num_sectors = 1};
    memcpy(guest_at(&f->guest, f->data), &range, sizeof range);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_DISCARD, 0, sizeof range, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof range, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
    blk_file_bytes(f, 0, after, 512);
    assert_memory_equal(before, after, 512);
    blk_stop(f);
}

static uint8_t clear(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    const struct virtio_blk_discard_write_zeroes range = {
        .sector = sector, .num_sectors = sectors, .flags = flags};
    memcpy(guest_at(&f->guest, f->data), &range, sizeof range);
    return blk_do(f, type, 0, sizeof range, false, NULL);
}

static void test_discard_and_zeroes(void **state)
{
    struct blk_fixture *f = *state;
    static const uint8_t zeros[512];
    uint8_t bytes[512];
    struct stat about;
    const uint32_t discard = VIRTIO_BLK_T_DISCARD, zero = VIRTIO_BLK_T_WRITE_ZEROES;
    blk_start(f, false, true);
    blk_bring_up(f);
    assert_int_equal(clear(f, discard, 0, 16, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(clear(f, zero, 20, 2, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(clear(f, zero, 30, 2, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned sectors[] = {20, 21, 30, 31};
        blk_file_bytes(f, sectors[i] * 512, bytes, 512);
        assert_memory_equal(bytes, zeros, 512);
    }
    blk_file_bytes(f, 22 * 512, bytes, 512);
    assert_int_equal(bytes[0], 23);
    assert_int_equal(stat(f->path, &about), 0);
    assert_int_equal(about.st_size, BLK_FILE_BYTES);
    assert_int_equal(clear(f, discard, BLK_FILE_SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, zero, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, zero, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, discard, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(clear(f, zero, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(clear(f, zero, 0, 0, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(blk_do(f, discard, 0, 15, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, discard, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(blk_do(f, zero, 0, 32, false, NULL), VIRTIO_BLK_S_IOERR); /* one range at most */
    assert_int_equal(blk_do(f, discard, 0, 17 * 16, false, NULL), VIRTIO_BLK_S_IOERR);
    blk_stop(f);
}

static void test_malformed_breaks(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, true);
    const struct guest_buffer no_status[] = {{f->header, 16, false}, {f->data, 512, false}};
    const struct guest_buffer no_header[] = {{f->data, 512, true}};
    const struct guest_buffer short_header[] = {{f->header, 15, false}, {f->status, 1, true}};
    const struct guest_buffer outside[] = {{f->header, 16, false}, {BLK_RAM_BYTES, 512, true}};
    const struct {
        const struct guest_buffer *buffers;
        unsigned count;
    } cases[] = {{no_status, 2}, {no_header, 1}, {short_header, 2}, {outside, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t head;
        uint32_t written;
        blk_bring_up(f);
        guest_queue_add(&f->queue, cases[i].buffers, cases[i].count, false);
        virtio_blk_serve(&f->blk);
        assert_true(guest_read32(&f->blk.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
        assert_true(guest_interrupted(&f->blk.device));
        blk_submit(f, VIRTIO_BLK_T_FLUSH, 0, 0, false);
        virtio_blk_serve(&f->blk);
        assert_false(guest_queue_take_used(&f->queue, &head, &written)); /* not before a reset */
        blk_bring_up(f);
        assert_int_equal(blk_do(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
    }
    blk_stop(f);
}

/* The device's own thread: thousands of requests by notification, interrupts by event index. */
static void test_thread(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, false);
    blk_bring_up(f);
    for (unsigned i = 0; i < 3000; i++) {
        uint16_t head, before = f->queue.avail_index;
        uint32_t written;
        guest_queue_want_interrupt(&f->queue);
        blk_submit(f, i % 3 == 0 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i % BLK_FILE_SECTORS, 512, i % 3 != 0);
        if (guest_queue_must_kick(&f->queue, before))
            guest_queue_kick(&f->queue);
        while (!guest_queue_take_used(&f->queue, &head, &written))
            assert_true(guest_wait_interrupt(&f->blk.device));
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->status), VIRTIO_BLK_S_OK);
    }
    blk_stop(f);
}

/* A reset in the middle of many requests: afterwards nobody touches the rings, and a new start works. */
static void test_reset_while_busy(void **state)
{
    struct blk_fixture *f = *state;
    blk_start(f, false, false);
    for (unsigned round = 0; round < 20; round++) {
        blk_bring_up(f);
        for (unsigned i = 0; i < 40; i++)
            blk_submit(f, VIRTIO_BLK_T_IN, 0, 1024 * 31, true);
        guest_queue_kick(&f->queue);
        if (round % 2 == 0)
            assert_true(guest_wait_interrupt(&f->blk.device));
        guest_write32(&f->blk.device, VIRTIO_MMIO_STATUS, 0);
        assert_false(f->blk.thread_running);
        const uint16_t used = guest_queue_used(&f->queue)->idx;
        guest_queue_kick(&f->queue);
        (void)guest_interrupted(&f->blk.device);
        assert_int_equal(guest_queue_used(&f->queue)->idx, used);
    }
    blk_bring_up(f);
    blk_stop(f); /* and fini while the thread waits */
}

static void test_open(void **state)
{
    struct blk_fixture *f = *state;
    char other[80];
    int first, second;
    assert_int_equal(virtio_blk_open(f->path, false, &first), 0);
    assert_int_equal(virtio_blk_open(f->path, false, &second), -EBUSY);
    assert_int_equal(virtio_blk_open(f->path, true, &second), -EBUSY);
    close(first);
    assert_int_equal(virtio_blk_open(f->path, true, &first), 0);
    assert_int_equal(virtio_blk_open(f->path, true, &second), 0);
    close(second);
    assert_int_equal(virtio_blk_open(f->path, false, &second), -EBUSY);
    close(first);
    assert_int_equal(virtio_blk_open(f->path, false, &second), 0);
    close(second);
    assert_int_equal(virtio_blk_open("/tmp", true, &first), -EINVAL);
    assert_int_equal(virtio_blk_open("/dev/null", true, &first), -EINVAL);
    (void)snprintf(other, sizeof other, "%s.none", f->path);
    assert_int_equal(virtio_blk_open(other, true, &first), -ENOENT);
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_int_equal(virtio_blk_open(other, true, &first), -EINVAL); /* and does not wait for a writer */
    unlink(other);
    assert_int_equal(truncate(f->path, 511), 0);
    assert_int_equal(virtio_blk_open(f->path, true, &first), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_read_write, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_get_id, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_refused, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_read_only, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_discard_and_zeroes, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_malformed_breaks, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_thread, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_reset_while_busy, blk_setup, blk_teardown),
        cmocka_unit_test_setup_teardown(test_open, blk_setup, blk_teardown),
    };
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_setup("blk_test", LOG_LEVEL_ERROR, null); /* every error here is provoked */
    return cmocka_run_group_tests_name("virtio blk", tests, NULL, NULL);
}
