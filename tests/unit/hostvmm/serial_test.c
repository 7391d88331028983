/* The serial port as a driver sees it, and the lifecycle ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hostvmm/device/lifecycle.h"
#include "hostvmm/device/serial.h"
#include "hostvmm/snapshot/codec.h"

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

struct fixture {
    struct serial serial;
    char sent[64];
    size_t sent_count;
    unsigned wanted;
};

static void on_transmit(void *context, uint8_t byte)
{
    struct fixture *f = context;
    if (f->sent_count < sizeof f->sent)
        f->sent[f->sent_count++] = (char)byte;
}

static void on_wanted(void *context)
{
    struct fixture *f = context;
    f->wanted++;
}

static const struct serial_ops ops = {.transmit = on_transmit, .input_wanted = on_wanted};

static int setup(void **state)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    assert_int_equal(serial_init(&f.serial, &ops, &f), 0);
    f.serial.irq.fd = eventfd(0, EFD_NONBLOCK);
    assert_true(f.serial.irq.fd >= 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(f->serial.irq.fd);
    serial_fini(&f->serial);
    return 0;
}

static uint8_t in(struct fixture *f, uint64_t offset)
{
    uint8_t value;
    serial_bus_ops.read(&f->serial, offset, &value, 1);
    return value;
}

static void out(struct fixture *f, uint64_t offset, uint8_t value)
{
    serial_bus_ops.write(&f->serial, offset, &value, 1);
}

/* How many interrupts since the last call. */
static unsigned interrupts(struct fixture *f)
{
    uint64_t count = 0;
    return read(f->serial.irq.fd, &count, sizeof count) == sizeof count ? (unsigned)count : 0;
}

/* What Linux's 8250 driver does to find out which port this is. */
static void a_driver_finds_a_16550a(void **state)
{
    struct fixture *f = *state;
    out(f, IER, 0);
    assert_int_equal(in(f, IER) & 0x0f, 0);
    out(f, IER, 0x0f);
    assert_int_equal(in(f, IER) & 0x0f, 0x0f);
    out(f, IER, 0);
    out(f, MCR, 0x1a); /* loop back with RTS and OUT2 */
    assert_int_equal(in(f, MSR) & 0xf0, 0x90);
    out(f, MCR, 0x15);
    assert_int_equal(in(f, MSR) & 0xf0, 0x60);
    out(f, MCR, 0);
    assert_int_equal(in(f, MSR) & 0xf0, 0xb0);
    out(f, FCR, 1);
    assert_int_equal(in(f, IIR) >> 6, 3);
    out(f, FCR, 0);
    assert_int_equal(in(f, IIR) >> 6, 0);
    out(f, SCR, 0xa5);
    assert_int_equal(in(f, SCR), 0xa5);
    out(f, LCR, 0x83);
    out(f, 0, 0x01);
    out(f, 1, 0x02);
    assert_int_equal(in(f, 0), 1);
    assert_int_equal(in(f, 1), 2);
    out(f, LCR, 0x03);
    assert_int_equal(in(f, 1) & 0x0f, 0);
    assert_int_equal(f->sent_count, 0);
    assert_int_equal(in(f, LSR), 0x60);
}

static void bytes_go_out(void **state)
{
    struct fixture *f = *state;
    for (const char *c = "hello"; *c; c++)
        out(f, THR, (uint8_t)*c);
    assert_int_equal(f->sent_count, 5);
    assert_memory_equal(f->sent, "hello", 5);
    assert_int_equal(interrupts(f), 0); /* nobody asked */
}

static void an_empty_transmitter_interrupts_once_per_byte(void **state)
{
    struct fixture *f = *state;
    out(f, IER, 2);
    assert_int_equal(interrupts(f), 1); /* empty already */
    assert_int_equal(in(f, IIR) & 0x0f, 2);
    assert_int_equal(in(f, IIR) & 0x0f, 1); /* reading acknowledged it */
    out(f, IER, 2);
    assert_int_equal(interrupts(f), 0); /* no news */
    out(f, THR, 'x');
    assert_int_equal(interrupts(f), 1);
    assert_int_equal(in(f, IIR) & 0x0f, 2);
    out(f, IER, 0);
    out(f, THR, 'y');
    assert_int_equal(interrupts(f), 0);
    assert_int_equal(in(f, IIR) & 0x0f, 1);
    out(f, IER, 2);
    assert_int_equal(interrupts(f), 1);
}

static void input_interrupts_and_outranks_output(void **state)
{
    struct fixture *f = *state;
    out(f, IER, 3);
    (void)interrupts(f);
    assert_int_equal(serial_receive(&f->serial, (const uint8_t *)"ab", 2), 2);
    assert_int_equal(interrupts(f), 1);
    assert_int_equal(in(f, IIR) & 0x0f, 4);
    assert_int_equal(in(f, LSR), 0x61);
    assert_int_equal(in(f, RBR), 'a');
    assert_int_equal(in(f, IIR) & 0x0f, 4);
    assert_int_equal(in(f, RBR), 'b');
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, IIR) & 0x0f, 2);
    assert_int_equal(in(f, IIR) & 0x0f, 1);
    assert_int_equal(in(f, RBR), 0); /* nothing there */
}

