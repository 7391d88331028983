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
#include "tests/unit/virtio/guest.h"

#define RAM_BYTES    (64u << 20)
#define FILE_SECTORS 64u
#define FILE_BYTES   (FILE_SECTORS * 512 + 100) /* a partial sector at the end */

struct fixture {
    char path[64];
    struct guest guest;
    struct virtio_blk blk;
    struct guest_queue queue;
    uint64_t header, status, data; /* guest addresses */
    uint64_t features;
};

static void create_file(const char *path)
{
    uint8_t content[FILE_BYTES];
    for (unsigned i = 0; i < FILE_BYTES; i++)
        content[i] = (uint8_t)(i / 512 + 1);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, sizeof content), sizeof content);
    close(fd);
}

static void start(struct fixture *f, bool read_only, bool by_hand)
{
    int fd;
    assert_int_equal(virtio_blk_open(f->path, read_only, &fd), 0);
    assert_int_equal(virtio_blk_init(&f->blk, &f->guest.memory, fd, read_only, "drive-0"), 0);
    f->blk.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    f->blk.serve_by_hand = by_hand;
    f->features = f->blk.device.offered_features;
}

static void bring_up(struct fixture *f)
{
    assert_true(guest_negotiate(&f->blk.device, f->features) & VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f->queue, &f->guest, &f->blk.device, 0, 128);
    guest_driver_ok(&f->blk.device);
}

static void stop(struct fixture *f)
{
    const int irq = f->blk.device.irq.fd;
    virtio_blk_fini(&f->blk);
    close(irq);
}

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    (void)snprintf(f.path, sizeof f.path, "/tmp/blk_test.%d", getpid());
    create_file(f.path);
    guest_init(&f.guest, RAM_BYTES);
    f.header = guest_alloc(&f.guest, 64, 64);
    f.status = guest_alloc(&f.guest, 64, 64);
    f.data = guest_alloc(&f.guest, 48u << 20, 4096);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    guest_fini(&f->guest);
    unlink(f->path);
    return 0;
}

/* Queue one request with `size` bytes of data in three uneven buffers. */
static void submit(struct fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable)
{
    struct guest_buffer buffers[6];
    unsigned count = 0;
    const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
    memcpy(guest_at(&f->guest, f->header), &header, sizeof header);
    memset(guest_at(&f->guest, f->status), 0xee, 1);
    buffers[count++] = (struct guest_buffer){f->header, 5, false}; /* any layout */
    buffers[count++] = (struct guest_buffer){f->header + 5, 11, false};
    if (size > 16) {
        buffers[count++] = (struct guest_buffer){f->data, 7, writable};
        buffers[count++] = (struct guest_buffer){f->data + 7, size - 7, writable};
    } else if (size > 0) {
        buffers[count++] = (struct guest_buffer){f->data, size, writable};
    }
    buffers[count++] = (struct guest_buffer){f->status, 1, true};
    guest_queue_add(&f->queue, buffers, count, size % 1024 == 0);
}

/* Queue, serve, and give the status; the used length in *written. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable,
                       uint32_t *written)
{
    uint16_t head;
    uint32_t dummy;
    submit(f, type, sector, size, writable);
    virtio_blk_serve(&f->blk);
    assert_true(guest_queue_take_used(&f->queue, &head, written ? written : &dummy));
    return *(uint8_t *)guest_at(&f->guest, f->status);
}

static void file_bytes(struct fixture *f, uint64_t offset, void *to, size_t size)
{
    const int fd = open(f->path, O_RDONLY);
    assert_int_equal(pread(fd, to, size, (off_t)offset), size);
    close(fd);
}

static void test_config(void **state)
{
    struct fixture *f = *state;
    struct virtio_blk_config config;
    start(f, false, true);
    virtio_mmio_bus_ops.read(&f->blk.device, VIRTIO_MMIO_CONFIG, &config.capacity, 8);
    assert_int_equal(config.capacity, FILE_SECTORS); /* rounded down */
    assert_int_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG + 12), BLK_SEGMENTS_MAX);
    assert_int_equal(guest_read32(&f->blk.device, VIRTIO_MMIO_CONFIG + 20), 512);
    assert_true(f->blk.device.offered_features >> VIRTIO_BLK_F_DISCARD & 1);
    assert_false(f->blk.device.offered_features >> VIRTIO_BLK_F_RO & 1);
    stop(f);
    start(f, true, true);
    assert_true(f->blk.device.offered_features >> VIRTIO_BLK_F_RO & 1);
    assert_false(f->blk.device.offered_features >> VIRTIO_BLK_F_DISCARD & 1);
    stop(f);
}

