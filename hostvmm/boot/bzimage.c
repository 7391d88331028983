/*
 * bzImage (Linux, Documentation/arch/x86/boot.rst), protocol 2.12 or later, entered at its 64-bit entry.
 *
 * The part after the setup sectors is loaded at the address it prefers; it unpacks itself there and needs
 * init_size bytes from there on. Everything is taken from one copy of the header.
 */
#include <errno.h>
#include <string.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/boot/kernel.h"

/* Offsets in the file, of the fields used here. */
#define SETUP_SECTS      0x1f1
#define SYSSIZE          0x1f4
#define BOOT_FLAG        0x1fe
#define HEADER_END       0x201 /* the header ends at 0x202 + this byte */
#define VERSION          0x206
#define LOADFLAGS        0x211
#define INITRD_ADDR_MAX  0x22c
#define KERNEL_ALIGNMENT 0x230
#define XLOADFLAGS       0x236
#define CMDLINE_SIZE     0x238
#define PREF_ADDRESS     0x258
#define INIT_SIZE        0x260
#define HEADER_NEEDED    0x264

#define VERSION_NEEDED   0x20c
#define LOADED_HIGH      1
#define XLF_KERNEL_64    1
#define ENTRY_64_OFFSET  0x200
#define SECTOR_BYTES     512
#define INIT_SIZE_MAX    (1u << 30)

static uint64_t field(const uint8_t *head, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)head[offset + i] << (8 * i);
    return value;
}

static int check_header(const uint8_t *head, uint64_t file_bytes, struct kernel_error *error)
{
    if (file_bytes < HEADER_NEEDED || field(head, BOOT_FLAG, 2) != 0xaa55)
        return kernel_refuse(error, "truncated or damaged: its boot sector is not whole");
    const unsigned version = (unsigned)field(head, VERSION, 2);
    if (version < VERSION_NEEDED)
        return kernel_refuse(error, "boot protocol %u.%02u; want 2.12 (Linux 3.8) or later", version >> 8,
                             version & 0xff);
    if (!(head[LOADFLAGS] & LOADED_HIGH))
        return kernel_refuse(error, "a zImage; want a bzImage");
    if (!(head[XLOADFLAGS] & XLF_KERNEL_64))
        return kernel_refuse(error, "a 32-bit kernel; this hostvmm boots x86-64 kernels");
    const uint64_t alignment = field(head, KERNEL_ALIGNMENT, 4);
    const uint64_t preferred = field(head, PREF_ADDRESS, 8);
    if (alignment == 0 || (alignment & (alignment - 1)) || preferred % alignment)
        return kernel_refuse(error, "damaged: wants address 0x%llx aligned to 0x%llx",
                             (unsigned long long)preferred, (unsigned long long)alignment);
    if (field(head, INIT_SIZE, 4) > INIT_SIZE_MAX)
        return kernel_refuse(error, "damaged: wants 0x%llx bytes of memory to unpack itself",
                             (unsigned long long)field(head, INIT_SIZE, 4));
    return 0;
}

int kernel_parse_bzimage(const struct kernel_source *source, const uint8_t *head, struct kernel_plan *plan,
                         struct kernel_error *error)
{
    const int refused = check_header(head, source->size_bytes, error);
    if (refused)
        return refused;
    const unsigned setup_sectors = head[SETUP_SECTS] ? head[SETUP_SECTS] : 4;
    const uint64_t offset = (setup_sectors + 1u) * SECTOR_BYTES;
    const uint64_t size = field(head, SYSSIZE, 4) * 16;
    if (offset >= source->size_bytes || size > source->size_bytes - offset)
        return kernel_refuse(error,
                             "truncated: the header promises %llu bytes, the file has %llu; copy it again",
                             (unsigned long long)offset + size, (unsigned long long)source->size_bytes);
    if (size <= ENTRY_64_OFFSET)
        return kernel_refuse(error, "damaged: only %llu bytes of kernel", (unsigned long long)size);
    const uint64_t init_bytes = field(head, INIT_SIZE, 4);
    plan->protocol = KERNEL_LINUX64;
    plan->segment_count = 1;
    plan->segments[0] = (struct kernel_segment){
        .file_offset = offset,
        .file_bytes = size,
        .memory_bytes = init_bytes > size ? init_bytes : size,
        .at = gpa_of(field(head, PREF_ADDRESS, 8)),
    };
    plan->entry = gpa_of(plan->segments[0].at.value + ENTRY_64_OFFSET);
    plan->end = plan->segments[0].at.value + plan->segments[0].memory_bytes;
    plan->initrd_end = field(head, INITRD_ADDR_MAX, 4) + 1;
    plan->command_line_max = (uint32_t)field(head, CMDLINE_SIZE, 4);
    const unsigned header_end = 0x202u + head[HEADER_END];
    plan->setup_header_bytes = header_end - SETUP_SECTS;
    if (plan->setup_header_bytes > sizeof plan->setup_header)
        plan->setup_header_bytes = sizeof plan->setup_header; /* fields newer than the ones we know */
    memcpy(plan->setup_header, head + SETUP_SECTS, plan->setup_header_bytes);
    return 0;
}
