/*
 * What makes a clone another than its siblings, drawn on the host for each resume (DESIGN: life of a clone):
 * a seed, an id, a generation number, a host name; and the secrets it is given.
 */
#ifndef HOSTVMM_SNAPSHOT_UNIQUENESS_H
#define HOSTVMM_SNAPSHOT_UNIQUENESS_H

#include "hostvmm/config.h"
#include "hostvmm/control/lifeline.h"

struct uniqueness {
    struct lifeline_resume resume;
    char hostname[PROTO_HOSTNAME_MAX_BYTES + 1];
    uint8_t *secrets; /* allocated: the secrets' bytes, one after the other */
    size_t secret_bytes;
};

/* Read the secrets' files: before the guest runs. 0, or -errno with a message logged. */
int uniqueness_init(struct uniqueness *uniqueness, const struct config *config);
/* Draw seed, id and generation. `hostname`: NULL for one made from the id, empty for none. 0 or -errno. */
int uniqueness_draw(struct uniqueness *uniqueness, const char *hostname);
/* Wipe and free. */
void uniqueness_fini(struct uniqueness *uniqueness);

#endif
