/*
 * ELF kernels (System V ABI, x86-64 supplement). The PVH entry is the 32-bit address in the note "Xen" 18
 * (XEN_ELFNOTE_PHYS32_ENTRY); a kernel without it is entered at e_entry by Linux's 64-bit boot protocol.
 *
 * Everything is read once into locals; see kernel.h for what a plan guarantees.
 */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "hostvmm/boot/kernel.h"

#define PHDRS_MAX       64
#define NOTES_MAX_BYTES 4096
#define NOTE_PVH_ENTRY  18
/* Linux is linked to run in the upper half of the address space; programs are not. */
#define UPPER_HALF 0xffff800000000000ull

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_386:
        return "32-bit x86";
    case EM_AARCH64:
        return "AArch64";
    case EM_ARM:
        return "32-bit Arm";
    case EM_RISCV:
        return "RISC-V";
    case EM_PPC64:
        return "POWER";
    case EM_S390:
        return "S/390";
    default:
        return "one not known here";
    }
}

static int check_header(const struct kernel_source *source, const Elf64_Ehdr *header,
                        struct kernel_error *error)
{
    if (source->size_bytes < sizeof *header)
        return kernel_refuse(error, "truncated: an ELF header of which only %llu bytes are there",
                             (unsigned long long)source->size_bytes);
    if (header->e_ident[EI_DATA] != ELFDATA2LSB)
        return kernel_refuse(error, "for a big-endian machine; this hostvmm boots x86-64 kernels");
    if (header->e_machine != EM_X86_64)
        return kernel_refuse(
            error, "for another architecture: %s (ELF machine %u); this hostvmm boots x86-64 kernels",
            machine_name(header->e_machine), header->e_machine);
    if (header->e_ident[EI_CLASS] != ELFCLASS64)
        return kernel_refuse(error, "a 32-bit ELF file; this hostvmm boots x86-64 kernels");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return kernel_refuse(error, "an ELF file of type %u, not an executable: want vmlinux",
                             header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 || header->e_phnum > PHDRS_MAX)
        return kernel_refuse(error, "%u program headers of %u bytes each; want 1 to %u of %u",
                             header->e_phnum, header->e_phentsize, PHDRS_MAX, (unsigned)sizeof(Elf64_Phdr));
    const uint64_t table_bytes = (uint64_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (table_bytes > source->size_bytes || header->e_phoff > source->size_bytes - table_bytes)
        return kernel_refuse(error, "truncated: its program headers lie beyond the end of the file");
    return 0;
}

/* Look for the PVH entry among notes. Whether it is there. */
static bool find_pvh_entry(uint8_t *notes, size_t size, struct gpa *entry)
{
    struct cursor c = cursor_over(notes, size);
    while (cursor_left(&c) >= sizeof(Elf64_Nhdr)) {
        const uint32_t name_bytes = (uint32_t)cursor_get_le(&c, 4);
        const uint32_t value_bytes = (uint32_t)cursor_get_le(&c, 4);
        const uint32_t type = (uint32_t)cursor_get_le(&c, 4);
        if (name_bytes > size || value_bytes > size)
            return false;
        const uint8_t *name = cursor_take(&c, (name_bytes + 3u) & ~3u);
        struct cursor value = c;
        (void)cursor_take(&c, (value_bytes + 3u) & ~3u);
        if (c.failed)
            return false;
        if (type != NOTE_PVH_ENTRY || name_bytes != 4 || memcmp(name, "Xen", 4) != 0)
            continue;
        if (value_bytes != 4 && value_bytes != 8)
            return false;
        entry->value = cursor_get_le(&value, value_bytes);
        return entry->value <= UINT32_MAX; /* it is entered in 32-bit mode */
    }
    return false;
}

static int read_notes(const struct kernel_source *source, const Elf64_Phdr *phdr, struct kernel_plan *plan,
                      struct kernel_error *error)
{
    uint8_t notes[NOTES_MAX_BYTES];
    const uint64_t size = phdr->p_filesz < sizeof notes ? phdr->p_filesz : sizeof notes;
    if (size > source->size_bytes || phdr->p_offset > source->size_bytes - size)
        return kernel_refuse(error, "truncated: its notes lie beyond the end of the file");
    const int failed = source->read(source->context, phdr->p_offset, notes, (size_t)size);
    if (failed) {
        (void)kernel_refuse(error, "cannot be read: %s", strerror(-failed));
        return failed;
    }
    struct gpa entry;
    if (find_pvh_entry(notes, (size_t)size, &entry)) {
        plan->protocol = KERNEL_PVH;
        plan->entry = entry;
    }
    return 0;
}

static bool is_linked_as_linux(const Elf64_Phdr *phdrs, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (phdrs[i].p_type == PT_LOAD && phdrs[i].p_vaddr >= UPPER_HALF)
            return true;
    return false;
}

static int add_segment(const Elf64_Phdr *phdr, struct kernel_plan *plan, struct kernel_error *error)
{
    if (phdr->p_memsz == 0)
        return 0;
    if (plan->segment_count == KERNEL_SEGMENTS_MAX)
        return kernel_refuse(error, "more than %u loadable segments", KERNEL_SEGMENTS_MAX);
    plan->segments[plan->segment_count++] = (struct kernel_segment){
        .file_offset = phdr->p_offset,
        .file_bytes = phdr->p_filesz,
        .memory_bytes = phdr->p_memsz,
        .at = gpa_of(phdr->p_paddr),
    };
    const uint64_t end = phdr->p_paddr + phdr->p_memsz;
    if (end > plan->end)
        plan->end = end;
    return 0;
}

int kernel_parse_elf(const struct kernel_source *source, const uint8_t *head, struct kernel_plan *plan,
                     struct kernel_error *error)
{
    Elf64_Ehdr header;
    memcpy(&header, head, sizeof header);
    int result = check_header(source, &header, error);
    if (result)
        return result;
    Elf64_Phdr phdrs[PHDRS_MAX];
    const size_t table_bytes = header.e_phnum * sizeof phdrs[0];
    if (header.e_phoff <= KERNEL_HEAD_BYTES - table_bytes)
        memcpy(phdrs, head + header.e_phoff, table_bytes);
    else
        result = source->read(source->context, header.e_phoff, phdrs, table_bytes);
    if (result) {
        (void)kernel_refuse(error, "cannot be read: %s", strerror(-result));
        return result;
    }
    plan->protocol = KERNEL_LINUX64;
    plan->entry = gpa_of(header.e_entry);
    for (unsigned i = 0; i < header.e_phnum && result == 0; i++) {
        if (phdrs[i].p_type == PT_LOAD)
            result = add_segment(&phdrs[i], plan, error);
        else if (phdrs[i].p_type == PT_NOTE)
            result = read_notes(source, &phdrs[i], plan, error);
    }
    if (result)
        return result;
    if (plan->segment_count == 0)
        return kernel_refuse(error, "an ELF file without a loadable segment");
    if (plan->protocol == KERNEL_LINUX64 && !is_linked_as_linux(phdrs, header.e_phnum))
        return kernel_refuse(error,
                             "a program, not a kernel: it has no PVH entry and is not linked as Linux is");
    plan->initrd_end = UINT32_MAX; /* both protocols name it with a 32-bit address, or gain nothing by more */
    plan->command_line_max = 2047;
    return 0;
}
