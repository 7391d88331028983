/*
 * The life of the guest, told through a few byte-wide ports: reasons and boot stages that Rekindle's init
 * writes (init/bootargs.h), and ACPI's sleep and reset registers (ACPI 6.5, 4.8.3.6, 4.8.3.7). Apart from them
 * stands one port of a keyboard controller that is not there, by which some kernels reset.
 *
 * Its handlers run on vCPU threads; the callbacks must be safe there. The state is plain data.
 */
#ifndef HOSTVMM_DEVICE_LIFECYCLE_H
#define HOSTVMM_DEVICE_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "hostvmm/bus.h"
#include "init/bootargs.h"

/* Offsets in its window. The first two are the pair that bootarg exit_port names. */
enum {
    LIFECYCLE_REASON = 0,
    LIFECYCLE_STAGE = 1,
    LIFECYCLE_SLEEP_CONTROL = 2,
    LIFECYCLE_SLEEP_STATUS = 3,
    LIFECYCLE_RESET = 4,
    LIFECYCLE_BYTES = 8,
};

#define LIFECYCLE_RESET_VALUE    0x01

#define LIFECYCLE_KEYBOARD_RESET 0xfe /* pulse the processor's reset line */

struct state_reader;
struct state_writer;

struct lifecycle_ops {
    void (*stage)(void *context, enum guest_stage stage);
    void (*power_off)(void *context);
    void (*reset)(void *context);
};

struct lifecycle {
    const struct lifecycle_ops *ops;
    void *context;
    uint32_t reason;  /* atomic: the last enum guest_exit written */
    uint32_t stages;  /* atomic: a bit for each enum guest_stage reported so far */
    uint32_t unknown; /* atomic: values nobody defined */
};

extern const struct bus_ops lifecycle_bus_ops;      /* its device is a struct lifecycle * */
extern const struct bus_ops lifecycle_keyboard_ops; /* the same; its window is one port */

void lifecycle_init(struct lifecycle *lifecycle, const struct lifecycle_ops *ops, void *context);
enum guest_exit lifecycle_reason(const struct lifecycle *lifecycle);
/* Whether the guest has reported it, before a restore perhaps. */
bool lifecycle_stage_reached(const struct lifecycle *lifecycle, enum guest_stage stage);

/* While no vCPU runs. The callbacks are not called again for what the guest reported before. */
void lifecycle_save(const struct lifecycle *lifecycle, struct state_writer *out, const char *key);
void lifecycle_load(struct lifecycle *lifecycle, struct state_reader *in, const char *key);

#endif