static void input_waits_for_whoever_enables_it_later(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(serial_receive(&f->serial, (const uint8_t *)"z", 1), 1);
    assert_int_equal(interrupts(f), 0);
    out(f, IER, 1);
    assert_int_equal(interrupts(f), 1);
    assert_int_equal(in(f, RBR), 'z');
}

static void a_full_fifo_refuses_and_asks_again_when_empty(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[SERIAL_INPUT_BYTES + 10];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    out(f, IER, 1);
    assert_int_equal(serial_room(&f->serial), SERIAL_INPUT_BYTES);
    assert_int_equal(serial_receive(&f->serial, bytes, sizeof bytes), SERIAL_INPUT_BYTES);
    assert_int_equal(serial_room(&f->serial), 0);
    for (unsigned i = 0; i < SERIAL_INPUT_BYTES; i++) {
        assert_int_equal(f->wanted, 0);
        assert_int_equal(in(f, RBR), i);
    }
    assert_int_equal(f->wanted, 1);
    assert_int_equal(serial_receive(&f->serial, bytes + SERIAL_INPUT_BYTES, 10), 10);
    assert_int_equal(in(f, RBR), SERIAL_INPUT_BYTES);
    out(f, FCR, 3); /* clear the receive FIFO */
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(f->wanted, 1); /* nobody was waiting */
}

static void input_is_not_asked_for_before_a_driver_listens(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(serial_room(&f->serial), 0);
    out(f, IER, 2);
    assert_int_equal(f->wanted, 0);
    out(f, IER, 3);
    assert_int_equal(f->wanted, 1);
    assert_int_equal(serial_room(&f->serial), SERIAL_INPUT_BYTES);
    out(f, IER, 0);
    out(f, IER, 1);
    assert_int_equal(f->wanted, 1); /* nobody was refused */
}

static void loop_back_stays_inside(void **state)
{
    struct fixture *f = *state;
    out(f, MCR, 0x10);
    out(f, THR, 'q');
    assert_int_equal(f->sent_count, 0);
    assert_int_equal(in(f, RBR), 'q');
    for (unsigned i = 0; i < 3 * SERIAL_INPUT_BYTES; i++)
        out(f, THR, 'r'); /* more than fits: dropped */
    assert_int_equal(serial_receive(&f->serial, (const uint8_t *)"x", 1), 0);
}

struct life {
    unsigned power_offs, resets;
    unsigned stages[GUEST_STAGE_MAX + 1];
};

static void on_stage(void *context, enum guest_stage stage)
{
    struct life *life = context;
    life->stages[stage]++;
}

static void on_power_off(void *context)
{
    struct life *life = context;
    life->power_offs++;
}

static void on_reset(void *context)
{
    struct life *life = context;
    life->resets++;
}

static const struct lifecycle_ops life_ops = {
    .stage = on_stage,
    .power_off = on_power_off,
    .reset = on_reset,
};

static void poke(struct lifecycle *lifecycle, uint64_t offset, uint8_t value)
{
    lifecycle_bus_ops.write(lifecycle, offset, &value, 1);
}

static void the_guest_tells_its_life(void **state)
{
    (void)state;
    struct life life = {0};
    struct lifecycle lifecycle;
    lifecycle_init(&lifecycle, &life_ops, &life);
    poke(&lifecycle, LIFECYCLE_STAGE, GUEST_STAGE_PID1);
    poke(&lifecycle, LIFECYCLE_STAGE, GUEST_STAGE_FUNCTION_READY);
    poke(&lifecycle, LIFECYCLE_STAGE, 0);
    poke(&lifecycle, LIFECYCLE_STAGE, GUEST_STAGE_MAX + 1);
    assert_int_equal(life.stages[GUEST_STAGE_PID1], 1);
    assert_int_equal(life.stages[GUEST_STAGE_FUNCTION_READY], 1);
    assert_int_equal(lifecycle.unknown, 2);
    assert_int_equal(lifecycle_reason(&lifecycle), GUEST_EXIT_ORDERLY);
    poke(&lifecycle, LIFECYCLE_REASON, GUEST_EXIT_NO_AGENT);
    poke(&lifecycle, LIFECYCLE_REASON, 200);
    assert_int_equal(lifecycle_reason(&lifecycle), GUEST_EXIT_NO_AGENT);
    assert_int_equal(lifecycle.unknown, 3);
    poke(&lifecycle, LIFECYCLE_SLEEP_STATUS, 0x80);
    poke(&lifecycle, LIFECYCLE_SLEEP_CONTROL, 5 << 2);        /* type without enable */
    poke(&lifecycle, LIFECYCLE_SLEEP_CONTROL, 3 << 2 | 0x20); /* another sleep state */
    poke(&lifecycle, LIFECYCLE_RESET, 0);
    assert_int_equal(life.power_offs + life.resets, 0);
    poke(&lifecycle, LIFECYCLE_SLEEP_CONTROL, 5 << 2 | 0x20);
    assert_int_equal(life.power_offs, 1);
    poke(&lifecycle, LIFECYCLE_RESET, LIFECYCLE_RESET_VALUE);
    assert_int_equal(life.resets, 1);
    uint32_t value = 1;
    lifecycle_bus_ops.read(&lifecycle, 0, &value, 4);
    assert_int_equal(value, 0);
    const uint8_t commands[] = {0xaa, LIFECYCLE_KEYBOARD_RESET}; /* self-test: nobody answers */
    uint8_t status = 0;
    lifecycle_keyboard_ops.read(&lifecycle, 0, &status, 1);
    assert_int_equal(status, 0xfd);
    lifecycle_keyboard_ops.write(&lifecycle, 0, &commands[0], 1);
    assert_int_equal(life.resets, 1);
    lifecycle_keyboard_ops.write(&lifecycle, 0, &commands[1], 1);
    assert_int_equal(life.resets, 2);
}

