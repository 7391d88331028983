/* The transport's registers and status machine, on a device kind of the test's own; and the entropy device,
 * the smallest real one, through it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/device/virtio/rng.h"
#include "tests/unit/virtio/guest.h"

#define RAM_BYTES (1u << 20)
#define OFFERED   (1ull << 5)

static unsigned activated, resets;
static int activate_result;
static const uint8_t config[6] = {1, 2, 3, 4, 5, 6};

static int activate(struct virtio_device *device)
{
    (void)device;
    activated++;
    return activate_result;
}

static void reset(struct virtio_device *device)
{
    (void)device;
    resets++;
}

static void config_read(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
    (void)device;
    virtio_config_copy(config, sizeof config, offset, data, size);
}

static const struct virtio_kind kind = {
    .id = 42,
    .name = "virtio-test",
    .queue_count = 2,
    .queue_size_max = 64,
    .activate = activate,
    .reset = reset,
    .config_read = config_read,
};

struct fixture {
    struct guest guest;
    struct virtio_device device;
    struct guest_queue queues[2];
};

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    activated = resets = 0;
    activate_result = 0;
    guest_init(&f.guest, RAM_BYTES);
    assert_int_equal(virtio_device_init(&f.device, &kind, &f.guest.memory, OFFERED), 0);
    f.device.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    virtio_device_fini(&f->device);
    close(f->device.irq.fd);
    guest_fini(&f->guest);
    return 0;
}

static bool needs_reset(struct fixture *f)
{
    return (guest_read32(&f->device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

static void bring_up(struct fixture *f)
{
    assert_true(guest_negotiate(&f->device, OFFERED) & VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned i = 0; i < 2; i++)
        guest_queue_init(&f->queues[i], &f->guest, &f->device, i, 8);
    guest_driver_ok(&f->device);
}

static void test_identity(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_VERSION), 2);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_DEVICE_ID), 42);
    guest_write32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES),
                     OFFERED | 1u << VIRTIO_RING_F_INDIRECT_DESC | 1u << VIRTIO_RING_F_EVENT_IDX);
    guest_write32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES), 1);
    guest_write32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_SEL, 2); /* there is none */
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_false(needs_reset(f));
}

/* Registers are 32 bits wide; the configuration takes any width; nothing is read beyond it. */
static void test_access_width(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[8];
    memset(bytes, 0xff, sizeof bytes);
    virtio_mmio_bus_ops.read(&f->device, VIRTIO_MMIO_MAGIC_VALUE, bytes, 2);
    assert_memory_equal(bytes, "\0\0\xff", 3);
    virtio_mmio_bus_ops.read(&f->device, 1, bytes, 4);
    assert_memory_equal(bytes, "\0\0\0\0", 4);
    virtio_mmio_bus_ops.read(&f->device, VIRTIO_MMIO_CONFIG + 1, bytes, 1);
    assert_int_equal(bytes[0], 2);
    virtio_mmio_bus_ops.read(&f->device, VIRTIO_MMIO_CONFIG + 4, bytes, 4);
    assert_memory_equal(bytes, "\5\6\0\0", 4);
    virtio_mmio_bus_ops.read(&f->device, VIRTIO_MMIO_CONFIG, bytes, 8);
    assert_memory_equal(bytes, "\1\2\3\4\5\6\0\0", 8);
    virtio_mmio_bus_ops.read(&f->device, VIRTIO_MMIO_WINDOW_BYTES - 4, bytes, 4);
    assert_memory_equal(bytes, "\0\0\0\0", 4);
    virtio_mmio_bus_ops.write(&f->device, VIRTIO_MMIO_CONFIG, bytes, 4); /* no config_write: dropped */
}

static void test_bring_up_and_reset(void **state)
{
    struct fixture *f = *state;
    bring_up(f);
    assert_int_equal(activated, 1);
    assert_true(f->device.active && f->device.queues[1].ready);
    assert_false(f->device.queues[0].event_idx);
    virtio_device_config_changed(&f->device);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_CONFIG_GENERATION), 1);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_true(guest_interrupted(&f->device));
    guest_write32(&f->device, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    guest_write32(&f->device, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    guest_queue_kick(&f->queues[1]);
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_NOTIFY, 7); /* there is none */
    assert_false(virtio_device_kick_clear(&f->device, 0));
    assert_true(virtio_device_kick_clear(&f->device, 1));

    guest_write32(&f->device, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(resets, 1);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_STATUS), 0);
    assert_false(f->device.active || f->device.queues[1].ready);
    assert_int_equal(f->device.driver_features, 0);
    guest_write32(&f->device, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(resets, 1); /* was not active */
    bring_up(f);
    assert_int_equal(activated, 2);
}

