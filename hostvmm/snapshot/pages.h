/*
 * Which pages of RAM a snapshot has to look at. Bitmaps, a bit a page by offset in RAM, from calloc: the
 * caller frees them. 0 or -errno.
 */
#ifndef HOSTVMM_SNAPSHOT_PAGES_H
#define HOSTVMM_SNAPSHOT_PAGES_H

#include "hostvmm/snapshot/snapshot.h"
#include "hostvmm/vm.h"

/* All pages that may not be zero: those ever touched of a booted guest's, those in `origin`'s files or
 * written since of a restored one's. */
int pages_present(const struct guest_memory *memory, const struct snapshot *origin, uint64_t **bitmap);
/* Pages written since the guest was restored: those that are no longer the files' (Linux,
 * Documentation/admin-guide/mm/pagemap.rst). */
int pages_private(const struct guest_memory *memory, uint64_t **bitmap);
/* Pages written since vm_track_writes. */
int pages_written(struct vm *vm, uint64_t **bitmap);

#endif
