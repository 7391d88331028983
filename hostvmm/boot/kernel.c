/* See kernel.h. What the file is, and what every plan must satisfy whatever it is. */
#include "hostvmm/boot/kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/arch/arch.h"

#define KERNEL_ADDRESS_END (1ull << 40)

int kernel_refuse(struct kernel_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return -ENOEXEC;
}

static int check_segment(const struct kernel_source *source, const struct kernel_plan *plan, unsigned index,
                         struct kernel_error *error)
{
    const struct kernel_segment *segment = &plan->segments[index];
    if (segment->file_bytes > source->size_bytes ||
        segment->file_offset > source->size_bytes - segment->file_bytes)
        return kernel_refuse(
            error, "truncated: segment %u needs bytes %llu to %llu of a file of %llu bytes; copy it again",
            index, (unsigned long long)segment->file_offset,
            (unsigned long long)segment->file_offset + segment->file_bytes,
            (unsigned long long)source->size_bytes);
    if (segment->memory_bytes < segment->file_bytes)
        return kernel_refuse(error, "segment %u is larger in the file than in memory", index);
    if (segment->at.value < ARCH_BOOT_AREA_END)
        return kernel_refuse(error,
                             "segment %u wants guest address 0x%llx, but kernels begin at 0x%x or above",
                             index, (unsigned long long)segment->at.value, ARCH_BOOT_AREA_END);
    if (segment->at.value > KERNEL_ADDRESS_END || segment->memory_bytes > KERNEL_ADDRESS_END)
        return kernel_refuse(error, "segment %u wants guest address 0x%llx, size 0x%llx: beyond any memory",
                             index, (unsigned long long)segment->at.value,
                             (unsigned long long)segment->memory_bytes);
    for (unsigned i = 0; i < index; i++) {
        const struct kernel_segment *other = &plan->segments[i];
        if (segment->at.value < other->at.value + other->memory_bytes &&
            other->at.value < segment->at.value + segment->memory_bytes)
            return kernel_refuse(error, "segments %u and %u overlap in memory", i, index);
    }
    return 0;
}

static int check_plan(const struct kernel_source *source, const struct kernel_plan *plan,
                      struct kernel_error *error)
{
    bool entry_found = false;
    for (unsigned i = 0; i < plan->segment_count; i++) {
        const int refused = check_segment(source, plan, i, error);
        if (refused)
            return refused;
        const struct kernel_segment *segment = &plan->segments[i];
        if (plan->entry.value - segment->at.value < segment->file_bytes)
            entry_found = true;
    }
    if (!entry_found)
        return kernel_refuse(error, "entry point 0x%llx lies in none of its segments",
                             (unsigned long long)plan->entry.value);
    return 0;
}

/* A name for what the file seems to be instead, for the message. */
static const char *other_format(const uint8_t *head)
{
    static const struct {
        unsigned offset;
        unsigned magic_bytes;
        const char *magic;
        const char *name;
    } formats[] = {
        {56, 4, "ARM\x64", "a Linux kernel for another architecture, AArch64"},
        {0, 2, "\x1f\x8b", "compressed with gzip: unpack it first"},
        {0, 4, "\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"},
        {0, 5, "\xfd\x37zXZ", "compressed with xz: unpack it first"},
        {0, 6, "070701", "a cpio archive: is it the initrd?"},
        {0, 4, "hsqs", "a squashfs image: is it the root file system?"},
        {1024, 4, "\xe2\xe1\xf5\xe0", "an erofs image: is it the root file system?"},
    };
    for (unsigned i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (memcmp(head + formats[i].offset, formats[i].magic, formats[i].magic_bytes) == 0)
            return formats[i].name;
    return NULL;
}

int kernel_parse(const struct kernel_source *source, struct kernel_plan *plan, struct kernel_error *error)
{
    uint8_t head[KERNEL_HEAD_BYTES] = {0};
    *plan = (struct kernel_plan){0};
    error->text[0] = '\0';
    if (source->size_bytes == 0)
        return kernel_refuse(error, "the file is empty");
    const uint64_t head_bytes = source->size_bytes < sizeof head ? source->size_bytes : sizeof head;
    int result = source->read(source->context, 0, head, (size_t)head_bytes);
    if (result) {
        (void)kernel_refuse(error, "cannot be read: %s", strerror(-result));
        return result;
    }
    if (memcmp(head,
               "\x7f"
               "ELF",
               4) == 0)
        result = kernel_parse_elf(source, head, plan, error);
    else if (memcmp(head + 0x202, "HdrS", 4) == 0)
        result = kernel_parse_bzimage(source, head, plan, error);
    else {
        const char *other = other_format(head);
        return kernel_refuse(error, "not a kernel%s%s; want an x86-64 vmlinux (ELF) or bzImage",
                             other ? ": it looks like " : "", other ? other : "");
    }
    return result ? result : check_plan(source, plan, error);
}
