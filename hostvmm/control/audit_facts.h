/*
 * The facts of clones (agent/proto's FACT, told when asked by COLLECT), compared: what must differ between
 * any two clones, the wall clock against the host's, and the monotonic clocks among each other. Pure.
 */
#ifndef HOSTVMM_CONTROL_AUDIT_FACTS_H
#define HOSTVMM_CONTROL_AUDIT_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto/proto.h"

#define AUDIT_SOURCES        12
#define AUDIT_CLOCK_BOUND_NS INT64_C(50000000)

/* What must be different in every clone. */
struct audit_source {
    const char *name;
    bool optional;  /* a guest may not have it */
    bool is_random; /* bytes that should pass tests of randomness */
};
extern const struct audit_source audit_sources[AUDIT_SOURCES];

struct audit_value {
    uint32_t clone;
    uint32_t size;
    uint8_t *data;
};

struct audit_column {
    struct audit_value *values; /* in order of clones, until judged: then by value */
    size_t count;
    /* Set by audit_facts_judge: */
    uint32_t missing;    /* clones that did not tell it */
    uint32_t duplicates; /* clones whose value another, counted before it, has too */
    uint32_t first;      /* two of those, when there are any */
    uint32_t second;
};

struct audit_facts {
    struct audit_column columns[AUDIT_SOURCES];
    uint32_t realtime_count;
    uint32_t realtime_bad; /* further than AUDIT_CLOCK_BOUND_NS from the host's */
    int64_t realtime_worst_ns;
    uint32_t monotonic_count;
    uint64_t monotonic_least_ns;
    uint64_t monotonic_most_ns;
};

void audit_facts_init(struct audit_facts *facts);
void audit_facts_fini(struct audit_facts *facts);
/* One fact of a clone, told while the host's CLOCK_REALTIME went from `before_ns` to `after_ns`. Unknown ones
 * are passed over. 0; -EPROTO a clone tells one twice, or a clock that is not 8 bytes; -ENOMEM. */
int audit_facts_add(struct audit_facts *facts, uint32_t clone, struct proto_slice name,
                    struct proto_slice body, uint64_t before_ns, uint64_t after_ns);
/* After the last of `clones`. Whether all is as it should be. */
bool audit_facts_judge(struct audit_facts *facts, uint32_t clones);

#endif
