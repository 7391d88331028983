/* The virtqueue against a correct driver, and against each way a driver can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/virtio/guest.h"

#define RAM_BYTES  (1u << 20)
#define QUEUE_SIZE 8

struct fixture {
    struct guest guest;
    struct guest_queue driver;
    struct virtq queue;
    struct virtq_chain chain;
    uint64_t page;
};

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    guest_init(&f.guest, RAM_BYTES);
    guest_queue_init(&f.driver, &f.guest, NULL, 0, QUEUE_SIZE);
    f.page = guest_alloc(&f.guest, 4096, 4096);
    f.queue = (struct virtq){
        .desc = {f.driver.desc},
        .avail = {f.driver.avail},
        .used = {f.driver.used},
        .size_max = QUEUE_SIZE,
        .size = QUEUE_SIZE,
        .ready = true,
        .indirect = true,
    };
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    guest_fini(&f->guest);
    return 0;
}

static int pop(struct fixture *f)
{
    return virtq_pop(&f->queue, &f->guest.memory, &f->chain);
}

/* Start both sides at index `at`, as after that many chains. */
static void start_at(struct fixture *f, uint16_t at)
{
    f->queue.last_avail = f->queue.last_used = f->queue.signalled_used = at;
    f->driver.avail_index = f->driver.used_seen = at;
    guest_queue_avail(&f->driver)->idx = at;
    guest_queue_used(&f->driver)->idx = at;
}

static void test_validate(void **state)
{
    struct fixture *f = *state;
    const struct guest_memory *memory = &f->guest.memory;
    struct virtq good = f->queue;
    assert_int_equal(virtq_validate(&good, memory), 0);
    static const uint16_t bad_sizes[] = {0, 3, 6, 7, 16, 512, 65535};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        struct virtq queue = good;
        queue.size = bad_sizes[i];
        assert_int_equal(virtq_validate(&queue, memory), -EINVAL);
    }
    struct virtq queue = good;
    queue.desc.value += 8;
    assert_int_equal(virtq_validate(&queue, memory), -EADDRNOTAVAIL);
    queue = good;
    queue.avail.value += 1;
    assert_int_equal(virtq_validate(&queue, memory), -EADDRNOTAVAIL);
    queue = good;
    queue.used.value += 2;
    assert_int_equal(virtq_validate(&queue, memory), -EADDRNOTAVAIL);
    const struct {
        uint64_t size;
        struct gpa *field;
    } areas[] = {{16 * QUEUE_SIZE, &queue.desc},
                 {6 + 2 * QUEUE_SIZE, &queue.avail},
                 {6 + 8 * QUEUE_SIZE, &queue.used}};
    for (size_t i = 0; i < 3; i++) {
        queue = good;
        const uint64_t alignment = i == 0 ? 16 : 4;
        areas[i].field->value = (RAM_BYTES - areas[i].size) / alignment * alignment;
        assert_int_equal(virtq_validate(&queue, memory), 0);
        areas[i].field->value += alignment; /* its last byte, or the event word, is outside */
        assert_int_equal(virtq_validate(&queue, memory), -EFAULT);
        areas[i].field->value = 0xfffffffffffffff0u; /* would wrap around */
        assert_int_equal(virtq_validate(&queue, memory), -EFAULT);
    }
}

