/* See balloon_fixture.h. */
#include "tests/unit/virtio/balloon_fixture.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/log.h"

#define TURNS_MAX 100000u

int balloon_setup(void **state)
{
    static struct balloon_fixture f;
    memset(&f, 0, sizeof f);
    guest_init(&f.guest, BALLOON_RAM_BYTES);
    f.scratch = guest_alloc(&f.guest, 4096, 4096);
    *state = &f;
    return loop_init(&f.loop);
}

int balloon_teardown(void **state)
{
    struct balloon_fixture *f = *state;
    virtio_balloon_fini(&f->balloon);
    loop_fini(&f->loop);
    guest_fini(&f->guest);
    close(f->irq);
    return 0;
}

void balloon_start(struct balloon_fixture *f, const struct virtio_balloon_plan *plan, uint64_t features,
                   unsigned queues)
{
    assert_int_equal(virtio_balloon_init(&f->balloon, &f->guest.memory, &f->loop, plan), 0);
    f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    f->balloon.device.irq.fd = f->irq;
    assert_true(guest_negotiate(&f->balloon.device, features) & VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned i = 0; i < queues; i++)
        guest_queue_init(&f->queues[i], &f->guest, &f->balloon.device, i, 64);
    guest_driver_ok(&f->balloon.device);
    (void)balloon_turns(f);
}

unsigned balloon_turns(struct balloon_fixture *f)
{
    unsigned turns = 0;
    while (turns < TURNS_MAX && loop_run_once(&f->loop, 0) > 0)
        turns++;
    assert_true(turns < TURNS_MAX);
    return turns;
}

uint16_t balloon_send(struct balloon_fixture *f, unsigned queue, uint64_t at, uint32_t size, bool writable)
{
    const struct guest_buffer buffer = {.at = at, .size = size, .writable = writable};
    const uint16_t head = guest_queue_add(&f->queues[queue], &buffer, 1, false);
    guest_queue_kick(&f->queues[queue]);
    return head;
}

void balloon_send_numbers(struct balloon_fixture *f, unsigned queue, const uint32_t *numbers, unsigned count)
{
    memcpy(guest_at(&f->guest, f->scratch), numbers, count * sizeof numbers[0]);
    (void)balloon_send(f, queue, f->scratch, count * (uint32_t)sizeof numbers[0], false);
    (void)balloon_turns(f);
    assert_true(balloon_used(f, queue));
}

bool balloon_used(struct balloon_fixture *f, unsigned queue)
{
    uint16_t head;
    uint32_t written;
    return guest_queue_take_used(&f->queues[queue], &head, &written);
}

bool balloon_is_broken(struct balloon_fixture *f)
{
    return guest_read32(&f->balloon.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

uint32_t balloon_config(struct balloon_fixture *f, uint32_t offset)
{
    return guest_read32(&f->balloon.device, VIRTIO_MMIO_CONFIG + offset);
}

void balloon_fill(struct balloon_fixture *f, uint64_t at, uint64_t size)
{
    memset(guest_at(&f->guest, at), BALLOON_FILLING, size);
}

bool balloon_all(struct balloon_fixture *f, uint64_t at, uint64_t size, uint8_t value)
{
    const uint8_t *bytes = guest_at(&f->guest, at);
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}
