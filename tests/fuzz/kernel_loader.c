/*
 * Kernel images and root images from anybody: the parsers must neither read outside the file nor promise what
 * does not hold. A plan that comes out is checked against kernel.h's promises and placed in guest memory.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/boot/image.h"
#include "hostvmm/boot/kernel.h"
#include "hostvmm/boot/load.h"

struct input {
    const uint8_t *data;
    size_t size;
};

static void require(int holds)
{
    if (!holds)
        abort();
}

static int read_input(void *context, uint64_t offset, void *to, size_t size)
{
    const struct input *input = context;
    require(offset <= input->size && size <= input->size - offset); /* the parser checks first */
    memcpy(to, input->data + offset, size);
    return 0;
}

static void check_plan(const struct kernel_plan *plan, uint64_t file_bytes)
{
    require(plan->segment_count > 0 && plan->segment_count <= KERNEL_SEGMENTS_MAX);
    require(plan->setup_header_bytes <= KERNEL_SETUP_HEADER_MAX);
    for (unsigned i = 0; i < plan->segment_count; i++) {
        const struct kernel_segment *segment = &plan->segments[i];
        const uint64_t end = segment->at.value + segment->memory_bytes;
        require(segment->file_offset <= file_bytes &&
                segment->file_bytes <= file_bytes - segment->file_offset);
        require(segment->file_bytes <= segment->memory_bytes);
        require(segment->at.value >= ARCH_BOOT_AREA_END && end >= segment->at.value && end <= plan->end);
        for (unsigned j = 0; j < i; j++)
            require(end <= plan->segments[j].at.value ||
                    plan->segments[j].at.value + plan->segments[j].memory_bytes <= segment->at.value);
    }
}

static void place(const struct kernel_plan *plan)
{
    static uint8_t nothing[1];
    static const uint64_t initrd_sizes[] = {0, 1, 4096, 1u << 20, UINT64_MAX};
    struct guest_memory memory;
    guest_memory_over(&memory, nothing, 256u * ARCH_MIB);
    for (size_t i = 0; i < sizeof initrd_sizes / sizeof initrd_sizes[0]; i++) {
        struct gpa at;
        uint64_t needed;
        if (boot_place_initrd(plan, &memory, initrd_sizes[i], &at, &needed) || initrd_sizes[i] == 0)
            continue;
        require(at.value % 4096 == 0 && at.value >= plan->end);
        require(guest_memory_at(&memory, at, initrd_sizes[i]) != NULL);
        require(at.value + initrd_sizes[i] <= plan->initrd_end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .size = size};
    const struct kernel_source source = {.read = read_input, .context = &input, .size_bytes = size};
    struct kernel_plan plan;
    struct kernel_error error;
    const int result = kernel_parse(&source, &plan, &error);
    if (result == 0) {
        check_plan(&plan, size);
        place(&plan);
    } else {
        require(result == -ENOEXEC && error.text[0] != '\0');
    }
    uint8_t head[IMAGE_HEAD_BYTES] = {0};
    char why[160] = "";
    memcpy(head, data, size < sizeof head ? size : sizeof head);
    require(image_check(head, size, why, sizeof why) != NULL || why[0] != '\0');
    return 0;
}
