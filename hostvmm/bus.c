/*
 * See bus.h. Windows are kept sorted, so that a lookup is a binary search; an access must lie wholly within
 * one window, or nobody answers it.
 */
#include "hostvmm/bus.h"

#include <errno.h>
#include <string.h>

/* How many windows begin at or below `address`: the last of them is the only one that can hold it. */
static unsigned windows_up_to(const struct bus *bus, uint64_t address)
{
    unsigned low = 0;
    unsigned high = bus->count;
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (bus->windows[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *device,
            const char *name)
{
    if (size == 0 || base + (size - 1) < base)
        return -EINVAL;
    if (bus->count == BUS_WINDOWS_MAX)
        return -ENOSPC;
    const unsigned at = windows_up_to(bus, base);
    if (at > 0 && base - bus->windows[at - 1].base < bus->windows[at - 1].size)
        return -EEXIST;
    if (at < bus->count && bus->windows[at].base - base < size)
        return -EEXIST;
    memmove(&bus->windows[at + 1], &bus->windows[at], (bus->count - at) * sizeof bus->windows[0]);
    bus->windows[at] = (struct bus_window){base, size, ops, device, name};
    bus->count++;
    return 0;
}

static const struct bus_window *window_of(const struct bus *bus, uint64_t address, uint32_t size)
{
    const unsigned count = windows_up_to(bus, address);
    if (count == 0)
        return NULL;
    const struct bus_window *window = &bus->windows[count - 1];
    const uint64_t offset = address - window->base;
    return offset < window->size && size <= window->size - offset ? window : NULL;
}

static bool size_is_valid(uint32_t size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

bool bus_read(struct bus *bus, uint64_t address, void *data, uint32_t size)
{
    const struct bus_window *window = size_is_valid(size) ? window_of(bus, address, size) : NULL;
    if (!window) {
        memset(data, 0xff, size);
        __atomic_fetch_add(&bus->unclaimed, 1, __ATOMIC_RELAXED);
        return false;
    }
    window->ops->read(window->device, address - window->base, data, size);
    return true;
}

bool bus_write(struct bus *bus, uint64_t address, const void *data, uint32_t size)
{
    const struct bus_window *window = size_is_valid(size) ? window_of(bus, address, size) : NULL;
    if (!window) {
        __atomic_fetch_add(&bus->unclaimed, 1, __ATOMIC_RELAXED);
        return false;
    }
    window->ops->write(window->device, address - window->base, data, size);
    return true;
}