static void test_read_write(void **state)
{
    struct fixture *f = *state;
    uint32_t written;
    uint8_t bytes[1024];
    uint8_t *data = guest_at(&f->guest, f->data);
    start(f, false, true);
    bring_up(f);
    assert_int_equal(request(f, VIRTIO_BLK_T_IN, 3, 1024, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1025);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(data[i], 4 + i / 512);
    for (unsigned i = 0; i < 1024; i++)
        data[i] = (uint8_t)(i * 7);
    assert_int_equal(request(f, VIRTIO_BLK_T_OUT, FILE_SECTORS - 2, 1024, false, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    file_bytes(f, (FILE_SECTORS - 2) * 512, bytes, 1024);
    assert_memory_equal(bytes, data, 1024);
    file_bytes(f, FILE_SECTORS * 512, bytes, 100); /* the partial sector is left alone */
    assert_int_equal(bytes[0], FILE_SECTORS + 1);
    assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    /* Without FLUSH negotiated writes are flushed as they are made: same answer. */
    f->features &= ~(1ull << VIRTIO_BLK_F_FLUSH);
    bring_up(f);
    assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
    stop(f);
}

static void test_get_id(void **state)
{
    struct fixture *f = *state;
    uint32_t written;
    start(f, true, true);
    bring_up(f);
    memset(guest_at(&f->guest, f->data), 0xff, 32);
    assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 20, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 21);
    assert_memory_equal(guest_at(&f->guest, f->data), "drive-0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
    assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 3, true, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 4);
    stop(f);
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    uint32_t written;
    start(f, false, true);
    bring_up(f);
    const uint32_t read = VIRTIO_BLK_T_IN, write = VIRTIO_BLK_T_OUT;
    /* Out of range: beyond the end, across it, far beyond, so far that bytes wrap. */
    assert_int_equal(request(f, read, FILE_SECTORS, 512, true, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 0);
    assert_int_equal(request(f, read, FILE_SECTORS - 1, 1024, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, FILE_SECTORS - 1, 1024, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, UINT64_MAX, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, 1ull << 55, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    /* Not whole sectors, none, more than a request may have, buffers of the wrong direction. */
    assert_int_equal(request(f, read, 0, 513, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, 0, 511, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, read, 0, 0, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, 0, (uint32_t)BLK_REQUEST_MAX_BYTES + 512, false, NULL),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, read, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, write, 0, 512, true, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, 99, 0, 512, true, NULL), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(request(f, VIRTIO_BLK_T_SECURE_ERASE, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
    /* The file shrank under us. */
    assert_int_equal(truncate(f->path, 512), 0);
    assert_int_equal(request(f, read, 0, 1024, true, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 512);
    assert_int_equal(request(f, read, 0, 512, true, NULL), VIRTIO_BLK_S_OK); /* and goes on */
    stop(f);
}

static void test_read_only(void **state)
{
    struct fixture *f = *state;
    uint8_t before[512], after[512];
    file_bytes(f, 0, before, 512);
    start(f, true, true);
    bring_up(f);
    memset(guest_at(&f->guest, f->data), 0x55, 512);
    assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
    const struct virtio_blk_discard_write_zeroes range = {.num_sectors = 1};
    memcpy(guest_at(&f->guest, f->data), &range, sizeof range);
    assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, sizeof range, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof range, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
    file_bytes(f, 0, after, 512);
    assert_memory_equal(before, after, 512);
    stop(f);
}

static uint8_t clear(struct fixture *f, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    const struct virtio_blk_discard_write_zeroes range = {
        .sector = sector, .num_sectors = sectors, .flags = flags};
    memcpy(guest_at(&f->guest, f->data), &range, sizeof range);
    return request(f, type, 0, sizeof range, false, NULL);
}

static void test_discard_and_zeroes(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zeros[512];
    uint8_t bytes[512];
    struct stat about;
    const uint32_t discard = VIRTIO_BLK_T_DISCARD, zero = VIRTIO_BLK_T_WRITE_ZEROES;
    start(f, false, true);
    bring_up(f);
    assert_int_equal(clear(f, discard, 0, 16, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(clear(f, zero, 20, 2, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(clear(f, zero, 30, 2, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned sectors[] = {20, 21, 30, 31};
        file_bytes(f, sectors[i] * 512, bytes, 512);
        assert_memory_equal(bytes, zeros, 512);
    }
    file_bytes(f, 22 * 512, bytes, 512);
    assert_int_equal(bytes[0], 23);
    assert_int_equal(stat(f->path, &about), 0);
    assert_int_equal(about.st_size, FILE_BYTES);
    assert_int_equal(clear(f, discard, FILE_SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, zero, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, zero, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(clear(f, discard, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(clear(f, zero, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(clear(f, zero, 0, 0, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(request(f, discard, 0, 15, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, discard, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(f, zero, 0, 32, false, NULL), VIRTIO_BLK_S_IOERR); /* one range at most */
    assert_int_equal(request(f, discard, 0, 17 * 16, false, NULL), VIRTIO_BLK_S_IOERR);
    stop(f);
}

static void test_malformed_breaks(void **state)
{
    struct fixture *f = *state;
    start(f, false, true);
    const struct guest_buffer no_status[] = {{f->header, 16, false}, {f->data, 512, false}};
    const struct guest_buffer no_header[] = {{f->data, 512, true}};
    const struct guest_buffer short_header[] = {{f->header, 15, false}, {f->status, 1, true}};
    const struct guest_buffer outside[] = {{f->header, 16, false}, {RAM_BYTES, 512, true}};
    const struct {
        const struct guest_buffer *buffers;
        unsigned count;
    } cases[] = {{no_status, 2}, {no_header, 1}, {short_header, 2}, {outside, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t head;
        uint32_t written;
        bring_up(f);
        guest_queue_add(&f->queue, cases[i].buffers, cases[i].count, false);
        virtio_blk_serve(&f->blk);
        assert_true(guest_read32(&f->blk.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
        assert_true(guest_interrupted(&f->blk.device));
        submit(f, VIRTIO_BLK_T_FLUSH, 0, 0, false);
        virtio_blk_serve(&f->blk);
        assert_false(guest_queue_take_used(&f->queue, &head, &written)); /* not before a reset */
        bring_up(f);
        assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
    }
    stop(f);
}

/* The device's own thread: thousands of requests by notification, interrupts by event index. */
static void test_thread(void **state)
{
    struct fixture *f = *state;
    start(f, false, false);
    bring_up(f);
    for (unsigned i = 0; i < 3000; i++) {
        uint16_t head, before = f->queue.avail_index;
        uint32_t written;
        guest_queue_want_interrupt(&f->queue);
        submit(f, i % 3 == 0 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i % FILE_SECTORS, 512, i % 3 != 0);
        if (guest_queue_must_kick(&f->queue, before))
            guest_queue_kick(&f->queue);
        while (!guest_queue_take_used(&f->queue, &head, &written))
            assert_true(guest_wait_interrupt(&f->blk.device));
        assert_int_equal(*(uint8_t *)guest_at(&f->guest, f->status), VIRTIO_BLK_S_OK);
    }
    stop(f);
}

/* A reset in the middle of many requests: afterwards nobody touches the rings, and a new start works. */
static void test_reset_while_busy(void **state)
{
    struct fixture *f = *state;
    start(f, false, false);
    for (unsigned round = 0; round < 20; round++) {
        bring_up(f);
        for (unsigned i = 0; i < 40; i++)
            submit(f, VIRTIO_BLK_T_IN, 0, 1024 * 31, true);
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
    bring_up(f);
    stop(f); /* and fini while the thread waits */
}

static void test_open(void **state)
{
    struct fixture *f = *state;
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
        cmocka_unit_test_setup_teardown(test_config, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_get_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discard_and_zeroes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_while_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open, setup, teardown),
    };
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_setup("blk_test", LOG_LEVEL_ERROR, null); /* every error here is provoked */
    return cmocka_run_group_tests_name("virtio blk", tests, NULL, NULL);
}