static void test_feature_refusal(void **state)
{
    struct fixture *f = *state;
    assert_false(guest_negotiate(&f->device, 1ull << 6) & VIRTIO_CONFIG_S_FEATURES_OK);
    assert_false(guest_negotiate(&f->device, 1ull << 40) & VIRTIO_CONFIG_S_FEATURES_OK);
    /* Without VERSION_1. */
    guest_write32(&f->device, VIRTIO_MMIO_STATUS, 0);
    guest_write32(&f->device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    guest_write32(&f->device, VIRTIO_MMIO_STATUS,
                  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_STATUS),
                     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    assert_false(needs_reset(f)); /* refusing is no fault */
    assert_true(guest_negotiate(&f->device, 0) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static void test_rules(void **state)
{
    struct fixture *f = *state;
    /* DRIVER_OK without FEATURES_OK. */
    guest_write32(&f->device, VIRTIO_MMIO_STATUS,
                  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    assert_true(needs_reset(f));
    assert_int_equal(activated, 0);
    assert_false(guest_interrupted(&f->device)); /* only a running driver is interrupted */
    /* Features after FEATURES_OK. */
    (void)guest_negotiate(&f->device, 0);
    assert_false(needs_reset(f));
    guest_write32(&f->device, VIRTIO_MMIO_DRIVER_FEATURES, 0xffffffff);
    assert_true(needs_reset(f));
    assert_int_equal(f->device.driver_features, 1ull << VIRTIO_F_VERSION_1);
    /* A status bit taken back. */
    (void)guest_negotiate(&f->device, 0);
    guest_write32(&f->device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_true(needs_reset(f));
    /* A running device's queue moved. */
    bring_up(f);
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_SEL, 0);
    const uint64_t desc = f->device.queues[0].desc.value;
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
    assert_true(needs_reset(f));
    assert_int_equal(f->device.queues[0].desc.value, desc);
    assert_false(virtio_device_serving(&f->device));
    assert_true(guest_interrupted(&f->device));
    assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    /* A ready queue changed before DRIVER_OK. */
    (void)guest_negotiate(&f->device, 0);
    guest_queue_init(&f->queues[0], &f->guest, &f->device, 0, 8);
    guest_write32(&f->device, VIRTIO_MMIO_QUEUE_NUM, 16);
    assert_true(needs_reset(f));
    assert_int_equal(f->device.queues[0].size, 8);
}

/* A driver that gives cause for messages for ever does not fill its host's log. */
static void test_messages_end(void **state)
{
    struct fixture *f = *state;
    int pipe_fds[2];
    char text[4096] = "";
    unsigned lines = 0;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_setup("mmio_test", LOG_LEVEL_WARN, pipe_fds[1]);
    for (unsigned i = 0; i < 100; i++) {
        guest_write32(&f->device, VIRTIO_MMIO_STATUS, 0);
        guest_write32(&f->device, VIRTIO_MMIO_STATUS, 3);
        if (i % 2)
            guest_write32(&f->device, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FAILED);
        else /* without VERSION_1 */
            guest_write32(&f->device, VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
    }
    log_setup("mmio_test", LOG_LEVEL_ERROR, 2);
    assert_true(read(pipe_fds[0], text, sizeof text - 1) > 0);
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 8);
    assert_non_null(strstr(text, "further reports are left out"));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void test_bad_queues(void **state)
{
    struct fixture *f = *state;
    const struct {
        uint32_t offset, value;
    } faults[] = {
        {VIRTIO_MMIO_QUEUE_NUM, 0},
        {VIRTIO_MMIO_QUEUE_NUM, 128},
        {VIRTIO_MMIO_QUEUE_NUM, 12},
        {VIRTIO_MMIO_QUEUE_NUM, 65536 + 8},
        {VIRTIO_MMIO_QUEUE_DESC_LOW, 8},
        {VIRTIO_MMIO_QUEUE_DESC_HIGH, 1},
        {VIRTIO_MMIO_QUEUE_AVAIL_LOW, 1},
        {VIRTIO_MMIO_QUEUE_AVAIL_LOW, RAM_BYTES - 16},
        {VIRTIO_MMIO_QUEUE_USED_LOW, 2},
        {VIRTIO_MMIO_QUEUE_USED_LOW, RAM_BYTES},
        {VIRTIO_MMIO_QUEUE_USED_HIGH, 1u << 31},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        (void)guest_negotiate(&f->device, 0);
        guest_queue_init(&f->queues[0], &f->guest, &f->device, 0, 8);
        guest_write32(&f->device, VIRTIO_MMIO_QUEUE_READY, 0);
        guest_write32(&f->device, faults[i].offset, faults[i].value);
        guest_write32(&f->device, VIRTIO_MMIO_QUEUE_READY, 1);
        assert_int_equal(guest_read32(&f->device, VIRTIO_MMIO_QUEUE_READY), 0);
        assert_true(needs_reset(f));
    }
    guest_write32(&f->device, VIRTIO_MMIO_STATUS, 0);
}

static void test_host_failure(void **state)
{
    struct fixture *f = *state;
    activate_result = -ENOMEM;
    bring_up(f);
    assert_true(needs_reset(f));
    assert_false(f->device.active);
    activate_result = 0;
    bring_up(f);
    assert_true(virtio_device_serving(&f->device));
}

static void test_rng(void **state)
{
    struct fixture *f = *state;
    struct loop loop;
    struct virtio_rng rng;
    struct guest_queue queue;
    uint16_t head;
    uint32_t written;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(virtio_rng_init(&rng, &f->guest.memory, &loop), 0);
    rng.device.irq.fd = f->device.irq.fd;
    (void)guest_negotiate(&rng.device, 1ull << VIRTIO_RING_F_EVENT_IDX);
    guest_queue_init(&queue, &f->guest, &rng.device, 0, 16);
    guest_driver_ok(&rng.device);
    const uint64_t page = guest_alloc(&f->guest, 4096, 4096);
    const struct guest_buffer two[] = {{page, 7, true}, {page + 64, 57, true}};
    guest_queue_want_interrupt(&queue);
    guest_queue_add(&queue, two, 2, false);
    guest_queue_kick(&queue);
    assert_int_equal(loop_run_once(&loop, 0), 1);
    assert_true(guest_interrupted(&rng.device));
    assert_true(guest_queue_take_used(&queue, &head, &written));
    assert_int_equal(written, 64);
    const uint8_t *bytes = guest_at(&f->guest, page);
    static const uint8_t zeros[57];
    assert_memory_not_equal(bytes + 64, zeros, 57); /* chance 2^-456 */
    assert_int_equal(bytes[7], 0);                  /* not one byte beyond */

    /* A flood of huge requests: each is cut, and takes more than one turn of the loop. */
    const uint64_t large = guest_alloc(&f->guest, 300000, 4096);
    const struct guest_buffer flood = {large, 300000, true};
    for (unsigned i = 0; i < 16; i++)
        guest_queue_add(&queue, &flood, 1, false);
    guest_queue_kick(&queue);
    unsigned turns = 0, served = 0;
    while (loop_run_once(&loop, 0) > 0) {
        turns++;
        while (guest_queue_take_used(&queue, &head, &written)) {
            assert_int_equal(written, VIRTIO_RNG_REQUEST_MAX_BYTES);
            served++;
        }
    }
    assert_int_equal(served, 16);
    assert_true(turns >= 4);

    const struct guest_buffer readable = {page, 8, false};
    guest_queue_add(&queue, &readable, 1, false);
    guest_queue_kick(&queue);
    while (loop_run_once(&loop, 0) > 0)
        ;
    assert_true(guest_read32(&rng.device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_false(guest_queue_take_used(&queue, &head, &written));
    virtio_rng_fini(&rng);
    loop_fini(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_access_width, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bring_up_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feature_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_queues, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rng, setup, teardown),
    };
    log_setup("mmio_test", LOG_LEVEL_ERROR, 2); /* what is provoked here is warned about */
    return cmocka_run_group_tests_name("virtio mmio", tests, NULL, NULL);
}
