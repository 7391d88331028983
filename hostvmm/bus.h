/*
 * Address decoding for port I/O and MMIO exits. Two buses per VM, filled before the vCPUs start and never
 * changed after: lookups take no lock. Handlers run on the vCPU's thread: they may take their device's lock,
 * and never block.
 */
#ifndef HOSTVMM_BUS_H
#define HOSTVMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct bus_ops {
    /* `offset` is within the window; `size` is 1, 2, 4 or 8 and offset + size <= the window's size. */
    void (*read)(void *device, uint64_t offset, void *data, uint32_t size);
    void (*write)(void *device, uint64_t offset, const void *data, uint32_t size);
};

#define BUS_WINDOWS_MAX 48

struct bus_window {
    uint64_t base;
    uint64_t size;
    const struct bus_ops *ops;
    void *device;
    const char *name;
};

struct bus {
    struct bus_window windows[BUS_WINDOWS_MAX]; /* sorted by base, not overlapping */
    unsigned count;
    uint64_t unclaimed; /* accesses nobody answered: reads give all ones, writes are dropped. Statistic. */
};

/* 0, -EEXIST when it overlaps another window, -ENOSPC. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *device,
            const char *name);
/* Whether a device answered. */
bool bus_read(struct bus *bus, uint64_t address, void *data, uint32_t size);
bool bus_write(struct bus *bus, uint64_t address, const void *data, uint32_t size);

#endif
