/* See audit_facts.h. */
#include "hostvmm/control/audit_facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct audit_source audit_sources[AUDIT_SOURCES] = {
    {.name = "getrandom", .is_random = true},
    {.name = "getrandom_vdso", .optional = true, .is_random = true},
    {.name = "dev_urandom", .is_random = true},
    {.name = "kernel_uuid"},
    {.name = "boot_id"},
    {.name = "machine_id"},
    {.name = "hostname"},
    {.name = "generation"},
    {.name = "at_random", .is_random = true},
    {.name = "tcp_isn"},
    {.name = "tcp_ports"},
    {.name = "drbg", .is_random = true},
};

void audit_facts_init(struct audit_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    facts->monotonic_least_ns = UINT64_MAX;
}

void audit_facts_fini(struct audit_facts *facts)
{
    for (unsigned i = 0; i < AUDIT_SOURCES; i++) {
        for (size_t j = 0; j < facts->columns[i].count; j++)
            free(facts->columns[i].values[j].data);
        free(facts->columns[i].values);
    }
    audit_facts_init(facts);
}

static int add_value(struct audit_column *column, uint32_t clone, struct proto_slice body)
{
    if (column->count > 0 && column->values[column->count - 1].clone == clone)
        return -EPROTO;
    struct audit_value *values = realloc(column->values, (column->count + 1) * sizeof *values);
    if (!values)
        return -ENOMEM;
    column->values = values;
    struct audit_value *value = &values[column->count];
    *value = (struct audit_value){clone, (uint32_t)body.size, malloc(body.size > 0 ? body.size : 1)};
    if (!value->data)
        return -ENOMEM;
    if (body.size > 0)
        memcpy(value->data, body.data, body.size);
    column->count++;
    return 0;
}

static int get_u64(struct proto_slice body, uint64_t *value)
{
    if (body.size != 8)
        return -EPROTO;
    *value = 0;
    for (unsigned i = 8; i-- > 0;)
        *value = *value << 8 | body.data[i];
    return 0;
}

/* How far outside [before, after] the guest's clock was: negative when it was behind. */
static int add_realtime(struct audit_facts *facts, struct proto_slice body, uint64_t before_ns,
                        uint64_t after_ns)
{
    uint64_t told;
    int64_t off = 0;
    if (get_u64(body, &told) < 0)
        return -EPROTO;
    if (told < before_ns)
        off = -(int64_t)((before_ns - told) & INT64_MAX);
    else if (told > after_ns)
        off = (int64_t)((told - after_ns) & INT64_MAX);
    facts->realtime_count++;
    if (off > AUDIT_CLOCK_BOUND_NS || off < -AUDIT_CLOCK_BOUND_NS)
        facts->realtime_bad++;
    if (llabs(off) > llabs(facts->realtime_worst_ns))
        facts->realtime_worst_ns = off;
    return 0;
}

static int add_monotonic(struct audit_facts *facts, struct proto_slice body)
{
    uint64_t told;
    if (get_u64(body, &told) < 0)
        return -EPROTO;
    facts->monotonic_count++;
    if (told < facts->monotonic_least_ns)
        facts->monotonic_least_ns = told;
    if (told > facts->monotonic_most_ns)
        facts->monotonic_most_ns = told;
    return 0;
}

int audit_facts_add(struct audit_facts *facts, uint32_t clone, struct proto_slice name,
                    struct proto_slice body, uint64_t before_ns, uint64_t after_ns)
{
    if (proto_slice_equal(name, proto_text("realtime_ns")))
        return add_realtime(facts, body, before_ns, after_ns);
    if (proto_slice_equal(name, proto_text("monotonic_ns")))
        return add_monotonic(facts, body);
    for (unsigned i = 0; i < AUDIT_SOURCES; i++)
        if (proto_slice_equal(name, proto_text(audit_sources[i].name)))
            return add_value(&facts->columns[i], clone, body);
    return 0;
}

static int by_value(const void *left, const void *right)
{
    const struct audit_value *a = left;
    const struct audit_value *b = right;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    const int order = memcmp(a->data, b->data, a->size);
    return order ? order : a->clone < b->clone ? -1 : a->clone > b->clone;
}

static bool judge_column(struct audit_column *column, const struct audit_source *source, uint32_t clones)
{
    if (column->count > 1)
        qsort(column->values, column->count, sizeof *column->values, by_value);
    column->missing = clones - (uint32_t)column->count;
    for (size_t i = 1; i < column->count; i++) {
        const struct audit_value *a = &column->values[i - 1];
        const struct audit_value *b = &column->values[i];
        if (a->size != b->size || memcmp(a->data, b->data, a->size) != 0)
            continue;
        if (column->duplicates++ == 0) {
            column->first = a->clone;
            column->second = b->clone;
        }
    }
    return column->duplicates == 0 && (column->missing == 0 || source->optional);
}

bool audit_facts_judge(struct audit_facts *facts, uint32_t clones)
{
    bool good =
        facts->realtime_count == clones && facts->realtime_bad == 0 && facts->monotonic_count == clones;
    for (unsigned i = 0; i < AUDIT_SOURCES; i++)
        good = judge_column(&facts->columns[i], &audit_sources[i], clones) && good;
    return good;
}
