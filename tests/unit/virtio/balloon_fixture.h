/* A balloon, and the driver's side of it, for its tests. */
#ifndef TESTS_UNIT_VIRTIO_BALLOON_FIXTURE_H
#define TESTS_UNIT_VIRTIO_BALLOON_FIXTURE_H

#include "hostvmm/device/virtio/balloon.h"
#include "tests/unit/virtio/guest.h"

#define BALLOON_RAM_BYTES (16u << 20)
#define BALLOON_BIT(name) (UINT64_C(1) << VIRTIO_BALLOON_F_##name)

struct balloon_fixture {
    struct guest guest;
    struct loop loop;
    struct virtio_balloon balloon;
    int irq;
    struct guest_queue queues[VIRTIO_BALLOON_QUEUES];
    uint64_t scratch; /* a page for requests, in RAM */
};

/* For cmocka: RAM and a loop, no device yet. */
int balloon_setup(void **state);
int balloon_teardown(void **state);
/* Make the device and drive it up to DRIVER_OK, with `queues` queues. */
void balloon_start(struct balloon_fixture *f, const struct virtio_balloon_plan *plan, uint64_t features,
                   unsigned queues);
/* Let the main loop do all there is to do at once. The turns it took. */
unsigned balloon_turns(struct balloon_fixture *f);
/* Send a request of one buffer and notify. Its head. */
uint16_t balloon_send(struct balloon_fixture *f, unsigned queue, uint64_t at, uint32_t size, bool writable);
/* A request of these page numbers, sent and used. */
void balloon_send_numbers(struct balloon_fixture *f, unsigned queue, const uint32_t *numbers, unsigned count);
/* Whether the request came back. */
bool balloon_used(struct balloon_fixture *f, unsigned queue);
bool balloon_is_broken(struct balloon_fixture *f);
uint32_t balloon_config(struct balloon_fixture *f, uint32_t offset);
/* Fill pages with something that is not zero; whether all of their bytes are `value`. */
void balloon_fill(struct balloon_fixture *f, uint64_t at, uint64_t size);
bool balloon_all(struct balloon_fixture *f, uint64_t at, uint64_t size, uint8_t value);
#define BALLOON_FILLING 0xa5

#endif
