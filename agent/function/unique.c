/*
 * What a function may ask of the clone it lives in: its generation, and random bytes (function.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/function/function.h"
#include "agent/function/generation.h"
#include "agent/function/unique.h"

/* Mapped once and kept: it is one page, and the file behind it lasts as long as the guest. */
static _Atomic(const struct generation_page *) mapped;

const struct generation_page *generation_map(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct stat status;
    void *page = MAP_FAILED;
    if (fstat(fd, &status) == 0 && status.st_size >= GENERATION_FILE_BYTES) /* no fault past its end */
        page = mmap(NULL, GENERATION_FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    fd_close(&fd);
    if (page == MAP_FAILED)
        return NULL;
    if (((const struct generation_page *)page)->magic == GENERATION_MAGIC)
        return page;
    (void)munmap(page, GENERATION_FILE_BYTES);
    return NULL;
}

uint64_t function_generation(void)
{
    const struct generation_page *page = atomic_load_explicit(&mapped, memory_order_acquire);
    if (!page) {
        page = generation_map(GENERATION_PATH);
        const struct generation_page *none = NULL;
        if (!page)
            return 0;
        if (!atomic_compare_exchange_strong(&mapped, &none, page)) {
            (void)munmap((void *)(uintptr_t)page, GENERATION_FILE_BYTES);
            page = none; /* another thread was first */
        }
    }
    return __atomic_load_n(&page->generation, __ATOMIC_ACQUIRE);
}

int function_random(void *to, size_t size)
{
    uint8_t *at = to;
    while (size > 0) {
        const long n = syscall(SYS_getrandom, at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}
