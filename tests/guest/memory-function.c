/*
 * A function that uses memory on request: "touch N" fills N MiB and lets them go, "keep N" fills N MiB more and
 * keeps them, "check" says whether all that is kept is as it was filled, "available" how many MiB the guest
 * could still give.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/function/function.h"

#define MIB       ((size_t)1 << 20)
#define KEPT_MAX  16
#define WORD_SEED UINT64_C(0x9e3779b97f4a7c15)

static struct block {
    uint64_t *words;
    size_t count;
} kept[KEPT_MAX];
static unsigned kept_count;

static uint64_t *fill(size_t mib)
{
    uint64_t *words = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED)
        return NULL;
    for (size_t i = 0; i < mib * MIB / sizeof *words; i++)
        words[i] = WORD_SEED * (i + 1);
    return words;
}

static bool is_filled(const struct block *block)
{
    for (size_t i = 0; i < block->count; i++)
        if (block->words[i] != WORD_SEED * (i + 1))
            return false;
    return true;
}

static const char *touch(size_t mib)
{
    uint64_t *words = fill(mib);
    if (!words)
        return "no memory";
    (void)munmap(words, mib * MIB);
    return "touched";
}

static const char *keep(size_t mib)
{
    struct block *block = &kept[kept_count];
    if (kept_count == KEPT_MAX)
        return "too many";
    *block = (struct block){.words = fill(mib), .count = mib * MIB / sizeof *block->words};
    if (!block->words)
        return "no memory";
    kept_count++;
    return "kept";
}

static const char *check(void)
{
    for (unsigned i = 0; i < kept_count; i++)
        if (!is_filled(&kept[i]))
            return "changed";
    return "as it was";
}

static unsigned long available_mib(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
            break;
    if (file)
        (void)fclose(file);
    return kib / 1024;
}

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    char text[32] = "";
    unsigned long mib = 0;
    memcpy(text, event->data, event->size < sizeof text ? event->size : sizeof text - 1);
    if (sscanf(text, "touch %lu", &mib) == 1)
        return function_reply_printf(reply, "%s", touch(mib));
    if (sscanf(text, "keep %lu", &mib) == 1)
        return function_reply_printf(reply, "%s", keep(mib));
    if (strcmp(text, "check") == 0)
        return function_reply_printf(reply, "%s", check());
    if (strcmp(text, "available") == 0)
        return function_reply_printf(reply, "%lu", available_mib());
    return 1;
}

int main(void)
{
    static const struct function function = {.handle = handle};
    return function_run(&function);
}
