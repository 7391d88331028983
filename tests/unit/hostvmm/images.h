/* Kernel images made in memory, whole and well-formed, for tests to damage. */
#ifndef TESTS_UNIT_HOSTVMM_IMAGES_H
#define TESTS_UNIT_HOSTVMM_IMAGES_H

#include <elf.h>
#include <stdint.h>
#include <stdbool.h>

#include "hostvmm/boot/kernel.h"

#define TEST_IMAGE_BYTES 16384u

struct test_image {
    uint8_t bytes[TEST_IMAGE_BYTES];
    uint64_t size;
};

/* Two loadable segments, 1 MiB apart from 16 MiB on; with the PVH note, or without. */
void test_image_elf(struct test_image *image, bool pvh);
Elf64_Ehdr *test_image_header(struct test_image *image);
Elf64_Phdr *test_image_phdr(struct test_image *image, unsigned index); /* 0, 1: load; 2: notes */

/* Protocol 2.15, preferring 16 MiB. */
void test_image_bzimage(struct test_image *image);
void test_image_put(struct test_image *image, unsigned offset, uint64_t value, unsigned bytes);

struct kernel_source test_image_source(struct test_image *image);

#endif
