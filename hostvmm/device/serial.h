/*
 * A 16550A serial port, register level (PC16550D data sheet). What it transmits goes to its owner one byte
 * at a time; what it is given waits in a FIFO until the guest reads it.
 *
 * Registers are used on vCPU threads, serial_receive() on the loop's: one lock serialises them. The callbacks
 * run with it held, must not block, and must not call back. Transmitting takes no time: the transmitter is
 * always empty.
 */
#ifndef HOSTVMM_DEVICE_SERIAL_H
#define HOSTVMM_DEVICE_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostvmm/bus.h"
#include "hostvmm/device/irq.h"

#define SERIAL_PORT_BYTES  8
#define SERIAL_INPUT_BYTES 64u /* more than the real one's 16: fewer trips for the host's input */

struct state_reader;
struct state_writer;

struct serial_ops {
    void (*transmit)(void *context, uint8_t byte);
    void (*input_wanted)(void *context); /* after serial_room gave 0: there is room now */
};

struct serial {
    pthread_mutex_t lock;
    struct irq_line irq;
    const struct serial_ops *ops;
    void *context;
    uint8_t interrupt_enable;
    uint8_t fifo_control;
    uint8_t line_control;
    uint8_t modem_control;
    uint8_t scratch;
    uint8_t divisor[2];
    bool transmit_interrupt; /* "transmitter empty" is to be reported */
    bool refused_input;      /* serial_receive was told to wait */
    uint8_t input[SERIAL_INPUT_BYTES];
    uint32_t input_first;
    uint32_t input_count;
};

extern const struct bus_ops serial_bus_ops; /* its device is a struct serial * */

int serial_init(struct serial *serial, const struct serial_ops *ops, void *context);
void serial_fini(struct serial *serial);

/* How many bytes the guest would read now: none while no driver listens. When it is 0, input_wanted will be
 * called. */
size_t serial_room(struct serial *serial);
/* Give the guest input. How many bytes were taken. */
size_t serial_receive(struct serial *serial, const uint8_t *data, size_t size);

/* Main thread, while no vCPU runs. Load goes into a port just made; revive, once all is loaded, repeats the
 * interrupt for what is pending and asks for input that the guest has room for. */
void serial_save(struct serial *serial, struct state_writer *out, const char *key);
void serial_load(struct serial *serial, struct state_reader *in, const char *key);
void serial_revive(struct serial *serial);

#endif
