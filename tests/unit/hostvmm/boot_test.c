/* Kernel images: what is booted and how, and what is refused with which words. Loading, initrd, root images.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostvmm/boot/image.h"
#include "hostvmm/boot/load.h"
#include "tests/unit/hostvmm/images.h"

#define MIB (1024ull * 1024)

static struct test_image image;
static struct kernel_plan plan;
static struct kernel_error error;

static int parse(void)
{
    const struct kernel_source source = test_image_source(&image);
    return kernel_parse(&source, &plan, &error);
}

static void refused(const char *words)
{
    if (parse() != -ENOEXEC)
        fail_msg("taken, but should be refused as '%s'", words);
    if (!strstr(error.text, words))
        fail_msg("message '%s' lacks '%s'", error.text, words);
}

static void an_elf_with_the_note_is_entered_by_pvh(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_PVH);
    assert_int_equal(plan.entry.value, 0x1000040);
    assert_int_equal(plan.segment_count, 2);
    assert_int_equal(plan.segments[1].at.value, 0x1100000);
    assert_int_equal(plan.segments[1].file_offset, 0x2000);
    assert_int_equal(plan.segments[1].file_bytes, 0x400);
    assert_int_equal(plan.segments[1].memory_bytes, 0x3000);
    assert_int_equal(plan.end, 0x1103000);
}

static void an_elf_without_it_is_entered_in_long_mode(void **state)
{
    (void)state;
    test_image_elf(&image, false);
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_LINUX64);
    assert_int_equal(plan.entry.value, 0x1000100);
    assert_int_equal(plan.setup_header_bytes, 0);
}

static void a_program_is_no_kernel(void **state)
{
    (void)state;
    test_image_elf(&image, false);
    test_image_phdr(&image, 0)->p_vaddr = 0x1000000;
    test_image_phdr(&image, 1)->p_vaddr = 0x1100000;
    refused("a program");
    test_image_header(&image)->e_phnum = 3; /* but whatever has the note is what it says */
    assert_int_equal(parse(), 0);
}

static void a_bzimage_is_entered_in_long_mode(void **state)
{
    (void)state;
    test_image_bzimage(&image);
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_LINUX64);
    assert_int_equal(plan.entry.value, 0x1000200);
    assert_int_equal(plan.segment_count, 1);
    assert_int_equal(plan.segments[0].file_offset, 0x1000);
    assert_int_equal(plan.segments[0].file_bytes, 0x600);
    assert_int_equal(plan.end, 0x1500000); /* with the room it unpacks itself in */
    assert_int_equal(plan.initrd_end, 0x80000000);
    assert_int_equal(plan.setup_header_bytes, 0x26c - 0x1f1);
    assert_int_equal(plan.setup_header[0], 7);
}

static void what_is_no_kernel_is_named(void **state)
{
    (void)state;
    memset(&image, 0, sizeof image);
    refused("empty");
    image.size = 10000;
    refused("not a kernel");
    memcpy(image.bytes + 56, "ARM\x64", 4);
    refused("AArch64");
    memset(image.bytes, 0, sizeof image.bytes);
    memcpy(image.bytes, "\x1f\x8b\x08", 3);
    refused("gzip");
    memcpy(image.bytes, "070701", 6);
    refused("cpio");
    memcpy(image.bytes, "hsqs", 4);
    refused("squashfs");
    image.size = 1;
    refused("not a kernel");
}

static void kernels_of_other_machines_are_named(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    test_image_header(&image)->e_machine = EM_AARCH64;
    refused("architecture: AArch64");
    test_image_header(&image)->e_machine = EM_RISCV;
    refused("RISC-V");
    test_image_header(&image)->e_machine = EM_386;
    refused("32-bit x86");
    test_image_header(&image)->e_machine = 4711;
    refused("not known here");
    test_image_elf(&image, true);
    test_image_header(&image)->e_ident[EI_DATA] = ELFDATA2MSB;
    refused("big-endian");
    test_image_elf(&image, true);
    test_image_header(&image)->e_ident[EI_CLASS] = ELFCLASS32;
    refused("32-bit ELF");
    test_image_bzimage(&image);
    image.bytes[0x236] = 0;
    refused("32-bit kernel");
}

