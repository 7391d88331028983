/*
 * libFuzzer target: the serial port, its registers used in any order and size while the host types.
 *
 * What is checked beside memory safety: what the host typed is read in its order, nothing twice, and lost only
 * where the guest cleared the FIFO; a byte is transmitted for each that is written, and none in loop-back;
 * whoever was refused is told when there is room; a saved port, loaded and saved again, is the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <linux/serial_reg.h>

#include "agent/base/cursor.h"
#include "hostvmm/device/serial.h"
#include "hostvmm/snapshot/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct serial ports[2], *serial = &ports[0];
static uint64_t transmitted;
static bool refused, looped; /* looped: the guest has put bytes of its own into the FIFO */
static uint8_t next_typed, next_read;

static void on_byte(void *context, uint8_t byte)
{
    (void)context;
    (void)byte;
    transmitted++;
}

static void on_wanted(void *context)
{
    (void)context;
    if (!refused)
        abort();
    refused = false;
}

static const struct serial_ops ops = {.transmit = on_byte, .input_wanted = on_wanted};

static void make(struct serial *made)
{
    if (serial_init(made, &ops, NULL) < 0)
        abort();
}

static void type(struct cursor *in)
{
    uint8_t bytes[96];
    const size_t size = (size_t)cursor_get_le(in, 1) % sizeof bytes;
    const size_t room = serial_room(serial);
    refused = refused || room == 0;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(next_typed + i);
    const size_t taken = serial_receive(serial, bytes, size);
    if (taken > size || (taken < size && serial->input_count != SERIAL_INPUT_BYTES) ||
        (taken < room && taken < size))
        abort();
    next_typed = (uint8_t)(next_typed + taken);
    refused = refused || taken < size;
}

static void check_read(uint64_t offset, const uint8_t *bytes)
{
    if (offset != UART_RX || looped)
        return;
    if (bytes[0] != next_read)
        abort();
    next_read++;
}

static void guest_reads(struct cursor *in)
{
    const uint64_t offset = cursor_get_le(in, 1) % SERIAL_PORT_BYTES;
    const bool input = serial->input_count > 0 && !(serial->line_control & UART_LCR_DLAB);
    uint8_t bytes[8];
    uint32_t size = 1u << cursor_get_le(in, 1) % 4;
    if (size > SERIAL_PORT_BYTES - offset)
        size = 1;
    serial_bus_ops.read(serial, offset, bytes, size);
    if (input)
        check_read(offset, bytes);
}

static void guest_writes(struct cursor *in)
{
    const uint64_t offset = cursor_get_le(in, 1) % SERIAL_PORT_BYTES;
    const uint64_t value = cursor_get_le(in, 8), before = transmitted;
    const bool loop = serial->modem_control & UART_MCR_LOOP;
    const bool data = offset == UART_TX && !(serial->line_control & UART_LCR_DLAB);
    uint32_t size = 1u << cursor_get_le(in, 1) % 4;
    if (size > SERIAL_PORT_BYTES - offset)
        size = 1;
    serial_bus_ops.write(serial, offset, &value, size);
    if (transmitted != before + (data && !loop))
        abort();
    looped = looped || (data && loop);
    if (serial->input_count == 0) { /* cleared, or all were read: what comes next is what is typed next */
        next_read = next_typed;
        looped = false;
    }
}

static void save_and_load(struct cursor *in)
{
    struct serial *other = serial == &ports[0] ? &ports[1] : &ports[0];
    struct state_writer out[2];
    (void)in;
    for (unsigned i = 0; i < 2; i++) {
        state_writer_init(&out[i]);
        state_put_map(&out[i], NULL, 1);
        serial_save(serial, &out[i], "serial");
        if (out[i].failed)
            abort();
        if (i == 1)
            break;
        struct state_reader reader;
        make(other);
        state_reader_init(&reader, out[0].data, out[0].size_bytes);
        state_get_map(&reader, NULL, 1);
        serial_load(other, &reader, "serial");
        state_end(&reader);
        if (state_reader_finish(&reader))
            abort();
        serial_fini(serial);
        serial = other;
        refused = false; /* its host is another */
    }
    if (out[0].size_bytes != out[1].size_bytes || memcmp(out[0].data, out[1].data, out[0].size_bytes) != 0)
        abort();
    state_writer_fini(&out[0]);
    state_writer_fini(&out[1]);
    serial_revive(serial);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {type, guest_reads, guest_writes, save_and_load};
    uint8_t script[2048];
    if (size > sizeof script)
        return -1;
    memcpy(script, data, size);
    next_typed = next_read = 0;
    refused = looped = false;
    make(serial);
    struct cursor in = cursor_over(script, size);
    while (cursor_left(&in) > 0) {
        const uint8_t what = (uint8_t)cursor_get_le(&in, 1);
        steps[what % 16 == 15 ? 3 : what % 3](&in);
        if (serial->input_count > SERIAL_INPUT_BYTES || serial->input_first >= SERIAL_INPUT_BYTES)
            abort();
    }
    serial_fini(serial);
    return 0;
}
