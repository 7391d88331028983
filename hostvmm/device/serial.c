/*
 * See serial.h. Interrupts are edges: one is raised when a cause appears, and the driver reads the
 * identification register until nothing is pending, as it must for a port on an edge-triggered line.
 */
#include "hostvmm/device/serial.h"

#include <errno.h>
#include <string.h>

#include "hostvmm/snapshot/codec.h"

enum {
    REGISTER_DATA = 0,             /* divisor low while DLAB is set */
    REGISTER_INTERRUPT_ENABLE = 1, /* divisor high while DLAB is set */
    REGISTER_INTERRUPT_ID = 2,     /* FIFO control when written */
    REGISTER_LINE_CONTROL = 3,
    REGISTER_MODEM_CONTROL = 4,
    REGISTER_LINE_STATUS = 5,
    REGISTER_MODEM_STATUS = 6,
    REGISTER_SCRATCH = 7,
};

#define ENABLE_RECEIVED    0x01u
#define ENABLE_TRANSMITTED 0x02u
#define ENABLE_MASK        0x0fu
#define ID_NONE            0x01u
#define ID_TRANSMITTED     0x02u
#define ID_RECEIVED        0x04u
#define ID_FIFOS           0xc0u
#define FIFO_ENABLE        0x01u
#define FIFO_CLEAR_INPUT   0x02u
#define LINE_DLAB          0x80u
#define MODEM_MASK         0x1fu
#define MODEM_LOOP         0x10u
#define STATUS_RECEIVED    0x01u
#define STATUS_EMPTY       0x60u /* holding and shift register */
#define MODEM_STATUS_READY 0xb0u /* carrier, data set ready, clear to send */

int serial_init(struct serial *serial, const struct serial_ops *ops, void *context)
{
    *serial = (struct serial){.irq = {.fd = -1}, .ops = ops, .context = context, .divisor = {12, 0}};
    return -pthread_mutex_init(&serial->lock, NULL);
}

void serial_fini(struct serial *serial)
{
    pthread_mutex_destroy(&serial->lock);
}

static uint8_t interrupt_id(const struct serial *serial)
{
    if (serial->input_count > 0 && serial->interrupt_enable & ENABLE_RECEIVED)
        return ID_RECEIVED;
    if (serial->transmit_interrupt && serial->interrupt_enable & ENABLE_TRANSMITTED)
        return ID_TRANSMITTED;
    return ID_NONE;
}

static void raise_if_pending(const struct serial *serial)
{
    if (interrupt_id(serial) != ID_NONE)
        irq_raise(&serial->irq);
}

static void put_input(struct serial *serial, uint8_t byte)
{
    serial->input[(serial->input_first + serial->input_count++) % SERIAL_INPUT_BYTES] = byte;
}

/* Whoever was refused before may try again. */
static void ask_for_input(struct serial *serial)
{
    if (!serial->refused_input)
        return;
    serial->refused_input = false;
    serial->ops->input_wanted(serial->context);
}

static uint8_t take_input(struct serial *serial)
{
    if (serial->input_count == 0)
        return 0;
    const uint8_t byte = serial->input[serial->input_first];
    serial->input_first = (serial->input_first + 1) % SERIAL_INPUT_BYTES;
    serial->input_count--;
    if (serial->input_count == 0)
        ask_for_input(serial);
    return byte;
}

/* In loop-back the modem's inputs are its outputs: DTR, RTS, OUT1, OUT2 as DSR, CTS, RI, DCD. */
static uint8_t modem_status(const struct serial *serial)
{
    const unsigned control = serial->modem_control;
    if (!(control & MODEM_LOOP))
        return MODEM_STATUS_READY;
    return (uint8_t)((control & 1u) << 5 | (control & 2u) << 3 | (control & 4u) << 4 | (control & 8u) << 4);
}

static uint8_t read_interrupt_id(struct serial *serial)
{
    const uint8_t id = interrupt_id(serial);
    if (id == ID_TRANSMITTED)
        serial->transmit_interrupt = false; /* reading it acknowledges it */
    return serial->fifo_control & FIFO_ENABLE ? id | ID_FIFOS : id;
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
    const bool dlab = serial->line_control & LINE_DLAB;
    switch (offset) {
    case REGISTER_DATA:
        return dlab ? serial->divisor[0] : take_input(serial);
    case REGISTER_INTERRUPT_ENABLE:
        return dlab ? serial->divisor[1] : serial->interrupt_enable;
    case REGISTER_INTERRUPT_ID:
        return read_interrupt_id(serial);
    case REGISTER_LINE_CONTROL:
        return serial->line_control;
    case REGISTER_MODEM_CONTROL:
        return serial->modem_control;
    case REGISTER_LINE_STATUS:
        return serial->input_count > 0 ? STATUS_EMPTY | STATUS_RECEIVED : STATUS_EMPTY;
    case REGISTER_MODEM_STATUS:
        return modem_status(serial);
    default:
        return serial->scratch;
    }
}

static void transmit(struct serial *serial, uint8_t byte)
{
    if (!(serial->modem_control & MODEM_LOOP))
        serial->ops->transmit(serial->context, byte);
    else if (serial->input_count < SERIAL_INPUT_BYTES)
        put_input(serial, byte);
    serial->transmit_interrupt = true;
    raise_if_pending(serial);
}