static void truncated_kernels_are_refused(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    const uint64_t whole = image.size;
    for (uint64_t size = 1; size < whole; size++) {
        image.size = size;
        if (parse() == 0)
            fail_msg("an ELF cut to %llu of %llu bytes was taken", (unsigned long long)size,
                     (unsigned long long)whole);
    }
    image.size = 63;
    refused("truncated");
    image.size = 0x2100;
    refused("truncated");
    test_image_bzimage(&image);
    const uint64_t all = image.size;
    for (uint64_t size = 1; size < all; size++) {
        image.size = size;
        if (parse() == 0)
            fail_msg("a bzImage cut to %llu of %llu bytes was taken", (unsigned long long)size,
                     (unsigned long long)all);
    }
    image.size = 0x1500;
    refused("truncated");
}

static void damaged_elf_headers_are_refused(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    test_image_header(&image)->e_type = ET_REL;
    refused("not an executable");
    test_image_elf(&image, true);
    test_image_header(&image)->e_phnum = 0;
    refused("program headers");
    test_image_header(&image)->e_phnum = 65535;
    refused("program headers");
    test_image_header(&image)->e_phnum = 3;
    test_image_header(&image)->e_phentsize = 32;
    refused("program headers");
    test_image_elf(&image, true);
    test_image_header(&image)->e_phoff = UINT64_MAX - 10;
    refused("truncated");
    test_image_elf(&image, false);
    test_image_phdr(&image, 0)->p_type = PT_NULL;
    test_image_phdr(&image, 1)->p_type = PT_NULL;
    refused("without a loadable segment");
    test_image_elf(&image, true);
    test_image_phdr(&image, 2)->p_offset = UINT64_MAX - 4;
    refused("notes");
}

static void segments_that_cannot_be_are_refused(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    test_image_phdr(&image, 1)->p_paddr = 0x1000700;
    refused("overlap");
    test_image_phdr(&image, 1)->p_paddr = 0x1000800; /* right behind it */
    assert_int_equal(parse(), 0);
    test_image_phdr(&image, 1)->p_paddr = 0x8000;
    refused("begin at");
    test_image_phdr(&image, 1)->p_paddr = UINT64_MAX - 0x1000;
    refused("beyond any memory");
    test_image_elf(&image, true);
    test_image_phdr(&image, 1)->p_memsz = UINT64_MAX;
    refused("beyond any memory");
    test_image_elf(&image, true);
    test_image_phdr(&image, 1)->p_memsz = 0x200;
    refused("larger in the file");
    test_image_elf(&image, true);
    test_image_phdr(&image, 1)->p_offset = UINT64_MAX - 8;
    refused("truncated");
    test_image_elf(&image, false);
    test_image_header(&image)->e_entry = 0x1000800; /* one past the segment */
    refused("entry point");
}

static void a_malformed_note_is_no_pvh_entry(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    test_image_put(&image, 0x800, UINT32_MAX, 4); /* the first name's size */
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_LINUX64);
    test_image_elf(&image, true);
    test_image_put(&image, 0x814 + 4, 5, 4); /* an entry of five bytes */
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_LINUX64);
    test_image_elf(&image, true);
    test_image_phdr(&image, 2)->p_filesz = 0x24; /* cut in the middle of the last note */
    assert_int_equal(parse(), 0);
    assert_int_equal(plan.protocol, KERNEL_LINUX64);
    test_image_elf(&image, true);
    test_image_put(&image, 0x824, 0x5000000, 4); /* an entry outside the kernel */
    refused("entry point");
}

static void damaged_bzimages_are_refused(void **state)
{
    (void)state;
    test_image_bzimage(&image);
    test_image_put(&image, 0x206, 0x20b, 2);
    refused("2.11");
    test_image_bzimage(&image);
    image.bytes[0x211] = 0;
    refused("zImage");
    test_image_bzimage(&image);
    test_image_put(&image, 0x230, 0, 4);
    refused("damaged");
    test_image_put(&image, 0x230, 0x300000, 4);
    refused("damaged");
    test_image_bzimage(&image);
    test_image_put(&image, 0x260, 0xffffffff, 4);
    refused("damaged");
    test_image_bzimage(&image);
    test_image_put(&image, 0x258, 0, 8);
    refused("begin at");
    test_image_bzimage(&image);
    test_image_put(&image, 0x1f4, 0x10, 4); /* 256 bytes of kernel: the entry is beyond them */
    refused("damaged");
    test_image_bzimage(&image);
    test_image_put(&image, 0x1f4, 0x10000000, 4);
    refused("truncated");
}