static void test_chain(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffers[] = {
        {f->page, 10, false}, {f->page + 100, 6, false}, {f->page + 200, 4, true}, {f->page + 300, 8, true}};
    memcpy(guest_at(&f->guest, f->page), "0123456789", 10);
    memcpy(guest_at(&f->guest, f->page + 100), "abcdef", 6);
    for (int indirect = 0; indirect < 2; indirect++) {
        assert_int_equal(pop(f), 0);
        const uint16_t head = guest_queue_add(&f->driver, buffers, 4, indirect != 0);
        assert_int_equal(pop(f), 1);
        assert_int_equal(f->chain.head, head);
        assert_int_equal(f->chain.readable_count, 2);
        assert_int_equal(f->chain.writable_count, 2);
        assert_int_equal(f->chain.readable_bytes, 16);
        assert_int_equal(f->chain.writable_bytes, 12);

        char text[32] = {0};
        assert_int_equal(virtq_chain_read(&f->chain, text, 3), 3);
        assert_int_equal(virtq_chain_read(&f->chain, text + 3, 9), 9);
        struct iovec list[VIRTQ_SIZE_MAX];
        assert_int_equal(virtq_chain_readable(&f->chain, 1, 2, list), 1);
        assert_memory_equal(list[0].iov_base, "de", 2);
        assert_int_equal(list[0].iov_len, 2);
        assert_int_equal(virtq_chain_read(&f->chain, text + 12, 20), 4);
        assert_string_equal(text, "0123456789abcdef");
        assert_int_equal(f->chain.readable_bytes, 0);

        assert_int_equal(virtq_chain_write(&f->chain, 2, "WXYZ", 4), 4);
        assert_memory_equal(guest_at(&f->guest, f->page + 202), "WX", 2);
        assert_memory_equal(guest_at(&f->guest, f->page + 300), "YZ", 2);
        assert_int_equal(virtq_chain_write(&f->chain, 10, "1234", 4), 2);
        assert_int_equal(virtq_chain_write(&f->chain, 12, "1", 1), 0);
        assert_int_equal(virtq_chain_writable(&f->chain, 3, 100, list), 2);
        assert_int_equal(list[0].iov_len, 1);
        assert_int_equal(list[1].iov_len, 8);

        assert_int_equal(virtq_push(&f->queue, &f->guest.memory, f->chain.head, 12), 0);
        uint16_t used_head;
        uint32_t written;
        assert_true(guest_queue_take_used(&f->driver, &used_head, &written));
        assert_int_equal(used_head, head);
        assert_int_equal(written, 12);
    }
}

static void test_unpop(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, true};
    const uint16_t head = guest_queue_add(&f->driver, &buffer, 1, false);
    assert_int_equal(pop(f), 1);
    virtq_unpop(&f->queue);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.head, head);
    assert_int_equal(pop(f), 0);
}

static void test_not_ready(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, true};
    guest_queue_add(&f->driver, &buffer, 1, false);
    f->queue.ready = false;
    assert_int_equal(pop(f), 0);
    assert_false(virtq_should_signal(&f->queue, &f->guest.memory));
    assert_false(virtq_notify_enable(&f->queue, &f->guest.memory));
}

