/* The pure part of arch.h: see layout.h for the map. */
#include "hostvmm/arch/x86_64/layout.h"

#include "hostvmm/arch/arch.h"

#define PAGE_BYTES 4096u

_Static_assert(X86_GSI_VIRTIO + ARCH_VIRTIO_SLOTS_MAX <= X86_GSI_EVENTS, "each line has one device");

unsigned arch_memory_layout(uint64_t size_bytes, struct guest_region regions[GUEST_REGIONS_MAX])
{
    if (size_bytes % PAGE_BYTES || size_bytes < (uint64_t)ARCH_MEMORY_MIN_MIB * ARCH_MIB ||
        size_bytes > (uint64_t)ARCH_MEMORY_MAX_MIB * ARCH_MIB)
        return 0;
    const uint64_t low = size_bytes < X86_HOLE ? size_bytes : X86_HOLE;
    regions[0] = (struct guest_region){.base = 0, .size_bytes = low};
    if (low == size_bytes)
        return 1;
    regions[1] = (struct guest_region){.base = X86_HOLE_END, .size_bytes = size_bytes - low};
    return 2;
}

struct arch_slot arch_virtio_slot(unsigned index)
{
    return (struct arch_slot){
        .base = X86_VIRTIO + (uint64_t)index * ARCH_VIRTIO_SLOT_BYTES,
        .gsi = X86_GSI_VIRTIO + index,
    };
}

struct arch_slot arch_serial_slot(void)
{
    return (struct arch_slot){.base = X86_SERIAL_PORT, .gsi = X86_GSI_SERIAL};
}

struct arch_slot arch_lifecycle_slot(void)
{
    return (struct arch_slot){.base = X86_LIFECYCLE_PORT};
}

struct arch_slot arch_keyboard_slot(void)
{
    return (struct arch_slot){.base = X86_KEYBOARD_PORT};
}

struct arch_slot arch_event_slot(void)
{
    return (struct arch_slot){.gsi = X86_GSI_EVENTS};
}

struct gpa arch_vmgenid_address(void)
{
    return gpa_of(X86_VMGENID);
}
