/* See lifecycle.h. */
#include "hostvmm/device/lifecycle.h"

#include <string.h>

#include "hostvmm/snapshot/codec.h"

#define STAGES_ALL    ((2u << GUEST_STAGE_MAX) - (1u << GUEST_STAGE_PID1))
#define SLEEP_TYPE_S5 5u
#define SLEEP_ENABLE  (1u << 5)

void lifecycle_init(struct lifecycle *lifecycle, const struct lifecycle_ops *ops, void *context)
{
    *lifecycle = (struct lifecycle){.ops = ops, .context = context};
}

enum guest_exit lifecycle_reason(const struct lifecycle *lifecycle)
{
    return (enum guest_exit)__atomic_load_n(&lifecycle->reason, __ATOMIC_SEQ_CST);
}

bool lifecycle_stage_reached(const struct lifecycle *lifecycle, enum guest_stage stage)
{
    return (__atomic_load_n(&lifecycle->stages, __ATOMIC_SEQ_CST) >> stage & 1u) != 0;
}

static void count_unknown(struct lifecycle *lifecycle)
{
    __atomic_fetch_add(&lifecycle->unknown, 1, __ATOMIC_RELAXED);
}

static void write_register(struct lifecycle *lifecycle, uint64_t offset, uint8_t value)
{
    switch (offset) {
    case LIFECYCLE_REASON:
        if (value <= GUEST_EXIT_MAX)
            __atomic_store_n(&lifecycle->reason, value, __ATOMIC_SEQ_CST);
        else
            count_unknown(lifecycle);
        break;
    case LIFECYCLE_STAGE:
        if (value >= GUEST_STAGE_PID1 && value <= GUEST_STAGE_MAX) {
            (void)__atomic_fetch_or(&lifecycle->stages, 1u << value, __ATOMIC_SEQ_CST);
            lifecycle->ops->stage(lifecycle->context, (enum guest_stage)value);
        } else {
            count_unknown(lifecycle);
        }
        break;
    case LIFECYCLE_SLEEP_CONTROL:
        if (value & SLEEP_ENABLE && (value >> 2 & 7) == SLEEP_TYPE_S5)
            lifecycle->ops->power_off(lifecycle->context);
        break;
    case LIFECYCLE_RESET:
        if (value == LIFECYCLE_RESET_VALUE)
            lifecycle->ops->reset(lifecycle->context);
        break;
    default: /* sleep status: writing clears the wake bit, which is never set */
        break;
    }
}

static void lifecycle_read(void *device, uint64_t offset, void *data, uint32_t size)
{
    (void)device;
    (void)offset;
    memset(data, 0, size); /* none of these has anything to say */
}

static void lifecycle_write(void *device, uint64_t offset, const void *data, uint32_t size)
{
    struct lifecycle *lifecycle = device;
    const uint8_t *bytes = data;
    for (uint32_t i = 0; i < size; i++)
        write_register(lifecycle, offset + i, bytes[i]);
}

const struct bus_ops lifecycle_bus_ops = {.read = lifecycle_read, .write = lifecycle_write};

/*
 * All bits of the status but "input is not read yet": for a driver's probe, which empties the output, no
 * controller is there, as where no port is; for a kernel that waits until it may write a command, it may.
 * Linux with reboot=k would otherwise wait a second for each of ten tries, and minutes where exits are dear.
 */
static void keyboard_read(void *device, uint64_t offset, void *data, uint32_t size)
{
    (void)device;
    (void)offset;
    memset(data, 0xff & ~0x02, size);
}

static void keyboard_write(void *device, uint64_t offset, const void *data, uint32_t size)
{
    struct lifecycle *lifecycle = device;
    (void)offset;
    if (size == 1 && *(const uint8_t *)data == LIFECYCLE_KEYBOARD_RESET)
        lifecycle->ops->reset(lifecycle->context);
}

const struct bus_ops lifecycle_keyboard_ops = {.read = keyboard_read, .write = keyboard_write};

void lifecycle_save(const struct lifecycle *lifecycle, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 2);
    state_put_uint(out, "reason", lifecycle_reason(lifecycle));
    state_put_uint(out, "stages", __atomic_load_n(&lifecycle->stages, __ATOMIC_SEQ_CST));
}

void lifecycle_load(struct lifecycle *lifecycle, struct state_reader *in, const char *key)
{
    state_get_map(in, key, 2);
    const uint32_t reason = (uint32_t)state_get_uint(in, "reason", 0, GUEST_EXIT_MAX);
    const uint32_t stages = (uint32_t)state_get_uint(in, "stages", 0, UINT32_MAX);
    if (stages & ~(uint32_t)STAGES_ALL)
        state_refuse(in, "stages", "0x%x has bits of stages that nobody defined", stages);
    state_end(in);
    __atomic_store_n(&lifecycle->reason, in->failed ? 0 : reason, __ATOMIC_SEQ_CST);
    __atomic_store_n(&lifecycle->stages, in->failed ? 0 : stages, __ATOMIC_SEQ_CST);
}