/* Chains that would normally lead a device astray: descriptor 0 (and 1) as given, published. */
static void test_broken_chains(void **state)
{
    struct fixture *f = *state;
    const uint16_t next = VRING_DESC_F_NEXT, write = VRING_DESC_F_WRITE, indirect = VRING_DESC_F_INDIRECT;
    const uint64_t table = f->driver.tables;
    const struct {
        struct vring_desc first, second;
        int error;
    } cases[] = {
        {{RAM_BYTES, 1, 0, 0}, {0}, -EFAULT},
        {{RAM_BYTES - 1, 2, 0, 0}, {0}, -EFAULT},
        {{UINT64_MAX - 3, 16, 0, 0}, {0}, -EFAULT},
        {{0, UINT32_MAX, 0, 0}, {0}, -EFAULT},
        {{f->page, 0, 0, 0}, {0}, -ENODATA},
        {{f->page, 1, next, 1}, {f->page, 0, write, 0}, -ENODATA},
        {{f->page, 1, next, QUEUE_SIZE}, {0}, -EBADSLT},
        {{f->page, 1, next, 0xffff}, {0}, -EBADSLT},
        {{f->page, 1, next, 0}, {0}, -ELOOP},
        {{f->page, 1, next, 1}, {f->page, 1, next, 0}, -ELOOP},
        {{f->page, 1, (uint16_t)(next | write), 1}, {f->page, 1, 0, 0}, -EPROTO},
        {{table, 16, (uint16_t)(indirect | next), 1}, {f->page, 1, 0, 0}, -EPROTO},
        {{table, 0, indirect, 0}, {0}, -ENODATA},
        {{table, 24, indirect, 0}, {0}, -EPROTO},
        {{RAM_BYTES - 16, 32, indirect, 0}, {0}, -EFAULT},
        {{UINT64_MAX - 15, 32, indirect, 0}, {0}, -EFAULT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start_at(f, (uint16_t)(1000 * i));
        *guest_queue_desc(&f->driver, 0) = cases[i].first;
        *guest_queue_desc(&f->driver, 1) = cases[i].second;
        guest_queue_publish(&f->driver, 0);
        const uint16_t before = f->queue.last_avail;
        assert_int_equal(pop(f), cases[i].error);
        assert_int_equal(f->queue.last_avail, before);
        assert_string_not_equal(virtq_error_text(cases[i].error), virtq_error_text(-1));
    }
}

static void test_broken_indirect(void **state)
{
    struct fixture *f = *state;
    struct vring_desc *table = guest_at(&f->guest, f->driver.tables);
    *guest_queue_desc(&f->driver, 0) = (struct vring_desc){f->driver.tables, 32, VRING_DESC_F_INDIRECT, 0};

    table[0] = (struct vring_desc){f->driver.tables, 16, VRING_DESC_F_INDIRECT, 0}; /* nested */
    guest_queue_publish(&f->driver, 0);
    assert_int_equal(pop(f), -EPROTO);
    table[0] = (struct vring_desc){f->page, 16, VRING_DESC_F_NEXT, 2}; /* beyond the table */
    assert_int_equal(pop(f), -EBADSLT);
    table[0] = (struct vring_desc){f->page, 16, VRING_DESC_F_NEXT, 1}; /* a loop inside */
    table[1] = (struct vring_desc){f->page, 16, VRING_DESC_F_NEXT, 0};
    assert_int_equal(pop(f), -ELOOP);
    table[1] = (struct vring_desc){f->page, 16, 0, 0};
    assert_int_equal(pop(f), 1);
    virtq_unpop(&f->queue);
    f->queue.indirect = false; /* not negotiated */
    assert_int_equal(pop(f), -EPROTO);

    /* Buffers in the queue's own table followed by an indirect one are allowed. */
    f->queue.indirect = true;
    *guest_queue_desc(&f->driver, 1) = *guest_queue_desc(&f->driver, 0);
    *guest_queue_desc(&f->driver, 0) = (struct vring_desc){f->page, 5, VRING_DESC_F_NEXT, 1};
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable_count, 3);
    assert_int_equal(f->chain.readable_bytes, 37);
}

/* A chain as long as the queue is the longest allowed, also through an indirect table. */
static void test_longest_chain(void **state)
{
    struct fixture *f = *state;
    struct guest_buffer buffers[QUEUE_SIZE + 1];
    for (unsigned i = 0; i <= QUEUE_SIZE; i++)
        buffers[i] = (struct guest_buffer){f->page + i, 1, i >= 4};
    guest_queue_add(&f->driver, buffers, QUEUE_SIZE, true);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable_count + f->chain.writable_count, QUEUE_SIZE);
    guest_queue_add(&f->driver, buffers, QUEUE_SIZE + 1, true);
    assert_int_equal(pop(f), -ELOOP);
}

static void test_total_too_large(void **state)
{
    struct fixture *f = *state;
    /* Five buffers that overlap: each within (pretended) RAM, 4 GiB and more together. */
    f->guest.memory.regions[0].size_bytes = 1ull << 40; /* never touched beyond the buffer */
    struct guest_buffer buffers[5];
    for (unsigned i = 0; i < 5; i++)
        buffers[i] = (struct guest_buffer){f->page, 0x40000000, true};
    guest_queue_add(&f->driver, buffers, 5, false);
    assert_int_equal(pop(f), -E2BIG);
}

static void test_wrapped_index(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, false};
    guest_queue_add(&f->driver, &buffer, 1, false);
    struct vring_avail *avail = guest_queue_avail(&f->driver);
    static const uint16_t ahead[] = {QUEUE_SIZE + 1, 32768, 65535};
    for (size_t i = 0; i < sizeof ahead / sizeof ahead[0]; i++) {
        avail->idx = ahead[i];
        assert_int_equal(pop(f), -EOVERFLOW);
    }
    avail->idx = QUEUE_SIZE;
    assert_int_equal(pop(f), 1);
    avail->ring[1] = QUEUE_SIZE; /* a head beyond the table */
    assert_int_equal(pop(f), -EBADSLT);
}

