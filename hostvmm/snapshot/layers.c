/*
 * Which page of RAM is found in whose memory file. A snapshot's runs are complete in themselves: a diff takes
 * over its parent's and puts its own pages between them.
 *
 * Both what a restore has to open and what it has to map are bounded. Runs: where there would be too many,
 * pages between two changed ones are written as well. Layers: where there would be too many, the diff
 * takes in all that is not in the oldest, so that two remain. So a chain of any length costs a restore the
 * same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/snapshot/saver.h"

static bool is_changed(const uint64_t *changed, uint64_t page)
{
    return changed[page / 64] >> page % 64 & 1;
}

static void set_changed(uint64_t *changed, uint64_t page)
{
    changed[page / 64] |= UINT64_C(1) << page % 64;
}

/* Pages of the parent's that are in a layer which is to go become ours. */
static void take_in(const struct snapshot *parent, unsigned kept, uint64_t *changed)
{
    uint64_t page = 0;
    for (unsigned i = 0; i < parent->run_count; i++) {
        const uint64_t end = page + parent->runs[i].page_count;
        for (; page < end; page++)
            if (parent->runs[i].layer != kept)
                set_changed(changed, page);
    }
}

/* Close gaps of up to `gap` unchanged pages. */
static void close_gaps(uint64_t *changed, uint64_t pages, uint64_t gap)
{
    uint64_t last = UINT64_MAX; /* the last changed page seen */
    for (uint64_t page = 0; page < pages; page++) {
        if (!is_changed(changed, page))
            continue;
        if (last != UINT64_MAX && page - last - 1 <= gap)
            for (uint64_t between = last + 1; between < page; between++)
                set_changed(changed, between);
        last = page;
    }
}

/* The runs, as far as they fit. Their number, also when it is more. The parent's layers come one later here.
 */
static unsigned make_runs(struct snapshot *made, const struct snapshot *parent, const uint64_t *changed)
{
    unsigned count = 0;
    uint64_t page = 0;
    unsigned last = UINT32_MAX;
    for (unsigned i = 0; i < parent->run_count; i++) {
        const uint64_t end = page + parent->runs[i].page_count;
        for (; page < end; page++) {
            const unsigned layer = is_changed(changed, page) ? 0 : parent->runs[i].layer + 1;
            if (layer != last && count++ < SNAPSHOT_RUNS_MAX)
                made->runs[count - 1] = (struct snapshot_run){.page_count = 0, .layer = layer};
            last = layer;
            if (count <= SNAPSHOT_RUNS_MAX)
                made->runs[count - 1].page_count++;
        }
    }
    return count;
}

/* The parent's layer as seen from `above`/ours: beside us where it is, so that both can be moved together. */
static int name_layer(struct snapshot_layer *layer, const struct snapshot *parent, unsigned index,
                      const char *above)
{
    char path[2 * CONFIG_PATH_MAX + 2];
    const char *own = parent->layers[index].path;
    (void)snprintf(path, sizeof path, "%s%s%s", own[0] == '/' ? "" : parent->path,
                   own[0] && own[0] != '/' ? "/" : "", own);
    char *real = realpath(path, NULL);
    if (!real)
        return -errno;
    const size_t prefix = strlen(above);
    const bool beside =
        strncmp(real, above, prefix) == 0 && real[prefix] == '/' && !strchr(real + prefix + 1, '/');
    const int size =
        snprintf(layer->path, sizeof layer->path, "%s%s", beside ? ".." : "", beside ? real + prefix : real);
    free(real);
    memcpy(layer->id, parent->layers[index].id, SNAPSHOT_ID_BYTES);
    layer->fd = -1;
    return size < 0 || (size_t)size >= sizeof layer->path ? -ENAMETOOLONG : 0;
}

int layers_of_diff(struct snapshot *made, const struct snapshot *parent, uint64_t *changed, const char *above)
{
    const uint64_t pages = made->machine.memory_bytes / GUEST_PAGE_BYTES;
    if (parent->layer_count >= SNAPSHOT_LAYERS_MAX)
        take_in(parent, parent->layer_count - 1, changed);
    for (uint64_t gap = 1; make_runs(made, parent, changed) > SNAPSHOT_RUNS_MAX; gap *= 2)
        close_gaps(changed, pages, gap);
    made->run_count = make_runs(made, parent, changed);
    /* One more than fits for a moment: the parent's with ours before them; what is unused goes. */
    struct snapshot_layer all[SNAPSHOT_LAYERS_MAX + 1];
    unsigned used_of[SNAPSHOT_LAYERS_MAX + 1] = {0};
    unsigned count = 1;
    all[0] = (struct snapshot_layer){.fd = -1};
    memcpy(all[0].id, made->id, SNAPSHOT_ID_BYTES);
    for (unsigned i = 0; i < made->run_count; i++)
        used_of[made->runs[i].layer] = 1;
    for (unsigned i = 0; i < parent->layer_count; i++) {
        if (!used_of[i + 1])
            continue;
        const int error = name_layer(&all[count], parent, i, above);
        if (error)
            return error;
        used_of[i + 1] = count++;
    }
    if (count > SNAPSHOT_LAYERS_MAX)
        return -E2BIG;
    for (unsigned i = 0; i < made->run_count; i++)
        if (made->runs[i].layer)
            made->runs[i].layer = used_of[made->runs[i].layer];
    memcpy(made->layers, all, count * sizeof all[0]);
    made->layer_count = count;
    made->has_parent = true;
    memcpy(made->parent, parent->id, SNAPSHOT_ID_BYTES);
    return 0;
}

void layers_of_full(struct snapshot *made)
{
    made->layers[0] = (struct snapshot_layer){.fd = -1};
    memcpy(made->layers[0].id, made->id, SNAPSHOT_ID_BYTES);
    made->layer_count = 1;
    made->runs[0] = (struct snapshot_run){.page_count = made->machine.memory_bytes / GUEST_PAGE_BYTES};
    made->run_count = 1;
    made->has_parent = false;
}
