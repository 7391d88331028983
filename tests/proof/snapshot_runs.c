/*
 * The runs of a snapshot, hostvmm/snapshot/manifest.c: whatever its manifest says, load_runs leaves runs that
 * cover RAM's pages exactly, each of one page at least and of a layer that there is, or refuses; it sets no
 * run outside the array.
 *
 * Bounds: RAM of 1 to 3 pages, 3 layers, as many runs as the array has room for. Of the reader of
 * states its contract (codec.h): a number within the bounds asked for, or zero and `failed`.
 *
 * options: -eva-slevel 500 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "hostvmm/snapshot/manifest.c"

#define PAGES_MOST 3u

static struct snapshot snapshot;

unsigned state_get_array(struct state_reader *in, const char *key, unsigned max)
{
    (void)key;
    //@ loop unroll 20;
    for (unsigned number = 0; number <= 2 * PAGES_MOST && !in->failed; number++)
        if (any_bool())
            return number;
    if (!in->failed && any_bool())
        return any_u32(2 * PAGES_MOST + 1, max);
    in->failed = true;
    return 0;
}

uint64_t state_get_uint(struct state_reader *in, const char *key, uint64_t min, uint64_t max)
{
    (void)key;
    if (min == 0 && !in->failed && any_bool())
        return any_u64(min, max);
    /* Each small number a case of its own. */
    //@ loop unroll 20;
    for (uint64_t value = 0; value < 2 * PAGES_MOST && min > 0 && !in->failed; value++)
        if (value >= min && value <= max && any_bool())
            return value;
    if (!in->failed && min > 0 && max >= 2 * PAGES_MOST && any_bool())
        return any_u64(min > 2 * PAGES_MOST ? min : 2 * PAGES_MOST, max);
    in->failed = true;
    return 0;
}

void state_end(struct state_reader *in)
{
    in->failed = in->failed || any_bool();
}

void state_refuse(struct state_reader *in, const char *key, const char *format, ...)
{
    (void)key;
    (void)format;
    in->failed = true;
}

static void each(uint64_t pages, unsigned layers)
{
    struct state_reader in = {.failed = false};
    uint64_t covered = 0;
    snapshot.machine.memory_bytes = pages * GUEST_PAGE_BYTES;
    snapshot.layer_count = layers;
    load_runs(&snapshot, &in);
    if (in.failed)
        return;
    //@ assert snapshot.run_count <= SNAPSHOT_RUNS_MAX;
    //@ loop unroll 10;
    for (unsigned i = 0; i < snapshot.run_count; i++) {
        //@ assert 1 <= snapshot.runs[i].page_count <= pages;
        //@ assert snapshot.runs[i].layer < layers;
        covered += snapshot.runs[i].page_count;
    }
    //@ assert covered == pages;
}

int main(void)
{
    //@ loop unroll 20;
    for (uint64_t pages = 1; pages <= PAGES_MOST; pages++)
        each(pages, 3);
    return 0;
}