/* Every chain passes, in order, while both indices go from 65535 to 0; the event index is honoured. */
static void test_wrap_around(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, true};
    f->queue.event_idx = f->driver.event_idx = true;
    start_at(f, 65530);
    assert_false(virtq_notify_enable(&f->queue, &f->guest.memory));
    for (unsigned i = 0; i < 20; i++) {
        uint16_t head, before = f->driver.avail_index;
        uint32_t written;
        guest_queue_want_interrupt(&f->driver);
        const uint16_t added = guest_queue_add(&f->driver, &buffer, 1, i % 2 == 0);
        assert_true(guest_queue_must_kick(&f->driver, before));
        assert_true(virtq_notify_enable(&f->queue, &f->guest.memory)); /* it came in: no kick needed */
        assert_int_equal(pop(f), 1);
        assert_int_equal(pop(f), 0);
        assert_int_equal(virtq_push(&f->queue, &f->guest.memory, f->chain.head, i), 0);
        assert_true(virtq_should_signal(&f->queue, &f->guest.memory));
        assert_false(virtq_should_signal(&f->queue, &f->guest.memory)); /* once */
        assert_true(guest_queue_take_used(&f->driver, &head, &written));
        assert_int_equal(head, added);
        assert_int_equal(written, i);
        assert_false(virtq_notify_enable(&f->queue, &f->guest.memory));
    }
    assert_int_equal(f->queue.last_avail, (uint16_t)(65530 + 20));
}

/* The driver asks for an interrupt at its third chain from now: it gets that one and no other. */
static void test_event_index_delays(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, true};
    f->queue.event_idx = f->driver.event_idx = true;
    start_at(f, 65534);
    guest_queue_avail(&f->driver)->ring[QUEUE_SIZE] = (uint16_t)(65534 + 2);
    for (unsigned i = 0; i < 5; i++) {
        guest_queue_add(&f->driver, &buffer, 1, false);
        assert_int_equal(pop(f), 1);
        assert_int_equal(virtq_push(&f->queue, &f->guest.memory, f->chain.head, 0), 0);
        assert_int_equal(virtq_should_signal(&f->queue, &f->guest.memory), i == 2);
    }
    /* Several pushes between two questions: crossed in between counts. */
    start_at(f, 100);
    guest_queue_avail(&f->driver)->ring[QUEUE_SIZE] = 101;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(virtq_push(&f->queue, &f->guest.memory, 0, 0), 0);
    assert_true(virtq_should_signal(&f->queue, &f->guest.memory));
}

/* Without the event index: the two flags. */
static void test_flags(void **state)
{
    struct fixture *f = *state;
    const struct guest_buffer buffer = {f->page, 16, true};
    virtq_notify_disable(&f->queue, &f->guest.memory);
    assert_false(guest_queue_must_kick(&f->driver, 0));
    guest_queue_add(&f->driver, &buffer, 1, false);
    assert_true(virtq_notify_enable(&f->queue, &f->guest.memory)); /* one slipped in */
    assert_true(guest_queue_must_kick(&f->driver, 0));
    assert_int_equal(pop(f), 1);
    guest_queue_avail(&f->driver)->flags = VRING_AVAIL_F_NO_INTERRUPT;
    assert_int_equal(virtq_push(&f->queue, &f->guest.memory, 0, 0), 0);
    assert_false(virtq_should_signal(&f->queue, &f->guest.memory));
    guest_queue_avail(&f->driver)->flags = 0;
    assert_int_equal(virtq_push(&f->queue, &f->guest.memory, 0, 0), 0);
    assert_true(virtq_should_signal(&f->queue, &f->guest.memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_validate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_indirect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_total_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrapped_index, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrap_around, setup, teardown),
        cmocka_unit_test_setup_teardown(test_event_index_delays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flags, setup, teardown),
    };
    return cmocka_run_group_tests_name("virtio queue", tests, NULL, NULL);
}
