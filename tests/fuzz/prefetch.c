/*
 * libFuzzer target: the file that lists the pages to prefetch, of any contents, for RAM of any size. The code
 * is a part of this file, so that the file can be one in memory.
 *
 * What is checked beside memory safety: what is refused leaves no run, and is told; what is taken lies within
 * RAM, in order; and a list made from its pages names the same ones.
 */
#include "hostvmm/snapshot/prefetch.c"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(uint64_t bitmap[PAGES_MAX / 64], const struct prefetch_run *run)
{
    for (uint64_t page = run->first_page; page < run->first_page + run->page_count; page++) {
        if (in_bitmap(bitmap, page))
            abort();
        bitmap[page / 64] |= UINT64_C(1) << page % 64;
    }
}

static void fill(const struct prefetch *list, uint64_t touched[PAGES_MAX / 64],
                 uint64_t written[PAGES_MAX / 64])
{
    memset(touched, 0, PAGES_MAX / 8);
    memset(written, 0, PAGES_MAX / 8);
    for (unsigned i = 0; i < list->run_count; i++) {
        const struct prefetch_run run = prefetch_run_at(list, i);
        note(touched, &run);
        if (run.written)
            note(written, &run);
    }
}

/* A kernel's bitmaps of these pages give a list of the same pages. */
static void make_again(const struct prefetch *list)
{
    static struct prefetch made;
    static uint64_t touched[2][PAGES_MAX / 64], written[2][PAGES_MAX / 64];
    fill(list, touched[0], written[0]);
    prefetch_make(&made, touched[0], written[0], PAGES_MAX);
    fill(&made, touched[1], written[1]);
    if (made.run_count > list->run_count || memcmp(touched[0], touched[1], sizeof touched[0]) != 0 ||
        memcmp(written[0], written[1], sizeof written[0]) != 0)
        abort();
}

/* The first bytes: how many pages RAM has, and whether the head is made right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t id[PREFETCH_ID_BYTES] = {1};
    static struct prefetch list;
    static int fd = -1;
    uint8_t head[HEAD_BYTES];
    char why[PREFETCH_WHY_BYTES] = "";
    if (size < 3)
        return 0;
    if (fd < 0)
        fd = memfd_create("prefetch", MFD_CLOEXEC);
    const uint64_t pages = ((uint64_t)data[0] << 8 | data[1]) % (PAGES_MAX + 1);
    make_head(head, id, (unsigned)((size - 3) / 8));
    if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        (data[2] & 1u && fd_write_all(fd, head, sizeof head) < 0) ||
        fd_write_all(fd, data + 3, size - 3) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        abort();
    int error = read_from(&list, fd, id, why);
    if (error == 0)
        error = check(&list, pages, why);
    if ((error == -EBADMSG) != (why[0] != '\0') || (error && list.run_count != 0))
        abort();
    if (error == 0 && list.run_count > PREFETCH_RUNS_MAX)
        abort();
    if (error == 0)
        make_again(&list);
    return 0;
}