static int fail_to_read(void *context, uint64_t offset, void *to, size_t size)
{
    (void)context;
    (void)offset;
    (void)to;
    (void)size;
    return -EIO;
}

static void a_read_error_is_passed_on(void **state)
{
    (void)state;
    const struct kernel_source source = {.read = fail_to_read, .size_bytes = 1000};
    assert_int_equal(kernel_parse(&source, &plan, &error), -EIO);
    assert_non_null(strstr(error.text, "cannot be read"));
}

static void the_initrd_is_put_high_and_must_fit(void **state)
{
    (void)state;
    static uint8_t nothing[1];
    struct guest_memory memory;
    struct gpa at;
    uint64_t needed;
    guest_memory_over(&memory, nothing, 64 * MIB);
    test_image_bzimage(&image);
    assert_int_equal(parse(), 0);
    assert_int_equal(boot_place_initrd(&plan, &memory, 5000, &at, &needed), 0);
    assert_int_equal(at.value, 64 * MIB - 8192);
    assert_int_equal(boot_place_initrd(&plan, &memory, 0, &at, &needed), 0);
    assert_int_equal(at.value, 0);
    /* The kernel ends at 21 MiB. */
    assert_int_equal(boot_place_initrd(&plan, &memory, 43 * MIB, &at, &needed), 0);
    assert_int_equal(at.value, 21 * MIB);
    assert_int_equal(boot_place_initrd(&plan, &memory, 43 * MIB + 1, &at, &needed), -ENOSPC);
    assert_int_equal(needed, 65 * MIB);
    assert_int_equal(boot_place_initrd(&plan, &memory, UINT64_MAX, &at, &needed), -ENOSPC);
    guest_memory_over(&memory, nothing, 20 * MIB);
    assert_int_equal(boot_place_initrd(&plan, &memory, 0, &at, &needed), -ENOSPC);
    assert_int_equal(needed, 21 * MIB);
    plan.initrd_end = 30 * MIB; /* a kernel that takes none above */
    guest_memory_over(&memory, nothing, 64 * MIB);
    assert_int_equal(boot_place_initrd(&plan, &memory, 4096, &at, &needed), 0);
    assert_int_equal(at.value, 30 * MIB - 4096);
    assert_int_equal(boot_place_initrd(&plan, &memory, 10 * MIB, &at, &needed), -ENOSPC);
}

/* A temporary file with the image in it, already without a name. */
static int image_file(void)
{
    char path[] = "/tmp/boot-test-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write(fd, image.bytes, image.size), (ssize_t)image.size);
    return fd;
}

/* Into real guest memory (sendfile) and into a buffer (pread): the same bytes either way. */
static void segments_arrive_where_they_belong(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    const int fd = image_file();
    assert_int_equal(kernel_parse_file(fd, &plan, &error), 0);
    for (int round = 0; round < 2; round++) {
        struct guest_memory memory;
        void *buffer = NULL;
        if (round == 0) {
            assert_int_equal(guest_memory_init(&memory, 32 * MIB), 0);
        } else {
            buffer = calloc(1, 32 * MIB);
            assert_non_null(buffer);
            guest_memory_over(&memory, buffer, 32 * MIB);
        }
        assert_int_equal(boot_load_kernel(&plan, fd, &memory), 0);
        const uint8_t *low = guest_memory_at(&memory, gpa_of(0x1000000), 0x801);
        const uint8_t *high = guest_memory_at(&memory, gpa_of(0x1100000), 0x3000);
        assert_memory_equal(low, image.bytes + 0x1000, 0x800);
        assert_int_equal(low[0x800], 0);
        assert_memory_equal(high, image.bytes + 0x2000, 0x400);
        for (unsigned i = 0x400; i < 0x3000; i++)
            assert_int_equal(high[i], 0);
        const struct initrd initrd = {.fd = -1, .data = image.bytes, .size_bytes = 5000};
        assert_int_equal(boot_load_initrd(&initrd, &memory, gpa_of(0x1800000)), 0);
        assert_memory_equal(guest_memory_at(&memory, gpa_of(0x1800000), 5000), image.bytes, 5000);
        const struct initrd from_file = {.fd = fd, .size_bytes = image.size};
        assert_int_equal(boot_load_initrd(&from_file, &memory, gpa_of(0x1900123)), 0);
        assert_memory_equal(guest_memory_at(&memory, gpa_of(0x1900123), image.size), image.bytes, image.size);
        guest_memory_fini(&memory);
        free(buffer);
    }
    close(fd);
}

