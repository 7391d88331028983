/* See images.h. */
#include "tests/unit/hostvmm/images.h"

#include <errno.h>
#include <string.h>

#define NOTES_AT   0x800
#define SEGMENT_0  0x1000
#define SEGMENT_1  0x2000
#define HEADERS_AT sizeof(Elf64_Ehdr)

Elf64_Ehdr *test_image_header(struct test_image *image)
{
    return (Elf64_Ehdr *)(void *)image->bytes;
}

Elf64_Phdr *test_image_phdr(struct test_image *image, unsigned index)
{
    return (Elf64_Phdr *)(void *)(image->bytes + HEADERS_AT + index * sizeof(Elf64_Phdr));
}

void test_image_put(struct test_image *image, unsigned offset, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        image->bytes[offset + i] = (uint8_t)(value >> (8 * i));
}

void test_image_elf(struct test_image *image, bool pvh)
{
    static const uint8_t notes[] = {
        4, 0, 0, 0, 3, 0, 0, 0, 1,  0, 0, 0, 'G', 'N', 'U', 0, 'x',  'y', 'z', 0, /* somebody else's */
        4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0, 0x40, 0,   0,   1, /* entry 0x1000040 */
    };
    memset(image, 0, sizeof *image);
    image->size = 0x2400;
    *test_image_header(image) = (Elf64_Ehdr){
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_entry = 0x1000100,
        .e_phoff = HEADERS_AT,
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = pvh ? 3 : 2,
    };
    *test_image_phdr(image, 0) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = SEGMENT_0,
        .p_vaddr = 0xffffffff81000000,
        .p_paddr = 0x1000000,
        .p_filesz = 0x800,
        .p_memsz = 0x800,
    };
    *test_image_phdr(image, 1) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = SEGMENT_1,
        .p_vaddr = 0xffffffff81100000,
        .p_paddr = 0x1100000,
        .p_filesz = 0x400,
        .p_memsz = 0x3000,
    };
    *test_image_phdr(image, 2) = (Elf64_Phdr){
        .p_type = PT_NOTE,
        .p_offset = NOTES_AT,
        .p_filesz = sizeof notes,
        .p_memsz = sizeof notes,
    };
    memcpy(image->bytes + NOTES_AT, notes, sizeof notes);
    memset(image->bytes + SEGMENT_0, 0xa0, 0x800);
    memset(image->bytes + SEGMENT_1, 0xa1, 0x400);
}

void test_image_bzimage(struct test_image *image)
{
    memset(image, 0, sizeof *image);
    image->size = 0x1000 + 0x600;
    image->bytes[0x1f1] = 7;               /* setup sectors: the kernel begins at 0x1000 */
    test_image_put(image, 0x1f4, 0x60, 4); /* syssize */
    test_image_put(image, 0x1fe, 0xaa55, 2);
    image->bytes[0x201] = 0x6a; /* header ends at 0x26c */
    memcpy(image->bytes + 0x202, "HdrS", 4);
    test_image_put(image, 0x206, 0x20f, 2);
    image->bytes[0x211] = 1;                     /* loaded high */
    test_image_put(image, 0x22c, 0x7fffffff, 4); /* initrd below */
    test_image_put(image, 0x230, 0x200000, 4);   /* alignment */
    test_image_put(image, 0x236, 0x3f, 2);       /* 64-bit entry */
    test_image_put(image, 0x238, 2047, 4);       /* command line */
    test_image_put(image, 0x258, 0x1000000, 8);  /* preferred address */
    test_image_put(image, 0x260, 0x500000, 4);   /* init_size */
    memset(image->bytes + 0x1000, 0xb0, 0x600);
}

static int read_bytes(void *context, uint64_t offset, void *to, size_t size)
{
    const struct test_image *image = context;
    if (offset > image->size || size > image->size - offset)
        return -EPIPE; /* a parser that asks for this has not checked */
    memcpy(to, image->bytes + offset, size);
    return 0;
}

struct kernel_source test_image_source(struct test_image *image)
{
    return (struct kernel_source){.read = read_bytes, .context = image, .size_bytes = image->size};
}