static void enable_interrupts(struct serial *serial, uint8_t value)
{
    const unsigned newly = value & ~(unsigned)serial->interrupt_enable;
    serial->interrupt_enable = value & ENABLE_MASK;
    if (newly & ENABLE_TRANSMITTED)
        serial->transmit_interrupt = true; /* the transmitter is empty, which is news to whoever asks now */
    if (newly & ENABLE_RECEIVED)
        ask_for_input(serial);
    raise_if_pending(serial);
}

static void control_fifos(struct serial *serial, uint8_t value)
{
    if (value & FIFO_CLEAR_INPUT)
        while (serial->input_count > 0)
            (void)take_input(serial);
    serial->fifo_control = value;
}

static void write_register(struct serial *serial, uint64_t offset, uint8_t value)
{
    const bool dlab = serial->line_control & LINE_DLAB;
    switch (offset) {
    case REGISTER_DATA:
        if (dlab)
            serial->divisor[0] = value;
        else
            transmit(serial, value);
        break;
    case REGISTER_INTERRUPT_ENABLE:
        if (dlab)
            serial->divisor[1] = value;
        else
            enable_interrupts(serial, value);
        break;
    case REGISTER_INTERRUPT_ID:
        control_fifos(serial, value);
        break;
    case REGISTER_LINE_CONTROL:
        serial->line_control = value;
        break;
    case REGISTER_MODEM_CONTROL:
        serial->modem_control = value & MODEM_MASK;
        break;
    case REGISTER_SCRATCH:
        serial->scratch = value;
        break;
    default: /* status registers are the port's own */
        break;
    }
}

static void serial_read(void *device, uint64_t offset, void *data, uint32_t size)
{
    struct serial *serial = device;
    uint8_t *bytes = data;
    pthread_mutex_lock(&serial->lock);
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = read_register(serial, offset + i);
    pthread_mutex_unlock(&serial->lock);
}

static void serial_write(void *device, uint64_t offset, const void *data, uint32_t size)
{
    struct serial *serial = device;
    const uint8_t *bytes = data;
    pthread_mutex_lock(&serial->lock);
    for (uint32_t i = 0; i < size; i++)
        write_register(serial, offset + i, bytes[i]);
    pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {.read = serial_read, .write = serial_write};

size_t serial_room(struct serial *serial)
{
    pthread_mutex_lock(&serial->lock);
    /* A driver that starts clears the FIFO: what was typed ahead waits on the host until somebody reads. */
    const bool listens = serial->interrupt_enable & ENABLE_RECEIVED;
    const size_t room = listens ? SERIAL_INPUT_BYTES - serial->input_count : 0;
    if (room == 0)
        serial->refused_input = true;
    pthread_mutex_unlock(&serial->lock);
    return room;
}

size_t serial_receive(struct serial *serial, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    pthread_mutex_lock(&serial->lock);
    while (taken < size && serial->input_count < SERIAL_INPUT_BYTES)
        put_input(serial, data[taken++]);
    if (taken < size)
        serial->refused_input = true;
    raise_if_pending(serial);
    pthread_mutex_unlock(&serial->lock);
    return taken;
}

void serial_save(struct serial *serial, struct state_writer *out, const char *key)
{
    uint8_t input[SERIAL_INPUT_BYTES];
    pthread_mutex_lock(&serial->lock);
    for (uint32_t i = 0; i < serial->input_count; i++)
        input[i] = serial->input[(serial->input_first + i) % SERIAL_INPUT_BYTES];
    state_put_map(out, key, 8);
    state_put_uint(out, "interrupt_enable", serial->interrupt_enable);
    state_put_uint(out, "fifo_control", serial->fifo_control);
    state_put_uint(out, "line_control", serial->line_control);
    state_put_uint(out, "modem_control", serial->modem_control);
    state_put_uint(out, "scratch", serial->scratch);
    state_put_bytes(out, "divisor", serial->divisor, sizeof serial->divisor);
    state_put_bool(out, "transmit_interrupt", serial->transmit_interrupt);
    state_put_bytes(out, "input", input, serial->input_count);
    pthread_mutex_unlock(&serial->lock);
}

void serial_load(struct serial *serial, struct state_reader *in, const char *key)
{
    size_t size = 0;
    pthread_mutex_lock(&serial->lock);
    state_get_map(in, key, 8);
    serial->interrupt_enable = (uint8_t)state_get_uint(in, "interrupt_enable", 0, ENABLE_MASK);
    serial->fifo_control = (uint8_t)state_get_uint(in, "fifo_control", 0, UINT8_MAX);
    serial->line_control = (uint8_t)state_get_uint(in, "line_control", 0, UINT8_MAX);
    serial->modem_control = (uint8_t)state_get_uint(in, "modem_control", 0, MODEM_MASK);
    serial->scratch = (uint8_t)state_get_uint(in, "scratch", 0, UINT8_MAX);
    state_get_bytes(in, "divisor", serial->divisor, sizeof serial->divisor);
    serial->transmit_interrupt = state_get_bool(in, "transmit_interrupt");
    const uint8_t *input = state_get_span(in, "input", SERIAL_INPUT_BYTES, &size);
    serial->input_first = 0;
    serial->input_count = 0;
    for (size_t i = 0; input && i < size; i++)
        put_input(serial, input[i]);
    state_end(in);
    pthread_mutex_unlock(&serial->lock);
}

void serial_revive(struct serial *serial)
{
    pthread_mutex_lock(&serial->lock);
    if (serial->interrupt_enable & ENABLE_RECEIVED && serial->input_count < SERIAL_INPUT_BYTES)
        ask_for_input(serial);
    raise_if_pending(serial);
    pthread_mutex_unlock(&serial->lock);
}
