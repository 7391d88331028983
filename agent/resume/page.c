/*
 * The generation page: written by the agent, mapped by whoever wants to know (agent/function/generation.h,
 * which has the layout and the order of a write). The mapping and the descriptor stay open for good, so
 * that a resume allocates and opens nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/generation.h"
#include "agent/resume/parts.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the page is little-endian");

static int announce(struct resume_page *page, uint64_t generation, char *why)
{
    struct generation_page *at = page->page;
    const uint8_t touched = (uint8_t)generation;
    at->touched = touched;
    __atomic_store_n(&at->futex, (uint32_t)generation, __ATOMIC_RELEASE);
    __atomic_store_n(&at->generation, generation, __ATOMIC_RELEASE);
    if (syscall(SYS_futex, &at->futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) < 0)
        return resume_why(why, -errno, "futex(FUTEX_WAKE) on the generation page");
    /* Stores through a mapping raise no event of inotify; this write does. */
    if (pwrite(page->fd, &touched, 1, offsetof(struct generation_page, touched)) != 1)
        return resume_why(why, -errno, "write to the generation page");
    return 0;
}

int resume_page_open(struct resume_page *page, const char *path, uint64_t generation, char *why)
{
    *page = (struct resume_page){.fd = -1};
    (void)unlink(path); /* of an agent before this one: its readers keep what they mapped */
    page->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (page->fd < 0)
        return resume_why_at(why, -errno, "open", path);
    void *memory = MAP_FAILED;
    if (fchmod(page->fd, 0444) == 0 && ftruncate(page->fd, GENERATION_FILE_BYTES) == 0)
        memory = mmap(NULL, GENERATION_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page->fd, 0);
    if (memory == MAP_FAILED) {
        const int error = resume_why_at(why, -errno, "ftruncate and mmap", path);
        resume_page_close(page);
        return error;
    }
    page->page = memory;
    page->page->magic = GENERATION_MAGIC;
    return announce(page, generation, why);
}

int resume_page_write(struct resume_page *page, uint64_t generation, const uint8_t *clone_id, char *why)
{
    if (!page->page)
        return resume_why(why, -ENODEV, "no generation page");
    memcpy(page->page->clone_id, clone_id, sizeof page->page->clone_id);
    return announce(page, generation, why);
}

void resume_page_close(struct resume_page *page)
{
    if (page->page)
        (void)munmap(page->page, GENERATION_FILE_BYTES);
    page->page = NULL;
    fd_close(&page->fd);
}