static void loading_checks_ram_and_a_shrunken_file(void **state)
{
    (void)state;
    test_image_elf(&image, true);
    const int fd = image_file();
    struct guest_memory memory;
    assert_int_equal(kernel_parse_file(fd, &plan, &error), 0);
    assert_int_equal(guest_memory_init(&memory, 17 * MIB), 0); /* ends inside the second segment */
    assert_int_equal(boot_load_kernel(&plan, fd, &memory), -EFAULT);
    guest_memory_fini(&memory);
    assert_int_equal(guest_memory_init(&memory, 32 * MIB), 0);
    assert_int_equal(ftruncate(fd, 0x2100), 0);
    assert_int_equal(boot_load_kernel(&plan, fd, &memory), -EPIPE);
    guest_memory_fini(&memory);
    close(fd);
    assert_int_equal(kernel_parse_file(STDIN_FILENO, &plan, &error) < 0, 1);
}

static void put(uint8_t *head, unsigned offset, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        head[offset + i] = (uint8_t)(value >> (8 * i));
}

static void image_refused(const uint8_t *head, uint64_t size, const char *words)
{
    char why[160] = "";
    assert_null(image_check(head, size, why, sizeof why));
    if (!strstr(why, words))
        fail_msg("message '%s' lacks '%s'", why, words);
}

static void root_images_are_known_by_their_superblocks(void **state)
{
    (void)state;
    uint8_t head[IMAGE_HEAD_BYTES] = {0};
    char why[160];
    image_refused(head, 0, "empty");
    image_refused(head, 100000, "no file system");

    put(head, 1024, 0xe0f5e1e2, 4);
    head[1024 + 12] = 12;
    put(head, 1024 + 36, 10, 4);
    assert_string_equal(image_check(head, 40960, why, sizeof why), "erofs");
    image_refused(head, 40959, "truncated");
    head[1024 + 12] = 63;
    image_refused(head, 40960, "damaged");

    memset(head, 0, sizeof head);
    put(head, 0, 0x73717368, 4);
    put(head, 28, 4, 2);
    put(head, 40, 5000, 8);
    assert_string_equal(image_check(head, 8192, why, sizeof why), "squashfs");
    image_refused(head, 4999, "truncated");
    put(head, 28, 3, 2);
    image_refused(head, 8192, "damaged");

    memset(head, 0, sizeof head);
    put(head, 1024 + 0x38, 0xef53, 2);
    put(head, 1024 + 4, 16, 4);
    put(head, 1024 + 0x18, 2, 4);
    assert_string_equal(image_check(head, 65536, why, sizeof why), "ext4");
    image_refused(head, 65535, "truncated");
    put(head, 1024 + 0x18, 0xffffffff, 4);
    image_refused(head, 65536, "damaged");
    put(head, 1024 + 0x18, 2, 4);
    put(head, 1024 + 0x60, 0x80, 4);
    put(head, 1024 + 0x150, 1, 4);
    image_refused(head, 65536, "truncated");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_elf_with_the_note_is_entered_by_pvh),
        cmocka_unit_test(an_elf_without_it_is_entered_in_long_mode),
        cmocka_unit_test(a_program_is_no_kernel),
        cmocka_unit_test(a_bzimage_is_entered_in_long_mode),
        cmocka_unit_test(what_is_no_kernel_is_named),
        cmocka_unit_test(kernels_of_other_machines_are_named),
        cmocka_unit_test(truncated_kernels_are_refused),
        cmocka_unit_test(damaged_elf_headers_are_refused),
        cmocka_unit_test(segments_that_cannot_be_are_refused),
        cmocka_unit_test(a_malformed_note_is_no_pvh_entry),
        cmocka_unit_test(damaged_bzimages_are_refused),
        cmocka_unit_test(a_read_error_is_passed_on),
        cmocka_unit_test(the_initrd_is_put_high_and_must_fit),
        cmocka_unit_test(segments_arrive_where_they_belong),
        cmocka_unit_test(loading_checks_ram_and_a_shrunken_file),
        cmocka_unit_test(root_images_are_known_by_their_superblocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
