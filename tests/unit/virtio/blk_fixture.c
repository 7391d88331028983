/* See blk_fixture.h. */
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
#include <unistd.h>

#include "tests/unit/virtio/blk_fixture.h"

void blk_create_file(const char *path)
{
    uint8_t content[BLK_FILE_BYTES];
    for (unsigned i = 0; i < BLK_FILE_BYTES; i++)
        content[i] = (uint8_t)(i / 512 + 1);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, sizeof content), sizeof content);
    close(fd);
}

void blk_start(struct blk_fixture *f, bool read_only, bool by_hand)
{
    int fd;
    assert_int_equal(virtio_blk_open(f->path, read_only, &fd), 0);
    assert_int_equal(virtio_blk_init(&f->blk, &f->guest.memory, fd, read_only, "drive-0"), 0);
    f->blk.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    f->blk.serve_by_hand = by_hand;
    f->features = f->blk.device.offered_features;
}

void blk_bring_up(struct blk_fixture *f)
{
    assert_true(guest_negotiate(&f->blk.device, f->features) & VIRTIO_CONFIG_S_FEATURES_OK);
    guest_queue_init(&f->queue, &f->guest, &f->blk.device, 0, 128);
    guest_driver_ok(&f->blk.device);
}

void blk_stop(struct blk_fixture *f)
{
    const int irq = f->blk.device.irq.fd;
    virtio_blk_fini(&f->blk);
    close(irq);
}

int blk_setup(void **state)
{
    static struct blk_fixture f;
    memset(&f, 0, sizeof f);
    (void)snprintf(f.path, sizeof f.path, "/tmp/blk_test.%d", getpid());
    blk_create_file(f.path);
    guest_init(&f.guest, BLK_RAM_BYTES);
    f.header = guest_alloc(&f.guest, 64, 64);
    f.status = guest_alloc(&f.guest, 64, 64);
    f.data = guest_alloc(&f.guest, 48u << 20, 4096);
    *state = &f;
    return 0;
}

int blk_teardown(void **state)
{
    struct blk_fixture *f = *state;
    guest_fini(&f->guest);
    unlink(f->path);
    return 0;
}

void blk_submit(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable)
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

uint8_t blk_do(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t size, bool writable,
               uint32_t *written)
{
    uint16_t head;
    uint32_t dummy;
    blk_submit(f, type, sector, size, writable);
    virtio_blk_serve(&f->blk);
    assert_true(guest_queue_take_used(&f->queue, &head, written ? written : &dummy));
    return *(uint8_t *)guest_at(&f->guest, f->status);
}

void blk_file_bytes(struct blk_fixture *f, uint64_t offset, void *to, size_t size)
{
    const int fd = open(f->path, O_RDONLY);
    assert_int_equal(pread(fd, to, size, (off_t)offset), size);
    close(fd);
}