static void a_port_goes_on_where_it_was_saved(void **state)
{
    struct fixture *f = *state;
    struct serial copy;
    struct state_writer saved;
    struct state_reader reader;
    const uint8_t typed[] = "abc";
    state_writer_init(&saved);
    assert_int_equal(serial_init(&copy, &ops, f), 0);
    copy.irq.fd = f->serial.irq.fd;
    assert_int_equal(serial_room(&copy), 0); /* somebody waits to give it input */
    out(f, SCR, 0x5a);
    out(f, MCR, 0x0b);
    out(f, IER, 0x01);
    assert_int_equal(serial_receive(&f->serial, typed, 3), 3);
    assert_int_equal(in(f, RBR), 'a');
    (void)interrupts(f);
    serial_save(&f->serial, &saved, "serial");
    state_reader_init(&reader, saved.data, saved.size_bytes);
    serial_load(&copy, &reader, "serial");
    assert_int_equal(state_reader_finish(&reader), 0);
    assert_int_equal(interrupts(f), 0);
    serial_revive(&copy);
    assert_int_equal(interrupts(f), 1);
    assert_int_equal(f->wanted, 1);
    serial_fini(&f->serial);
    f->serial = copy;
    assert_int_equal(in(f, SCR), 0x5a);
    assert_int_equal(in(f, MCR), 0x0b);
    assert_int_equal(in(f, RBR), 'b');
    assert_int_equal(in(f, RBR), 'c');
    assert_int_equal(in(f, LSR) & 1, 0);
    /* Registers that no driver could have written. */
    f->serial.modem_control = 0xff;
    state_writer_fini(&saved);
    serial_save(&f->serial, &saved, "serial");
    state_reader_init(&reader, saved.data, saved.size_bytes);
    serial_load(&f->serial, &reader, "serial");
    assert_true(state_reader_finish(&reader) < 0);
    assert_non_null(strstr(reader.why, "serial.modem_control"));
    state_writer_fini(&saved);
}

static void the_guests_life_so_far_is_kept(void **state)
{
    struct life life = {0};
    struct lifecycle before, after;
    struct state_writer saved;
    struct state_reader reader;
    (void)state;
    state_writer_init(&saved);
    lifecycle_init(&before, &life_ops, &life);
    poke(&before, LIFECYCLE_STAGE, GUEST_STAGE_PID1);
    poke(&before, LIFECYCLE_REASON, GUEST_EXIT_MAX);
    assert_true(lifecycle_stage_reached(&before, GUEST_STAGE_PID1));
    assert_false(lifecycle_stage_reached(&before, GUEST_STAGE_FUNCTION_READY));
    memset(&life, 0, sizeof life);
    for (uint32_t strange = 0; strange < 3; strange++) {
        if (strange)
            before.stages |= strange == 1 ? 1u : 2u << GUEST_STAGE_MAX;
        state_writer_fini(&saved);
        lifecycle_save(&before, &saved, "lifecycle");
        state_reader_init(&reader, saved.data, saved.size_bytes);
        lifecycle_init(&after, &life_ops, &life);
        lifecycle_load(&after, &reader, "lifecycle");
        assert_int_equal(state_reader_finish(&reader) < 0, strange > 0);
        assert_int_equal(lifecycle_stage_reached(&after, GUEST_STAGE_PID1), strange == 0);
        assert_int_equal(lifecycle_reason(&after), strange ? 0 : GUEST_EXIT_MAX);
    }
    static const struct life untouched;
    assert_memory_equal(&life, &untouched, sizeof life);
    state_writer_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_driver_finds_a_16550a, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_go_out, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_transmitter_interrupts_once_per_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(input_interrupts_and_outranks_output, setup, teardown),
        cmocka_unit_test_setup_teardown(input_waits_for_whoever_enables_it_later, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_fifo_refuses_and_asks_again_when_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(input_is_not_asked_for_before_a_driver_listens, setup, teardown),
        cmocka_unit_test_setup_teardown(loop_back_stays_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_goes_on_where_it_was_saved, setup, teardown),
        cmocka_unit_test(the_guest_tells_its_life),
        cmocka_unit_test(the_guests_life_so_far_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
